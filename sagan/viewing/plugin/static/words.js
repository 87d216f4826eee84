/* The texts of the page about names, maps and weights. */

import { at, count, fraction, number, percent, times } from "./dom.js";
import { cellAt, cellOf, choices, hasQueries, isBars, isGate, isWindowed, queryGrid } from "./maps.js";

const IDLE = 0.01; // a layer that changes its input by less is hardly in use

export function describeTag(tag) {
  const [prefix, network, ...rest] = tag.split("/");
  if (prefix !== "attention-maps" || rest.length < 2) return tag;
  const source = rest.pop();
  return `${network} · ${rest.join("/").replace(/\.attention$/, "")} · ${source}`;
}

export function describeMap(entry, i) {
  const grid = isBars(entry) ? entry.keys[1] : times(entry.keys);
  return `${i}: ${entry.kind}, ${isWindowed(entry) ? `${entry.groups} of ` : ""}${grid}`;
}

export function describeGrid({ entry, columns }, grid) {
  return isBars(entry) ? `${count(columns)} channels` : `${times(grid)} cells`;
}

/* Says how much of a large map was averaged before it was stored. */
export function describePooling(entry) {
  const ratio = (whole, stored) => [whole[0] / stored[0], whole[1] / stored[1]];
  const queries = ratio(entry.whole_queries, entry.queries), keys = ratio(entry.whole_keys, entry.keys);
  const notes = [];
  if (queries[0] > 1) notes.push(`Each query is the mean of ${times(queries)} neighbours.`);
  if (keys[0] > 1) notes.push(`Each cell ${isGate(entry) ? "averages" : "adds up"} ${times(keys)} neighbours.`);
  return notes.join(" ");
}

export const groupName = (group) => (group < 0 ? "mean" : `head ${group}`);
export const imageName = (image, header) => [`Image ${image}`, header.labels?.[image]].filter(Boolean).join(" · ");

/* A warning if the layer changes next to nothing; empty otherwise. */
export function idleNote({ change }, image) {
  const value = change?.[image] ?? null;
  return value !== null && value < IDLE
    ? `Hardly in use: the layer changes its input by ${percent(value)}, whatever its map looks like.` : "";
}

const NAN = "not a number";

/* The text of a number that exists. In a record, one that is not finite is null, or "NaN" where null has a meaning. */
const known = (value, text = number) => (Number.isFinite(value) ? text(value) : NAN);

/* The numbers beside a map, as [id, name, text]. */
export function facts({ gamma, change }, entry, image, { shown, summary, region, difference }) {
  const rows = [["gamma", "Gain γ", gamma === null ? "none" : known(gamma)]];
  if (change) rows.push(["change", "Changes its input by", known(change[image], percent)]);
  if (difference) {
    return [...rows, ["maximum", "Largest difference", known(summary.high)],
      ["minimum", "Smallest difference", known(summary.low)], ["mean", "Mean difference", known(summary.mean)]];
  }
  if (isGate(entry)) {
    return [...rows, ["maximum", "Largest factor", known(entry.maximum[image])],
      ["minimum", "Smallest factor", known(entry.minimum[image])], ["mean", "Mean shown", known(summary.mean)]];
  }
  const all = entry.whole_keys[0] > entry.keys[0] ? "all queries, single keys" : "all queries"; // not cells of several
  if (entry.distribution) {
    rows.push(["entropy", `Entropy, ${all}`, known(entry.entropy[image], fraction)]);
    if (summary.entropy !== null) rows.push(["query-entropy", "Entropy, shown", fraction(summary.entropy)]);
  }
  rows.push(["maximum", `Largest, ${all}`, known(entry.maximum[image])],
    ["query-maximum", "Largest, shown", known(summary.high)]);
  if (shown.uniform) rows.push(["times", "Largest / uniform", known(summary.high / shown.uniform)]);
  const inside = region?.filter(Boolean).length, why = summary.at < 0 ? NAN : "nearly uniform";
  rows.push(["region", "Outlined", inside ? `${inside} of ${region.length} cells` : `none: ${why}`]);
  return rows;
}

export function caption({ image, header, map, shared }) {
  return [imageName(image, header), ...query(map.entry, header, shared)].join(" · ");
}

/* "row 3, column 5 (pixels y 6–7, x 10–11)" */
export function place(grid, cell, [height, width]) {
  const span = (index, cells, pixels) => {
    const first = Math.floor((index * pixels) / cells), last = Math.ceil(((index + 1) * pixels) / cells) - 1;
    return first === last ? `${first}` : `${first}–${last}`;
  };
  return `${at(cell)} (pixels y ${span(cell.row, grid[0], height)}, x ${span(cell.column, grid[1], width)})`;
}

function query(entry, { size }, { position, pinned, look }) {
  const grid = queryGrid(entry);
  if (isBars(entry)) return ["one factor for each channel"];
  if (!isGate(entry) && !hasQueries(entry)) return ["the same for all positions"];
  const follows = pinned ? "pinned" : "follows the pointer";
  if (look === "all" && !isGate(entry)) return ["what all queries look at, on average"];
  if (look === "key" && !isGate(entry)) {
    const keys = keyGrid(entry);
    return [`who looks at ${place(keys, cellAt(keys, position), size)}`, follows];
  }
  return [`${isGate(entry) ? "position" : "query"} ${place(grid, cellAt(grid, position), size)}`, follows];
}

export const keyGrid = (entry) => entry.keys.map((n) => n * (isWindowed(entry) ? Math.sqrt(entry.groups) : 1));

/* The weight under the pointer, or the largest. */
export function readout({ map, header, channel, key, shared }, { shown: { grid, weights }, summary }) {
  if (summary.at < 0) return "Not a number";
  if (isBars(map.entry)) return channel < 0 ? "Point at a channel" : `Channel ${channel}: ${number(weights[channel])}`;
  const where = key ?? (isGate(map.entry) ? shared.position : null);
  if (!where) {
    return `Most at ${place(grid, cellOf(grid, summary.at), header.size)}: ${number(summary.high)}`;
  }
  const cell = cellAt(grid, where);
  return `At ${place(grid, cell, header.size)}: ${number(weights[cell.row * grid[1] + cell.column])}`;
}

export function groupText(entry, group) {
  return group < 0 ? `mean of ${choices(entry)}` : `${group} of 0…${choices(entry) - 1}`;
}

/* All weights, one line per row of the grid. */
export function asText({ grid: [rows, columns], weights }) {
  const text = (w) => (Number.isNaN(w) ? "–" : w.toPrecision(4));
  const line = (y) => Array.from(weights.subarray(y * columns, (y + 1) * columns), text).join("\t");
  return Array.from({ length: rows }, (_, y) => line(y)).join("\n");
}
