/* The texts of the page about names, maps and weights. */

import { at, count, fraction, number, times } from "./dom.js";
import { cellAt, cellOf, isBars, isGate, isWindowed, queryGrid } from "./maps.js";

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

export function describeGrid({ entry, columns }) {
  if (isBars(entry)) return `${count(columns)} channels`;
  const side = isWindowed(entry) ? Math.sqrt(entry.groups) : 1;
  return `${times(entry.keys.map((n) => n * side))} ${isGate(entry) ? "factors" : "keys"}`;
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

/* The numbers beside a map, as [id, name, text]. */
export function facts(gamma, entry, image, summary) {
  const gain = ["gamma", "Gain γ", gamma === null ? "none" : number(gamma)];
  if (isGate(entry)) {
    return [gain, ["maximum", "Largest factor", number(entry.maximum[image])],
      ["minimum", "Smallest factor", number(entry.minimum[image])], ["mean", "Mean shown", number(summary.mean)]];
  }
  const entropies = [["entropy", "Entropy, all queries", fraction(entry.entropy[image])],
    ["query-entropy", "Entropy, this query", fraction(summary.entropy)]];
  return [gain, ...(entry.distribution ? entropies : []),
    ["maximum", "Largest, all queries", number(entry.maximum[image])],
    ["query-maximum", "Largest, this query", number(summary.high)]];
}

export function caption({ image, header, map, shared }) {
  return [`Image ${image}`, header.labels?.[image], ...query(map.entry, shared)].filter(Boolean).join(" · ");
}

function query(entry, { position, pinned }) {
  const grid = queryGrid(entry);
  if (isBars(entry)) return ["one factor for each channel"];
  if (grid[0] * grid[1] === 1) return ["the same for all positions"];
  return [`${isGate(entry) ? "position" : "query"} ${at(cellAt(grid, position))}`,
    pinned ? "pinned" : "follows the pointer"];
}

/* The weight under the pointer, or the largest. */
export function readout({ map, channel, key, shared }, { grid, weights }, summary) {
  if (isBars(map.entry)) return channel < 0 ? "Point at a channel" : `Channel ${channel}: ${number(weights[channel])}`;
  const place = key ?? (isGate(map.entry) ? shared.position : null);
  if (!place) return summary.at < 0 ? "No weights" : `Most at ${at(cellOf(grid, summary.at))}: ${number(summary.high)}`;
  const cell = cellAt(grid, place);
  return `At ${at(cell)}: ${number(weights[cell.row * grid[1] + cell.column])}`;
}

/* All weights, one line per row of the grid. */
export function asText({ grid: [rows, columns], weights }) {
  const text = (w) => (Number.isNaN(w) ? "–" : w.toPrecision(4));
  const line = (y) => Array.from(weights.subarray(y * columns, (y + 1) * columns), text).join("\t");
  return Array.from({ length: rows }, (_, y) => line(y)).join("\n");
}
