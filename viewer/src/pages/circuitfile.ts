/** A circuit's file: its edges in order of score, what is known of each, and how two circuits differ. */

import { estimate } from "../core/evidence";
import { anything, dict, fallback, list, Malformed, matrix, maybe, nullable, number, type Read, record, type Shape, text } from "../core/shape";

/** A port's destination, or one for each span of positions. */
const portsOf: Read<number[]> = (value, at) => (Array.isArray(value) ? list(number)(value, at) : [number(value, at)]);

const shape = record({
  choices: fallback(dict(anything), new Map<string, unknown>()),
  level: fallback(text, "edge"),
  size: number,
  count: maybe,
  whole: maybe,
  share: fallback(number, 0),
  heads: fallback(list(text), []),
  spans: fallback(list(text), []),
  sources: list(text),
  destinations: list(text),
  writes: list(number),
  reads: list(number),
  of_port: fallback(list(portsOf), []),
  edges: list(record({ source: text, destination: text, score: maybe })),
  faithfulness: nullable(list(record({ ablation: text, faithfulness: estimate }))),
  curve: nullable(record({ ablation: fallback(text, ""), n: fallback(number, 0), sizes: list(number), absolute: list(maybe), signed: fallback(list(maybe), []) })),
  audit: nullable(record({ edges: list(list(number)), estimated: list(maybe), measured: list(maybe) })),
  measured: nullable(list(record({ source: text, destination: text, estimated: maybe, exact: estimate }))),
  example: nullable(record({ tokens: list(text), patterns: dict(list(list(maybe))) })),
});

export type CircuitFile = Shape<typeof shape>;

export interface Edge {
  source: string;
  destination: string;
  /** The node that the destination belongs to, and the way in: q, k, v or "". */
  node: string;
  port: string;
  /** The span of positions that the destination is of; "" for all of them. */
  span: string;
  score: number;
  inside: boolean;
}

/** A node (with spans: at one of them) of a circuit of nodes; the input is always in it and is none of these. */
export interface NodeScore {
  name: string;
  score: number;
  inside: boolean;
}

export interface Exact {
  value: number | null;
  low?: number | null;
  high?: number | null;
}

export class Circuit {
  readonly file: CircuitFile;
  /** All edges that were scored, the best first; of a node circuit those in it. */
  readonly ranked: Edge[];
  readonly exact = new Map<string, Exact>();
  /** The stage at which a node reads; the input's is 0. */
  readonly stage = new Map<string, number>();
  readonly by: "absolute" | "signed";
  /** Of a circuit of nodes: all that were scored, the best first. */
  readonly nodes: NodeScore[];
  /** What is chosen and counted, and how many are in the circuit. */
  readonly things: "nodes" | "edges";
  readonly count: number;
  /** What a score is, in words; whether it is an effect on the metric, in its unit. */
  readonly means: string;
  readonly isEffect: boolean;

  constructor(body: Record<string, unknown>) {
    const file = shape(body, "");
    this.file = file;
    this.by = file.choices.get("by") === "signed" ? "signed" : "absolute";
    if (file.writes.length !== file.sources.length) throw new Malformed(`writes should have a number for each of the ${file.sources.length} sources`);
    const inside = new Set(file.edges.map((edge) => keyOf(edge.source, edge.destination)));
    const matrixOf = matrix(file.sources.length, file.destinations.length);
    const scores = body.scores === undefined ? null : matrixOf(body.scores, "scores");
    this.things = file.level === "node" ? "nodes" : "edges";
    this.means = this.choice("score");
    this.isEffect = !this.means || this.means.startsWith("what the metric");
    const all = scores && file.level === "edge"
      ? scores.flatMap((row, s) => row.flatMap((score, d) => (score === null ? [] : [{ source: file.sources[s]!, destination: file.destinations[d]!, score }])))
      : amongMembers(file.edges).map((edge) => ({ ...edge, score: edge.score ?? 0 }));
    const rank = (edge: { score: number }) => (this.by === "signed" ? edge.score : Math.abs(edge.score));
    this.ranked = all.sort((a, b) => rank(b) - rank(a)).map((edge) => ({ ...edge, ...portOf(edge.destination), inside: inside.has(keyOf(edge.source, edge.destination)) }));
    this.nodes = file.level === "node" && scores ? this.nodesOf(scores, rank) : [];
    this.count = file.level === "node" ? (file.count ?? this.nodes.filter((node) => node.inside).length) : file.size;
    for (const [s, name] of file.sources.entries()) this.stage.set(name, Math.max(0, (file.writes[s] ?? 0) - 1));
    file.destinations.forEach((name, d) => {
      const port = file.of_port.findIndex((row) => row.includes(d));
      const reads = file.reads[port >= 0 ? port : d];
      if (reads !== undefined) this.stage.set(portOf(name).node, reads);
    });
    file.audit?.edges.forEach(([s, d], i) => {
      const [source, destination] = [file.sources[s ?? -1], file.destinations[d ?? -1]];
      if (source !== undefined && destination !== undefined) this.exact.set(keyOf(source, destination), { value: file.audit!.measured[i] ?? null });
    });
    for (const row of file.measured ?? []) this.exact.set(keyOf(row.source, row.destination), { value: row.exact.value, low: row.exact.interval?.low ?? null, high: row.exact.interval?.high ?? null });
  }

