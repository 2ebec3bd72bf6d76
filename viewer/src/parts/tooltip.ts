/** The preview beside the pointer. */

import type { App } from "../core/app";
import type { Node as GraphNode } from "../core/graph";
import { KIND_WORD, nodeWhere, number, percent, signed } from "../core/names";
import { h, replace, style } from "./dom";
import { glyph } from "./glyph";

export function tooltip(app: App, owner: Element, nodeAt: (target: EventTarget | null) => GraphNode | null): void {
  const tip = h("div", { class: "tooltip", role: "tooltip", hidden: true });
  document.body.append(tip);
  owner.addEventListener("pointermove", (event) => {
    const node = (event as PointerEvent).buttons ? null : nodeAt(event.target);
    tip.hidden = node === null;
    if (!node) return;
    if (tip.dataset.id !== node.id || tip.dataset.to !== (app.selected?.id ?? "")) {
      tip.dataset.id = node.id;
      tip.dataset.to = app.selected?.id ?? "";
      replace(tip, ...contents(app, node));
    }
    const { clientX: x, clientY: y } = event as PointerEvent;
    const { offsetWidth: width, offsetHeight: height } = tip;
    const left = x + 16 + width > innerWidth ? x - width - 12 : x + 16;
    const top = y + 16 + height > innerHeight ? y - height - 12 : y + 16;
    style(tip, { left: `${Math.max(4, left)}px`, top: `${Math.max(4, top)}px` });
  });
  const hide = () => (tip.hidden = true);
  owner.addEventListener("pointerleave", hide);
  owner.addEventListener("pointerdown", hide);
}

function contents(app: App, node: GraphNode): HTMLElement[] {
  const name = app.name(node);
  const facts = [
    node.activation !== null ? `activation ${number(node.activation)}` : "",
    node.kind === "logit" ? percent(node.probability) : "",
    node.kind !== "logit" && node.share > 0 ? `${percent(node.share)} of the influence` : "",
  ].filter(Boolean);
  const lines: HTMLElement[] = [
    h("div", { class: name.automatic ? "name automatic" : "name" }, glyph(node.kind), name.text),
    h("div", { class: "where" }, `${KIND_WORD[node.kind]}, ${nodeWhere(app.graph, node)}`),
  ];
  if (facts.length) lines.push(h("div", { class: "facts" }, facts.join(" · ")));
  const relation = related(app, node);
  if (relation) lines.push(relation);
  return lines;
}

function related(app: App, node: GraphNode): HTMLElement | null {
  const { selected, graph } = app;
  if (!selected || selected === node) return null;
  const input = graph.inputs[selected.index]!.find((i) => graph.source[i] === node.index);
  const output = graph.outputs[selected.index]!.find((i) => graph.target[i] === node.index);
  const i = input ?? output;
  if (i === undefined) return h("div", { class: "relation none" }, "no direct link with the selected node");
  const weight = graph.weight[i]!;
  const whose = input !== undefined ? "the selected node’s input" : "its input, from the selected node";
  return h("div", { class: `relation ${weight > 0 ? "up" : "down"}` }, `${signed(weight)} · ${percent(graph.linkShare[i]!)} of ${whose}`);
}
