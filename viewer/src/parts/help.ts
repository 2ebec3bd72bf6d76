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

const PAGE_KEYS: [string, string][] = [
  ["Tab", "go to the next map, chart, table or button"],
  ["← → ↑ ↓", "in a map: from cell to cell; in a chart: along it; in a circuit: from edge to edge"],
  ["Enter", "open what stands there: a head’s card, a checkpoint"],
  ["Home  End", "the first, the last"],
  ["E", "the evidence"],
  ["T", "light or dark"],
];

export interface Help {
  element: HTMLDialogElement;
  open: () => void;
}

export function helpDialog(): Help {
  return dialog(KEYS,
    h("p", {}, "Each node is something the model computed on this prompt: tokens at the bottom, the features of each layer above the token where they fired, outputs at the top. A link is the exact direct effect of one node on another, with attention patterns and norm scales held as they were on this prompt: blue raises, orange lowers; the wider, the larger its share of the target’s input."),
    h("p", {}, "That a link is exact does not make it matter: only interventions in the real model show that. The evidence panel has them, beside the same procedure on models and features that learned nothing."),
    h("p", { class: "note" }, "Drag to pan, turn the wheel to zoom. Double-click a node to pin it, a group to rename it. The address of this page holds what you pinned, grouped and selected."),
  );
}

/** For the pages of results. */
export function pageHelp(): Help {
  return dialog(
    PAGE_KEYS,
    h("p", {}, "On top stands the finding in a sentence: the effect with its interval, the null (the same procedure on something that learned nothing) and the baseline (the simplest method that could do the same). A result that its null matches is marked so. Below are the drawings, and at the end every claim of the evidence with how it was made and what was not done."),
    h("p", {}, "Blue raises and orange lowers. Point at a cell or a curve for its numbers; every map has its numbers in a table as well, which sorts by any column."),
    h("p", { class: "note" }, "The address of this page holds what you chose, so that a link brings it back."),
  );
}

function dialog(keys: readonly [string, string][], ...words: HTMLElement[]): Help {
  const close = h("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: () => element.close() }, icon("close"));
  const element = h(
    "dialog",
    { class: "help", "aria-label": "Help" },
    h("div", { class: "help-head" }, h("h2", {}, "How to read this"), close),
    ...words.slice(0, -1),
    h("dl", {}, ...keys.flatMap(([each, meaning]) => [h("dt", {}, ...each.split("  ").map((key) => h("kbd", {}, key))), h("dd", {}, meaning)])),
    ...words.slice(-1),
  );
  element.addEventListener("click", (event) => event.target === element && element.close());
  return { element, open: () => (element.open ? element.close() : element.showModal()) };
}
