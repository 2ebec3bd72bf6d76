/** The graph as the page works on it: nodes by index, links in typed arrays, inputs and outputs sorted once. */

import type { GraphFile, LinkRow, NodeRow } from "./files";

export type Kind = "embedding" | "feature" | "error" | "bias" | "logit";

export interface Node {
  index: number;
  id: string;
  kind: Kind;
  /** Row of the link graph: 0 the tokens, layer + 1 what a layer holds, the last one the output. */
  row: number;
  layer: string;
  /** Position in the prompt; null where the node belongs to all positions. */
  position: number | null;
  activation: number | null;
  preActivation: number | null;
  /** Sum of the inputs that were pruned before the file was written. */
  remainder: number;
  /** Cumulative share of the influence down to this node, 0 the strongest. Tokens and outputs are always 0. */
  influence: number;
  /** The part of the output's influence that flows through this node. */
  share: number;
  /** Signed effect on the target over all paths, in logits. */
  effect: number | null;
  probability: number;
  isTarget: boolean;
  /** `{layer}_{feature}` of a feature, the node id of anything else: what a label is kept under. */
  key: string;
  clerp: string;
}

export interface Graph {
  tokens: string[];
  nodes: Node[];
  byId: Map<string, Node>;
  rows: number;
  rowNames: string[];
  source: Int32Array;
  target: Int32Array;
  weight: Float64Array;
  /** Cumulative share of the influence down to this link. */
  linkInfluence: Float64Array;
  /** |weight| over the sum of |weights| into the target. */
  linkShare: Float64Array;
  /** This link's own share of all links' influence. */
  linkOwn: Float64Array;
  /** Link indices into each node, largest |weight| first. */
  inputs: number[][];
  outputs: number[][];
}

const KINDS: Record<string, Kind> = {
  embedding: "embedding",
  feature: "feature",
  error: "error",
  bias: "bias",
  logit: "logit",
  "cross layer transcoder": "feature",
  transcoder: "feature",
  "mlp reconstruction error": "error",
};

export function buildGraph(file: GraphFile): Graph {
  const tokens = file.metadata.prompt_tokens;
  const kept = file.nodes.filter((row) => kindOf(row) !== null);
  const top = topRow(kept);
  const nodes = kept.map((row, index) => toNode(row, index, top));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  foldRemainders(file, byId);
  if (!kept.every((row) => typeof row.influence_share === "number")) shares(nodes, kept);

  const links = file.links.filter((link) => byId.has(link.source) && byId.has(link.target));
  return {
    tokens,
    nodes,
    byId,
    rows: top + 1,
    rowNames: ["tokens", ...Array.from({ length: top - 1 }, (_, layer) => `L${layer}`), "output"],
    ...linkArrays(links, byId, nodes.length),
  };
}

/** The output's row. An output's `layer` is the number of layers + 1, which counts layers that no shown node is in. */
function topRow(rows: NodeRow[]): number {
  let layers = 1;
  for (const row of rows) {
    if (!/^\d+$/.test(row.layer) || kindOf(row) === "bias") continue;
    layers = Math.max(layers, kindOf(row) === "logit" ? Number(row.layer) - 1 : Number(row.layer) + 1);
  }
  return layers + 1;
}

export function kindOf(row: NodeRow): Kind | null {
  if (row.kind === "remainder") return null;
  return KINDS[row.kind ?? ""] ?? KINDS[row.feature_type] ?? "feature";
}

function toNode(row: NodeRow, index: number, top: number): Node {
  const kind = kindOf(row) as Kind;
  const everywhere = row.ctx_idx === null || row.ctx_idx < 0 || row.node_id.endsWith("_*");
  const layer = /^\d+$/.test(row.layer) ? Number(row.layer) : -1;
  const free = kind === "embedding" || kind === "logit";
  return {
    index,
    id: row.node_id,
    kind,
    // The final norm's and the unembedding's biases have the number of layers as theirs: with the last layer's.
    row: kind === "embedding" ? 0 : kind === "logit" ? top : Math.min(layer + 1, top - 1),
    layer: row.layer,
    position: everywhere ? null : row.ctx_idx,
    activation: row.activation ?? null,
    preActivation: row.pre_activation ?? null,
    remainder: row.remainder ?? 0,
    // Biases are not ranked by influence: the links' threshold alone prunes them.
    influence: free || kind === "bias" ? 0 : (row.influence ?? 0),
    share: row.influence_share ?? 0,
    effect: row.effect ?? null,
    probability: row.token_prob ?? 0,
    isTarget: row.is_target_logit ?? false,
    key: kind === "feature" ? row.node_id.split("_").slice(0, 2).join("_") : row.node_id,
    clerp: row.clerp ?? "",
  };
}

