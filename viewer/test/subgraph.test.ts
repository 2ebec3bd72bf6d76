import { expect, test } from "vitest";
import { buildGraph } from "../src/core/graph";
import { exportSubgraph, layoutUnits, subgraphScores, suggest, unitEdges, unitsOf } from "../src/core/subgraph";
import { smallFile } from "./small";

const graph = buildGraph(smallFile());
const everything = graph.nodes.map((one) => one.id);
const size = () => ({ width: 120, height: 34 });

test("an edge between groups is the sum of the links between their nodes", () => {
  const groups = [
    { name: "tokens", ids: ["E_5_0", "E_6_1"] },
    { name: "outputs", ids: ["3_9_1", "3_4_1"] },
  ];
  const units = unitsOf(graph, ["0_7_1", "E_5_0"], groups);
  expect(units.map((one) => one.key)).toEqual(["g:E_5_0", "g:3_9_1", "0_7_1"]);
  const edges = unitEdges(graph, units);
  const weight = (source: string, target: string) => edges.find((one) => one.source.key === source && one.target.key === target)?.weight;
  expect(weight("g:E_5_0", "0_7_1")).toBe(1 + 2);
  expect(weight("0_7_1", "g:3_9_1")).toBe(1 - 2);
});

test("grouping moves weights about but makes and loses none", () => {
  const total = (groups: { name: string; ids: string[] }[]) => unitEdges(graph, unitsOf(graph, everything, groups)).reduce((sum, one) => sum + one.weight, 0);
  const links = graph.weight.reduce((a, b) => a + b, 0);
  expect(total([])).toBeCloseTo(links);
  expect(total([{ name: "g", ids: ["E_5_0", "0_-1_1"] }])).toBeCloseTo(links);
  // 0_7_1 -> 1_8_1 is inside the group and so no edge
  expect(total([{ name: "g", ids: ["0_7_1", "1_8_1"] }])).toBeCloseTo(links - 1.5);
});

test("shares are of all the input from outside, pinned or not", () => {
  const edges = unitEdges(graph, unitsOf(graph, ["0_7_1", "1_8_1"], []));
  expect(edges).toHaveLength(1);
  expect(edges[0]!.share).toBeCloseTo(1.5 / 3);
});

test("unknown ids and doubled ones are left out", () => {
  expect(unitsOf(graph, ["nowhere", "0_7_1", "0_7_1"], [{ name: "g", ids: ["gone"] }]).map((one) => one.key)).toEqual(["0_7_1"]);
});

test("a suggestion starts at the target and follows the strongest inputs, without errors and biases", () => {
  const ids = suggest(graph, 4);
  expect(ids.slice(0, 2)).toEqual(["3_9_1", "1_8_1"]);
  expect(ids).toContain("0_7_1");
  expect(suggest(graph, 99)).not.toContain("0_-1_1");
});

test("with everything pinned the subgraph's scores count errors and remainders alone as lost", () => {
  const scores = subgraphScores(graph, new Set(everything))!;
  // p(three) flows 3/4 to b, 1/4 to a; b's input is half a, a third error, a sixth bias; a's: 3 tokens to 0.5 remainder
  const b = 0.75 * 0.75;
  const a = 0.75 * 0.25 + 0.25 + b * 0.5;
  const lost = b / 3 + a * (0.5 / 3.5);
  expect(scores.replacement).toBeCloseTo((a * 3) / 3.5 / ((a * 3) / 3.5 + lost));
  expect(subgraphScores(graph, new Set(["0_7_1"]))).toBeNull();
});

test("scores fall as nodes are unpinned", () => {
  const whole = subgraphScores(graph, new Set(everything))!;
  const less = subgraphScores(graph, new Set(everything.filter((id) => id !== "0_7_1")))!;
  expect(less.replacement).toBeLessThan(whole.replacement);
  expect(less.completeness).toBeLessThan(whole.completeness);
});

test("boxes never meet, layers go upwards, nothing leaves the diagram", () => {
  const units = unitsOf(graph, everything, []);
  const diagram = layoutUnits(units, unitEdges(graph, units), { width: 300, height: 200 }, size);
  for (const [i, a] of diagram.placed.entries()) {
    expect(a.x).toBeGreaterThanOrEqual(0);
    expect(a.x + a.width).toBeLessThanOrEqual(diagram.width);
    expect(a.y + a.height).toBeLessThanOrEqual(diagram.height);
    for (const b of diagram.placed.slice(i + 1)) {
      const apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
      expect(apart).toBe(true);
    }
  }
  for (const edge of unitEdges(graph, units)) {
    const y = (key: string) => diagram.placed.find((one) => one.unit.key === key)!.y;
    expect(y(edge.target.key)).toBeLessThanOrEqual(y(edge.source.key));
  }
});

test("the export names nodes, keeps sums and carries the reference viewer's own parameters", () => {
  const groups = [{ name: "both", ids: ["0_7_1", "1_8_1"] }];
  const file = exportSubgraph(graph, ["3_9_1"], groups, (one) => `name of ${one.id}`, { model: "m" }) as Record<string, any>;
  expect(file.schema).toBe("cutaway.subgraph/1");
  expect(file.model).toBe("m");
  expect(file.edges).toEqual([{ source: "g:0_7_1", target: "3_9_1", weight: 4, links: 2 }]);
  expect(file.qParams.supernodes).toEqual([["both", "0_7_1", "1_8_1"]]);
  expect(JSON.parse(JSON.stringify(file))).toEqual(file);
});
