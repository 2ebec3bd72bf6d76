/** How far to believe what the page shows: each claim beside its nulls and baselines. */

import type { App } from "../core/app";
import { nodeWhere } from "../core/names";
import { claim } from "./claim";
import { h } from "./dom";
import { scatters } from "./scatter";

export function evidencePanel(app: App): HTMLElement {
  const { evidence, measurements } = app.trace.evidence;
  return h(
    "div",
    { class: "evidence-panel" },
    evidence.length ? null : h("p", { class: "note" }, "This trace carries no evidence: what it shows has not been measured. Run the trace again without --quick."),
    ...evidence.map((one) => claim(one, (item) => itemName(app, item))),
    ...scatters(app, measurements),
  );
}

/** A node's id, an edge's two ids, or any other text. */
export function itemNodes(app: App, item: string) {
  const whole = app.graph.byId.get(item);
  if (whole) return [whole];
  return item
    .split(/\s*(?:->|→|>|\||,|\s)\s*/)
    .map((id) => app.graph.byId.get(id))
    .filter((node) => node !== undefined);
}

export function itemText(app: App, item: string): string {
  const nodes = itemNodes(app, item);
  if (!nodes.length) return item;
  return nodes.map((node) => app.name(node).text).join(" → ");
}

function itemName(app: App, item: string): HTMLElement {
  const nodes = itemNodes(app, item);
  const [first] = nodes;
  if (!first) return h("span", {}, item);
  return h("button", { type: "button", class: "link", title: nodes.map((node) => `${node.id}, ${nodeWhere(app.graph, node)}`).join("\n"), onclick: () => app.select(first) }, itemText(app, item));
}
