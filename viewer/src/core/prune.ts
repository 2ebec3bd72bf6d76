/** Which nodes and links the sliders leave. */

import type { Graph } from "./graph";

export interface Thresholds {
  /** Cumulative influence that the shown nodes carry, 0 to 1. */
  node: number;
  edge: number;
  errors: boolean;
  biases: boolean;
}

export interface Shown {
  node: Uint8Array;
  link: Uint8Array;
  nodes: number;
  links: number;
}

/**
 * Nodes down to the cumulative influence `node` (tokens and outputs stay), links down to `edge` between them; then
 * features left without an input or an output go, and errors and biases without an output, until none is left over.
 * Nodes in `keep` (selected, pinned) stay whatever the sliders say.
 */
export function prune(graph: Graph, wanted: Thresholds, keep: ReadonlySet<string> = new Set()): Shown {
  const node = new Uint8Array(graph.nodes.length);
  const kept = new Uint8Array(graph.nodes.length);
  for (const one of graph.nodes) {
    const off = (one.kind === "error" && !wanted.errors) || (one.kind === "bias" && !wanted.biases);
    kept[one.index] = keep.has(one.id) || one.kind === "embedding" || one.kind === "logit" ? 1 : 0;
    node[one.index] = kept[one.index] || (!off && one.influence <= wanted.node + 1e-9) ? 1 : 0;
  }
  const link = new Uint8Array(graph.source.length);
  const inward = new Int32Array(graph.nodes.length);
  const outward = new Int32Array(graph.nodes.length);
  for (let i = 0; i < link.length; i++) {
    if (!node[graph.source[i]!] || !node[graph.target[i]!] || graph.linkInfluence[i]! > wanted.edge + 1e-9) continue;
    link[i] = 1;
    inward[graph.target[i]!]!++;
    outward[graph.source[i]!]!++;
  }
  const stranded = (index: number) =>
    node[index] && !kept[index] && (!outward[index] || (graph.nodes[index]!.kind === "feature" && !inward[index]));
  const queue = graph.nodes.map((one) => one.index).filter(stranded);
  while (queue.length) {
    const index = queue.pop()!;
    if (!stranded(index)) continue;
    node[index] = 0;
    for (const i of graph.inputs[index]!) if (link[i]) cut(i);
    for (const i of graph.outputs[index]!) if (link[i]) cut(i);
  }
  return { node, link, nodes: total(node), links: total(link) };

  function cut(i: number): void {
    link[i] = 0;
    const [from, to] = [graph.source[i]!, graph.target[i]!];
    outward[from]!--;
    inward[to]!--;
    if (stranded(from)) queue.push(from);
    if (stranded(to)) queue.push(to);
  }
}

const LEGIBLE = { nodes: 140, links: 1500 };

/** The papers' 0.8 of the nodes' influence and 0.98 of the links', or less where that would be too much to look at. */
export function startingThresholds(graph: Graph): { node: number; edge: number } {
  const everything = { node: 0.8, edge: 0.98, errors: true, biases: true };
  const nodes = graph.nodes.filter((one) => one.kind === "feature" || one.kind === "error").map((one) => one.influence);
  const node = Math.min(everything.node, step(nodes, LEGIBLE.nodes));
  const shown = prune(graph, { ...everything, node });
  const links = [...graph.linkInfluence].filter((_, i) => shown.link[i]);
  return { node, edge: Math.min(everything.edge, step(links, LEGIBLE.links)) };
}

/** The value that `most` of the values do not exceed, on the sliders' steps. */
function step(values: number[], most: number): number {
  if (values.length <= most) return 1;
  const value = [...values].sort((a, b) => a - b)[most]!;
  return Math.max(0.05, Math.floor(value * 200) / 200);
}

function total(flags: Uint8Array): number {
  let sum = 0;
  for (const flag of flags) sum += flag;
  return sum;
}
