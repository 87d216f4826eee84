/* The attention tab: one panel, or two side by side that share image and query. TensorBoard calls `render`. */

import * as client from "./client.js";
import { element, setText } from "./dom.js";
import { Panel } from "./panel.js";
import { followTheme, onReload } from "./host.js";

const shared = { image: 0, position: { y: 0.4999, x: 0.4999 }, pinned: false, fromZero: false };
const panels = [];
let tags = {};

const row = element("div", { className: "panels" });
const compare = element("button", { type: "button", className: "plain", onclick: toggleComparison });
const linked = element("input", { type: "checkbox", checked: true });
const linkedField = element("label", { className: "check" }, linked, "Same step in both");
const fromZero = element("input", { type: "checkbox", onchange: () => {
  shared.fromZero = fromZero.checked;
  panels.forEach((panel) => panel.redraw());
} });
const fromZeroField = element("label", { className: "check" }, fromZero, "Colours from zero");
const announcement = element("p", { className: "unseen", ariaLive: "polite" });
const empty = element("div", { className: "empty", hidden: true },
  element("h2", { textContent: "No attention recorded yet" }),
  element("p", { textContent: "sagan train records it every logging.attention_every steps. Attention of kind none or "
    + "residual has no map to show." }));

export async function render() {
  document.documentElement.lang = "en";
  document.head.append(element("link", { rel: "stylesheet", href: new URL("./style.css", import.meta.url).href }));
  followTheme();
  const help = "Point at an image to see where that position looks. Click pins it, arrow keys move it, Escape lets go.";
  document.body.append(
    element("header", {}, element("p", { className: "quiet", textContent: help }), fromZeroField, linkedField, compare),
    empty, row, announcement);
  addPanel();
  await refresh();
  onReload(refresh);
}

async function refresh() {
  try {
    tags = generatorFirst(await client.listTags());
    empty.hidden = Object.keys(tags).length > 0;
    row.hidden = compare.hidden = !empty.hidden;
    if (empty.hidden) await Promise.all(panels.map((panel) => panel.setTags(tags)));
  } catch (error) {
    panels.filter((panel) => !panel.map).forEach((panel) => panel.fail(panel.request, error));
    row.hidden = false; // what is shown already stays
  }
  showComparison();
  document.documentElement.dataset.state = "ready";
}

function addPanel() {
  const panel = new Panel(shared, hear);
  panels.push(panel);
  row.append(panel.root);
  return panel;
}

/* Within each run, the generator's layers come first. */
const generatorFirst = (found) =>
  Object.fromEntries(Object.entries(found).map(([run, list]) => [run, [...list].sort((a, b) => rank(a) - rank(b))]));
const rank = (tag) => Number(!tag.startsWith("attention-maps/generator/"));

/* Passes a panel's change on to the others. */
function hear(source, what, value) {
  if (what === "position") panels.forEach((panel) => panel.redraw());
  if (what === "announce") requestAnimationFrame(() => setText(announcement, source.parts.readout.textContent));
  if (what === "image") {
    shared.image = value;
    panels.forEach((panel) => panel.load());
  }
  if (what === "step" && linked.checked) {
    panels.filter((panel) => panel !== source).forEach((panel) => panel.followStep(source.step));
  }
}

async function toggleComparison() {
  const second = panels.length > 1 ? null : addPanel();
  if (!second) panels.pop().root.remove();
  showComparison();
  await second?.setTags(tags, { run: Object.keys(tags).find((run) => run !== panels[0].run), tag: panels[0].tag });
  if (linked.checked) second?.followStep(panels[0].step);
}

function showComparison() {
  const two = panels.length > 1;
  setText(compare, two ? "Close the comparison" : "Compare with another run");
  linkedField.hidden = !two;
  row.classList.toggle("two", two);
}
