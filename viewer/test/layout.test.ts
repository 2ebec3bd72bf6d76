import { expect, test } from "vitest";
import { buildGraph, type Graph } from "../src/core/graph";
import { layoutGraph, PITCH } from "../src/core/layout";
import { node, smallFile } from "./small";

const measure = (text: string) => 7 * text.length;

function lay(graph: Graph, width = 800, height = 400) {
  const shown = new Uint8Array(graph.nodes.length).fill(1);
  return layoutGraph(graph, shown, { width, height }, measure, (position) => graph.tokens[position]!, (one) => one.clerp);
}

/** A graph with `count` features in each cell of a grid of tokens and layers. */
function crowd(tokens: number, layers: number, count: number): Graph {
  const file = smallFile();
  file.metadata.prompt_tokens = Array.from({ length: tokens }, (_, i) => ` token${i}`);
  file.links = [];
  file.nodes = [node(`${layers + 1}_1_${tokens - 1}`, "logit", String(layers + 1), tokens - 1, { token_prob: 1 })];
  for (let position = 0; position < tokens; position++) {
    file.nodes.push(node(`E_${position}_${position}`, "embedding", "E", position));
    for (let layer = 0; layer < layers; layer++)
      for (let i = 0; i < count; i++) file.nodes.push(node(`${layer}_${i}_${position}`, "feature", String(layer), position));
  }
  return buildGraph(file);
}

test("columns follow the prompt, rows the layers upwards", () => {
  const graph = buildGraph(smallFile());
  const at = lay(graph);
  const y = (id: string) => at.y[graph.byId.get(id)!.index]!;
  const x = (id: string) => at.x[graph.byId.get(id)!.index]!;
  expect(y("3_9_1")).toBeLessThan(y("1_8_1"));
  expect(y("1_8_1")).toBeLessThan(y("0_7_1"));
  expect(y("0_7_1")).toBeLessThan(y("E_5_0"));
  expect(x("B_1_mlp_*")).toBeLessThan(x("E_5_0"));
  expect(x("E_5_0")).toBeLessThan(x("E_6_1"));
});

test.each([[3, 2, 1], [15, 4, 9], [40, 12, 6]])("no two glyphs meet and none leaves its column (%i tokens, %i layers, %i a cell)", (tokens, layers, count) => {
  const graph = crowd(tokens, layers, count);
  const at = lay(graph);
  const glyphs = graph.nodes.filter((one) => one.kind !== "logit");
  for (const one of glyphs) {
    const column = at.columns.find((each) => each.position === one.position)!;
    expect(at.x[one.index]).toBeGreaterThan(column.x);
    expect(at.x[one.index]).toBeLessThan(column.x + column.width);
  }
  const apart = (a: number, b: number) => Math.hypot(at.x[a]! - at.x[b]!, at.y[a]! - at.y[b]!);
  let nearest = Infinity;
  for (const one of glyphs.slice(0, 60))
    for (const other of glyphs) if (other !== one) nearest = Math.min(nearest, apart(one.index, other.index));
  expect(nearest).toBeGreaterThan(0.75 * PITCH * at.scale);
});

test("columns are wide enough for their token's name", () => {
  const graph = crowd(12, 3, 2);
  for (const column of lay(graph, 300).columns) expect(column.width).toBeGreaterThanOrEqual(measure(column.label));
});

test("it fills the room it is given, and outputs stay inside it without meeting", () => {
  const graph = buildGraph(smallFile());
  const at = lay(graph, 900, 500);
  expect(at.width).toBeCloseTo(900);
  expect(at.height).toBeCloseTo(500);
  const [a, b] = graph.nodes.filter((one) => one.kind === "logit").map((one) => one.index) as [number, number];
  expect(Math.abs(at.x[a]! - at.x[b]!)).toBeGreaterThanOrEqual(at.half[a]! + at.half[b]!);
  expect(at.x[a]! + at.half[a]!).toBeLessThanOrEqual(900);
});

test("nodes that are not shown have no place", () => {
  const graph = buildGraph(smallFile());
  const shown = new Uint8Array(graph.nodes.length).fill(1);
  shown[2] = 0;
  const at = layoutGraph(graph, shown, { width: 500, height: 300 }, measure, () => "x", () => "y");
  expect(at.x[2]).toBeNaN();
});
