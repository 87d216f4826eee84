/* The controls that all panels share, above them. */

import { element, fillSelect, setText } from "./dom.js";
import { LOOKS } from "./maps.js";
import { SCALES } from "./scales.js";

/* They change `shared`, and their buttons call methods of `app`. */
export function controls(shared, app) {
  const parts = {};
  const keep = (name, node) => (parts[name] = node);
  const field = (name, text, control, ...rest) =>
    keep(`${name}Field`, element("label", { className: `field ${name}` }, element("span", { textContent: text }),
      keep(name, control), ...rest));
  const button = (name, text, onclick) =>
    keep(name, element("button", { type: "button", className: `plain ${name}`, textContent: text, onclick }));
  const choice = (name) => element("select", { onchange: () => app.set(name, parts[name].value) });
  const slider = (name, min) => element("input", { type: "range", min, max: 100, step: 1,
    oninput: () => app.set(name, parts[name].valueAsNumber / 100) });
  const check = (name, text, onchange) =>
    keep(`${name}Field`, element("label", { className: "check" },
      keep(name, element("input", { type: "checkbox", onchange })), text));

  const bare = button("bare", "Bare image (hold)");
  bare.onpointerdown = () => app.set("bare", true);
  bare.onpointerup = bare.onpointerleave = () => app.set("bare", false);
  parts.root = element("header", {},
    field("filter", "Runs (regular expression)", element("input", { type: "search", placeholder: "all",
      oninput: () => app.filter() })),
    field("look", "Show", choice("look")),
    field("scale", "Colours", choice("scale")),
    field("outline", "Outline", slider("outline", 5), keep("outlineText", element("output"))),
    field("opacity", "Opacity", slider("opacity", 0), keep("opacityText", element("output"))),
    bare,
    button("compare", "Compare", () => app.compare()),
    check("linked", "Same step in both", () => {}), check("difference", "Difference", () =>
      app.set("difference", parts.difference.checked)),
    button("png", "PNG", () => app.save("png")), button("svg", "SVG", () => app.save("svg")),
    button("keys", "?", () => app.help.showModal()));
  parts.keys.ariaLabel = "Keyboard";
  for (const name of ["png", "svg"]) parts[name].title = parts[name].ariaLabel = `Save as ${name.toUpperCase()}`;
  parts.linked.checked = true;
  fillSelect(parts.look, LOOKS, shared.look);
  fillSelect(parts.scale, SCALES, shared.scale);
  return parts;
}

/* Makes the controls show the current choices. */
export function showControls(parts, shared, two) {
  parts.look.value = shared.look;
  parts.scale.value = shared.scale;
  for (const name of ["outline", "opacity"]) {
    parts[name].value = Math.round(100 * shared[name]);
    setText(parts[`${name}Text`], `${Math.round(100 * shared[name])} %`);
  }
  parts.outlineText.title = "the fewest cells with this share of the weight";
  parts.difference.checked = shared.difference;
  parts.linkedField.hidden = parts.differenceField.hidden = !two;
  setText(parts.compare, two ? "Close the comparison" : "Compare");
}
