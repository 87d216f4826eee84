/* What an iframe can learn from the TensorBoard around it: its theme, and when it reloads its data. */

const POLL = 30_000; // ms

/* TensorBoard does not theme its iframes. Follow the theme of its page if that can be read, otherwise the system's. */
export function followTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const outer = window.parent === window ? null : readable(() => window.parent.document.body);
  const apply = () => {
    const dark = outer ? outer.classList.contains("dark-mode") : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  };
  apply();
  system.addEventListener("change", apply);
  if (outer) new MutationObserver(apply).observe(outer, { attributeFilter: ["class"] });
}

/* Calls `refresh` when TensorBoard reports over an experimental channel that it has reloaded its data, and also at
   intervals while the tab is visible. */
export function onReload(refresh) {
  const channel = new MessageChannel();
  channel.port1.onmessage = ({ data }) => {
    const message = readable(() => JSON.parse(data));
    if (!message || message.isReply) return;
    channel.port1.postMessage(JSON.stringify({ ...message, payload: null, error: null, isReply: true }));
    if (message.type === "experimental.DataReloaded") refresh();
  };
  if (window.parent !== window) window.parent.postMessage("experimental.bootstrap", location.origin, [channel.port2]);
  setInterval(() => document.visibilityState === "visible" && refresh(), POLL);
}

function readable(read) {
  try {
    return read();
  } catch {
    return null;
  }
}
