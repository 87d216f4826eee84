/* Draws a panel for the chosen query and heads: all of it, one frame after any change. */

import { element, number, setText } from "./dom.js";
import { drawBars, drawGrid, drawOverlay, drawPicture, drawScale, markGrid, markQuery, outlineCell, outlineRegion, PINS,
  prepare } from "./draw.js";
import { cellAt, cellOf, choices, hasQueries, isBars, isGate, lookAt, mostAttended, queryGrid, summarize }
  from "./maps.js";
import { axisOf, rangeOf, rangeOfDifference, spanning } from "./scales.js";
import { asText, caption, describeGrid, facts, groupText, idleNote, keyGrid, readout } from "./words.js";

export function show(panel) {
  const since = performance.now();
  const { map, group, shared, parts } = panel;
  const main = panel.minuend() ? differenceOf(panel) : viewOf(map, shared.position, group, shared);
  main.region = isGate(map.entry) ? null : mostAttended(main.shown.weights, shared.outline);
  const steps = panel.strip.filter((cell) => cell.map).map((cell) => ({ cell,
    ...viewOf(cell.map, shared.position, Math.min(group, choices(cell.map.entry) - 1), shared) }));
  const heads = panel.heads.map((cell) => ({ cell, ...viewOf(map, shared.position, cell.group, shared) }));
  const pins = panel.pins.map((cell) => ({ cell, ...viewOf(map, shared.pins[cell.index], group, shared) }));
  if (!main.difference) shareRange(panel, [main, ...steps, ...heads, ...pins]);

  parts.root.classList.toggle("bare", shared.bare);
  if (isBars(map.entry)) showChannels(panel, main);
  else showMap(panel, main);
  panel.strip.forEach((cell) => markStep(panel, cell));
  steps.forEach((view) => showStep(panel, view));
  heads.forEach((view) => showHead(panel, view));
  pins.forEach((view) => showPin(panel, view));
  say(panel, main);
  if (parts.numbers.open) setText(parts.weights, asText(main.shown));
  mark(panel, main);
  panel.sheet.show();
  panel.root.dataset.redraw = (performance.now() - since).toFixed(2);
}

/* What a map shows, and the range of its colours. */
export function viewOf(map, position, group, { look, scale }) {
  const shown = lookAt(map, position, group, look);
  const summary = summarize(shown.weights, map.entry.distribution && shown.sums);
  return { map, shown, summary, range: rangeOf(shown, summary, map.entry, scale) };
}

/* This panel's map minus that of the other panel. */
function differenceOf({ map, group, shared, minuend }) {
  const [here, there] = [{ map, group }, minuend()].map((of) => lookAt(of.map, shared.position, of.group, shared.look));
  const weights = here.weights.map((w, i) => w - there.weights[i]);
  const summary = summarize(weights, false);
  return { map, shown: { grid: here.grid, weights, sums: false }, summary, range: rangeOfDifference(summary),
    difference: true };
}

/* If the scale is shared, gives all views of all panels one range. */
function shareRange(panel, views) {
  const { shared } = panel;
  if (shared.scale !== "shared") return;
  const key = ({ map, range }) => `${isGate(map.entry)}${range.signed}`;
  const own = spanning(views.map(({ range }) => range));
  const kind = key(views[0]);
  shared.spans.set(panel, { kind, range: own });
  const alike = [...shared.spans].filter(([other, span]) => other.map && span.kind === kind);
  const whole = spanning(alike.map(([, span]) => span.range));
  for (const view of views) view.range = whole;
  for (const [other] of alike) {
    if (other !== panel && (other.range?.from !== whole.from || other.range?.to !== whole.to)) other.redraw();
  }
}

function showMap({ parts, picture, map, key, shared }, { shown, summary, range, region, difference }) {
  const overlay = fit(parts.image, picture.height / picture.width);
  if (shared.bare) drawPicture(overlay, picture);
  else drawOverlay(overlay, picture, shown, range, shared.opacity);
  const grid = fit(parts.grid, shown.grid[0] / shown.grid[1]);
  drawGrid(grid, shown, range);
  if (!shared.bare) {
    for (const context of [overlay, grid]) {
      markGrid(context, shown.grid);
      if (region && !difference) outlineRegion(context, shown.grid, region);
      const cell = key ? cellAt(shown.grid, key) : summary.at >= 0 && cellOf(shown.grid, summary.at);
      if (cell) outlineCell(context, shown.grid, cell, { dashed: !key });
    }
    markPins([overlay, grid], map.entry, shared);
  }
  drawScale(prepare(parts.scale, parts.scale.clientWidth, 8), range);
}

