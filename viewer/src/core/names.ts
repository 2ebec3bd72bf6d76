/** How tokens, nodes and numbers are said. */

import type { FeatureRow } from "./files";
import type { Graph, Node } from "./graph";

/** A token as it is read: the leading space dropped, what cannot be seen made visible. */
export function tokenText(token: string): string {
  const trimmed = token.startsWith(" ") ? token.slice(1) : token;
  if (trimmed === "") return token === "" ? "∅" : "␣";
  return trimmed
    .replace(/\n/g, "⏎")
    .replace(/\t/g, "⇥")
    .replace(/ /g, "␣")
    .replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, "�");
}

/** The token exactly, as a string literal, for titles. */
export function tokenLiteral(token: string): string {
  return JSON.stringify(token);
}

export function logitToken(node: Node): string {
  const quoted = /"([\s\S]*)"/.exec(node.clerp);
  return quoted ? quoted[1]! : node.clerp || node.id;
}

export function placeText(graph: Graph, node: Node): string {
  if (node.position === null) return "all positions";
  return `‘${tokenText(graph.tokens[node.position] ?? "?")}’`;
}

export interface Name {
  text: string;
  /** Made by the page from the feature's data, since nobody has named it. */
  automatic: boolean;
}

export function nodeName(graph: Graph, node: Node, label: string | undefined, feature: FeatureRow | undefined): Name {
  const given = label || feature?.label;
  if (given) return { text: given, automatic: false };
  switch (node.kind) {
    case "embedding":
      return { text: tokenText(graph.tokens[node.position ?? 0] ?? "?"), automatic: false };
    case "logit":
      return { text: tokenText(logitToken(node)), automatic: false };
    case "error":
      return { text: `error at ${placeText(graph, node)}`, automatic: false };
    case "bias":
      return { text: node.clerp || `${node.id.split("_")[2] ?? ""} bias`.trim(), automatic: false };
    case "feature":
      if (node.clerp) return { text: node.clerp, automatic: false };
      return { text: automaticName(feature) ?? `feature ${node.key.split("_")[1] ?? node.key}`, automatic: true };
  }
}

/** ‹the token that most often fires it› → ‹the token that it raises most›. */
function automaticName(feature: FeatureRow | undefined): string | null {
  const examples = feature?.examples_quantiles?.[0]?.examples ?? [];
  const counts = new Map<string, number>();
  for (const example of examples) {
    const peak = peakToken(example.tokens, example.tokens_acts_list);
    if (peak) counts.set(peak, (counts.get(peak) ?? 0) + 1);
  }
  const fires = [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
  const raised = feature?.top_logits?.[0];
  const raises = raised === undefined ? undefined : Array.isArray(raised) ? raised[0] : raised;
  if (fires && raises) return `${tokenText(fires)} → ${tokenText(raises)}`;
  if (fires) return `on ‘${tokenText(fires)}’`;
  return raises ? `raises ‘${tokenText(raises)}’` : null;
}

function peakToken(tokens: string[], acts: number[]): string | undefined {
  let best = -1;
  for (let i = 0; i < acts.length; i++) if (acts[i]! > 0 && (best < 0 || acts[i]! > acts[best]!)) best = i;
  return tokens[best];
}

/** Where a node is: "layer 2 at ‘of’", for the line under its name. */
export function nodeWhere(graph: Graph, node: Node): string {
  switch (node.kind) {
    case "embedding":
      return `token ${node.position ?? ""}`;
    case "logit":
      return `output after ${placeText(graph, node)}`;
    default:
      return `layer ${node.layer} at ${placeText(graph, node)}`;
  }
}

export const KIND_WORD = {
  embedding: "token embedding",
  feature: "feature",
  error: "reconstruction error",
  bias: "bias",
  logit: "output",
} as const;

const MINUS = "−";

/** Three significant digits, a real minus sign. */
export function number(value: number | null | undefined, digits = 3): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text = size.toPrecision(digits);
  if (size >= 1e5 || size < 1e-3) text = size.toExponential(1).replace("e+", "e").replace("e-", `e${MINUS}`);
  else if (size >= 10 ** digits) text = String(Math.round(size));
  return (value < 0 ? MINUS : "") + text;
}

export function signed(value: number, digits = 3): string {
  return value > 0 ? `+${number(value, digits)}` : number(value, digits);
}

export function percent(value: number): string {
  const hundred = value * 100;
  if (hundred > 0 && hundred < 0.1) return "<0.1%";
  if (hundred > 99.9 && hundred < 100) return ">99.9%";
  return `${hundred < 10 && hundred % 1 ? hundred.toFixed(1) : Math.round(hundred)}%`;
}
