/* One panel, or two side by side that share image and query, over a source of records. */

import { Address } from "./address.js";
import { controls, showControls } from "./controls.js";
import { element, setText } from "./dom.js";
import { followTheme } from "./host.js";
import { helpSheet, listenToKeys } from "./keys.js";
import { choices, LOOKS } from "./maps.js";
import { Panel } from "./panel.js";
import { Shared } from "./pointing.js";
import { SCALES } from "./scales.js";
import { save } from "./figure.js";
import { readView, viewNow } from "./view.js";

const HELP = "Point at an image to see where that position looks. Click to pin it, Shift-click to pin another. "
  + "Press ? for keyboard shortcuts.";

export class App {
  constructor(source, prefix) {
    Object.assign(this, { source, shared: new Shared(), panels: [], runs: new Map(), address: new Address(prefix) });
    this.help = helpSheet();
    this.controls = controls(this.shared, this);
    this.row = element("div", { className: "panels" });
    this.announcement = element("p", { className: "unseen", ariaLive: "polite" });
    this.empty = element("div", { className: "empty", hidden: true },
      element("h2", { textContent: "No attention recorded yet" }),
      element("p", { textContent: "sagan train records it every logging.attention_every steps. Attention of kind none "
        + "or residual has no map to show." }));
  }

  async start() {
    document.documentElement.lang = "en";
    followTheme();
    document.body.append(this.controls.root, element("p", { className: "quiet hint", textContent: HELP }), this.empty,
      this.row, this.announcement, this.help);
    listenToKeys(this);
    this.wanted = readView(this.address.read(), this.shared);
    this.wanted.forEach(() => this.addPanel());
    this.controls.filter.value = this.wanted[0].filter ?? "";
    await this.refresh();
  }

  async refresh() {
    const { panels, row, empty, controls: { root } } = this;
    try {
      this.runs = new Map((await this.source.listRuns()).map(([run, tags]) => [run, generatorFirst(tags)]));
      empty.hidden = this.runs.size > 0;
      row.hidden = root.hidden = !empty.hidden;
      this.controls.filterField.hidden = this.runs.size < 2;
      const tags = this.filtered();
      if (empty.hidden) await Promise.all(panels.map((panel, i) => panel.setTags(tags, this.wanted[i])));
    } catch (error) {
      panels.filter((panel) => !panel.map).forEach((panel) => panel.fail(panel.request, error));
      row.hidden = false; // panels that already show something keep it
    }
    this.wanted = [];
    this.showChoices();
    document.documentElement.dataset.state = "ready";
  }

  /* The runs whose names match the filter. As in TensorBoard, it is a regular expression that may match any part. */
  filtered() {
    const { filter } = this.controls;
    let found = new Map();
    try {
      const pattern = new RegExp(filter.value, "i");
      found = new Map([...this.runs].filter(([run]) => pattern.test(run)));
      filter.setCustomValidity(found.size ? "" : "no run has such a name");
    } catch {
      filter.setCustomValidity("not a regular expression");
    }
    return found.size ? found : this.runs;
  }

  filter() {
    const tags = this.filtered();
    this.panels.forEach((panel) => panel.setTags(tags));
    this.remember();
  }

  addPanel() {
    const minuend = (panel) => (this.shared.difference && panel === this.panels[1] ? this.panels[0] : null);
    const panel = new Panel(this.source, this.shared, (...change) => this.hear(...change), minuend);
    this.panels.push(panel);
    this.row.append(panel.root);
    return panel;
  }

  /* Passes a panel's change on to the others. */
  hear(source, what, value) {
    const { shared, panels } = this;
    if (what === "position") this.redraw();
    if (what === "announce") requestAnimationFrame(() => setText(this.announcement, source.parts.readout.textContent));
    if (what === "pin") this.set("active", value);
    if (what === "image") {
      shared.image = value;
      panels.forEach((panel) => panel.load());
    }
    if (what === "step" && this.controls.linked.checked) {
      panels.filter((panel) => panel !== source).forEach((panel) => panel.followStep(source.step));
    }
    if (what === "loaded") this.redraw();
    this.remember();
  }

