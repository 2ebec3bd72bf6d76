/** Which nodes of the link graph carry their name, and where it fits. */

import type { App } from "../core/app";
import type { Node as GraphNode } from "../core/graph";
import type { Layout } from "../core/layout";

export interface GraphLabel {
  node: GraphNode;
  text: string;
  x: number;
  y: number;
  anchor: "start" | "end" | "middle";
}

const MOST = 12;
const LONGEST = 24;
const HEIGHT = 14;

interface Area {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** With a node selected: it and its strongest neighbours; with none: the most influential features. */
function worthy(app: App): GraphNode[] {
  const { graph, shown, selected } = app;
  const visible = (node: GraphNode) => shown.node[node.index] && node.kind !== "logit" && node.kind !== "embedding";
  if (!selected)
    return graph.nodes
      .filter((node) => node.kind === "feature" && visible(node))
      .sort((a, b) => b.share - a.share)
      .slice(0, MOST);
  const near = [...graph.inputs[selected.index]!.map((i) => [i, graph.source[i]!] as const), ...graph.outputs[selected.index]!.map((i) => [i, graph.target[i]!] as const)]
    .filter(([i]) => shown.link[i])
    .sort(([a], [b]) => graph.linkShare[b]! - graph.linkShare[a]!)
    .map(([, index]) => graph.nodes[index]!);
  return [selected, ...near].filter(visible).slice(0, MOST);
}

/** Greedy: the most important first, beside, above or below its node, wherever it meets no node and no other name. */
export function labelled(app: App, at: Layout, measure: (text: string) => number): GraphLabel[] {
  const wanted = worthy(app);
  const taken: Area[] = [];
  for (const node of app.graph.nodes) {
    const [x, y] = [at.x[node.index]!, at.y[node.index]!];
    if (Number.isNaN(x)) continue;
    const half = at.half[node.index] || 7;
    taken.push({ left: x - half, right: x + half, top: y - (at.half[node.index] ? 12 : 6), bottom: y + (at.half[node.index] ? 12 : 6) });
  }
  const result: GraphLabel[] = [];
  for (const node of wanted) {
    const [x, y] = [at.x[node.index]!, at.y[node.index]!];
    const whole = app.name(node).text;
    const text = whole.length > LONGEST ? `${whole.slice(0, LONGEST - 1).trimEnd()}…` : whole;
    const width = measure(text) * (11 / 12) + 2;
    const places: GraphLabel[] = [
      { node, text, x: x + 11, y: y + 4, anchor: "start" },
      { node, text, x: x - 11, y: y + 4, anchor: "end" },
      { node, text, x, y: y - 12, anchor: "middle" },
      { node, text, x, y: y + 20, anchor: "middle" },
    ];
    const fit = places.find((place) => {
      const left = place.anchor === "start" ? place.x : place.anchor === "end" ? place.x - width : place.x - width / 2;
      const area = { left, right: left + width, top: place.y - HEIGHT + 3, bottom: place.y + 3 };
      const inside = area.left >= 2 && area.right <= at.width - 2 && area.top >= 2 && area.bottom <= at.height - 2;
      return inside && !taken.some((other) => meet(area, other));
    });
    if (!fit) continue;
    const left = fit.anchor === "start" ? fit.x : fit.anchor === "end" ? fit.x - width : fit.x - width / 2;
    taken.push({ left: left - 3, right: left + width + 3, top: fit.y - HEIGHT + 3, bottom: fit.y + 3 });
    result.push(fit);
  }
  return result;
}

function meet(a: Area, b: Area): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
