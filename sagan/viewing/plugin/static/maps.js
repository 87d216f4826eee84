/* What a map shows for a position: pure functions of its numbers.

   A map has `groups` (heads, windows, channels) of a row for each position of the grid `queries`; a row has a weight
   for each position of the grid `keys`. Positions on the image are fractions {y, x} from 0 to below 1, so that maps of
   any size agree on them. */

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
  };
}

/* sagan/map_kinds.py describes the kinds of maps; every entry of a header carries its description. */
export const isGate = (entry) => entry.gate;
export const isWindowed = (entry) => entry.windowed;
export const isBars = (entry) => !entry.positions;

/* The number of heads or channels that can be shown one by one: none, or two and more. */
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

/* The weights of the query at a position, or of the gate: {grid: [h, w], weights (NaN outside of the query's window)}.
   `group` is a head or a channel, or -1 for the mean of all. */
export function weightsAt(map, position, group) {
  const { entry } = map;
  if (isWindowed(entry)) return inWindow(map, position);
  const { row, column } = cellAt(entry.queries, position);
  const query = row * entry.queries[1] + column;
  const weights = group >= 0 || entry.groups === 1
    ? rowOf(map, Math.max(group, 0) * area(entry.queries) + query)
    : meanOf(map, query);
  return { grid: entry.keys, weights };
}

function inWindow(map, position) {
  const { queries, keys, groups } = map.entry;
  const side = Math.sqrt(groups);
  const window = cellAt([side, side], position);
  const within = cellAt(queries, { y: position.y * side - window.row, x: position.x * side - window.column });
  const index = (window.row * side + window.column) * area(queries) + within.row * queries[1] + within.column;
  const row = rowOf(map, index);
  const grid = [side * keys[0], side * keys[1]];
  const weights = new Float32Array(area(grid)).fill(NaN);
  for (let y = 0; y < keys[0]; y++) {
    const start = (window.row * keys[0] + y) * grid[1] + window.column * keys[1];
    weights.set(row.subarray(y * keys[1], (y + 1) * keys[1]), start);
  }
  return { grid, weights };
}

function rowOf({ low, high, levels, columns }, row) {
  const weights = new Float32Array(columns);
  const scale = (high[row] - low[row]) / 255;
  for (let i = 0, at = row * columns; i < columns; i++, at++) weights[i] = low[row] + levels[at] * scale;
  return weights;
}

function meanOf(map, query) {
  if (map.means.has(query)) return map.means.get(query);
  const { entry, columns } = map;
  const mean = new Float32Array(columns);
  for (let group = 0; group < entry.groups; group++) {
    const row = rowOf(map, group * area(entry.queries) + query);
    for (let i = 0; i < columns; i++) mean[i] += row[i] / entry.groups;
  }
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
  return { low, high, at, mean: sum / count, entropy: isDistribution && count > 1 ? entropy / Math.log(count) : null };
}
