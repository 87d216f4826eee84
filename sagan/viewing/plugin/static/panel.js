/* One run's attention: the chosen record, and its parts once they have arrived. */

import { loadImages, loadStrip, offerHeads, offerPins } from "./cells.js";
import { count, fillSelect, setText } from "./dom.js";
import { layout } from "./layout.js";
import { choices, isBars, isGate, isWindowed, parseMap } from "./maps.js";
import { listenToPointing } from "./pointing.js";
import { Sheet } from "./sheet.js";
import { show } from "./show.js";
import { Failure } from "./source.js";
import { showEffect } from "./effect.js";
import { describeMap, describePooling, describeTag } from "./words.js";

const MOST_HEADS = 16; // shown side by side; a slider chooses among more heads, or among channels
const UNCHOSEN = { mapIndex: 0, group: -1, channel: -1, key: null };
const pairs = (names, describe = (name) => name) => names.map((name) => [name, describe(name)]);

export class Panel {
  /* `shared` is the state of all panels. The panel calls `changed(panel, what, value)` when it changes. If it shows a
     difference, `minuend(panel)` returns the other panel, whose map is subtracted, else null. */
  constructor(source, shared, changed, minuend) {
    Object.assign(this, { source, shared, changed, minuend: () => comparable(this, minuend(this)) });
    Object.assign(this, { tags: new Map(), run: null, tag: null, steps: [], index: -1, ...UNCHOSEN });
    Object.assign(this, { header: null, map: null, picture: null, request: 0 });
    Object.assign(this, { strip: [], heads: [], images: [], pins: [] });
    this.parts = layout();
    this.root = this.parts.root;
    const { run, layer, map, step, channel, numbers } = this.parts;
    run.onchange = () => this.chooseRun(run.value);
    layer.onchange = () => this.chooseTag(layer.value);
    map.onchange = () => this.chooseMap(Number(map.value));
    step.oninput = () => this.chooseStep(Number(step.value), true);
    channel.oninput = () => this.chooseGroup(Number(channel.value));
    numbers.ontoggle = () => this.redraw();
    this.sheet = new Sheet(this);
    listenToPointing(this);
    new ResizeObserver(() => this.redraw()).observe(this.root);
  }

  /* Takes a Map from runs to their layers. A choice that still exists stays. Otherwise run, layer, step, map and head
     are those of `like`, if they exist. */
  async setTags(tags, like = {}) {
    this.tags = tags;
    this.tag ??= like.tag;
    if (this.root.dataset.state === "ready" && tags.get(this.run)?.includes(this.tag)) return this.update();
    const run = [this.run, like.run].find((name) => tags.has(name)) ?? tags.keys().next().value;
    this.wanted = like.step;
    Object.assign(this, { mapIndex: like.map ?? this.mapIndex, group: like.head ?? this.group });
    fillSelect(this.parts.run, pairs([...tags.keys()]), run);
    return this.chooseRun(run);
  }

  /* Looks for new steps. If there are none, nothing on the page moves. */
  async update() {
    const { run, tag, steps, parts, tags } = this;
    fillSelect(parts.run, pairs([...tags.keys()]), run);
    fillSelect(parts.layer, pairs(tags.get(run), describeTag), tag);
    const now = await this.source.listSteps(run, tag);
    const moved = this.run !== run || this.tag !== tag;
    if (!moved && JSON.stringify(now) !== JSON.stringify(steps)) await this.loadSteps();
  }

  chooseRun(run) {
    const tags = this.tags.get(run);
    const tag = tags.includes(this.tag) ? this.tag : tags[0];
    this.run = run;
    fillSelect(this.parts.layer, pairs(tags, describeTag), tag);
    return this.chooseTag(tag);
  }

  /* Pinned queries stay, because they are positions on the image, not on the map. */
  chooseTag(tag) {
    if (this.tag && tag !== this.tag) Object.assign(this, UNCHOSEN);
    this.tag = tag;
    this.parts.layer.value = tag;
    return this.loadSteps();
  }

  /* Opens a map of another layer of the run. */
  open(tag, mapIndex, group) {
    Object.assign(this, UNCHOSEN, { tag, mapIndex, group });
    this.parts.layer.value = tag;
    return this.loadSteps();
  }

  /* Keeps the step, or the nearest one. A panel that shows the newest step moves on when there is a newer one. */
  async loadSteps() {
    const token = ++this.request;
    const wasLast = this.index === this.steps.length - 1;
    this.pending = true; // until the steps are known, there is no record to load
    try {
      const steps = await this.source.listSteps(this.run, this.tag);
      if (token !== this.request) return;
      const wanted = this.wanted ?? (wasLast ? undefined : this.step);
      const index = wanted === undefined ? steps.length - 1 : nearest(steps, wanted);
      this.wanted = undefined;
      this.steps = steps;
      this.pending = false;
      await this.chooseStep(index, false);
    } catch (error) {
      this.fail(token, error);
    }
  }

