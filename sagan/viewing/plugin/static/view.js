/* A view as the values of an address, and back. Values from an address are untrusted: invalid ones are ignored. */

import { LOOKS } from "./maps.js";
import { SCALES } from "./scales.js";

const within = (low, high) => (text) => {
  const value = Number(text);
  return text !== "" && value >= low && value <= high ? value : undefined;
};
const oneOf = (pairs) => (text) => (pairs.some(([name]) => name === text) ? text : undefined);
const whole = (low) => (text) => (Number.isSafeInteger(Number(text)) && Number(text) >= low ? Number(text) : undefined);
const SHARED = { image: whole(0), look: oneOf(LOOKS), scale: oneOf(SCALES), outline: within(0.05, 1),
  opacity: within(0, 1), active: whole(-1), difference: (text) => text === "true" };
const OF_PANEL = { step: whole(0), map: whole(0), head: whole(-1) };

/* Puts what all panels share into `shared`. Returns what each panel should show. */
export function readView(values, shared) {
  shared.pins = (values.pins ?? "").split(";").map(pin).filter(Boolean);
  for (const [name, read] of Object.entries(SHARED)) {
    if (values[name] !== undefined) shared[name] = read(values[name]) ?? shared[name];
  }
  if (values.active === undefined || shared.active >= shared.pins.length) shared.active = shared.pins.length - 1;
  const panels = [panelView(values, ""), ...(values.run2 === undefined ? [] : [panelView(values, "2")])];
  panels[0].filter = values.filter;
  return panels;
}

function panelView(values, suffix) {
  const view = { run: values[`run${suffix}`], tag: values[`layer${suffix}`] };
  for (const [name, read] of Object.entries(OF_PANEL)) view[name] = read(values[name + suffix] ?? "none");
  return view;
}

function pin(text) {
  const [y, x] = text.split(",").map(Number);
  const inside = (value) => value >= 0 && value < 1;
  return text.includes(",") && inside(y) && inside(x) ? { y, x } : null;
}

export function viewNow(panels, shared, filter) {
  const { image, pins, active, look, scale, outline, opacity, difference } = shared;
  const place = ({ y, x }) => [y, x].map((value) => Math.min(0.9999, value).toFixed(4)).join();
  const values = { image, look, scale, outline, opacity };
  if (pins.length) Object.assign(values, { pins: pins.map(place).join(";"), active });
  if (difference) values.difference = true;
  if (filter) values.filter = filter;
  panels.forEach(({ run, tag, step, mapIndex, group }, i) => {
    const own = { run, layer: tag, step, map: mapIndex, head: group };
    for (const [name, value] of Object.entries(own)) {
      if (value !== undefined && value !== null) values[name + (i ? i + 1 : "")] = value;
    }
  });
  return values;
}
