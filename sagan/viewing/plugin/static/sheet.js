/* All layers and heads of a run at a glance: small maps for the same query, each a button that opens it. */

import { cellButton } from "./cells.js";
import { element } from "./dom.js";
import { drawBars, drawGrid, prepare } from "./draw.js";
import { choices, isBars, isGate, parseMap } from "./maps.js";
import { axisOf } from "./scales.js";
import { viewOf } from "./show.js";
import { describeTag, groupName } from "./words.js";

const MOST_HEADS = 16; // shown for a map; a gate is shown as the mean of its channels
const SIDE = 72; // pixels

export class Sheet {
  constructor(panel) {
    Object.assign(this, { panel, cells: [], loaded: null });
    panel.parts.sheet.ontoggle = () => panel.redraw();
  }

  /* Draws the sheet for the query, if it is open; loads it first if it shows another record. */
  show() {
    const { parts, run, where, image, root } = this.panel;
    if (!parts.sheet.open) return;
    const wanted = JSON.stringify([run, where.step, where.wallTime, image]);
    if (this.loaded !== wanted) {
      this.loaded = wanted;
      root.dataset.sheet = "loading";
      this.load(wanted);
    } else this.cells.forEach((cell) => this.draw(cell));
  }

  async load(wanted) {
    const { panel } = this;
    const { parts, run, tags } = panel;
    const found = await Promise.all(tags.get(run).map((tag) => this.layer(tag).catch(() => null)));
    if (this.loaded !== wanted) return;
    this.cells = found.flatMap((layer) => layer?.cells ?? []);
    parts.sheetBody.replaceChildren(...found.filter(Boolean).map(({ node }) => node));
    this.cells.forEach((cell) => this.draw(cell));
    panel.root.dataset.sheet = "ready";
  }

  /* The maps of one layer at the step, or the nearest one before it. */
  async layer(tag) {
    const { source, run, step, image: wanted } = this.panel;
    const steps = await source.listSteps(run, tag);
    const at = steps.filter((s) => s.step <= step).at(-1) ?? steps[0];
    const where = { run, tag, step: at.step, wallTime: at.wall_time };
    const header = await source.header(where), image = Math.min(wanted, header.images - 1);
    const maps = await Promise.all(header.maps.map(async (entry, i) =>
      parseMap(await source.map(where, image, i), entry)));
    const cells = maps.flatMap((map, i) => this.groups(map).map((group) => this.cell(tag, map, i, group)));
    const row = element("div", { className: "cells", role: "group" }, ...cells.map(({ button }) => button));
    const title = element("h3", { textContent: `${describeTag(tag)} · step ${at.step}` });
    return { cells, node: element("section", {}, title, row) };
  }

  groups({ entry }) {
    const heads = isGate(entry) || choices(entry) > MOST_HEADS ? 0 : choices(entry);
    return [-1, ...Array.from({ length: heads }, (_, i) => i)];
  }

  cell(tag, map, mapIndex, group) {
    const name = isGate(map.entry) ? map.entry.kind : groupName(group);
    const text = element("span", { textContent: mapIndex ? `${name} (${mapIndex})` : name });
    const onclick = () => this.panel.open(tag, mapIndex, group);
    return { tag, map, mapIndex, group, ...cellButton({ onclick, title: `${describeTag(tag)}: ${name}` }, text) };
  }

  draw({ canvas, button, tag, map, mapIndex, group }) {
    const { shared, root, channel, tag: shownTag, mapIndex: shownMap, group: shownGroup } = this.panel;
    const { shown, range } = viewOf(map, shared.position, group, shared);
    if (isBars(map.entry)) {
      const style = getComputedStyle(root);
      const [bar, accent, line] = ["--bar", "--accent", "--line"].map((name) => style.getPropertyValue(name));
      drawBars(prepare(canvas, SIDE, SIDE), shown.weights, axisOf([map.entry]), channel, { bar, accent, line });
    } else drawGrid(prepare(canvas, SIDE, (SIDE * shown.grid[0]) / shown.grid[1]), shown, range);
    const here = tag === shownTag && mapIndex === shownMap && (group === shownGroup || isGate(map.entry));
    button.setAttribute("aria-pressed", String(here));
  }
}
