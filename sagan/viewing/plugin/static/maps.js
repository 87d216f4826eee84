/* What a map shows for a position: pure functions of its numbers.

   A map has `groups`: heads, windows or channels. A group has a row for each position of the grid `queries`, and a row
   has a weight for each position of the grid `keys`. A position on the image is {y, x}, fractions in [0, 1), so that it
   means the same to maps of any size. */

const area = ([height, width]) => height * width;

export function parseMap(buffer, entry) {
  const rows = entry.groups * area(entry.queries);
  const columns = area(entry.keys);
  return {
    entry,
    columns,
    low: new Float32Array(buffer, 0, rows),
    high: new Float32Array(buffer, 4 * rows, rows),
    levels: new Uint8Array(buffer, 8 * rows, rows * columns),
    means: new Map(),
    columnMeans: new Map(),
  };
}

/* sagan/map_kinds.py describes the kinds of maps; every entry of a header carries its description. */
export const isGate = (entry) => entry.gate;
export const isWindowed = (entry) => entry.windowed;
export const isBars = (entry) => !entry.positions;

/* The number of heads or channels that can be shown one by one: 0 if there is nothing to choose, else at least 2. */
export const choices = (entry) => (entry.groups > 1 && !isWindowed(entry) ? entry.groups : 0);

/* The grid on which a query is chosen. A gate has no queries, so it is the grid of its values. */
export function queryGrid(entry) {
  if (isGate(entry)) return entry.keys;
  const side = isWindowed(entry) ? Math.sqrt(entry.groups) : 1;
  return entry.queries.map((n) => n * side);
}

export const cellAt = ([height, width], { y, x }) => ({
  row: Math.min(height - 1, Math.floor(y * height)),
  column: Math.min(width - 1, Math.floor(x * width)),
});

export const cellOf = ([, columns], index) => ({ row: Math.floor(index / columns), column: index % columns });

export const centre = ([height, width], { row, column }) => ({
  y: (row + 0.5) / height,
  x: (column + 0.5) / width,
});

/* The questions that a map can answer. */
export const LOOKS = [
  ["query", "where the query looks"],
  ["key", "who looks here"],
  ["all", "what all queries look at"],
];

/* Whether queries have different rows: not for a gate, nor if all positions share one row. */
export const hasQueries = (entry) => !isGate(entry) && area(queryGrid(entry)) > 1;

/* The answer: {grid: [h, w], weights (NaN if a cell has none), uniform (the weight if all were equal), sums (whether
   the weights add up to 1, provided that those of a query do)}. `group` is a head or a channel, or -1 for the mean. */
export function lookAt(map, position, group, look) {
  if (!hasQueries(map.entry) || look === "query") return { ...weightsAt(map, position, group), sums: true };
  const uniform = 1 / map.columns;
  if (look === "key") return { ...columnAt(map, position, group), uniform, sums: false };
  return { ...columnMeans(map, group), uniform, sums: !isWindowed(map.entry) };
}

/* The weights of the query at a position, or of the gate. */
function weightsAt(map, position, group) {
  const { entry } = map;
  if (isWindowed(entry)) return inWindow(map, position);
  const { row, column } = cellAt(entry.queries, position);
  const query = row * entry.queries[1] + column;
  const weights = group >= 0 || entry.groups === 1
    ? rowOf(map, Math.max(group, 0) * area(entry.queries) + query)
    : meanOf(map, query);
  return { grid: entry.keys, weights };
}

/* Where a position lies in a map of windows: the window, and the cell of a grid in it. */
function windowAt({ groups }, grid, position) {
  const side = Math.sqrt(groups);
  const window = cellAt([side, side], position);
  const within = cellAt(grid, { y: position.y * side - window.row, x: position.x * side - window.column });
  return { side, window, index: window.row * side + window.column, cell: within.row * grid[1] + within.column };
}

/* Puts the values of one window, on `grid`, into `weights`, which cover all windows. */
function fillWindow(weights, values, grid, side, window) {
  for (let y = 0; y < grid[0]; y++) {
    const start = (window.row * grid[0] + y) * side * grid[1] + window.column * grid[1];
    weights.set(values.subarray(y * grid[1], (y + 1) * grid[1]), start);
  }
}

const blank = (grid, side) => new Float32Array(area(grid) * side * side).fill(NaN);

function inWindow(map, position) {
  const { queries, keys } = map.entry;
  const { side, window, index, cell } = windowAt(map.entry, queries, position);
  const weights = blank(keys, side);
  fillWindow(weights, rowOf(map, index * area(queries) + cell), keys, side, window);
  return { grid: keys.map((n) => side * n), weights };
}

