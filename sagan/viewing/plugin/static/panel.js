/* One run's attention: what is chosen, the image with the map over it, the map on its own grid, heads, and steps. */

import * as client from "./client.js";
import { at, count, element, fillSelect, fraction, number, setText, times } from "./dom.js";
import { drawBars, drawGrid, drawOverlay, drawScale, markQuery, outline, prepare, scaleOf } from "./draw.js";
import { cellAt, centre, choices, isGate, parseMap, queryGrid, summarize, weightsAt } from "./maps.js";
import { layout } from "./layout.js";

const MOST_HEADS = 16; // shown side by side; more are chosen by a slider
const MOST_STEPS = 12; // of the strip

export class Panel {
  /* `shared` holds what all panels have in common: image, position, pinned, fromZero. `changed(panel, what, value)` hears
     of changes. */
  constructor(shared, changed) {
    Object.assign(this, { shared, changed, tags: {}, run: null, tag: null, steps: [], index: -1, mapIndex: 0, group: -1,
      channel: -1, key: null, header: null, map: null, picture: null, strip: [], heads: [], request: 0 });
    this.parts = layout();
    this.root = this.parts.root;
    this.listen();
  }

  listen() {
    const { run, layer, map, step, channel, image, grid, numbers } = this.parts;
    run.onchange = () => this.chooseRun(run.value);
    layer.onchange = () => this.chooseTag(layer.value);
    map.onchange = () => this.chooseMap(Number(map.value));
    step.oninput = () => this.chooseStep(Number(step.value), true);
    channel.oninput = () => this.chooseGroup(Number(channel.value));
    image.onpointermove = (event) => this.shared.pinned || this.pointAt(event);
    image.onclick = (event) => this.click(event);
    image.onkeydown = (event) => this.pressKey(event);
    grid.onpointermove = (event) => this.hoverKey(event);
    grid.onpointerleave = () => this.hoverKey(null);
    grid.onkeydown = (event) => this.pressKey(event);
    numbers.ontoggle = () => this.redraw();
    new ResizeObserver(() => this.redraw()).observe(this.root);
  }

  /* ---- choices ---- */

  /* Takes over which runs and layers there are. A choice that still exists stays; without one, run and layer are those of
     `like`, if they exist. */
  async setTags(tags, like = {}) {
    this.tags = tags;
    this.tag ??= like.tag;
    const runs = Object.keys(tags);
    fillSelect(this.parts.run, runs.map((run) => [run, run]), this.run);
    if (!(this.run in tags)) return this.chooseRun(runs.includes(like.run) ? like.run : runs[0]);
    fillSelect(this.parts.layer, tags[this.run].map((tag) => [tag, describeTag(tag)]), this.tag);
    if (!tags[this.run].includes(this.tag)) return this.chooseTag(tags[this.run][0]);
    return this.loadSteps();
  }

  chooseRun(run) {
    this.run = run;
    this.parts.run.value = run;
    const tags = this.tags[run];
    fillSelect(this.parts.layer, tags.map((tag) => [tag, describeTag(tag)]), this.tag);
    return this.chooseTag(tags.includes(this.tag) ? this.tag : tags[0]);
  }

  chooseTag(tag) {
    if (tag !== this.tag) {
      Object.assign(this, { mapIndex: 0, group: -1, channel: -1, key: null });
      this.shared.pinned = false;
      this.changed(this, "position");
    }
    this.tag = tag;
    this.parts.layer.value = tag;
    return this.loadSteps();
  }

  /* The step stays, or the nearest that there is; who was at the newest comes to the newest. */
  async loadSteps() {
    const token = ++this.request;
    const wanted = this.steps[this.index]?.step;
    const wasLast = this.index === this.steps.length - 1;
    try {
      const steps = await client.listSteps(this.run, this.tag);
      if (token !== this.request) return;
      this.steps = steps;
      return await this.chooseStep(wasLast ? steps.length - 1 : nearest(steps, wanted), false);
    } catch (error) {
      this.fail(token, error);
    }
  }

  chooseStep(index, byHand) {
    this.index = index;
    const step = this.steps[index].step;
    Object.assign(this.parts.step, { min: 0, max: this.steps.length - 1, value: index });
    this.parts.step.disabled = this.steps.length < 2;
    this.parts.step.setAttribute("aria-valuetext", `step ${count(step)}`);
    setText(this.parts.stepText, `${count(step)} of ${count(this.steps.at(-1).step)}`);
    if (byHand) this.changed(this, "step");
    return this.load();
  }

