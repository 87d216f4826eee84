/* The view in the address, so that a link reopens it. TensorBoard keeps the parameters of a plugin in its own hash,
   as p.PLUGIN.NAME=VALUE, and the plugin runs in a frame of the same origin. */

const WAIT = 250; // ms; browsers refuse too many changes of an address

export class Address {
  constructor(prefix) {
    this.prefix = prefix;
    this.window = prefix ? outermost() : window; // only TensorBoard shares the address of the frame around this one
  }

  read() {
    const values = {};
    for (const [name, value] of this.entries()) {
      if (name.startsWith(this.prefix)) values[name.slice(this.prefix.length)] = value;
    }
    return values;
  }

  /* Replaces the view's parameters in the hash and keeps everything else. */
  write(values) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const others = this.entries().filter(([name]) => !name.startsWith(this.prefix) || !this.prefix);
      const kept = this.prefix ? others.map(([name, value]) => join(name, value)) : [];
      const own = Object.entries(values).map(([name, value]) => join(this.prefix + name, String(value)));
      const { pathname, search, hash: before } = this.window.location;
      const hash = `#${[...kept, ...own].join("&")}`;
      // A hash alone would be resolved against the <base> of TensorBoard's frame, so the path is included.
      if (hash !== before) this.window.history.replaceState(null, "", pathname + search + hash);
    }, WAIT);
  }

  entries() {
    const parts = this.window.location.hash.slice(1).split("&").filter(Boolean);
    return parts.map((part) => part.split("=").map(decoded));
  }
}

const join = (name, value) =>
  encodeURIComponent(name) + (value === undefined ? "" : `=${encodeURIComponent(value)}`);

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function outermost() {
  try {
    return window.parent.location.hash === undefined ? window : window.parent;
  } catch {
    return window; // the page around this frame has another origin
  }
}
