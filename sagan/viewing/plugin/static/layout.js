/* The elements of a panel, by purpose. */

import { element } from "./dom.js";

let panels = 0;

export function layout() {
  const id = `panel-${++panels}`;
  const parts = {};
  const keep = (name, node) => (parts[name] = node);
  const field = (name, text, control, ...rest) =>
    keep(`${name}Field`, element("label", { className: `field ${name}` }, element("span", { textContent: text }),
      keep(name, control), ...rest));
  const heading = (text) => element("h3", { textContent: text });
  const group = (part, name, text, list) =>
    keep(part, element("section", { className: name }, heading(text), keep(list, element("div", {
      className: `cells ${list}`, role: "group", ariaLabel: text }))));

  const choices = element("div", { className: "choices" },
    field("run", "Run", element("select")),
    field("layer", "Layer", element("select")),
    field("map", "Map", element("select")),
    field("step", "Step", element("input", { type: "range", step: 1 }), keep("stepText", element("output"))));

  const image = element("figure", { className: "picture" },
    keep("image", element("canvas", { tabIndex: 0, role: "application" })),
    keep("caption", element("figcaption")),
    keep("images", element("div", { className: "cells images", role: "group", ariaLabel: "Images" })));

  const grid = element("figure", { className: "own-grid" },
    element("figcaption", {}, keep("title", element("h3")), keep("kind", element("span", { className: "quiet" }))),
    keep("grid", element("canvas", { role: "application", ariaLabel: "The map on its own grid" })),
    element("div", { className: "ramp" }, keep("from", element("span")), keep("scale", element("canvas", {
      ariaHidden: "true" })), keep("to", element("span"))),
    keep("scaleNote", element("span", { className: "note" })),
    keep("readout", element("p", { className: "readout" })),
    field("channel", "Channel", element("input", { type: "range", step: 1 }), keep("channelText", element("output"))),
    keep("note", element("p", { className: "quiet" })));

  const rows = element("div", { className: "rows" },
    group("pinsSection", "pins-section", "Pinned queries", "pins"),
    group("headsSection", "heads-section", "Heads", "heads"),
    group("evolution", "evolution", "Over the training steps", "strip"),
    group("effectSection", "effect-section", "Without this layer", "effect"),
    keep("sheet", element("details", { className: "sheet", open: true },
      element("summary", { textContent: "All layers and heads, each map on its own scale" }), keep("sheetBody", element("div")))));
  keep("stage", element("div", { className: "stage" }, image,
    element("div", { className: "side" }, grid, keep("idle", element("p", { className: "idle", role: "status",
      hidden: true })), keep("facts", element("dl"))), rows));
  keep("numbers", element("details", { className: "numbers" },
    element("summary", { textContent: "Weights as numbers" }), keep("weights", element("pre", { tabIndex: 0 }))));

  keep("notice", element("p", { className: "notice", role: "status", hidden: true }));
  keep("body", element("div", { className: "body", hidden: true }, parts.stage, parts.numbers));
  keep("root", element("section", { className: "panel", id, ariaLabel: "Attention of a run" }, choices, parts.notice,
    parts.body));
  return parts;
}
