import { expect, test } from "vitest";
import { inWords, readEvidence } from "../src/core/evidence";
import { dict, fallback, list, Malformed, matrix, maybe, nullable, number, record, text } from "../src/core/shape";
import { Circuit, compare, headOf, keyOf, portOf } from "../src/pages/circuitfile";

const shape = record({ name: text, rows: list(record({ x: number, y: maybe })), more: fallback(list(text), []), far: nullable(dict(number)) });

test("what fits its shape is read, and nothing else of it", () => {
  const found = shape({ name: "a", rows: [{ x: 1, y: null, secret: 2 }], extra: 3 }, "");
  expect(found).toEqual({ name: "a", rows: [{ x: 1, y: null }], more: [], far: null });
});

test.each([
  [{ rows: [] }, "name"],
  [{ name: "a", rows: {} }, "rows should be a list"],
  [{ name: "a", rows: [{ x: 1 }, { x: "2" }] }, "rows[1].x should be a number"],
  [{ name: "a", rows: [], far: { k: "v" } }, "far.k"],
  [[], "the file should be an object"],
  [null, "the file"],
])("what does not names its field: %j", (value, words) => {
  expect(() => shape(value, "")).toThrowError(Malformed);
  expect(() => shape(value, "")).toThrowError(words);
});

test("a key of a stranger's file changes nothing else", () => {
  const found = dict(number)(JSON.parse('{"__proto__": 1, "constructor": 2}'), "");
  expect([...found]).toEqual([["__proto__", 1], ["constructor", 2]]);
  expect(() => record({ polluted: number })(JSON.parse('{"__proto__": {"polluted": 1}}'), "")).toThrowError(Malformed);
});

test("a matrix has the rows and columns said", () => {
  expect(matrix(2, 2)([[1, null], [3, 4]], "m")).toEqual([[1, null], [3, 4]]);
  for (const wrong of [[[1, 2]], [[1, 2], [3]], [[1, 2], [3, "4"]], 5]) expect(() => matrix(2, 2)(wrong, "m")).toThrowError("m");
});

test("one record of evidence or a list of them; undefined numbers stay undefined", () => {
  const one = { claim: "c", effect: { name: "e", value: null, interval: { low: null, high: 1, level: 0.95, method: "b" }, n: 3, unit: "" } };
  expect(readEvidence(one)).toHaveLength(1);
  expect(readEvidence([one, one])).toHaveLength(2);
  expect(readEvidence(undefined)).toEqual([]);
  expect(inWords(readEvidence(one)[0]!.effect)).toBe("undefined (n = 3)");
  expect(() => readEvidence([{ claim: "c", effect: 5 }])).toThrowError("evidence[0].effect");
});

/** input → a0.h0<q>, m0, logits; a0.h0 → m0, logits; m0 → logits, scored 3, −5, 1, 0.5, 2, −4. */
const body = {
  schema: "cutaway.circuit/1", choices: { by: "absolute" }, level: "edge", size: 2,
  sources: ["input", "a0.h0", "m0"], destinations: ["a0.h0<q>", "m0", "logits"], writes: [0, 2, 4], reads: [1, 3, 5], of_port: [0, 1, 2],
  scores: [[3, -5, 1], [null, 0.5, 2], [null, null, -4]],
  edges: [{ source: "input", destination: "m0", score: -5 }, { source: "m0", destination: "logits", score: -4 }],
  curve: { sizes: [1, 4, 6], absolute: [0, 0.6, 1], signed: [0, 0.5, 1] },
  audit: { edges: [[1, 2]], estimated: [2], measured: [2.5] },
  measured: [{ source: "input", destination: "m0", estimated: -5, exact: { name: "x", value: -6, interval: { low: -7, high: -5, level: 0.95, method: "" }, n: 4, unit: "" } }],
};

test("edges are taken by the size of their score, and the circuit's own are known", () => {
  const circuit = new Circuit(body);
  expect(circuit.ranked.map((edge) => edge.score)).toEqual([-5, -4, 3, 2, 1, 0.5]);
  expect(circuit.ranked.filter((edge) => edge.inside).map((edge) => edge.destination)).toEqual(["m0", "logits"]);
  const signed = new Circuit({ ...body, choices: { by: "signed" } });
  expect(signed.ranked[0]!.score).toBe(3);
});

test("faithfulness between two measured sizes lies between theirs; outside them it is not said", () => {
  const circuit = new Circuit(body);
  expect(circuit.faithfulness(4)).toEqual({ value: 0.6, between: null });
  const between = circuit.faithfulness(3)!;
  expect(between.between).toEqual([1, 4]);
  expect(between.value).toBeGreaterThan(0);
  expect(between.value).toBeLessThan(0.6);
  expect(circuit.faithfulness(7)).toBeNull();
});

test("exact effects come from the audit and from the edges measured", () => {
  const circuit = new Circuit(body);
  expect(circuit.exact.get(keyOf("a0.h0", "logits"))).toEqual({ value: 2.5 });
  expect(circuit.exact.get(keyOf("input", "m0"))).toEqual({ value: -6, low: -7, high: -5 });
});

