/* Pointer and keys on a panel's two canvases: they move and pin the query, and read single weights. */

import { cellAt, centre, isBars, queryGrid } from "./maps.js";

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/* What all panels share. `pins` are the pinned queries, `active` is the number of the one shown, or -1 if the query
   follows the pointer. */
export class Shared {
  image = 0;
  pins = [];
  active = -1;
  pointer = { y: 0.4999, x: 0.4999 };
  look = "query";
  scale = "zero";
  outline = 0.5;
  opacity = 0.62;
  bare = false;
  difference = false;
  spans = new Map();

  get position() {
    return this.pins[this.active] ?? this.pointer;
  }

  get pinned() {
    return this.active >= 0;
  }

  /* Moves the pinned query, or pins one more. */
  pin(position, more = false) {
    if (more || !this.pinned) this.active = this.pins.push(position) - 1;
    else this.pins[this.active] = position;
  }

  /* Lets the query follow the pointer again; the other pins stay. */
  unpin() {
    if (!this.pinned) return;
    this.pointer = this.position;
    this.pins.splice(this.active, 1);
    this.active = -1;
  }
}

export function listenToPointing(panel) {
  const { image, grid } = panel.parts;
  const { shared } = panel;
  image.onpointermove = (event) => {
    if (shared.pinned) return;
    shared.pointer = pointed(event);
    panel.changed(panel, "position");
  };
  image.onclick = (event) => panel.map && click(panel, pointed(event), event.shiftKey);
  grid.onpointermove = (event) => panel.map && ask(panel, pointed(event));
  grid.onpointerleave = () => panel.map && ask(panel, null);
}

/* Pins the query, or unpins it if it is pinned there already. With shift, pins one more. */
function click(panel, position, more) {
  const { shared } = panel;
  const grid = queryGrid(panel.map.entry);
  const [before, now] = [shared.position, position].map((where) => cellAt(grid, where));
  if (shared.pinned && before.row === now.row && before.column === now.column) shared.unpin();
  else shared.pin(position, more);
  panel.changed(panel, "position");
}

/* Handles a key that moves or pins the query; returns whether it was one. */
export function press(panel, key) {
  const move = MOVES[key];
  if (!(move || key === "Escape" || key === "Enter") || !panel.map) return false;
  if (move && isBars(panel.map.entry)) stepChannel(panel, move[1] - move[0]);
  else if (key === "Escape") panel.shared.unpin();
  else stepQuery(panel, move ?? [0, 0]);
  panel.changed(panel, "position");
  panel.changed(panel, "announce");
  return true;
}

function stepChannel(panel, by) {
  panel.channel = Math.max(0, Math.min(panel.map.columns - 1, panel.channel + by));
}

function stepQuery({ shared, map }, [down, right]) {
  const grid = queryGrid(map.entry);
  const { row, column } = cellAt(grid, shared.position);
  const within = (value, count) => Math.max(0, Math.min(count - 1, value));
  shared.pin(centre(grid, { row: within(row + down, grid[0]), column: within(column + right, grid[1]) }));
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