  followStep(step) {
    if (!this.steps.length) return;
    const index = nearest(this.steps, step);
    if (index !== this.index) this.chooseStep(index, false);
  }

  chooseMap(index) {
    Object.assign(this, { mapIndex: index, group: -1, channel: -1, key: null });
    return this.load();
  }

  chooseGroup(group) {
    this.group = group;
    this.redraw();
  }

  get step() {
    return this.steps[this.index]?.step;
  }

  /* ---- loading ---- */

  /* Fetches the record that is chosen. A newer choice makes a late answer void. */
  async load() {
    const token = ++this.request;
    Object.assign(this.root.dataset, { state: "loading", strip: "loading" });
    try {
      const loaded = await this.fetchStep(this.steps[this.index]);
      if (token !== this.request) return;
      Object.assign(this, loaded);
      this.parts.notice.hidden = true;
      this.parts.body.hidden = false;
      this.offerChoices();
      this.redraw();
      this.root.dataset.state = "ready";
      this.loadThumbs(token);
      this.loadStrip(token);
    } catch (error) {
      this.fail(token, error);
    }
  }

  async fetchStep({ step, wall_time: wallTime }) {
    const where = { run: this.run, tag: this.tag, step, wallTime };
    const header = await client.header(where);
    const image = Math.min(this.shared.image, header.images - 1);
    const mapIndex = Math.min(this.mapIndex, header.maps.length - 1);
    const [buffer, picture] = await Promise.all([client.map(where, image, mapIndex), client.picture(where, image)]);
    return { where, header, image, mapIndex, picture, map: parseMap(buffer, header.maps[mapIndex]) };
  }

  async loadThumbs(token) {
    const { where, header } = this;
    const wanted = Array.from({ length: header.images }, (_, i) => client.picture(where, i));
    const pictures = await Promise.allSettled(wanted);
    if (token !== this.request) return;
    this.parts.images.replaceChildren(...pictures.map(({ value }, i) => this.thumb(value, i)));
  }

  thumb(picture, i) {
    const canvas = element("canvas", { ariaHidden: "true" });
    if (picture) drawOverlay(prepare(canvas, 48, (48 * picture.height) / picture.width), picture, null);
    const label = this.header.labels?.[i];
    const name = `Image ${i}` + (label === undefined ? "" : `, ${label}`);
    return element("button", { type: "button", className: picture ? "" : "failed", ariaPressed: String(i === this.image), ariaLabel: name, title: name,
      onclick: () => this.changed(this, "image", i) }, canvas);
  }

  async loadStrip(token) {
    const chosen = spread(this.steps.length, MOST_STEPS);
    const same = this.strip.length === chosen.length && this.strip.every((cell, i) => cell.index === chosen[i]);
    if (!same) {
      this.strip = chosen.map((index) => this.stripCell(index));
      this.parts.strip.replaceChildren(...this.strip.map((cell) => cell.button));
    }
    this.parts.evolution.hidden = this.steps.length < 2;
    const waiting = [...this.strip];
    await Promise.all([this.loadCells(waiting, token), this.loadCells(waiting, token)]); // two requests at a time
    if (token === this.request) this.root.dataset.strip = "ready";
  }

  /* One after the other, so that the next choice does not have to wait behind many requests. */
  async loadCells(waiting, token) {
    for (let cell = waiting.shift(); cell; cell = waiting.shift()) {
      try {
        const loaded = await this.fetchStep(this.steps[cell.index]);
        if (token !== this.request) return;
        Object.assign(cell, loaded, { failed: false });
      } catch {
        if (token !== this.request) return;
        Object.assign(cell, { map: null, failed: true }); // that step alone; the others are shown
      }
      this.drawCell(cell);
    }
  }

  stripCell(index) {
    const canvas = element("canvas", { ariaHidden: "true" });
    const text = element("span", { textContent: count(this.steps[index].step) });
    const button = element("button", { type: "button", onclick: () => this.chooseStep(index, true) }, canvas, text);
    return { index, canvas, button, map: null, failed: false };
  }

  fail(token, error) {
    if (token !== this.request) return;
    this.parts.body.hidden = true;
    this.parts.notice.hidden = false;
    setText(this.parts.notice, error instanceof client.Failure ? error.message : `The page failed: ${error.message}`);
    this.root.dataset.state = "error";
  }

