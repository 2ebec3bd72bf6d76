import { expect, test } from "vitest";
import { decodeState, DEFAULTS, encodeState, type State, Store } from "../src/core/state";

const full: State = {
  ...DEFAULTS,
  trace: "a trace/with spaces",
  selected: "1_22_3",
  pinned: ["1_22_3", "E_5_0", "B_1_mlp_*", "0_-1_4"],
  groups: [
    { name: "say ~ a, capital & more =#?% é 日本 </script>", ids: ["1_22_3", "0_-1_4"] },
    { name: "", ids: ["2_2_2"] },
  ],
  moved: { "g:1_22_3": [12, 340], E_5_0: [0, 7] },
  node: 0.655,
  edge: 0.5,
  errors: false,
  biases: false,
  theme: "dark",
  tab: "evidence",
};

test("what is written is read back", () => {
  expect(decodeState(encodeState(full))).toEqual(full);
});

test("the default state is an empty hash, and the other way round", () => {
  expect(encodeState(DEFAULTS)).toBe("");
  expect(decodeState("")).toEqual(DEFAULTS);
});

test("no pins chosen and no pins left are told apart", () => {
  expect(decodeState(encodeState({ ...DEFAULTS, pinned: [] })).pinned).toEqual([]);
  expect(decodeState(encodeState(DEFAULTS)).pinned).toBeNull();
});

test("the hash survives the browser's own parser", () => {
  const url = new URL(`file:///a.html${encodeState(full)}`);
  expect(decodeState(url.hash)).toEqual(full);
});

test.each(["#node=abc&edge=", "#pin=%E0%A4%A", "#&&&===", "#g=~~,~", "#xy=a~b~c,d", "#node=7&edge=-1", "#__proto__=1&tab=constructor&theme=<x>"])(
  "anyone's text is read without harm: %s",
  (hash) => {
    const state = decodeState(hash);
    for (const value of [state.node, state.edge])
      expect(value === null || (value >= 0 && value <= 1)).toBe(true);
    expect(state.groups).toEqual([]);
    expect(["auto", "light", "dark"]).toContain(state.theme);
    expect(["node", "evidence"]).toContain(state.tab);
  },
);

test("a node is in one group at most", () => {
  const state = decodeState("#g=a~1_1_1~2_2_2,b~2_2_2~3_3_3");
  expect(state.groups).toEqual([
    { name: "a", ids: ["1_1_1", "2_2_2"] },
    { name: "b", ids: ["3_3_3"] },
  ]);
});

test("the store tells what changed, and nothing when nothing did", () => {
  const store = new Store({ ...DEFAULTS });
  const told: string[][] = [];
  store.listen((_, changed) => told.push([...changed]));
  store.set({ node: 0.5, edge: null });
  store.set({ node: 0.5 });
  expect(told).toEqual([["node"]]);
});
