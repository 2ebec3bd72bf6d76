/** Everything about one node; with none selected, where to begin. */

import type { App } from "../core/app";
import type { FeatureRow } from "../core/files";
import { type Node as GraphNode, sumCheck } from "../core/graph";
import { LONGEST } from "../core/labels";
import { KIND_WORD, nodeWhere, number, percent, signed } from "../core/names";
import { h, icon, replace } from "./dom";
import { examples, histogram, logitTable } from "./feature";
import { glyph } from "./glyph";
import { overview } from "./overview";

const FEW = 10;

export function nodePanel(app: App): HTMLElement {
  const body = h("div", { class: "node-panel" });
  let expanded = false;

  function draw(): void {
    const node = app.selected;
    replace(body, ...(node ? about(node) : overview(app)));
  }

  function about(node: GraphNode): (HTMLElement | null)[] {
    const feature = app.feature(node);
    return [
      heading(app, node),
      facts(app, node),
      sums(app, node),
      effects(app, node),
      connections(node),
      feature ? featureSections(node, feature) : null,
      node.kind === "error" ? h("p", { class: "note" }, "What the dictionary does not explain of this MLP’s output here. It has outputs, but no inputs that could be named.") : null,
      node.kind === "feature" && !feature ? h("p", { class: "note" }, "This trace holds no examples for this feature.") : null,
    ];
  }

  function connections(node: GraphNode): HTMLElement {
    const ways = (["inputs", "outputs"] as const).filter((way) => app.graph[way][node.index]!.length);
    return h("div", { class: ways.length > 1 ? "connections" : "connections one" }, ...ways.map((way) => side(node, way)));
  }

  function side(node: GraphNode, way: "inputs" | "outputs"): HTMLElement {
    const { graph } = app;
    const links = graph[way][node.index]!;
    const largest = Math.abs(graph.weight[links[0] ?? 0] ?? 1) || 1;
    const block = (sign: 1 | -1) => {
      const chosen = links.filter((i) => Math.sign(graph.weight[i]!) === sign);
      if (!chosen.length) return null;
      const visible = chosen.filter((i) => app.shown.link[i]);
      const few = expanded ? chosen : visible.slice(0, FEW);
      const word = way === "inputs" ? (sign > 0 ? "raise it" : "lower it") : sign > 0 ? "it raises" : "it lowers";
      return h(
        "div",
        { class: sign > 0 ? "up" : "down" },
        h("h4", {}, word, h("span", {}, String(chosen.length))),
        h("ul", {}, ...few.map((i) => h("li", {}, connection(node, way, i, largest)))),
        chosen.length > few.length ? h("button", { type: "button", class: "more", onclick: () => ((expanded = true), draw()) }, more(visible.length - few.length, chosen.length - visible.length)) : null,
      );
    };
    return h(
      "section",
      { class: way, "aria-label": way === "inputs" ? "Inputs" : "Outputs" },
      h("h3", {}, way === "inputs" ? "Inputs" : "Outputs"),
      block(1),
      block(-1),
    );
  }

  function more(shown: number, hidden: number): string {
    const parts = [shown ? `${shown} more` : "", hidden ? `${hidden} hidden by the sliders` : ""];
    return parts.filter(Boolean).join(", ");
  }

  function connection(node: GraphNode, way: "inputs" | "outputs", i: number, largest: number): HTMLElement {
    const { graph } = app;
    const other = graph.nodes[(way === "inputs" ? graph.source : graph.target)[i]!]!;
    const name = app.name(other);
    const weight = graph.weight[i]!;
    const bar = h("i", { class: "bar" });
    bar.style.width = `${(Math.abs(weight) / largest) * 100}%`;
    const share = `${percent(graph.linkShare[i]!)} of ${way === "inputs" ? "this node’s" : "that node’s"} input`;
    const [source, target] = way === "inputs" ? [other, node] : [node, other];
    const measured = app.measuredEdges.get(`${source.id}->${target.id}`);
    const test = measured === undefined ? "" : `\nin the model, by every path: ${signed(measured)}`;
    const hidden = app.shown.link[i] ? "" : " (hidden by the sliders)";
    return h(
      "button",
      {
        type: "button", class: `connection${hidden ? " hidden-node" : ""}`, "data-id": other.id,
        title: `${name.text}, ${nodeWhere(graph, other)}\n${signed(weight)}, ${share}${hidden}${test}`,
        onclick: () => app.select(other, { from: node, by: way }),
        onpointerenter: () => app.hover(other),
        onpointerleave: () => app.hover(null),
      },
      bar,
      glyph(other.kind, 11),
      h("span", { class: name.automatic ? "name automatic" : "name" }, name.text),
      h("span", { class: "spot" }, spot(app, other)),
      h("span", { class: "value" }, signed(weight, 2)),
    );
  }

  app.store.listen((_, changed) => {
    if (changed.has("selected")) {
      expanded = false;
      body.scrollTop = 0;
    }
    if (["selected", "pinned", "groups", "node", "edge", "errors", "biases"].some((key) => changed.has(key as never))) draw();
  });
  app.on("labels", draw);
  draw();
  return body;
}

/** Layer and token in the fewest letters: `L2 of`. */
function spot(app: App, node: GraphNode): string {
  const token = node.position === null ? "" : (app.graph.tokens[node.position] ?? "").trim();
  if (node.kind === "embedding") return `#${node.position}`;
  return node.kind === "logit" ? "" : `L${node.layer} ${token}`;
}

