import { expect, test } from "vitest";
import { buildGraph, sumCheck } from "../src/core/graph";
import { link, node, smallFile } from "./small";

const all = (length: number) => new Uint8Array(length).fill(1);

test("rows: tokens at the bottom, a row a layer, outputs on top, whichever layers the nodes are in", () => {
  const graph = buildGraph(smallFile());
  expect(graph.rowNames).toEqual(["tokens", "L0", "L1", "output"]);
  const row = (id: string) => graph.byId.get(id)!.row;
  expect([row("E_5_0"), row("0_7_1"), row("1_8_1"), row("3_9_1")]).toEqual([0, 1, 2, 3]);

  const file = smallFile();
  file.nodes = file.nodes.filter((one) => one.layer !== "1");
  expect(buildGraph(file).rows).toBe(4);
});

test("a bias of all positions has none; that of the final norm shares the last layer's row", () => {
  const file = smallFile();
  file.nodes.push(node("B_2_norm_*", "bias", "2", 1));
  const graph = buildGraph(file);
  expect(graph.byId.get("B_1_mlp_*")!.position).toBeNull();
  expect(graph.byId.get("B_2_norm_*")!.row).toBe(2);
});

test("the sum of a node's inputs, shown and hidden, and its remainder is its pre-activation", () => {
  const graph = buildGraph(smallFile());
  for (const one of graph.nodes.filter((each) => each.kind === "feature")) {
    const sum = sumCheck(graph, one, all(graph.source.length));
    expect(sum.total).toBeCloseTo(one.preActivation!, 12);
    expect(sum.error).toBeLessThan(1e-12);
    const none = sumCheck(graph, one, new Uint8Array(graph.source.length));
    expect(none.shown).toBe(0);
    expect(none.total).toBeCloseTo(sum.total, 12);
  }
  const off = sumCheck(graph, { ...graph.byId.get("1_8_1")!, preActivation: 2 }, all(graph.source.length));
  expect(off.error).toBeGreaterThan(0.1);
});

test("remainders written as nodes become their target's remainder and are no nodes of the page", () => {
  const file = smallFile();
  file.nodes.push(node("R_1_8_1", "remainder", "1", 1));
  file.links.push(link("R_1_8_1", "1_8_1", 0.25));
  const graph = buildGraph(file);
  expect(graph.byId.has("R_1_8_1")).toBe(false);
  expect(graph.byId.get("1_8_1")!.remainder).toBe(0.25);
});

test("a link's share is of the absolute input of its target; inputs come heaviest first", () => {
  const graph = buildGraph(smallFile());
  const into = graph.inputs[graph.byId.get("1_8_1")!.index]!;
  expect(into.map((i) => graph.weight[i])).toEqual([1.5, -1, 0.5]);
  expect(into.map((i) => graph.linkShare[i])).toEqual([0.5, 1 / 3, 0.5 / 3]);
});

test("links to nodes that are not there are dropped, not drawn to nowhere", () => {
  const file = smallFile();
  file.links.push(link("9_9_9", "1_8_1", 1));
  expect(buildGraph(file).source.length).toBe(8);
});

test("where a file gives cumulative influence alone, a node's own share is the step to it", () => {
  const file = smallFile();
  for (const row of file.nodes) delete row.influence_share;
  const graph = buildGraph({ ...file, nodes: file.nodes.filter((row) => ["feature", "error"].includes(row.kind!)) });
  const share = (id: string) => graph.byId.get(id)!.share;
  expect(share("0_7_1")).toBeCloseTo(0.3);
  expect(share("0_-1_1")).toBeCloseTo(0.3);
  expect(share("1_8_1")).toBeCloseTo(0.1);
});
