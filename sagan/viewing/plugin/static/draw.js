/* Colours and drawing on canvases. Sizes are in device pixels. */

/* sagan/viewing/drawing.py has the same colours: dark to bright, and for signed weights blue to orange. */
const BRIGHT = [[8, 6, 24], [40, 16, 84], [88, 24, 112], [140, 41, 105], [190, 62, 82], [228, 98, 50], [248, 150, 28],
  [250, 204, 72], [252, 250, 196]];
const SIGNED = [[60, 150, 255], [10, 40, 110], [0, 0, 0], [130, 30, 10], [255, 120, 70]];
/* Colours of query points. They can be told apart with any form of colour blindness (Okabe and Ito 2008). */
export const PINS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7"];
const GROUND = [128, 128, 128, 40], SHADE = [0, 0, 0, 170]; // outside a window: on the map's own grid, over an image

const table = (anchors) =>
  Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (anchors.length - 1);
    const below = Math.min(anchors.length - 2, Math.floor(at));
    return anchors[below].map((c, k) => Math.round(c + (anchors[below + 1][k] - c) * (at - below)));
  });
const TABLES = { bright: table(BRIGHT), signed: table(SIGNED) };
const coloursOf = ({ signed }) => (signed ? TABLES.signed : TABLES.bright);

const place = ({ from, to }, weight) => (to > from ? Math.min(1, Math.max(0, (weight - from) / (to - from))) : 0);

const cells = document.createElement("canvas");
const greys = new WeakMap();

/* Paints weights on the shared canvas `cells`, one pixel each. `opacity` is for painting over an image. */
function paintCells(grid, weights, range, opacity = null) {
  if (cells.height !== grid[0] || cells.width !== grid[1]) [cells.height, cells.width] = grid;
  const pixels = new ImageData(grid[1], grid[0]), colours = coloursOf(range);
  for (let i = 0, at = 0; i < weights.length; i++, at += 4) {
    const outside = Number.isNaN(weights[i]);
    const colour = outside ? (opacity === null ? GROUND : SHADE) : colours[Math.round(255 * place(range, weights[i]))];
    for (let k = 0; k < 3; k++) pixels.data[at + k] = colour[k];
    pixels.data[at + 3] = outside ? colour[3] : 255 * (opacity ?? 1);
  }
  cells.getContext("2d").putImageData(pixels, 0, 0);
}

/* Sizes a canvas to its pixels on the screen and returns its cleared context. */
export function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  // Written only if it changes: after any write to a style, reading a size makes the browser lay out the page again.
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

export function drawGrid(context, { grid, weights }, range) {
  paintCells(grid, weights, range);
  context.drawImage(cells, 0, 0, context.canvas.width, context.canvas.height);
}

export function drawPicture(context, picture) {
  context.drawImage(picture, 0, 0, context.canvas.width, context.canvas.height);
}

/* Draws weights as colours over the greyed image. */
export function drawOverlay(context, picture, { grid, weights }, range, opacity) {
  drawPicture(context, greyOf(picture));
  paintCells(grid, weights, range, opacity);
  context.drawImage(cells, 0, 0, context.canvas.width, context.canvas.height);
}

function greyOf(picture) {
  if (greys.has(picture)) return greys.get(picture);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: picture.width, height: picture.height });
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < image.data.length; i += 4) {
    image.data.fill((image.data[i] + image.data[i + 1] + image.data[i + 2]) / 3, i, i + 3);
  }
  context.putImageData(image, 0, 0);
  greys.set(picture, canvas);
  return canvas;
}

/* Light on dark, so that it shows on any background. */
function strokeTwice(context, [dark, light], path) {
  const ratio = window.devicePixelRatio || 1;
  for (const [colour, line] of [["#000c", dark * ratio], ["#fff", light * ratio]]) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.beginPath();
    path();
    context.stroke();
  }
}

/* Outlines a cell of a grid. */
export function outlineCell(context, [rows, columns], { row, column }, { dashed }) {
  const [w, h] = [context.canvas.width / columns, context.canvas.height / rows];
  const ratio = window.devicePixelRatio || 1;
  context.setLineDash(dashed ? [4 * ratio, 3 * ratio] : []);
  strokeTwice(context, [3.5, 1.5], () => context.rect(column * w, row * h, w, h));
  context.setLineDash([]);
}