  /* Sets up what depends on the kind of map: which maps, heads or channels there are. */
  offerChoices() {
    const { header, map, parts } = this;
    fillSelect(parts.map, header.maps.map((entry, i) => [i, describeMap(entry, i, header.maps)]), this.mapIndex);
    parts.mapField.hidden = header.maps.length < 2;
    const groups = choices(map.entry);
    this.group = Math.min(this.group, groups - 1);
    const sideBySide = groups > 0 && groups <= MOST_HEADS && !isGate(map.entry);
    parts.headsSection.hidden = !sideBySide;
    parts.channelField.hidden = groups === 0 || sideBySide;
    Object.assign(parts.channel, { min: -1, max: groups - 1, value: this.group });
    const cells = sideBySide ? Array.from({ length: groups + 1 }, (_, i) => i - 1) : [];
    if (this.heads.length !== cells.length) {
      this.heads = cells.map((group) => this.headCell(group));
      parts.heads.replaceChildren(...this.heads.map((cell) => cell.button));
    }
    const isBars = map.entry.kind === "channel gate";
    parts.stage.classList.toggle("bars", isBars);
    parts.grid.tabIndex = isBars ? 0 : -1;
    const kind = `${header.kind}: ${map.entry.kind}`;
    setText(parts.title, isBars ? `${count(map.columns)} channels` : `${times(gridOf(map))} ${gridWord(map)}`);
    setText(parts.kind, kind);
    setText(parts.note, poolingNote(map.entry));
  }

  headCell(group) {
    const canvas = element("canvas", { ariaHidden: "true" });
    const text = element("span", { textContent: group < 0 ? "mean" : `head ${group}` });
    const button = element("button", { type: "button", onclick: () => this.chooseGroup(group) }, canvas, text);
    return { group, canvas, button };
  }

  /* ---- pointer and keys ---- */

  pointAt(event) {
    this.shared.position = pointed(event);
    this.changed(this, "position");
  }

  click(event) {
    if (!this.map) return;
    const grid = queryGrid(this.map.entry);
    const before = cellAt(grid, this.shared.position), now = cellAt(grid, pointed(event));
    const again = this.shared.pinned && before.row === now.row && before.column === now.column;
    this.shared.pinned = !again;
    this.pointAt(event);
  }

