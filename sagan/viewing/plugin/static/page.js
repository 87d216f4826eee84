/* The page of `sagan attention --out FILE.html`: the same view, over the records that the page holds. */

import { App } from "./app.js";
import { embedded } from "./embedded.js";

const records = JSON.parse(document.getElementById("records").textContent);
new App(embedded(records), "").start();
