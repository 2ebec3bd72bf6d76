import { expect, test } from "vitest";
import { boardOf, tally } from "../src/core/board";

const names = [..."123"].flatMap((row) => [..."ab"].map((column) => column + row));

test("a board's edges carry what its squares' names are made of", () => {
  expect(boardOf(names, [3, 2])).toEqual({ rows: 3, columns: 2, rowNames: ["1", "2", "3"], columnNames: ["a", "b"] });
  expect(boardOf(["x", "y", "z", "w"], [2, 2])).toEqual({ rows: 2, columns: 2, rowNames: [], columnNames: [] });
});

test.each([null, [], [2, 2], [-3, -2], [1.5, 4]])("variables that no board holds lie in a row: %j", (shape) => {
  const board = boardOf(names, shape);
  expect([board.rows, board.columns]).toEqual([1, 6]);
  expect(board.columnNames).toEqual(names);
});

test("blank squares and squares that are not asked for do not count", () => {
  expect(tally([0, 1, 2, -1], [1, 1, 1, 0], 0)).toEqual({ asked: 2, right: 1, all: 3, allRight: 1 });
  expect(tally([0, 1, 2, -1], [0, 1, 1, 0], -1)).toEqual({ asked: 3, right: 2, all: 3, allRight: 2 });
});
