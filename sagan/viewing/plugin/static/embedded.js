/* Records that the page itself contains: {runs: [{run, tags: {tag: [{step, wall_time, header, blobs}]}}]}. The blobs of
   a record are base64. */

import { cache, Failure } from "./source.js";

export function embedded({ runs }) {
  const keep = cache();
  const steps = (run, tag) => runs.find((r) => r.run === run)?.tags[tag] ?? [];
  const record = ({ run, tag, step }) => {
    const found = steps(run, tag).find((r) => r.step === step);
    if (!found) throw new Failure("This page does not hold that step.");
    return found;
  };
  const blob = ({ header, blobs }, image, part) => bytes(blobs[image * (1 + header.maps.length) + part]);
  const bitmap = (content) => createImageBitmap(new Blob([content], { type: "image/png" }));
  return {
    listRuns: async () => runs.map(({ run, tags }) => [run, Object.keys(tags)]),
    listSteps: async (run, tag) => steps(run, tag).map(({ step, wall_time }) => ({ step, wall_time })),
    header: async (at) => record(at).header,
    map: (at, image, map) => keep(["map", at, image, map], async () => inflate(blob(record(at), image, 1 + map))),
    picture: (at, image) => keep(["picture", at, image], async () => bitmap(blob(record(at), image, 0))),
    without: (at, image) => keep(["without", at, image], async () =>
      bitmap(blob(record(at), record(at).header.images, image))), // after the blobs of all images
  };
}

const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

const inflate = (content) =>
  new Response(new Blob([content]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