  set(name, value) {
    this.shared[name] = value;
    this.shared.spans.clear();
    this.showChoices();
    this.redraw();
    this.remember();
  }

  redraw() {
    this.panels.forEach((panel) => panel.redraw());
  }

  async compare() {
    const { panels, shared } = this;
    const second = panels.length > 1 ? null : this.addPanel();
    if (!second) panels.pop().root.remove();
    shared.spans.clear();
    if (!second) shared.difference = false;
    this.showChoices();
    const tags = this.filtered(), [first] = panels;
    await second?.setTags(tags, { run: [...tags.keys()].find((run) => run !== first.run), tag: first.tag });
    if (second && this.controls.linked.checked) second.followStep(first.step);
    this.redraw();
    this.remember();
  }

  save(format) {
    return save(this.panels, format);
  }

  showChoices() {
    const two = this.panels.length > 1;
    showControls(this.controls, this.shared, two);
    this.row.classList.toggle("two", two);
    document.body.classList.toggle("compared", two);
  }

  remember() {
    if (document.documentElement.dataset.state === "ready") {
      this.address.write(viewNow(this.panels, this.shared, this.controls.filter.value));
    }
  }

  panelOf(node) {
    return this.panels.find((panel) => panel.root.contains(node)) ?? this.panels[0];
  }

  /* Runs the action of a key. Returns whether it has one. */
  key(key, panel, repeated) {
    const { shared } = this;
    const next = (pairs, now) => pairs[(pairs.findIndex(([name]) => name === now) + 1) % pairs.length][0];
    const turn = (list, now) => list[(list.indexOf(now) + 1) % list.length];
    const share = (by) => this.set("outline", Math.min(1, Math.max(0.05, Math.round(20 * (shared.outline + by)) / 20)));
    const step = (by) => panel.steps[panel.index + by] && panel.chooseStep(panel.index + by, true);
    const actions = {
      p: () => (shared.pin({ ...shared.position }, true), this.hear(panel, "position")),
      n: () => shared.pins.length && this.set("active", (shared.active + 1) % shared.pins.length),
      r: () => repeated || this.hold("look", "key"),
      b: () => repeated || this.hold("bare", true),
      w: () => this.set("look", next(LOOKS, shared.look)),
      s: () => this.set("scale", next(SCALES, shared.scale)),
      ",": () => step(-1),
      ".": () => step(1),
      i: () => this.hear(panel, "image", (panel.image + 1) % panel.header.images),
      h: () => panel.chooseGroup(((panel.group + 2) % (choices(panel.map.entry) + 1)) - 1),
      l: () => panel.chooseTag(turn(panel.tags.get(panel.run), panel.tag)),
      "+": () => share(0.05),
      "-": () => share(-0.05),
      a: () => (panel.parts.sheet.open = !panel.parts.sheet.open),
      c: () => this.compare(),
      d: () => this.panels.length > 1 && this.set("difference", !shared.difference),
      "?": () => this.help.showModal(),
    };
    if (!(Object.hasOwn(actions, key) && panel?.map)) return false;
    actions[key]();
    return true;
  }

  /* Changes a choice until the key is released. */
  hold(name, value) {
    this.released(null); // another key may be down still
    this.held = { name, before: this.shared[name], key: name === "bare" ? "b" : "r" };
    this.set(name, value);
  }

  released(key) {
    if (!this.held || (key !== null && key !== this.held.key)) return;
    const { name, before } = this.held;
    this.held = null;
    this.set(name, before);
  }
}

/* Within each run, the generator's layers come first. */
const generatorFirst = (tags) => [...tags].sort((a, b) => rank(a) - rank(b));
const rank = (tag) => Number(!tag.startsWith("attention-maps/generator/"));
