/** The pinned nodes as a small diagram: units (a node, or a group of them) and summed edges between units. */

import type { Graph, Node } from "./graph";
import type { Group } from "./state";

export interface Unit {
  /** A node's id, or `g:` and the first id of a group. */
  key: string;
  name: string | null;
  nodes: Node[];
  row: number;
  position: number;
}

export interface UnitEdge {
  source: Unit;
  target: Unit;
  /** Sum of the links' weights. */
  weight: number;
  /** |weight| over the sum of |weights| of all links into the target unit from outside it. */
  share: number;
  links: number;
}

/** Groups first keep only nodes of this graph; a node of a group is pinned with it. */
export function unitsOf(graph: Graph, pinned: readonly string[], groups: readonly Group[]): Unit[] {
  const units: Unit[] = [];
  const taken = new Set<string>();
  for (const group of groups) {
    const nodes = group.ids.map((id) => graph.byId.get(id)).filter((node): node is Node => !!node && !taken.has(node.id));
    if (!nodes.length) continue;
    for (const node of nodes) taken.add(node.id);
    units.push(unit(groupKey(group), group.name, nodes));
  }
  for (const id of pinned) {
    const node = graph.byId.get(id);
    if (!node || taken.has(id)) continue;
    taken.add(id);
    units.push(unit(id, null, [node]));
  }
  return units;
}

export function groupKey(group: Group): string {
  return `g:${group.ids[0]}`;
}

function unit(key: string, name: string | null, nodes: Node[]): Unit {
  const mean = (value: (node: Node) => number) => nodes.reduce((sum, node) => sum + value(node), 0) / nodes.length;
  return { key, name, nodes, row: Math.round(mean((node) => node.row)), position: mean((node) => node.position ?? -1) };
}

export function unitEdges(graph: Graph, units: readonly Unit[]): UnitEdge[] {
  const owner = new Map<number, Unit>();
  for (const one of units) for (const node of one.nodes) owner.set(node.index, one);
  const into = new Map<Unit, number>();
  const edges = new Map<string, UnitEdge>();
  for (const target of units)
    for (const node of target.nodes)
      for (const i of graph.inputs[node.index]!) {
        const source = owner.get(graph.source[i]!);
        if (source === target) continue;
        into.set(target, (into.get(target) ?? 0) + Math.abs(graph.weight[i]!));
        if (!source) continue;
        const key = `${source.key} ${target.key}`;
        const edge = edges.get(key) ?? { source, target, weight: 0, share: 0, links: 0 };
        edge.weight += graph.weight[i]!;
        edge.links++;
        edges.set(key, edge);
      }
  const all = [...edges.values()];
  for (const edge of all) edge.share = Math.abs(edge.weight) / (into.get(edge.target) || 1);
  return all.sort((a, b) => a.share - b.share);
}

