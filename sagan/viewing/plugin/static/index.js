/* The attention tab. TensorBoard calls `render`. */

import { App } from "./app.js";
import * as client from "./client.js";
import { element } from "./dom.js";
import { onReload } from "./host.js";

export async function render() {
  document.head.append(element("link", { rel: "stylesheet", href: new URL("./style.css", import.meta.url).href }));
  const app = new App(client, "p.sagan_attention.");
  await app.start();
  onReload(() => app.refresh());
}
