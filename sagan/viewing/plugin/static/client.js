/* Requests to TensorBoard, relative to this module, so that any path prefix works. Answers are cached. */

import { cache, Failure } from "./source.js";

const keep = cache();

export const listRuns = () => ask("tags", {});
export const listSteps = (run, tag) => ask("steps", { run, tag });

/* A record's parts. `wallTime` distinguishes a step that a restarted run repeated from its earlier version. */
export const header = (at) => part("header", at, {}, (response) => response.json());
export const map = (at, image, map) => part("map", at, { image, map }, (response) => response.arrayBuffer());
const bitmap = async (response) => createImageBitmap(await response.blob());
export const picture = (at, image) => part("image", at, { image }, bitmap);
export const without = (at, image) => part("without", at, { image }, bitmap);

async function ask(route, parameters) {
  return (await answer(route, parameters)).json();
}

const part = (route, { run, tag, step, wallTime }, rest, read) =>
  keep([route, run, tag, step, wallTime, rest], () => answer(route, { run, tag, step, ...rest }).then(read));

async function answer(route, parameters) {
  const url = new URL(`./${route}`, import.meta.url);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Failure("TensorBoard does not answer. Is it still running?");
  }
  if (!response.ok) throw new Failure(await reason(response));
  return response;
}

async function reason(response) {
  const text = response.headers.get("Content-Type")?.startsWith("text/plain") ? await response.text() : "";
  return text || `TensorBoard answered with error ${response.status}.`;
}