/** Remainders may be written as nodes of their own; the page shows each as a line of its target's sum. */
function foldRemainders(file: GraphFile, byId: Map<string, Node>): void {
  const remainders = new Set(file.nodes.filter((row) => row.kind === "remainder").map((row) => row.node_id));
  if (!remainders.size) return;
  const sums = new Map<string, number>();
  for (const link of file.links)
    if (remainders.has(link.source)) sums.set(link.target, (sums.get(link.target) ?? 0) + link.weight);
  for (const [id, sum] of sums) {
    const node = byId.get(id);
    if (node) node.remainder = sum;
  }
}

/** Foreign files give cumulative influences alone: a node's own is the step from the stronger one before it. */
function shares(nodes: Node[], rows: NodeRow[]): void {
  const given = nodes.filter((node) => (rows[node.index]!.influence ?? 0) > 0);
  const cumulative = (node: Node) => rows[node.index]!.influence!;
  let before = 0;
  for (const node of given.sort((a, b) => cumulative(a) - cumulative(b))) {
    node.share = cumulative(node) - before;
    before = cumulative(node);
  }
}

function linkArrays(links: LinkRow[], byId: Map<string, Node>, count: number) {
  const source = Int32Array.from(links, (link) => (byId.get(link.source) as Node).index);
  const target = Int32Array.from(links, (link) => (byId.get(link.target) as Node).index);
  const weight = Float64Array.from(links, (link) => link.weight);
  const linkInfluence = Float64Array.from(links, (link) => link.influence ?? 0);

  const total = new Float64Array(count);
  const inputs: number[][] = Array.from({ length: count }, () => []);
  const outputs: number[][] = Array.from({ length: count }, () => []);
  for (let i = 0; i < links.length; i++) {
    total[target[i]!]! += Math.abs(weight[i]!);
    inputs[target[i]!]!.push(i);
    outputs[source[i]!]!.push(i);
  }
  const heavier = (a: number, b: number) => Math.abs(weight[b]!) - Math.abs(weight[a]!);
  for (const list of [...inputs, ...outputs]) list.sort(heavier);

  const linkShare = Float64Array.from(links, (_, i) => Math.abs(weight[i]!) / (total[target[i]!]! || 1));
  const linkOwn = new Float64Array(links.length);
  let before = 0;
  for (const i of [...links.keys()].sort((a, b) => linkInfluence[a]! - linkInfluence[b]!)) {
    linkOwn[i] = linkInfluence[i]! - before;
    before = linkInfluence[i]!;
  }
  return { source, target, weight, linkInfluence, linkShare, linkOwn, inputs, outputs };
}

/** Inputs shown, inputs hidden by the sliders, and the remainder: together the pre-activation. */
export interface Sum {
  shown: number;
  hidden: number;
  remainder: number;
  total: number;
  preActivation: number | null;
  /** |total - pre| over max(|pre|, sum of |inputs|); null where the node has no pre-activation. */
  error: number | null;
}

export function sumCheck(graph: Graph, node: Node, linkOn: Uint8Array): Sum {
  let [shown, hidden, size] = [0, 0, Math.abs(node.remainder)];
  for (const i of graph.inputs[node.index]!) {
    const weight = graph.weight[i]!;
    size += Math.abs(weight);
    if (linkOn[i]) shown += weight;
    else hidden += weight;
  }
  const total = shown + hidden + node.remainder;
  const pre = node.preActivation;
  const error = pre === null ? null : Math.abs(total - pre) / Math.max(Math.abs(pre), size, 1e-30);
  return { shown, hidden, remainder: node.remainder, total, preActivation: pre, error };
}
