import { expect, test } from "vitest";
import { buildGraph } from "../src/core/graph";
import { nodeName, number, percent, signed, tokenText } from "../src/core/names";
import { extent, scale, spearman, ticks, tickText } from "../src/core/stats";
import { node, smallFile } from "./small";

test("tokens are read without their leading space, and what cannot be seen is made visible", () => {
  expect(tokenText(" Dallas")).toBe("Dallas");
  expect(tokenText(" ")).toBe("␣");
  expect(tokenText("\n")).toBe("⏎");
  expect(tokenText("a\u202eb\u0000")).toBe("a�b�");
  expect(tokenText("")).toBe("∅");
});

test("a name is the user's, else the file's, else made from what the feature does and marked as such", () => {
  const graph = buildGraph(smallFile());
  const one = graph.byId.get("0_7_1")!;
  const feature = {
    examples_quantiles: [{ quantile_name: "Top", examples: [{ tokens: [" a", " two"], tokens_acts_list: [0, 3] }] }],
    top_logits: [[" three", 1.5]] as [string, number][],
  };
  expect(nodeName(graph, one, "mine", { ...feature, label: "file's" })).toEqual({ text: "mine", automatic: false });
  expect(nodeName(graph, one, undefined, { ...feature, label: "file's" })).toEqual({ text: "file's", automatic: false });
  expect(nodeName(graph, one, undefined, feature)).toEqual({ text: "two → three", automatic: true });
  expect(nodeName(graph, one, undefined, undefined)).toEqual({ text: "feature 7", automatic: true });
  expect(nodeName(graph, graph.byId.get("3_9_1")!, undefined, undefined).text).toBe("three");
});

test("an output's token may hold quotes", () => {
  const file = smallFile();
  file.nodes.push(node("3_1_1", "logit", "3", 1, { clerp: 'Output " say "hi"" (p=0.1)' }));
  const graph = buildGraph(file);
  expect(nodeName(graph, graph.byId.get("3_1_1")!, undefined, undefined).text).toBe('say␣"hi"');
});

test("numbers keep three digits and a true minus", () => {
  expect([0, 1.23456, -0.01234, 12345.6, 1e-7, -2e9, NaN, null].map((value) => number(value))).toEqual(["0", "1.23", "−0.0123", "12346", "1.0e−7", "−2.0e9", "–", "–"]);
  expect(signed(2)).toBe("+2.00");
  expect([percent(0.5), percent(0.0123), percent(0.00001), percent(1), percent(0.99999)]).toEqual(["50%", "1.2%", "<0.1%", "100%", ">99.9%"]);
});

test("Spearman's correlation: monotone is 1, reversed is -1, ties take mid-ranks", () => {
  expect(spearman([1, 2, 3, 9], [2, 4, 8, 1000])).toBeCloseTo(1);
  expect(spearman([1, 2, 3], [3, 2, 1])).toBeCloseTo(-1);
  // by hand: ranks x 0.5 0.5 2 3, y 0 1 2 3
  expect(spearman([1, 1, 2, 3], [1, 2, 3, 4])).toBeCloseTo(4.5 / Math.sqrt(4.5 * 5));
  expect(spearman([1, 2], [1, 2])).toBeNaN();
  expect(spearman([1, 1, 1], [1, 2, 3])).toBeNaN();
});

test("ticks lie inside, evenly, and are written with the digits that their step needs", () => {
  expect(ticks(0, 1, 4)).toEqual([0, 0.25, 0.5, 0.75, 1]);
  expect(ticks(0, 1, 4).map((value, _, every) => tickText(value, every))).toEqual(["0.00", "0.25", "0.50", "0.75", "1.00"]);
  expect(ticks(-2, 2, 4).map((value, _, every) => tickText(value, every))).toEqual(["−2", "−1", "0", "1", "2"]);
  for (const [low, high] of [[-3.3, 17], [1e-6, 2e-6], [-1, -0.5]] as const)
    for (const value of ticks(low, high)) expect(value >= low - 1e-9 && value <= high + 1e-9).toBe(true);
});

test("extents leave out what is no number", () => {
  expect(extent([3, null, NaN, -1, undefined])).toEqual([-1, 3]);
  expect(extent([])).toEqual([0, 1]);
  expect(scale(0, 10, 100, 200)(5)).toBe(150);
});