export interface Placed {
  unit: Unit;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Diagram {
  width: number;
  height: number;
  placed: Placed[];
}

const GAP = { x: 14, y: 24 };
/** Rows come this near before the diagram grows beyond its pane. */
const NEAREST = 11;

/**
 * Rows by layer (empty ones left out), in each the order of the prompt, pushed apart until no two boxes meet. Where the
 * rows would not fit the height, neighbouring rows that no edge joins become one.
 */
export function layoutUnits(
  units: readonly Unit[],
  edges: readonly UnitEdge[],
  room: { width: number; height: number },
  size: (unit: Unit) => { width: number; height: number },
): Diagram {
  const placed: Placed[] = [];
  const lines = [...new Set(units.map((one) => one.row))]
    .sort((a, b) => b - a)
    .map((row) => units.filter((one) => one.row === row).map((one) => ({ unit: one, x: 0, y: 0, ...size(one) })));
  mergeLines(lines, edges, room);
  for (const boxes of lines) boxes.sort((a, b) => a.unit.position - b.unit.position || b.unit.row - a.unit.row);
  const width = Math.max(room.width, ...lines.map((boxes) => boxes.reduce((sum, box) => sum + box.width + GAP.x, GAP.x)));
  const centreOf = slots(lines, width);
  const heights = lines.map((boxes) => Math.max(...boxes.map((box) => box.height)));
  const boxes = heights.reduce((sum, one) => sum + one, 0);
  const between = Math.max(NEAREST, (room.height - boxes) / (lines.length + 1));
  const gap = Math.min(between, 3 * GAP.y);
  const height = Math.max(room.height, boxes + gap * (lines.length + 1));
  let y = (height - boxes - gap * (lines.length - 1)) / 2;
  for (const [i, boxes] of lines.entries()) {
    for (const box of boxes) {
      box.x = centreOf(box, boxes, i) - box.width / 2;
      box.y = y + (heights[i]! - box.height) / 2;
    }
    spread(boxes, width);
    placed.push(...boxes);
    y += heights[i]! + gap;
  }
  return { width, height, placed };
}

/** The width is shared among the positions in use, in the order of the prompt, each by its fullest row. */
function slots(lines: Placed[][], width: number): (box: Placed, line: Placed[], row: number) => number {
  const at = (box: Placed) => Math.round(box.unit.position);
  const needs = new Map<number, number>();
  for (const boxes of lines)
    for (const position of new Set(boxes.map(at))) {
      const need = boxes.filter((box) => at(box) === position).reduce((sum, box) => sum + box.width + GAP.x, 0);
      needs.set(position, Math.max(needs.get(position) ?? 0, need));
    }
  const used = [...needs.keys()].sort((a, b) => a - b);
  const total = used.reduce((sum, position) => sum + needs.get(position)!, 0);
  const grow = (width - 2 * GAP.x) / Math.max(1, total);
  const starts = new Map<number, number>();
  let x = GAP.x;
  for (const position of used) {
    starts.set(position, x);
    x += needs.get(position)! * grow;
  }
  /** Boxes of one slot and row stand evenly in it; one alone is set off to alternate sides, so that lines pass by. */
  return (box, boxes, line) => {
    const here = boxes.filter((one) => at(one) === at(box));
    const slot = needs.get(at(box))! * grow;
    const free = Math.max(0, slot - here.reduce((sum, one) => sum + one.width + GAP.x, 0));
    const aside = here.length === 1 ? (line % 2 ? -1 : 1) * Math.min(free / 4, 70) : 0;
    return starts.get(at(box))! + ((here.indexOf(box) + 0.5) / here.length) * slot + aside;
  };
}

function mergeLines(lines: Placed[][], edges: readonly UnitEdge[], room: { width: number; height: number }): void {
  const tall = (boxes: Placed[]) => Math.max(...boxes.map((box) => box.height));
  const wide = (boxes: Placed[]) => boxes.reduce((sum, box) => sum + box.width + GAP.x, GAP.x);
  const ends = (boxes: Placed[]) => boxes.some(({ unit }) => unit.nodes.some((node) => node.kind === "embedding" || node.kind === "logit"));
  const joined = (a: Placed[], b: Placed[]) => {
    const [above, below] = [new Set(a.map((box) => box.unit)), new Set(b.map((box) => box.unit))];
    return edges.some((edge) => (below.has(edge.source) && above.has(edge.target)) || (above.has(edge.source) && below.has(edge.target)));
  };
  while (lines.reduce((sum, boxes) => sum + tall(boxes) + NEAREST, NEAREST) > room.height) {
    let [best, least] = [-1, room.width];
    for (let i = 0; i + 1 < lines.length; i++) {
      const both = [...lines[i]!, ...lines[i + 1]!];
      if (wide(both) <= least && !ends(both) && !joined(lines[i]!, lines[i + 1]!)) [best, least] = [i, wide(both)];
    }
    if (best < 0) return;
    lines.splice(best, 2, [...lines[best]!, ...lines[best + 1]!]);
  }
}

/** Two sweeps: from the left so that none overlaps its neighbour, from the right so that none leaves the pane. */
function spread(boxes: Placed[], width: number): void {
  let free = GAP.x;
  for (const box of boxes) {
    box.x = Math.max(box.x, free);
    free = box.x + box.width + GAP.x;
  }
  let limit = width - GAP.x;
  for (const box of [...boxes].reverse()) {
    box.x = Math.min(box.x, limit - box.width);
    limit = box.x - GAP.x;
  }
}

/** From the target down the strongest inputs: `count` nodes worth a first look. */
export function suggest(graph: Graph, count = 12): string[] {
  const answer = graph.nodes.find((node) => node.isTarget) ?? graph.nodes.find((node) => node.kind === "logit");
  if (!answer) return [];
  const score = new Map<number, number>([[answer.index, 1]]);
  const chosen = new Set<number>();
  while (chosen.size < count) {
    let [best, most] = [-1, 0];
    for (const [index, value] of score) if (!chosen.has(index) && value > most) [best, most] = [index, value];
    if (best < 0) break;
    chosen.add(best);
    for (const i of graph.inputs[best]!) {
      const source = graph.source[i]!;
      if (graph.nodes[source]!.kind === "error" || graph.nodes[source]!.kind === "bias") continue;
      score.set(source, (score.get(source) ?? 0) + most * graph.linkShare[i]!);
    }
  }
  return [...chosen].map((index) => graph.nodes[index]!.id);
}

export interface SubgraphScores {
  /** Influence that reaches tokens, over all that ends at tokens, errors, unpinned nodes or remainders. */
  replacement: number;
  /** Influence-weighted share of the pinned nodes' input that comes from other pinned nodes or tokens. */
  completeness: number;
}

/** The graph's two scores with every node outside the subgraph counted as error. Tokens count as inside. */
export function subgraphScores(graph: Graph, pinned: ReadonlySet<string>): SubgraphScores | null {
  const inside = (node: Node) => pinned.has(node.id) && node.kind !== "error";
  const start = graph.nodes.filter((node) => node.kind === "logit" && inside(node));
  if (!start.length) return null;
  const reach = new Float64Array(graph.nodes.length);
  const equal = start.every((node) => node.probability <= 0);
  for (const node of start) reach[node.index] = equal ? 1 : node.probability;
  const order = graph.nodes.filter((node) => inside(node)).sort((a, b) => b.row - a.row || rank(b) - rank(a));
  let [tokens, lost, kept, weighed] = [0, 0, 0, 0];
  for (const node of order) {
    const inputs = graph.inputs[node.index]!;
    const amount = reach[node.index]!;
    if (!inputs.length || amount <= 0) {
      if (node.kind !== "embedding" && node.kind !== "bias") lost += amount;
      continue;
    }
    const size = inputs.reduce((sum, i) => sum + Math.abs(graph.weight[i]!), Math.abs(node.remainder)) || 1;
    let known = 0;
    for (const i of inputs) {
      const source = graph.nodes[graph.source[i]!]!;
      const part = Math.abs(graph.weight[i]!) / size;
      if (source.kind === "embedding") tokens += amount * part;
      else if (inside(source)) reach[source.index]! += amount * part;
      else lost += amount * part;
      if (source.kind === "embedding" || inside(source)) known += part;
    }
    lost += (amount * Math.abs(node.remainder)) / size;
    kept += amount * known;
    weighed += amount;
  }
  return { replacement: tokens / (tokens + lost || 1), completeness: kept / (weighed || 1) };
}

/** Within a layer an error or a bias may feed a feature, never the other way round. */
function rank(node: Node): number {
  return node.kind === "feature" ? 1 : 0;
}

/** What "export" writes: enough to draw the subgraph elsewhere, and circuit-tracer's own `qParams`. */
export function exportSubgraph(
  graph: Graph,
  pinned: readonly string[],
  groups: readonly Group[],
  name: (node: Node) => string,
  about: Record<string, unknown>,
): Record<string, unknown> {
  const units = unitsOf(graph, pinned, groups);
  return {
    schema: "cutaway.subgraph/1",
    ...about,
    units: units.map((one) => ({
      key: one.key,
      name: one.name ?? name(one.nodes[0]!),
      nodes: one.nodes.map((node) => ({ node_id: node.id, kind: node.kind, layer: node.layer, ctx_idx: node.position, label: name(node) })),
    })),
    edges: unitEdges(graph, units).map((edge) => ({
      source: edge.source.key,
      target: edge.target.key,
      weight: edge.weight,
      links: edge.links,
    })),
    qParams: {
      pinnedIds: units.flatMap((one) => one.nodes.map((node) => node.id)),
      supernodes: groups.map((group) => [group.name, ...group.ids]),
    },
  };
}
