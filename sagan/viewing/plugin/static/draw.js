/* Colours and drawing on canvases. Sizes are in device pixels. */

/* Dark to bright through violet and orange, by anchors of even lightness; for signed weights, blue to orange. */
const BRIGHT = [[8, 6, 24], [40, 16, 84], [88, 24, 112], [140, 41, 105], [190, 62, 82], [228, 98, 50], [248, 150, 28],
  [250, 204, 72], [252, 250, 196]];
const SIGNED = [[70, 160, 235], [45, 95, 160], [28, 44, 74], [18, 18, 22], [84, 46, 22], [180, 88, 30], [250, 170, 70]];
const GROUND = [128, 128, 128, 40], SHADE = [0, 0, 0, 170]; // outside of a window: on its own, over an image

const table = (anchors) =>
  Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (anchors.length - 1);
    const below = Math.min(anchors.length - 2, Math.floor(at));
    return anchors[below].map((c, k) => Math.round(c + (anchors[below + 1][k] - c) * (at - below)));
  });
const TABLES = { bright: table(BRIGHT), signed: table(SIGNED) };

/* From weights to places 0...1 on a colour scale. Its dark end is the lowest weight, or 0 if asked; if weights have
   both signs, 0 is in the middle. */
export function scaleOf({ low, high }, fromZero) {
  if (low < 0) {
    const reach = Math.max(-low, high);
    return { from: -reach, to: reach, colours: TABLES.signed };
  }
  return { from: fromZero ? 0 : low, to: high, colours: TABLES.bright };
}

const place = ({ from, to }, weight) => (to > from ? Math.min(1, Math.max(0, (weight - from) / (to - from))) : 0);

const cells = document.createElement("canvas");

/* Puts a grid of weights on the shared canvas `cells`, a pixel each. Over an image, weak cells darken it and
   strong ones colour it. */
function paintCells(grid, weights, scale, overImage) {
  if (cells.height !== grid[0] || cells.width !== grid[1]) [cells.height, cells.width] = grid;
  const pixels = new ImageData(grid[1], grid[0]);
  for (let i = 0, at = 0; i < weights.length; i++, at += 4) {
    const outside = Number.isNaN(weights[i]);
    const t = outside ? 0 : place(scale, weights[i]);
    const colour = outside ? (overImage ? SHADE : GROUND) : scale.colours[Math.round(255 * t)];
    const strength = scale.from < 0 ? Math.abs(2 * t - 1) : t;
    for (let k = 0; k < 3; k++) pixels.data[at + k] = colour[k];
    pixels.data[at + 3] = outside ? colour[3] : overImage ? 155 - 40 * strength : 255;
  }
  cells.getContext("2d").putImageData(pixels, 0, 0);
}

/* Sizes a canvas to its pixels on the screen and returns its cleared context. */
export function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  // Said once: every write to a style makes the browser lay out the page again before the next size is read.
  const aspect = (width / height).toFixed(4);
  if (canvas.dataset.aspect !== aspect) {
    canvas.dataset.aspect = aspect;
    canvas.style.aspectRatio = aspect;
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, w, h);
  context.imageSmoothingEnabled = false;
  return context;
}

export function drawGrid(context, { grid, weights }, scale) {
  paintCells(grid, weights, scale, false);
  context.drawImage(cells, 0, 0, context.canvas.width, context.canvas.height);
}

export function drawOverlay(context, picture, shown, scale) {
  const { width, height } = context.canvas;
  context.drawImage(picture, 0, 0, width, height);
  if (!shown) return;
  paintCells(shown.grid, shown.weights, scale, true);
  context.drawImage(cells, 0, 0, width, height);
}

/* Outlines a cell of a grid in light on dark, so that it shows on any background. */
export function outline(context, [rows, columns], { row, column }, { dashed }) {
  const { width, height } = context.canvas;
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [width / columns, height / rows];
  for (const [colour, line] of [["#000c", 3.5 * ratio], ["#fff", 1.5 * ratio]]) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.setLineDash(dashed ? [4 * ratio, 3 * ratio] : []);
    context.strokeRect(column * w, row * h, w, h);
  }
  context.setLineDash([]);
}

/* Draws a ring around the centre of the query's cell, as large as the cell within limits. */
export function markQuery(context, [rows, columns], { y, x }) {
  const { width, height } = context.canvas;
  const ratio = window.devicePixelRatio || 1;
  const cell = { y: (Math.floor(y * rows) + 0.5) / rows, x: (Math.floor(x * columns) + 0.5) / columns };
  const radius = Math.min(14 * ratio, Math.max(5 * ratio, Math.min(width / columns, height / rows) * 0.5));
  for (const [colour, line] of [["#000c", 6 * ratio], ["#fff", 3 * ratio]]) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.beginPath();
    context.arc(cell.x * width, cell.y * height, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

/* Draws a bar per channel, from 0, and highlights `marked`. */
export function drawBars(context, weights, { low, high }, marked, { bar, accent, line }) {
  const { width, height } = context.canvas;
  const [from, to] = [Math.min(0, low), Math.max(0, high) || 1];
  const y = (value) => height - ((value - from) / (to - from)) * height;
  const step = width / weights.length;
  const wide = Math.max(1, step - (step > 3 ? 1 : 0)); // a gap between bars where there is room
  for (let i = 0; i < weights.length; i++) {
    context.fillStyle = i === marked ? accent : bar;
    const [top, bottom] = [y(Math.max(0, weights[i])), y(Math.min(0, weights[i]))];
    context.fillRect(i * step, top, wide, Math.max(1, bottom - top));
  }
  context.fillStyle = line;
  context.fillRect(0, Math.min(height - 1, y(0)), width, 1);
}

export function drawScale(context, scale) {
  const { width, height } = context.canvas;
  for (let i = 0; i < width; i++) {
    const [r, g, b] = scale.colours[Math.round((255 * i) / (width - 1))];
    context.fillStyle = `rgb(${r} ${g} ${b})`;
    context.fillRect(i, 0, 1, height);
  }
}
