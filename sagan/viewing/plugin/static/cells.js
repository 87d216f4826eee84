/* A panel's rows of small pictures, each a button: images, pinned queries, heads, training steps. */

import { count, element } from "./dom.js";
import { drawPicture, prepare } from "./draw.js";
import { hasQueries } from "./maps.js";
import { groupName, imageName } from "./words.js";

const MOST_STEPS = 12;
const THUMB = 48; // pixels

export const cellButton = (properties, ...children) => {
  const canvas = element("canvas", { ariaHidden: "true" });
  return { canvas, button: element("button", { type: "button", ...properties }, canvas, ...children) };
};

export async function loadImages(panel, token) {
  const { where, header } = panel;
  const wanted = Array.from({ length: header.images }, (_, i) => panel.source.picture(where, i));
  const pictures = await Promise.allSettled(wanted);
  if (token !== panel.request) return;
  if (panel.images.length !== pictures.length) {
    panel.images = pictures.map((_, i) => cellButton({ onclick: () => panel.changed(panel, "image", i) }));
    panel.parts.images.replaceChildren(...panel.images.map(({ button }) => button));
  }
  pictures.forEach(({ value }, i) => showImage(panel, value, i));
}

function showImage({ images, header, image }, picture, i) {
  const { canvas, button } = images[i]; // reused, so that it keeps the focus
  const name = imageName(i, header);
  Object.assign(button, { ariaLabel: name, title: name, ariaPressed: String(i === image) });
  button.classList.toggle("failed", !picture);
  if (picture) drawPicture(prepare(canvas, THUMB, (THUMB * picture.height) / picture.width), picture);
}

/* Shows the mean of all heads and each head; nothing if `heads` is 0. */
export function offerHeads(panel, heads) {
  const groups = heads ? Array.from({ length: heads + 1 }, (_, i) => i - 1) : [];
  if (panel.heads.length === groups.length) return;
  panel.heads = groups.map((group) => {
    const text = element("span", { textContent: groupName(group) });
    return { group, ...cellButton({ onclick: () => panel.chooseGroup(group) }, text) };
  });
  panel.parts.heads.replaceChildren(...panel.heads.map(({ button }) => button));
}

/* Shows each pinned query, if there are several and they differ. */
export function offerPins(panel) {
  const { pins } = panel.shared, wanted = pins.length > 1 && hasQueries(panel.map.entry) ? pins.length : 0;
  panel.parts.pinsSection.hidden = !wanted;
  if (panel.pins.length === wanted) return;
  panel.pins = Array.from({ length: wanted }, (_, index) => {
    const text = element("span", { textContent: `query ${index}` });
    return { index, ...cellButton({ onclick: () => panel.changed(panel, "pin", index) }, text) };
  });
  panel.parts.pins.replaceChildren(...panel.pins.map(({ button }) => button));
}

/* Shows the same query over the training steps. */
export async function loadStrip(panel, token) {
  const { steps, parts, root } = panel;
  const chosen = spread(steps.length, MOST_STEPS).map((index) => ({ index, step: steps[index].step }));
  const same = ({ index, step }, i) => index === chosen[i]?.index && step === chosen[i].step;
  if (panel.strip.length !== chosen.length || !panel.strip.every(same)) {
    panel.strip = chosen.map((at) => stepCell(panel, at));
    parts.strip.replaceChildren(...panel.strip.map(({ button }) => button));
  }
  parts.evolution.hidden = steps.length < 2;
  const waiting = [...panel.strip];
  const lane = () => loadSteps(panel, token, waiting);
  await Promise.all([lane(), lane()]); // only two at a time, so that the user's next choice need not wait for all
  if (token === panel.request) root.dataset.strip = "ready";
}

function stepCell(panel, { index, step }) {
  const text = element("span", { textContent: count(step) });
  const cell = cellButton({ onclick: () => panel.chooseStep(index, true) }, text);
  return { index, step, map: null, failed: false, ...cell };
}

async function loadSteps(panel, token, waiting) {
  for (let cell = waiting.shift(); cell; cell = waiting.shift()) {
    const loaded = await panel.fetchStep(panel.steps[cell.index]).catch(() => ({ map: null }));
    if (token !== panel.request) return;
    Object.assign(cell, loaded, { failed: !loaded.map }); // one damaged step does not stop the others
    panel.redraw();
  }
}

/* Returns at most `most` of the numbers 0 to n - 1, evenly spread, including the first and the last. */
function spread(n, most) {
  const taken = Math.min(n, most);
  return Array.from({ length: taken }, (_, i) => (taken > 1 ? Math.round((i * (n - 1)) / (taken - 1)) : 0));
}
