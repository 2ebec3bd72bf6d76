/** The keys, and how to read the page. */

import { h, icon } from "./dom";

const KEYS: [string, string][] = [
  ["↓  ↑", "go to the strongest input, to the strongest output"],
  ["←  →", "go through its alternatives; without any, along the layer"],
  ["P", "pin the selected node to the subgraph, or unpin it"],
  ["shift-click", "mark a node for grouping"],
  ["G  U", "group the marked nodes; take the selected group apart"],
  ["/", "search"],
  ["N  E", "show the node, the evidence"],
  ["0", "show the whole graph"],
  ["T", "light or dark"],
  ["Esc", "drop the marks, then the selection"],
];

export function helpDialog(): { element: HTMLDialogElement; open: () => void } {
  const close = h("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: () => element.close() }, icon("close"));
  const element = h(
    "dialog",
    { class: "help", "aria-label": "Help" },
    h("div", { class: "help-head" }, h("h2", {}, "How to read this"), close),
    h("p", {}, "Each node is something the model computed on this prompt: tokens at the bottom, the features of each layer above the token where they fired, outputs at the top. A link is the exact direct effect of one node on another, with attention patterns and norm scales held as they were on this prompt: blue raises, orange lowers; the wider, the larger its share of the target’s input."),
    h("p", {}, "That a link is exact does not make it matter: only interventions in the real model show that. The evidence panel has them, beside the same procedure on models and features that learned nothing."),
    h("dl", {}, ...KEYS.flatMap(([keys, meaning]) => [h("dt", {}, ...keys.split("  ").map((key) => h("kbd", {}, key))), h("dd", {}, meaning)])),
    h("p", { class: "note" }, "Drag to pan, turn the wheel to zoom. Double-click a node to pin it, a group to rename it. The address of this page holds what you pinned, grouped and selected."),
  );
  element.addEventListener("click", (event) => event.target === element && element.close());
  return { element, open: () => (element.open ? element.close() : element.showModal()) };
}
