/** With no node selected: what the model said, and the nodes that did most for it. */

import type { App } from "../core/app";
import type { Node as GraphNode } from "../core/graph";
import { nodeWhere, percent } from "../core/names";
import { h } from "./dom";
import { glyph } from "./glyph";

export function overview(app: App): HTMLElement[] {
  const { nodes } = app.graph;
  const outputs = nodes.filter((node) => node.kind === "logit").sort((a, b) => b.probability - a.probability);
  const strongest = nodes.filter((node) => node.kind === "feature" && node.share > 0).sort((a, b) => b.share - a.share).slice(0, 14);
  const lost = nodes.filter((node) => node.kind === "error").reduce((sum, node) => sum + node.share, 0);
  return [
    h("h2", {}, "The output"),
    h("ul", { class: "ranking outputs" }, ...outputs.map((node) => h("li", {}, line(app, node, node.probability, Math.max(outputs[0]?.probability ?? 1, 1e-9))))),
    h("h2", {}, "Most influential features"),
    strongest.length
      ? h("ul", { class: "ranking" }, ...strongest.map((node) => h("li", {}, line(app, node, node.share, strongest[0]!.share))))
      : h("p", { class: "note" }, "This graph holds no features."),
    lost > 0 ? h("p", { class: "note" }, `Reconstruction errors, which no feature explains, carry ${percent(lost)} of the influence.`) : h("p"),
    h(
      "p",
      { class: "note how" },
      "Each link is an exact direct effect, with attention patterns and norm scales held as they were. Click a node to see what feeds it; press ",
      h("kbd", {}, "?"),
      " for the keys.",
    ),
  ];
}

function line(app: App, node: GraphNode, value: number, most: number): HTMLElement {
  const name = app.name(node);
  const bar = h("i", { class: "bar" });
  bar.style.width = `${(value / most) * 100}%`;
  const where = node.kind === "logit" ? "" : nodeWhere(app.graph, node);
  return h(
    "button",
    {
      type: "button", class: "connection", "data-id": node.id, title: `${name.text} ${where}`,
      onclick: () => app.select(node), onpointerenter: () => app.hover(node), onpointerleave: () => app.hover(null),
    },
    bar,
    glyph(node.kind, 11),
    h("span", { class: name.automatic ? "name automatic" : "name" }, name.text),
    h("span", { class: "spot" }, where),
    h("span", { class: "value" }, percent(value)),
  );
}