  pressKey(event) {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!this.map || !(move || event.key === "Escape" || event.key === "Enter")) return;
    event.preventDefault();
    if (move && this.map.entry.kind === "channel gate") {
      this.channel = Math.max(0, Math.min(this.map.columns - 1, this.channel + move[1] - move[0]));
      this.redraw();
      return this.changed(this, "announce");
    }
    if (move) {
      const grid = queryGrid(this.map.entry);
      const cell = cellAt(grid, this.shared.position);
      cell.row = Math.max(0, Math.min(grid[0] - 1, cell.row + move[0]));
      cell.column = Math.max(0, Math.min(grid[1] - 1, cell.column + move[1]));
      this.shared.position = centre(grid, cell);
    }
    this.shared.pinned = event.key !== "Escape";
    this.changed(this, "position");
    this.changed(this, "announce");
  }

  hoverKey(event) {
    if (!this.map) return;
    if (this.map.entry.kind === "channel gate") {
      if (event) this.channel = Math.floor(pointed(event).x * this.map.columns);
    } else {
      this.key = event && pointed(event);
    }
    this.redraw();
  }

  /* ---- drawing ---- */

  /* At most once a frame, however many events there are. */
  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      if (this.map && !this.parts.body.hidden) this.draw();
    });
  }

  draw() {
    const since = performance.now();
    const { map, group, shared, parts } = this;
    const shown = weightsAt(map, shared.position, group);
    const summary = summarize(shown.weights, map.entry.distribution);
    const scale = scaleOf(summary, shared.fromZero);
    if (map.entry.kind === "channel gate") this.drawChannels(shown, summary);
    else this.drawMaps(shown, summary, scale);
    for (const cell of this.strip) this.drawCell(cell);
    for (const cell of this.heads) this.drawHead(cell);
    this.say(shown, summary, scale);
    this.mark();
    if (parts.numbers.open) setText(parts.weights, asText(shown));
    this.root.dataset.redraw = (performance.now() - since).toFixed(2);
  }

  drawMaps(shown, summary, scale) {
    const { parts, picture, map } = this;
    const overlay = prepare(parts.image, parts.image.clientWidth, aspect(parts.image, picture));
    drawOverlay(overlay, picture, shown, scale);
    const grid = prepare(parts.grid, parts.grid.clientWidth, (parts.grid.clientWidth * shown.grid[0]) / shown.grid[1]);
    drawGrid(grid, shown, scale);
    const key = this.key ? cellAt(shown.grid, this.key) : summary.at >= 0 && cellOf(shown.grid, summary.at);
    if (key) for (const context of [overlay, grid]) outline(context, shown.grid, key, { dashed: !this.key });
    const queries = queryGrid(map.entry); // 1 x 1: all positions are the same query
    if (queries[0] * queries[1] > 1)
      for (const context of [overlay, grid]) markQuery(context, queries, this.shared.position);
    drawScale(prepare(parts.scale, parts.scale.clientWidth, 8), scale);
  }

  drawChannels({ weights }, summary) {
    const { parts, picture } = this;
    drawOverlay(prepare(parts.image, parts.image.clientWidth, aspect(parts.image, picture)), picture, null);
    drawBars(prepare(parts.grid, parts.grid.clientWidth, 200), weights, summary, this.channel, colours(this.root));
  }

  drawCell(cell) {
    cell.button.classList.toggle("failed", cell.failed);
    if (cell.index === this.index) cell.button.setAttribute("aria-current", "true");
    else cell.button.removeAttribute("aria-current");
    if (!cell.map) return;
    const size = cell.canvas.clientWidth;
    const context = prepare(cell.canvas, size, (size * cell.picture.height) / cell.picture.width);
    const shown = weightsAt(cell.map, this.shared.position, Math.min(this.group, choices(cell.map.entry) - 1));
    const summary = summarize(shown.weights, false);
    if (cell.map.entry.kind === "channel gate") drawBars(context, shown.weights, summary, this.channel, colours(this.root));
    else drawOverlay(context, cell.picture, shown, scaleOf(summary, this.shared.fromZero));
  }

  drawHead({ group, canvas, button }) {
    const shown = weightsAt(this.map, this.shared.position, group);
    const size = canvas.clientWidth;
    const context = prepare(canvas, size, (size * shown.grid[0]) / shown.grid[1]);
    drawGrid(context, shown, scaleOf(summarize(shown.weights, false), this.shared.fromZero));
    button.setAttribute("aria-pressed", String(group === this.group));
  }

  /* ---- words ---- */

  say(shown, summary, scale) {
    const { header, map, image, parts } = this;
    const { entry } = map;
    const rows = [["gamma", "Gain γ", header.gamma === null ? "none" : number(header.gamma)]];
    if (entry.distribution) {
      rows.push(["entropy", "Entropy, all queries", fraction(entry.entropy[image])]);
      rows.push(["query-entropy", "Entropy, this query", fraction(summary.entropy)]);
    }
    rows.push(["maximum", isGate(entry) ? "Largest factor" : "Largest, all queries", number(entry.maximum[image])]);
    if (isGate(entry)) {
      rows.push(["minimum", "Smallest factor", number(entry.minimum[image])], ["mean", "Mean shown", number(summary.mean)]);
    } else {
      rows.push(["query-maximum", "Largest, this query", number(summary.high)]);
    }
    fillNumbers(parts.facts, rows);
    setText(parts.readout, this.readout(shown, summary));
    const digits = number(scale.from) === number(scale.to) ? 6 : 3; // a flat map has its ends close together
    setText(parts.from, number(scale.from, digits));
    setText(parts.to, number(scale.to, digits));
    const label = header.labels?.[image];
    setText(parts.caption, [`Image ${image}`, label, ...this.queryText()].filter(Boolean).join(" · "));
    setText(parts.channelText, this.group < 0 ? `mean of ${count(entry.groups)}` : `${this.group} of 0…${entry.groups - 1}`);
    parts.image.setAttribute("aria-label", `${parts.caption.textContent}. ${parts.readout.textContent}. `
      + "Arrow keys move the query, Escape lets it follow the pointer.");
  }

  queryText() {
    const grid = queryGrid(this.map.entry);
    if (this.map.entry.kind === "channel gate") return ["one factor for each channel"];
    if (grid[0] * grid[1] === 1) return ["the same for all positions"];
    const noun = isGate(this.map.entry) ? "position" : "query";
    return [`${noun} ${at(cellAt(grid, this.shared.position))}`, this.shared.pinned ? "pinned" : "follows the pointer"];
  }

  readout({ grid, weights }, summary) {
    const { kind } = this.map.entry;
    if (kind === "channel gate") {
      return this.channel < 0 ? "Point at a channel" : `Channel ${this.channel}: ${number(weights[this.channel])}`;
    }
    const shownAt = this.key ?? (isGate(this.map.entry) ? this.shared.position : null);
    if (!shownAt) return `Most at ${at(cellOf(grid, summary.at))}: ${number(summary.high)}`;
    const cell = cellAt(grid, shownAt);
    return `At ${at(cell)}: ${number(weights[cell.row * grid[1] + cell.column])}`;
  }

  /* What is shown, for programs. */
  mark() {
    const { row, column } = cellAt(queryGrid(this.map.entry), this.shared.position);
    Object.assign(this.root.dataset, { run: this.run, tag: this.tag, step: this.where.step, image: this.image,
      map: this.mapIndex, group: this.group, query: `${row},${column}`, pinned: this.shared.pinned });
  }
}

