/* Pointer and keys on a panel's two canvases: they move and pin the query, and read single weights. */

import { cellAt, centre, isBars, queryGrid } from "./maps.js";

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export function listenToPointing(panel) {
  const { image, grid } = panel.parts;
  const { shared } = panel;
  image.onpointermove = (event) => shared.pinned || moveQuery(panel, pointed(event));
  image.onclick = (event) => panel.map && click(panel, pointed(event));
  grid.onpointermove = (event) => panel.map && ask(panel, pointed(event));
  grid.onpointerleave = () => panel.map && ask(panel, null);
  image.onkeydown = grid.onkeydown = (event) => panel.map && press(panel, event);
}

function moveQuery(panel, position) {
  panel.shared.position = position;
  panel.changed(panel, "position");
}

/* Pins the query, or unpins it if it is pinned there already. */
function click(panel, position) {
  const { shared } = panel;
  const grid = queryGrid(panel.map.entry);
  const [before, now] = [shared.position, position].map((place) => cellAt(grid, place));
  shared.pinned = !(shared.pinned && before.row === now.row && before.column === now.column);
  moveQuery(panel, position);
}

function press(panel, event) {
  const move = MOVES[event.key];
  if (event.altKey || event.ctrlKey || event.metaKey) return;  // the browser's own
  if (!(move || event.key === "Escape" || event.key === "Enter")) return;
  event.preventDefault();
  if (move && isBars(panel.map.entry)) stepChannel(panel, move[1] - move[0]);
  else stepQuery(panel, move ?? [0, 0], event.key !== "Escape");
  panel.changed(panel, "announce");
}

function stepChannel(panel, by) {
  panel.channel = Math.max(0, Math.min(panel.map.columns - 1, panel.channel + by));
  panel.redraw();
}

function stepQuery(panel, [down, right], pinned) {
  const grid = queryGrid(panel.map.entry);
  const { row, column } = cellAt(grid, panel.shared.position);
  const within = (value, count) => Math.max(0, Math.min(count - 1, value));
  panel.shared.pinned = pinned;
  moveQuery(panel, centre(grid, { row: within(row + down, grid[0]), column: within(column + right, grid[1]) }));
}

/* The weight, or the channel, under the pointer on the map's own grid. */
function ask(panel, position) {
  if (!isBars(panel.map.entry)) panel.key = position;
  else if (position) panel.channel = Math.floor(position.x * panel.map.columns);
  panel.redraw();
}

/* The position of an event on its element. */
function pointed(event) {
  const box = event.currentTarget.getBoundingClientRect();
  const within = (value) => Math.min(1 - 1e-9, Math.max(0, value));
  return { y: within((event.clientY - box.top) / box.height), x: within((event.clientX - box.left) / box.width) };
}