  /** A node's edges all have its score; with spans it reaches those that read at one of them. */
  private nodesOf(scores: (number | null)[][], rank: (node: NodeScore) => number): NodeScore[] {
    const { spans } = this.file;
    const last = spans.includes("end") ? "end" : spans.at(-1); // where the logits are read
    const name = (source: string, destination: string) => (spans.length ? `${source}@${portOf(destination).span || last}` : source);
    const inside = new Set(this.file.edges.map((edge) => name(edge.source, edge.destination)));
    const found = new Map<string, NodeScore>();
    scores.forEach((row, s) => {
      if (this.file.sources[s] === "input") return;
      row.forEach((score, d) => {
        const called = name(this.file.sources[s]!, this.file.destinations[d]!);
        if (score !== null && !found.has(called)) found.set(called, { name: called, score, inside: inside.has(called) });
      });
    });
    return [...found.values()].sort((a, b) => rank(b) - rank(a));
  }

  /** What a score is called, above a column or beside an axis, with its unit where it has one. */
  scoreWord(unit: string): { name: string; titled: string; unit: string } {
    const name = !this.isEffect ? "score" : this.means.startsWith("what the metric loses") ? "effect" : "approximate effect";
    return { name, titled: this.isEffect ? `${name}, ${unit}` : name, unit: this.isEffect ? unit : "" };
  }

  choice(name: string): string {
    const value = this.file.choices.get(name);
    return typeof value === "string" || typeof value === "number" ? String(value) : "";
  }

  /** Faithfulness at a size, from the curve in the file: measured there, or between its neighbours on a log axis. */
  faithfulness(size: number): { value: number; between: [number, number] | null } | null {
    const { curve, faithfulness } = this.file;
    const main = faithfulness?.[0]?.faithfulness.value;
    if (size === this.file.size && typeof main === "number") return { value: main, between: null };
    if (!curve) return null;
    const values = this.by === "signed" && curve.signed.length ? curve.signed : curve.absolute;
    const points = curve.sizes.flatMap((x, i) => (typeof values[i] === "number" ? [[x, values[i]] as [number, number]] : []));
    const after = points.findIndex(([x]) => x >= size);
    if (after < 0) return null;
    const [x1, y1] = points[after]!;
    if (x1 === size || after === 0) return x1 === size ? { value: y1, between: null } : null;
    const [x0, y0] = points[after - 1]!;
    const share = (Math.log(size) - Math.log(x0)) / (Math.log(x1) - Math.log(x0));
    return { value: y0 + share * (y1 - y0), between: [x0, x1] };
  }
}

/** A circuit of nodes has every edge of theirs: those that end at a node outside it lead nowhere, and are left out. */
function amongMembers<E extends { source: string; destination: string }>(edges: readonly E[]): E[] {
  const members = new Set([...edges.map((edge) => edge.source), "logits"]);
  return edges.filter((edge) => members.has(portOf(edge.destination).node));
}

export function keyOf(source: string, destination: string): string {
  return `${source}→${destination}`;
}

/** "a1.h0<q>@end" is the query of node a1.h0 at the positions of "end". */
export function portOf(destination: string): { node: string; port: string; span: string } {
  const found = /^(.*?)(?:<([qkv])>)?(?:@([^@]*))?$/.exec(destination)!;
  return { node: found[1]!, port: found[2] ?? "", span: found[3] ?? "" };
}

/** "1.0" of "a1.h0"; null for what is no head. */
export function headOf(node: string): string | null {
  const found = /^a(\d+)\.[hkv](\d+)$/.exec(node);
  return found ? `${found[1]}.${found[2]}` : null;
}

export interface Compared {
  shared: Edge[];
  onlyA: Edge[];
  onlyB: Edge[];
  jaccard: number;
}

/** Of two sets of edges, by name. */
export function compare(a: readonly Edge[], b: readonly Edge[]): Compared {
  const key = (edge: Edge) => keyOf(edge.source, edge.destination);
  const [inA, inB] = [new Set(a.map(key)), new Set(b.map(key))];
  const shared = a.filter((edge) => inB.has(key(edge)));
  const union = inA.size + inB.size - shared.length;
  return { shared, onlyA: a.filter((edge) => !inB.has(key(edge))), onlyB: b.filter((edge) => !inA.has(key(edge))), jaccard: union ? shared.length / union : NaN };
}
