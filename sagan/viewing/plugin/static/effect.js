/* What the attention does to the image: with the layer, without it, and where the two differ. */

import { element, number } from "./dom.js";
import { drawGrid, drawPicture, prepare } from "./draw.js";

const SIDE = 72; // pixels
const LEAST = 32; // of 255: the lowest value that the top of a difference's colour scale can have

export function showEffect({ parts, picture, without, root }) {
  parts.effectSection.hidden = !without;
  root.dataset.effect = "";
  if (!without) return;
  const apart = differenceOf(picture, without);
  const largest = Math.max(...apart), mean = apart.reduce((sum, value) => sum + value, 0) / apart.length;
  const { width, height } = picture;
  const cell = (text, draw) => {
    const canvas = element("canvas", { ariaHidden: "true" });
    draw(prepare(canvas, SIDE, (SIDE * height) / width));
    return element("figure", {}, canvas, element("figcaption", { textContent: text }));
  };
  const range = { from: 0, to: Math.max(LEAST, largest), signed: false };
  parts.effect.replaceChildren(
    cell("as it is", (context) => drawPicture(context, picture)),
    cell("without", (context) => drawPicture(context, without)),
    cell(`differ by ${number(mean, 2)} of 255, at most ${number(largest, 2)}`,
      (context) => drawGrid(context, { grid: [height, width], weights: apart }, range)));
  root.dataset.effect = `${mean.toFixed(4)},${largest.toFixed(4)}`;
}

/* The mean absolute difference of two pictures over red, green and blue, from 0 to 255. */
function differenceOf(picture, other) {
  const [a, b] = [picture, other].map(pixels);
  return Float32Array.from({ length: a.length / 4 }, (_, i) =>
    [0, 1, 2].reduce((sum, k) => sum + Math.abs(a[4 * i + k] - b[4 * i + k]), 0) / 3);
}

function pixels(picture) {
  const canvas = element("canvas", { width: picture.width, height: picture.height });
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}
