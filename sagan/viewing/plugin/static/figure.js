/* Saves what is shown as PNG or SVG. A figure is a list of texts and canvases with their positions. */

import { element } from "./dom.js";
import { describeTag } from "./words.js";

const MARGIN = 16, LINE = 18, GAP = 8, SIDE = 300;
const WIDTH = 3 * SIDE + 2 * GAP; // of a panel: the image, its map over it, and the map on its own grid
const FONT = "13px system-ui, sans-serif";
const ground = (root) => getComputedStyle(root).getPropertyValue("--card") || "#ffffff";
const ink = (root) => getComputedStyle(root).getPropertyValue("--ink") || "#000000";

export async function save(panels, format) {
  const shown = panels.filter(({ map, parts }) => map && !parts.body.hidden);
  if (!shown.length) return;
  const figure = beside(shown.map(figureOf));
  const colours = { paper: ground(shown[0].root), ink: ink(shown[0].root) };
  const { run, tag, step } = shown[0].where;
  const name = ["attention", run, describeTag(tag), `step ${step}`].join("-").replace(/[^\w.-]+/g, "-").slice(0, 120);
  const blob = format === "svg" ? svg(figure, colours) : await png(figure, colours);
  const link = element("a", { href: URL.createObjectURL(blob), download: `${name}.${format}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function figureOf({ where: { run, tag, step }, parts, picture, pins, heads, strip }) {
  const items = [];
  let y = MARGIN + LINE;
  const line = (words) => wrapped(words).forEach((text) => {
    items.push({ text, x: MARGIN, y });
    y += LINE;
  });
  line(run);
  line(`${describeTag(tag)} · step ${step} · ${parts.kind.textContent}`);
  line(parts.caption.textContent);
  line(parts.idle.textContent);
  const height = (canvas) => (SIDE * canvas.height) / canvas.width;
  const bare = element("canvas", { width: picture.width, height: picture.height });
  bare.getContext("2d").drawImage(picture, 0, 0);
  const canvases = [bare, parts.image, parts.grid];
  items.push(...canvases.map((canvas, i) =>
    ({ canvas, x: MARGIN + i * (SIDE + GAP), y, width: SIDE, height: height(canvas) })));
  y += Math.max(...canvases.map(height)) + GAP;
  if (!parts.stage.classList.contains("bars")) {
    items.push({ canvas: parts.scale, x: MARGIN, y, width: 200, height: 10 });
    y += 10 + LINE;
    line([`${parts.from.textContent} to ${parts.to.textContent}`, parts.scaleNote.textContent].filter(Boolean)
      .join(" · "));
  } else {
    y += LINE;
    line(parts.scaleNote.textContent);
  }
  line([...parts.facts.children].map((row) => [...row.children].map((c) => c.textContent).join(" ")).join(" · "));
  line(parts.readout.textContent);
  for (const [title, cells] of [["Pinned queries", pins], ["Heads", heads], ["Over the training steps", strip]]) {
    const drawn = cells.filter(({ canvas }) => canvas.width > 1);
    if (drawn.length < 2) continue;
    line(title);
    y = row(items, drawn, y - LINE + GAP) + LINE;
  }
  return { items, width: 2 * MARGIN + WIDTH, height: y };
}

/* Returns the lines of a text, which is broken at its dots if it is wider than the panel; none for an empty text. */
function wrapped(text) {
  const context = element("canvas").getContext("2d");
  context.font = FONT;
  return text.split(" · ").filter(Boolean).reduce((lines, part) => {
    const longer = [...lines.slice(-1), part].join(" · ");
    const fits = lines.length && context.measureText(longer).width <= WIDTH;
    return fits ? [...lines.slice(0, -1), longer] : [...lines, part];
  }, []);
}

/* Places cells in rows, with their names below; returns the y of the end. */
function row(items, cells, top) {
  const side = 80, across = Math.floor(WIDTH / (side + GAP));
  let y = top;
  for (let i = 0; i < cells.length; i += across) {
    const line = cells.slice(i, i + across);
    const tall = Math.max(...line.map(({ canvas }) => (side * canvas.height) / canvas.width));
    line.forEach(({ canvas, button }, k) => {
      const x = MARGIN + k * (side + GAP);
      items.push({ canvas, x, y, width: side, height: (side * canvas.height) / canvas.width });
      items.push({ text: button.textContent, x, y: y + tall + LINE - 4 });
    });
    y += tall + LINE + GAP;
  }
  return y;
}

function beside(figures) {
  let x = 0;
  const items = figures.flatMap((figure) => {
    const moved = figure.items.map((item) => ({ ...item, x: item.x + x }));
    x += figure.width;
    return moved;
  });
  return { items, width: x, height: Math.max(...figures.map(({ height }) => height)) };
}

function png({ items, width, height }, colours) {
  const ratio = 2, canvas = element("canvas", { width: width * ratio, height: height * ratio });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  Object.assign(context, { fillStyle: colours.paper, font: FONT, imageSmoothingEnabled: false });
  context.fillRect(0, 0, width, height);
  context.fillStyle = colours.ink;
  for (const item of items) {
    if (item.canvas) context.drawImage(item.canvas, item.x, item.y, item.width, item.height);
    else context.fillText(item.text, item.x, item.y);
  }
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function svg({ items, width, height }, colours) {
  const space = "http://www.w3.org/2000/svg";
  const inert = document.implementation.createDocument(space, "svg"); // outside the page: its images are not loaded
  const made = (name, values, text = "") => {
    const node = inert.createElementNS(space, name);
    Object.entries(values).forEach(([key, value]) => node.setAttribute(key, value));
    node.textContent = text;
    return node;
  };
  const root = made("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "system-ui, sans-serif",
    "font-size": 13, fill: colours.ink });
  root.append(made("rect", { width, height, fill: colours.paper }));
  for (const { canvas, text, x, y, ...size } of items) {
    if (text) root.append(made("text", { x, y }, text));
    else root.append(made("image", { x, y, ...size, href: canvas.toDataURL("image/png"),
      "image-rendering": "pixelated", preserveAspectRatio: "none" }));
  }
  return new Blob([new XMLSerializer().serializeToString(root)], { type: "image/svg+xml" });
}