const gridOf = (map) => weightsAt(map, { y: 0, x: 0 }, 0).grid;
const gridWord = (map) => (isGate(map.entry) ? "factors" : "keys");
const cellOf = ([, columns], index) => ({ row: Math.floor(index / columns), column: index % columns });
const aspect = (canvas, picture) => (canvas.clientWidth * picture.height) / picture.width;

/* Where on its element an event is. */
function pointed(event) {
  const box = event.currentTarget.getBoundingClientRect();
  const clamp = (value) => Math.min(1 - 1e-9, Math.max(0, value));
  return { y: clamp((event.clientY - box.top) / box.height), x: clamp((event.clientX - box.left) / box.width) };
}

function nearest(steps, wanted) {
  const distance = ({ step }) => Math.abs(step - wanted);
  return steps.reduce((best, s, i) => (distance(s) < distance(steps[best]) ? i : best), 0);
}

/* At most `most` of the numbers 0 to n - 1, evenly spread, with the first and the last. */
function spread(n, most) {
  const taken = Math.min(n, most);
  return Array.from({ length: taken }, (_, i) => (taken > 1 ? Math.round((i * (n - 1)) / (taken - 1)) : 0));
}

function describeTag(tag) {
  const [prefix, network, ...rest] = tag.split("/");
  if (prefix !== "attention-maps" || rest.length < 2) return tag;
  const source = rest.pop();
  return `${network} · ${rest.join("/").replace(/\.attention$/, "")} · ${source}`;
}

function describeMap(entry, i, maps) {
  const grid = entry.kind === "channel gate" ? entry.keys[1] : times(entry.keys);
  const windows = entry.kind === "windowed matrix" ? `, ${entry.groups} windows` : "";
  return `${maps.length > 1 ? `${i + 1}: ` : ""}${entry.kind}, ${grid}${windows}`;
}

function poolingNote(entry) {
  const [queries, keys] = [["queries", "whole_queries"], ["keys", "whole_keys"]].map(([now, whole]) => [
    entry[whole][0] / entry[now][0], entry[whole][1] / entry[now][1]]);
  const notes = [];
  if (queries[0] * queries[1] > 1) notes.push(`Each query is the mean of ${times(queries)} neighbours.`);
  if (keys[0] * keys[1] > 1) notes.push(`Each cell ${isGate(entry) ? "averages" : "adds up"} ${times(keys)} neighbours.`);
  return notes.join(" ");
}

function fillNumbers(list, rows) {
  if (list.dataset.rows !== rows.map(([id]) => id).join()) {
    list.dataset.rows = rows.map(([id]) => id).join();
    list.replaceChildren(...rows.map(([id, name]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { "data-number": id }))));
  }
  rows.forEach(([, , text], i) => setText(list.children[i].lastChild, text));
}

function asText({ grid: [rows, columns], weights }) {
  const line = (y) => Array.from(weights.subarray(y * columns, (y + 1) * columns),
    (w) => (Number.isNaN(w) ? "–" : w.toPrecision(4))).join("\t");
  return Array.from({ length: rows }, (_, y) => line(y)).join("\n");
}

function colours(node) {
  const style = getComputedStyle(node);
  return { bar: style.getPropertyValue("--bar"), accent: style.getPropertyValue("--accent"),
    line: style.getPropertyValue("--line") };
}
