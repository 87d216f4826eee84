/* The keyboard, and its help sheet. */

import { element } from "./dom.js";
import { press } from "./pointing.js";

/* Keys and what they do, in the order of the help sheet. `app` has a method for each letter. */
const KEYS = [
  ["Arrow keys", "move and pin the query, or the channel of bars"],
  ["Enter", "pin the query where it is"],
  ["Escape", "let the query follow the pointer"],
  ["p", "pin another query, as Shift-click does; the arrow keys then move it"],
  ["n", "next pinned query"],
  ["r", "hold to see who looks here instead of where the query looks"],
  ["w", "cycle through: where the query looks, who looks here, what all queries look at"],
  ["b", "hold to see the bare image"],
  [", .", "previous and next step"],
  ["i", "next image"],
  ["h", "next head"],
  ["l", "next layer"],
  ["s", "next colour scale"],
  ["+ −", "outline more or less of the weight"],
  ["a", "all layers and heads"],
  ["c", "compare with another run, layer or step"],
  ["d", "difference of the two"],
  ["?", "this list of keys"],
];

export function helpSheet() {
  const rows = KEYS.flatMap(([keys, text]) =>
    [element("dt", {}, ...keys.split(" ").map((key) => (key.length > 1 ? `${key} ` : element("kbd", {}, key)))),
      element("dd", { textContent: text })]);
  const close = element("button", { type: "button", className: "plain", textContent: "Close" });
  const sheet = element("dialog", { className: "help", ariaLabel: "Keyboard" },
    element("h2", { textContent: "Keyboard" }), element("dl", {}, ...rows), close);
  close.onclick = () => sheet.close();
  return sheet;
}

/* Calls the app's method for a key, unless the focused control needs the key itself. */
export function listenToKeys(app) {
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || app.help.open) return; // leave the browser's shortcuts alone
    const own = event.target.closest?.("select, textarea, input:not([type=checkbox])");
    if (own || (event.target.closest?.("button, summary, input") && /^(Enter| )$/.test(event.key))) return;
    const panel = app.panelOf(event.target);
    const done = panel && press(panel, event.key);
    if (done || app.key(event.key, panel, event.repeat)) event.preventDefault();
  });
  document.addEventListener("keyup", (event) => app.released(event.key));
  window.addEventListener("blur", () => app.released(null));
}