function heading(app: App, node: GraphNode): HTMLElement {
  const name = app.name(node);
  const given = app.labels.get(node.key) ?? app.feature(node)?.label ?? "";
  const input = h("input", {
    class: name.automatic ? "label automatic-name" : "label", type: "text", value: given, placeholder: name.text, maxlength: LONGEST, "aria-label": "Label of this node",
    title: app.labels.served ? "Type a label; Enter saves it into the study" : "Type a label; Enter keeps it in this browser",
    onkeydown: (event: KeyboardEvent) => {
      if (event.key === "Enter") input.blur();
      if (event.key === "Escape") {
        input.value = given;
        input.blur();
        event.stopPropagation();
      }
    },
    onblur: () => void (input.value.trim() !== given && app.relabel(node, input.value)),
  });
  const pinned = app.pinned().includes(node.id);
  return h(
    "div",
    { class: "node-head" },
    glyph(node.kind, 18),
    h("div", { class: "title" }, h("div", { class: "label-field" }, input, icon("pen")), h("div", { class: "where" }, KIND_WORD[node.kind], " · ", nodeWhere(app.graph, node), " · ", h("code", {}, node.id))),
    h(
      "button",
      { type: "button", class: "text-button pin", "aria-pressed": pinned, title: "Pin to the subgraph (P)", onclick: () => app.togglePin(node) },
      icon("pin"),
      pinned ? "Pinned" : "Pin",
    ),
  );
}

function facts(app: App, node: GraphNode): HTMLElement | null {
  const ranked = app.graph.nodes.filter((one) => one.kind === node.kind).sort((a, b) => b.share - a.share);
  const rank = ranked.indexOf(node) + 1;
  const frequency = app.feature(node)?.activation_frequency;
  const rows: [string, string, string][] = [];
  if (node.activation !== null) rows.push(["activation", number(node.activation), "The feature’s activation on this prompt at this token"]);
  if (node.kind === "logit") rows.push(["probability", percent(node.probability), "The model’s probability for this next token"]);
  if (node.kind !== "logit" && node.share > 0) {
    rows.push(["influence", percent(node.share), "The part of the output’s influence that flows through this node, by absolute shares of input"]);
    rows.push(["rank", `${rank} of ${ranked.length}`, "By influence, among the nodes of its kind"]);
  }
  if (node.effect !== null && node.kind !== "logit") rows.push(["total effect", signed(node.effect), "What it adds to the target over all paths of this graph, in logits"]);
  if (typeof frequency === "number") rows.push(["fires on", `${percent(frequency)}`, "Share of tokens in the reference text on which this feature is active"]);
  if (!rows.length) return null;
  return h("dl", { class: "facts" }, ...rows.map(([word, value, meaning]) => h("div", { title: meaning }, h("dt", {}, word), h("dd", {}, value))));
}

/** inputs + remainder = pre-activation, with the difference. */
function sums(app: App, node: GraphNode): HTMLElement | null {
  const sum = sumCheck(app.graph, node, app.shown.link);
  if (sum.preActivation === null || !app.graph.inputs[node.index]!.length) return null;
  const holds = sum.error !== null && sum.error <= 1e-4;
  const term = (word: string, value: number, meaning: string) => h("span", { class: "term", title: meaning }, h("b", {}, signed(value)), h("small", {}, word));
  return h(
    "section",
    { class: `sum ${holds ? "holds" : "broken"}`, "aria-label": "Sum check" },
    term("inputs shown", sum.shown, "Sum of the links into this node that the graph shows"),
    sum.hidden ? term("hidden by sliders", sum.hidden, "Sum of the stored links that the sliders hide") : null,
    sum.remainder ? term("pruned", sum.remainder, "Sum of the inputs that were pruned before this file was written") : null,
    h("span", { class: "equals" }, "="),
    node.kind === "logit"
      ? term("logit", sum.preActivation, "The model’s logit for this token, less the mean logit (of a contrast: the difference of the two)")
      : term("pre-activation", sum.preActivation, "What the model computed at this node before its threshold"),
    h("span", { class: "check", title: `Relative difference ${number(sum.error, 2)}; 1e-4 is allowed` }, icon(holds ? "check" : "cross"), holds ? "sums" : `off by ${number(sum.error, 2)}`),
  );
}

/** What intervening on this node did in the real model, where that was measured. */
function effects(app: App, node: GraphNode): HTMLElement | null {
  const rows = app.trace.evidence.measurements.filter((one) => one.id === node.id && one.kind !== "random");
  if (!rows.length) return null;
  const largest = Math.max(...rows.flatMap((row) => [Math.abs(row.predicted), Math.abs(row.measured)]), 1e-12);
  const bar = (word: string, value: number) => {
    const fill = h("i", { class: value >= 0 ? "up" : "down" });
    fill.style.width = `${(Math.abs(value) / largest) * 50}%`;
    fill.style[value >= 0 ? "left" : "right"] = "50%";
    return h("div", { class: `measured ${word}` }, h("span", {}, word), h("div", { class: "track" }, fill), h("b", {}, signed(value)));
  };
  return h(
    "section",
    { class: "effects", "aria-label": "Measured effect" },
    h("h3", {}, "Taken out of the model"),
    ...rows.slice(0, 3).map((row) => {
      const target = app.graph.byId.get(row.target);
      return h("div", {}, h("p", { class: "note" }, "what its presence adds to ", h("b", {}, target ? `‘${app.name(target).text}’` : row.target)), bar("predicted", row.predicted), bar("measured", row.measured));
    }),
  );
}

function featureSections(node: GraphNode, feature: FeatureRow): HTMLElement {
  return h("div", { class: "feature" }, logitTable(feature), histogram(feature, node.activation), examples(feature));
}
