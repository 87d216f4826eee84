/* Draws a panel for the chosen query and heads: all of it, one frame after any change. */

import { element, number, setText } from "./dom.js";
import { drawBars, drawGrid, drawOverlay, drawScale, markQuery, outline, prepare, scaleOf } from "./draw.js";
import { cellAt, cellOf, choices, isBars, queryGrid, summarize, weightsAt } from "./maps.js";
import { asText, caption, facts, readout } from "./words.js";

export function show(panel) {
  const since = performance.now();
  const { map, group, shared, parts } = panel;
  const shown = weightsAt(map, shared.position, group);
  const summary = summarize(shown.weights, map.entry.distribution);
  const scale = scaleOf(summary, shared.fromZero);
  if (isBars(map.entry)) showChannels(panel, shown, summary);
  else showMap(panel, shown, summary, scale);
  for (const cell of panel.strip) showStep(panel, cell);
  for (const cell of panel.heads) showHead(panel, cell);
  say(panel, shown, summary, scale);
  if (parts.numbers.open) setText(parts.weights, asText(shown));
  mark(panel);
  panel.root.dataset.redraw = (performance.now() - since).toFixed(2);
}

function showMap({ parts, picture, map, key, shared }, shown, summary, scale) {
  const overlay = fit(parts.image, picture.height / picture.width);
  drawOverlay(overlay, picture, shown, scale);
  const grid = fit(parts.grid, shown.grid[0] / shown.grid[1]);
  drawGrid(grid, shown, scale);
  const cell = key ? cellAt(shown.grid, key) : summary.at >= 0 && cellOf(shown.grid, summary.at);
  const queries = queryGrid(map.entry);
  for (const context of [overlay, grid]) {
    if (cell) outline(context, shown.grid, cell, { dashed: !key });
    if (queries[0] * queries[1] > 1) markQuery(context, queries, shared.position); // else all positions are one query
  }
  drawScale(prepare(parts.scale, parts.scale.clientWidth, 8), scale);
}

function showChannels({ parts, picture, channel, root }, { weights }, summary) {
  drawOverlay(fit(parts.image, picture.height / picture.width), picture, null);
  drawBars(prepare(parts.grid, parts.grid.clientWidth, 200), weights, summary, channel, colours(root));
}

/* Draws one step of the strip. */
export function showStep({ index, group, channel, shared, root }, cell) {
  cell.button.classList.toggle("failed", cell.failed);
  if (cell.index === index) cell.button.setAttribute("aria-current", "true");
  else cell.button.removeAttribute("aria-current");
  if (!cell.map) return;
  const { picture, map, canvas } = cell;
  const context = fit(canvas, picture.height / picture.width);
  const shown = weightsAt(map, shared.position, Math.min(group, choices(map.entry) - 1));
  const summary = summarize(shown.weights, false);
  if (isBars(map.entry)) drawBars(context, shown.weights, summary, channel, colours(root));
  else drawOverlay(context, picture, shown, scaleOf(summary, shared.fromZero));
}

function showHead({ map, group, shared }, cell) {
  const shown = weightsAt(map, shared.position, cell.group);
  const scale = scaleOf(summarize(shown.weights, false), shared.fromZero);
  drawGrid(fit(cell.canvas, shown.grid[0] / shown.grid[1]), shown, scale);
  cell.button.setAttribute("aria-pressed", String(cell.group === group));
}

function say(panel, shown, summary, scale) {
  const { parts, map, header, image, group } = panel;
  fillNumbers(parts.facts, facts(header.gamma, map.entry, image, summary));
  const digits = number(scale.from) === number(scale.to) ? 6 : 3; // the ends of a flat map lie close together
  setText(parts.from, number(scale.from, digits));
  setText(parts.to, number(scale.to, digits));
  setText(parts.readout, readout(panel, shown, summary));
  setText(parts.caption, caption(panel));
  setText(parts.channelText, group < 0 ? `mean of ${map.entry.groups}` : `${group} of 0…${map.entry.groups - 1}`);
  parts.image.setAttribute("aria-label", `${parts.caption.textContent}. ${parts.readout.textContent}. `
    + "Arrow keys move the query, Escape lets it follow the pointer.");
}

/* Publishes what is shown in data attributes, for programs. */
function mark({ root, run, tag, where, image, mapIndex, group, map, shared }) {
  const { row, column } = cellAt(queryGrid(map.entry), shared.position);
  Object.assign(root.dataset, { run, tag, step: where.step, image, map: mapIndex, group, query: `${row},${column}`,
    pinned: shared.pinned });
}

function fillNumbers(list, rows) {
  const ids = rows.map(([id]) => id).join();
  if (list.dataset.rows !== ids) {
    list.dataset.rows = ids;
    list.replaceChildren(...rows.map(([id, name]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { "data-number": id }))));
  }
  rows.forEach(([, , text], i) => setText(list.children[i].lastChild, text));
}

const fit = (canvas, aspect) => prepare(canvas, canvas.clientWidth, canvas.clientWidth * aspect);

function colours(node) {
  const style = getComputedStyle(node);
  const [bar, accent, line] = ["--bar", "--accent", "--line"].map((name) => style.getPropertyValue(name));
  return { bar, accent, line };
}