test("a node reads below where it writes", () => {
  const { stage } = new Circuit(body);
  expect([...["input", "a0.h0", "m0", "logits"]].map((name) => stage.get(name))).toEqual([0, 1, 3, 5]);
});

test("a circuit of nodes has the edges among them alone", () => {
  const { scores: _, ...rest } = body;
  const circuit = new Circuit({ ...rest, level: "node", edges: [{ source: "input", destination: "a0.h0<q>", score: 1 }, { source: "input", destination: "m0", score: 1 }, { source: "m0", destination: "logits", score: 1 }] });
  expect(circuit.ranked.map((edge) => edge.destination)).toEqual(["m0", "logits"]);
});

test("a port of several spans has a destination for each, and reads when it does", () => {
  const circuit = new Circuit({ ...body, scores: undefined, destinations: ["a0.h0<q>@S2", "a0.h0<q>@rest", "logits"], reads: [2, 7], of_port: [[0, 1], 2], edges: [{ source: "input", destination: "a0.h0<q>@rest", score: 2 }, { source: "a0.h0", destination: "logits", score: 1 }] });
  expect(circuit.stage.get("a0.h0")).toBe(2);
  expect(circuit.stage.get("logits")).toBe(7);
  expect(circuit.ranked[0]).toMatchObject({ node: "a0.h0", port: "q", span: "rest" });
});

test("ports and heads by their names", () => {
  expect(portOf("a1.h0<k>")).toEqual({ node: "a1.h0", port: "k", span: "" });
  expect(portOf("logits")).toEqual({ node: "logits", port: "", span: "" });
  expect(portOf("a1.h0<k>@S2")).toEqual({ node: "a1.h0", port: "k", span: "S2" });
  expect(portOf("m0@rest")).toEqual({ node: "m0", port: "", span: "rest" });
  expect(headOf("a11.h3")).toBe("11.3");
  expect(headOf("m3")).toBeNull();
});

test("two circuits: what is shared, and what only one has", () => {
  const circuit = new Circuit(body);
  const found = compare(circuit.ranked.slice(0, 3), circuit.ranked.slice(1, 4));
  expect([found.shared.length, found.onlyA.length, found.onlyB.length]).toEqual([2, 1, 1]);
  expect(found.jaccard).toBe(0.5);
});

const node = { ...body, level: "node", count: 1, whole: 2, size: 2, curve: null, audit: null, measured: null, scores: [[3, 3, 3], [null, 0.5, 0.5], [null, null, -4]], edges: [{ source: "input", destination: "m0", score: 3 }, { source: "m0", destination: "logits", score: -4 }] };

test("a circuit of nodes counts its nodes beside the input, and one with spans those at each", () => {
  const circuit = new Circuit(node);
  expect([circuit.things, circuit.count]).toEqual(["nodes", 1]);
  expect(circuit.nodes).toEqual([{ name: "m0", score: -4, inside: true }, { name: "a0.h0", score: 0.5, inside: false }]);
  const { count: _, ...older } = node;
  expect(new Circuit(older).count).toBe(1);
  expect([new Circuit(body).things, new Circuit(body).count, new Circuit(body).nodes]).toEqual(["edges", 2, []]);
  const spanned = { ...node, spans: ["S2", "end"], destinations: ["m0@S2", "m0@end", "logits"], of_port: [[0, 1], [2, 2]], reads: [3, 5], edges: [{ source: "a0.h0", destination: "m0@S2", score: 0.5 }, { source: "m0", destination: "logits", score: -4 }], scores: [[3, 3, 3], [0.5, 2, 2], [null, null, -4]] };
  expect(new Circuit(spanned).nodes).toEqual([{ name: "m0@end", score: -4, inside: true }, { name: "a0.h0@end", score: 2, inside: false }, { name: "a0.h0@S2", score: 0.5, inside: true }]);
});

test.each([
  [{}, { name: "approximate effect", titled: "approximate effect, logits", unit: "logits" }],
  [{ score: "what the metric is estimated to lose when the edge is ablated" }, { name: "approximate effect", titled: "approximate effect, logits", unit: "logits" }],
  [{ score: "what the metric loses when the node is ablated" }, { name: "effect", titled: "effect, logits", unit: "logits" }],
  [{ score: "probability that the edge's gate is open after training" }, { name: "score", titled: "score", unit: "" }],
])("a score is called what its method says that it is: %j", (choices, said) => {
  expect(new Circuit({ ...body, choices: { by: "absolute", ...choices } }).scoreWord("logits")).toEqual(said);
});

test.each(["sources", "destinations", "writes", "edges", "scores"])("a circuit whose %s are damaged is refused by name", (key) => {
  expect(() => new Circuit({ ...body, [key]: [{ a: 1 }] })).toThrowError(key === "sources" ? "sources" : key);
});