/* Outlines a region, a list of booleans, one for each cell of a grid. */
export function outlineRegion(context, [rows, columns], region) {
  const [w, h] = [context.canvas.width / columns, context.canvas.height / rows];
  const inside = (y, x) => y >= 0 && x >= 0 && y < rows && x < columns && region[y * columns + x];
  const line = (x, y, dx, dy) => (context.moveTo(x, y), context.lineTo(x + dx, y + dy));
  strokeTwice(context, [4, 2], () => {
    for (let y = 0; y <= rows; y++) {
      for (let x = 0; x <= columns; x++) {
        if (inside(y, x) !== inside(y - 1, x) && (inside(y, x) || inside(y - 1, x))) line(x * w, y * h, w, 0);
        if (inside(y, x) !== inside(y, x - 1) && (inside(y, x) || inside(y, x - 1))) line(x * w, y * h, 0, h);
      }
    }
  });
}

/* Faint lines between cells, if they are large enough. */
export function markGrid(context, [rows, columns]) {
  const { width, height } = context.canvas;
  if (Math.min(width / columns, height / rows) < 8) return;
  context.fillStyle = "#ffffff26";
  for (let i = 1; i < columns; i++) context.fillRect(Math.round((i * width) / columns), 0, 1, height);
  for (let i = 1; i < rows; i++) context.fillRect(0, Math.round((i * height) / rows), width, 1);
}

/* Draws a ring around the centre of the query's cell. It is as large as the cell, within limits. A pin has its own
   colour, and shows `number` unless it is null. */
export function markQuery(context, [rows, columns], { y, x }, colour = "#fff", number = null) {
  const { width, height } = context.canvas;
  const ratio = window.devicePixelRatio || 1;
  const cell = { y: (Math.floor(y * rows) + 0.5) / rows, x: (Math.floor(x * columns) + 0.5) / columns };
  const radius = Math.min(14 * ratio, Math.max(5 * ratio, Math.min(width / columns, height / rows) * 0.5));
  for (const [ink, line] of [["#000c", 6 * ratio], [colour, 3 * ratio]]) {
    context.strokeStyle = ink;
    context.lineWidth = line;
    context.beginPath();
    context.arc(cell.x * width, cell.y * height, radius, 0, 2 * Math.PI);
    context.stroke();
  }
  if (number === null) return;
  Object.assign(context, { font: `bold ${11 * ratio}px sans-serif`, textAlign: "center", textBaseline: "middle" });
  Object.assign(context, { lineWidth: 3 * ratio, strokeStyle: "#000c", fillStyle: colour });
  context.strokeText(number, cell.x * width, cell.y * height);
  context.fillText(number, cell.x * width, cell.y * height);
}

/* Draws one bar per channel, starting at 0, and highlights channel `marked`. With `ink`, labels the axis. */
export function drawBars(context, weights, { from, to }, marked, { bar, accent, line, ink }) {
  const { width, height } = context.canvas;
  const y = (value) => height - ((value - from) / (to - from)) * height;
  const step = width / weights.length;
  const wide = Math.max(1, step - (step > 3 ? 1 : 0)); // a gap between bars if there is room
  for (let i = 0; i < weights.length; i++) {
    context.fillStyle = i === marked ? accent : bar;
    const [top, bottom] = [y(Math.max(0, weights[i])), y(Math.min(0, weights[i]))];
    context.fillRect(i * step, top, wide, Math.max(1, bottom - top));
  }
  context.fillStyle = line;
  for (const value of [0, 1].filter((value) => value >= from && value <= to)) {
    context.fillRect(0, Math.min(height - 1, Math.max(0, y(value))), width, 1);
  }
  if (!ink) return;
  const ratio = window.devicePixelRatio || 1;
  Object.assign(context, { font: `${11 * ratio}px sans-serif`, fillStyle: ink, textAlign: "left" });
  for (const [value, baseline] of [[to, "top"], [from, "bottom"]]) {
    context.textBaseline = baseline;
    context.fillText(Number(value.toPrecision(3)), 2, baseline === "top" ? 3 : height - 3);
  }
}

export function drawScale(context, range) {
  const { width, height } = context.canvas;
  for (let i = 0; i < width; i++) {
    const [r, g, b] = coloursOf(range)[Math.round((255 * i) / (width - 1))];
    context.fillStyle = `rgb(${r} ${g} ${b})`;
    context.fillRect(i, 0, 1, height);
  }
}