/* How much each query attends to the key at a position. */
function columnAt(map, position, group) {
  const { queries, keys, groups } = map.entry;
  if (isWindowed(map.entry)) {
    const { side, window, index, cell } = windowAt(map.entry, keys, position);
    const weights = blank(queries, side);
    fillWindow(weights, column(map, index, cell), queries, side, window);
    return { grid: queries.map((n) => side * n), weights };
  }
  const { row, column: x } = cellAt(keys, position);
  const chosen = group >= 0 ? [group] : Array.from({ length: groups }, (_, i) => i);
  return { grid: queries, weights: meanOfAll(chosen.map((g) => column(map, g, row * keys[1] + x))) };
}

/* How much the queries attend to each key, on average. */
function columnMeans(map, group) {
  if (map.columnMeans.has(group)) return map.columnMeans.get(group);
  const { queries, keys, groups } = map.entry;
  const rows = area(queries);
  const ofGroup = (g) => meanOfAll(Array.from({ length: rows }, (_, q) => rowOf(map, g * rows + q)));
  const all = Array.from({ length: groups }, (_, g) => g);
  let found;
  if (isWindowed(map.entry)) {
    const side = Math.sqrt(groups), weights = blank(keys, side);
    all.forEach((g) => fillWindow(weights, ofGroup(g), keys, side, { row: Math.floor(g / side), column: g % side }));
    found = { grid: keys.map((n) => side * n), weights };
  } else found = { grid: keys, weights: meanOfAll((group >= 0 ? [group] : all).map(ofGroup)) };
  map.columnMeans.set(group, found);
  return found;
}

function rowOf({ low, high, levels, columns }, row) {
  const weights = new Float32Array(columns);
  const scale = (high[row] - low[row]) / 255;
  for (let i = 0, at = row * columns; i < columns; i++, at++) weights[i] = low[row] + levels[at] * scale;
  return weights;
}

function column({ entry, low, high, levels, columns }, group, key) {
  const rows = area(entry.queries);
  return Float32Array.from({ length: rows }, (_, q) => {
    const row = group * rows + q;
    return low[row] + (levels[row * columns + key] * (high[row] - low[row])) / 255;
  });
}

function meanOfAll(lists) {
  const mean = new Float32Array(lists[0].length);
  for (const list of lists) for (let i = 0; i < mean.length; i++) mean[i] += list[i] / lists.length;
  return mean;
}

function meanOf(map, query) {
  if (map.means.has(query)) return map.means.get(query);
  const rows = Array.from({ length: map.entry.groups }, (_, g) => rowOf(map, g * area(map.entry.queries) + query));
  const mean = meanOfAll(rows);
  map.means.set(query, mean);
  return mean;
}

/* Returns the lowest, mean and highest weight, the index of the highest, and for a distribution its entropy as a
   fraction of the uniform one. */
export function summarize(weights, isDistribution) {
  let low = Infinity, high = -Infinity, at = -1, sum = 0, count = 0, entropy = 0;
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i];
    if (Number.isNaN(w)) continue;
    if (w < low) low = w;
    if (w > high) [high, at] = [w, i];
    if (w > 0) entropy -= w * Math.log(w);
    sum += w;
    count++;
  }
  // Stored weights are rounded, so they add up to nearly 1: this is the entropy of w / sum.
  entropy = isDistribution && count > 1 ? (entropy / sum + Math.log(sum)) / Math.log(count) : null;
  return { low, high, at, mean: sum / count, entropy };
}

const LEAST = 1.5; // times the mean weight: least maximum of a map that has such a region

/* The fewest cells that hold a share of the weight, as a boolean for each cell; null for a nearly uniform map. Equal
   weights are either all in or all out. sagan/viewing/rows.py has the same rule. */
export function mostAttended(weights, share) {
  const sizes = Array.from(weights, (w) => (Number.isNaN(w) ? 0 : Math.abs(w)));
  const ranked = [...sizes].sort((a, b) => b - a);
  const total = ranked.reduce((sum, w) => sum + w, 0);
  const cells = weights.reduce((count, w) => count + !Number.isNaN(w), 0);
  if (!total || ranked[0] < (LEAST * total) / cells) return null;
  let sum = 0, last = 0;
  for (last of ranked) {
    sum += last;
    if (sum >= share * total * (1 - 1e-6)) break;
  }
  return sizes.map((w) => w >= last && w > 0);
}