  chooseStep(index, byHand) {
    const { step: slider, stepText } = this.parts;
    this.index = index;
    Object.assign(slider, { min: 0, max: this.steps.length - 1, value: index, disabled: this.steps.length < 2 });
    slider.setAttribute("aria-valuetext", `step ${count(this.step)}`);
    setText(stepText, `${count(this.step)} of ${count(this.steps.at(-1).step)}`);
    if (byHand) this.changed(this, "step");
    return this.load();
  }

  followStep(step) {
    if (this.pending) return;
    const index = this.steps.length ? nearest(this.steps, step) : this.index;
    if (index !== this.index) this.chooseStep(index, false);
  }

  get step() {
    return this.steps[this.index]?.step;
  }

  chooseMap(index) {
    Object.assign(this, UNCHOSEN, { mapIndex: index });
    return this.load();
  }

  chooseGroup(group) {
    this.group = group;
    this.parts.channel.value = group;
    this.changed(this, "position");
  }

  /* Fetches the chosen record. A late answer to an older choice is dropped. */
  async load() {
    if (this.pending) return; // the record that is loaded next has this choice, too
    const token = ++this.request;
    Object.assign(this.root.dataset, { state: "loading", strip: "loading" });
    try {
      const loaded = await this.fetchStep(this.steps[this.index]);
      if (token !== this.request) return;
      Object.assign(this, loaded);
      this.offerChoices();
      this.reveal("body");
      this.redraw();
      this.root.dataset.state = "ready";
      this.changed(this, "loaded");
      loadImages(this, token);
      loadStrip(this, token);
    } catch (error) {
      this.fail(token, error);
    }
  }

  async fetchStep({ step, wall_time: wallTime }) {
    const where = { run: this.run, tag: this.tag, step, wallTime };
    const coming = this.source.header(where);
    // All steps of a layer have the same number of images and maps, so only the first has to be awaited.
    const like = this.where?.run === this.run && this.where.tag === this.tag ? this.header : await coming;
    const image = Math.min(this.shared.image, like.images - 1);
    const mapIndex = Math.min(this.mapIndex, like.maps.length - 1);
    const [header, buffer, picture, without] = await Promise.all([
      coming, this.source.map(where, image, mapIndex), this.source.picture(where, image),
      like.without ? this.source.without(where, image) : null]);
    return { where, header, image, mapIndex, picture, without, map: parseMap(buffer, header.maps[mapIndex]) };
  }

  fail(token, error) {
    if (token !== this.request) return;
    this.pending = false;
    this.reveal("notice");
    setText(this.parts.notice, error instanceof Failure ? error.message : `The page failed: ${error.message}`);
    this.root.dataset.state = "error";
  }

  reveal(part) {
    for (const name of ["body", "notice"]) this.parts[name].hidden = name !== part;
  }

  /* Offers the choices that depend on the kind of map: other maps, heads, channels. */
  offerChoices() {
    const { header, map, parts } = this;
    fillSelect(parts.map, header.maps.map((entry, i) => [i, describeMap(entry, i)]), this.mapIndex);
    parts.mapField.hidden = header.maps.length < 2;
    const groups = choices(map.entry);
    const sideBySide = !isGate(map.entry) && groups <= MOST_HEADS;
    this.group = Math.min(this.group, groups - 1);
    offerHeads(this, sideBySide ? groups : 0);
    parts.headsSection.hidden = !(groups && sideBySide);
    parts.channelField.hidden = !groups || sideBySide;
    Object.assign(parts.channel, { min: -1, max: groups - 1, value: this.group });
    parts.stage.classList.toggle("bars", isBars(map.entry));
    showEffect(this);
    offerPins(this);
    parts.grid.tabIndex = isBars(map.entry) ? 0 : -1;
    setText(parts.kind, `${header.kind}: ${map.entry.kind}`);
    setText(parts.note, describePooling(map.entry));
  }

  /* Draws at most once per frame, however many events arrive. */
  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      if (!this.map || this.parts.body.hidden) return;
      offerPins(this);
      show(this);
    });
  }
}

function nearest(steps, wanted) {
  const distance = ({ step }) => Math.abs(step - wanted);
  return steps.reduce((best, s, i) => (distance(s) < distance(steps[best]) ? i : best), 0);
}

/* The other panel, if its map has the same form as this one's. */
function comparable({ map }, other) {
  const windows = (entry) => isWindowed(entry) && entry.groups;
  const form = ({ entry }) => JSON.stringify([entry.kind, entry.queries, entry.keys, windows(entry)]);
  return other?.map && map && form(other.map) === form(map) ? other : null;
}