/* Each pinned query in its colour, and the one that follows the pointer in white. */
function markPins(contexts, entry, { pins, active, position, look }) {
  const grid = pointedGrid(entry, look);
  if ((look === "all" && !isGate(entry)) || grid[0] * grid[1] <= 1) return; // the answer does not depend on a query
  for (const context of contexts) {
    pins.forEach((pin, i) => i !== active && markQuery(context, grid, pin, pinColour(i), i));
    markQuery(context, grid, position, active < 0 ? "#fff" : pinColour(active), pins.length > 1 && active >= 0 ? active
      : null);
  }
}

/* The grid whose cell the pointer chooses: of keys if the question is who looks there, else of queries. */
const pointedGrid = (entry, look) => (look === "key" && hasQueries(entry) ? keyGrid(entry) : queryGrid(entry));

export const pinColour = (index) => PINS[index % PINS.length];

function showChannels({ parts, picture, map, channel, root }, { shown, range, difference }) {
  drawPicture(fit(parts.image, picture.height / picture.width), picture);
  drawBars(prepare(parts.grid, parts.grid.clientWidth, 200), shown.weights,
    difference ? range : axisOf([map.entry]), channel, colours(root, true));
}

function markStep({ index }, cell) {
  cell.button.classList.toggle("failed", cell.failed);
  if (cell.index === index) cell.button.setAttribute("aria-current", "true");
  else cell.button.removeAttribute("aria-current");
}

function showStep({ channel, shared, root, strip }, { cell, shown, range }) {
  const { picture, map, canvas } = cell;
  const context = fit(canvas, picture.height / picture.width);
  const loaded = strip.filter((step) => step.map).map((step) => step.map.entry);
  if (isBars(map.entry)) drawBars(context, shown.weights, axisOf(loaded), channel, colours(root, false));
  else drawOverlay(context, picture, shown, range, shared.opacity);
}

function showHead({ group }, { cell, shown, range }) {
  drawGrid(fit(cell.canvas, shown.grid[0] / shown.grid[1]), shown, range);
  cell.button.setAttribute("aria-pressed", String(cell.group === group));
}

function showPin({ shared, picture, map }, { cell, shown, range }) {
  const context = fit(cell.canvas, picture.height / picture.width);
  drawOverlay(context, picture, shown, range, shared.opacity);
  markQuery(context, pointedGrid(map.entry, shared.look), shared.pins[cell.index], pinColour(cell.index));
  cell.button.setAttribute("aria-pressed", String(cell.index === shared.active));
}

function say(panel, main) {
  const { parts, map, header, image, group, shared } = panel;
  const { range } = main;
  panel.range = range;
  fillNumbers(parts.facts, facts(header, map.entry, image, main));
  const digits = number(range.from) === number(range.to) ? 6 : 3; // the ends of a flat map lie close together
  setText(parts.from, number(range.from, digits));
  setText(parts.to, number(range.to, digits));
  setText(parts.scaleNote, scaleNote(main, shared));
  setText(parts.readout, readout(panel, main));
  setText(parts.caption, caption(panel));
  setText(parts.title, describeGrid(map, main.shown.grid));
  setText(parts.idle, idleNote(header, image));
  parts.idle.hidden = !parts.idle.textContent;
  setText(parts.channelText, groupText(map.entry, group));
  parts.image.setAttribute("aria-label", `${parts.caption.textContent}. ${parts.readout.textContent}. `
    + "Arrow keys move the query, Escape lets it follow the pointer.");
}

function scaleNote({ range, difference }, { scale }) {
  if (difference) return "this panel minus the first";
  if (scale === "shared") return "one scale for all panels, heads and steps";
  return scale === "stretch" && !range.signed ? "STRETCHED to the map's own range" : "";
}

/* Publishes what is shown in data attributes, for programs. */
function mark({ root, where, image, mapIndex, group, map, shared }, { range, region, difference }) {
  const { row, column } = cellAt(queryGrid(map.entry), shared.position);
  Object.assign(root.dataset, { run: where.run, tag: where.tag, step: where.step, image, map: mapIndex, group,
    query: `${row},${column}`, pinned: shared.pinned, look: shared.look, from: range.from, to: range.to,
    difference: Boolean(difference), region: region ? region.map(Number).join("") : "" });
}

function fillNumbers(list, rows) {
  const ids = rows.map(([id]) => id).join();
  if (list.dataset.rows !== ids) {
    list.dataset.rows = ids;
    list.replaceChildren(...rows.map(([id, name]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { "data-number": id }))));
  }
  rows.forEach(([, name, text], i) => {
    setText(list.children[i].firstChild, name);
    setText(list.children[i].lastChild, text);
  });
}

const fit = (canvas, aspect) => prepare(canvas, canvas.clientWidth, canvas.clientWidth * aspect);

function colours(node, withAxis) {
  const style = getComputedStyle(node);
  const [bar, accent, line, ink] = ["--bar", "--accent", "--line", "--ink"].map((name) => style.getPropertyValue(name));
  return { bar, accent, line, ink: withAxis ? ink : null };
}
