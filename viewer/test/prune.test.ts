import { expect, test } from "vitest";
import { buildGraph } from "../src/core/graph";
import { prune, startingThresholds } from "../src/core/prune";
import { link, node, smallFile } from "./small";

const graph = buildGraph(smallFile());
const wide = { node: 1, edge: 1, errors: true, biases: true };
const ids = (shown: { node: Uint8Array }) => graph.nodes.filter((one) => shown.node[one.index]).map((one) => one.id);

test("everything passes at 1", () => {
  const shown = prune(graph, wide);
  expect(shown.nodes).toBe(graph.nodes.length);
  expect(shown.links).toBe(graph.source.length);
});

test("tokens and outputs stay at 0; a bias left without links goes", () => {
  expect(ids(prune(graph, { ...wide, node: 0, edge: 0 }))).toEqual(["E_5_0", "E_6_1", "3_9_1", "3_4_1"]);
});

test("counts fall as thresholds do", () => {
  let before = { nodes: Infinity, links: Infinity };
  for (const level of [1, 0.8, 0.6, 0.4, 0.2, 0]) {
    const shown = prune(graph, { ...wide, node: level, edge: level });
    expect(shown.nodes).toBeLessThanOrEqual(before.nodes);
    expect(shown.links).toBeLessThanOrEqual(before.links);
    before = shown;
  }
});

test("every shown link joins shown nodes, and every shown feature has an input and an output", () => {
  for (const node of [0.3, 0.65, 1])
    for (const edge of [0.2, 0.5, 0.9]) {
      const shown = prune(graph, { ...wide, node, edge });
      const [into, out] = [new Set<number>(), new Set<number>()];
      for (let i = 0; i < graph.source.length; i++) {
        if (!shown.link[i]) continue;
        expect(shown.node[graph.source[i]!]).toBe(1);
        expect(shown.node[graph.target[i]!]).toBe(1);
        out.add(graph.source[i]!);
        into.add(graph.target[i]!);
      }
      for (const one of graph.nodes)
        if (shown.node[one.index] && one.kind === "feature") expect(into.has(one.index) && out.has(one.index)).toBe(true);
    }
});

test("dropping a feature drops what led only to it", () => {
  const shown = prune(graph, { ...wide, edge: 0.35 });
  expect(ids(shown)).not.toContain("1_8_1");
  expect(ids(shown)).not.toContain("0_7_1");
});

test("switched-off kinds go, pinned nodes stay", () => {
  const shown = prune(graph, { ...wide, errors: false, biases: false });
  expect(ids(shown)).not.toContain("0_-1_1");
  expect(ids(shown)).not.toContain("B_1_mlp_*");
  expect(ids(prune(graph, { node: 0, edge: 0, errors: false, biases: false }, new Set(["0_-1_1", "1_8_1"])))).toEqual(
    expect.arrayContaining(["0_-1_1", "1_8_1"]),
  );
});

test("a page starts at the papers' thresholds, or lower where that would be too much to look at", () => {
  expect(startingThresholds(graph)).toEqual({ node: 0.8, edge: 0.98 });
  const file = smallFile();
  const ids = Array.from({ length: 600 }, (_, i) => `0_${i + 100}_1`);
  file.nodes.push(...ids.map((id, i) => node(id, "feature", "0", 1, { influence: (i + 1) / 600 })));
  file.links.push(...ids.flatMap((id, i) => [link("E_5_0", id, 1, i / 600), link(id, "3_9_1", 1, i / 600)]));
  const crowd = buildGraph(file);
  const start = startingThresholds(crowd);
  const shown = prune(crowd, { ...start, errors: true, biases: true });
  expect(start.node).toBeLessThan(0.8);
  expect(shown.nodes).toBeLessThan(160);
  expect(shown.nodes).toBeGreaterThan(100);
});
