/* Elements, and the formatting of numbers. Names of runs, layers and classes are untrusted: they become text and
   attributes, never HTML. */

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/* Leaves an unchanged list alone, since it may be open. */
export function fillSelect(select, options, chosen) {
  const list = JSON.stringify(options);
  if (select.filledWith !== list) {
    select.filledWith = list;
    select.replaceChildren(...options.map(([value, text]) => element("option", { value, textContent: text })));
  }
  select.value = chosen;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function number(value, digits = 3) {
  if (value === null || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const text = Math.abs(value) >= 0.001 ? value.toPrecision(digits) : value.toExponential(digits - 2);
  return (/e\+[1-5]$/.test(text) ? value.toFixed(0) : text).replaceAll("-", "−"); // 255, not 2.6e+2
}

/* For entropies, whose last digits distinguish near-uniform maps. */
export const fraction = (value) => (value === null ? "–" : value.toFixed(4));

export const percent = (value) => `${number(100 * value)} %`;

export const count = (value) => value.toLocaleString("en");
export const times = ([height, width]) => `${height} × ${width}`;
export const at = ({ row, column }) => `row ${row}, column ${column}`;
