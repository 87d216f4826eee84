/* What the two sources of records share: `client.js` asks TensorBoard, `embedded.js` reads the page itself.

   A source has listRuns() -> [[run, [tag, ...]], ...], the newest run first, and listSteps(run, tag) -> [{step,
   wall_time}]. The parts of a record at {run, tag, step, wallTime} are header(at), map(at, image, map),
   picture(at, image) and without(at, image). */

const MOST_KEPT = 160;

/* An error whose message may be shown to the user. */
export class Failure extends Error {}

/* Returns keep(key, get), which returns the promise of an earlier call for the same key. Failures are not kept. */
export function cache() {
  const kept = new Map();
  return (key, get) => {
    const name = JSON.stringify(key);
    const found = kept.get(name) ?? get();
    kept.delete(name); // inserted again below, so that the keys are ordered by last use
    kept.set(name, found);
    found.catch(() => kept.delete(name));
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
    return found;
  };
}
