/** An effect, its nulls and its baselines as dots with intervals on one axis. */

import type { EstimateRow, IntervalRow } from "../core/files";
import { number } from "../core/names";
import { extent, scale, ticks, tickText } from "../core/stats";
import { h } from "./dom";

export interface ForestRow {
  estimate: EstimateRow;
  /** "part": one of several of a kind, without a word for its role. */
  role: "effect" | "part" | "again" | "paraphrase" | "null" | "baseline";
  difference?: IntervalRow | null;
}

const ROLE_WORD = { effect: "effect", part: "", again: "repeated", paraphrase: "paraphrased", null: "null", baseline: "baseline" };

export function forest(rows: ForestRow[], claim: string): HTMLElement {
  const numbers = rows.flatMap(({ estimate }) => [estimate.value, estimate.interval?.low, estimate.interval?.high]);
  const drawn = numbers.some((value) => typeof value === "number");
  const [low, high] = range(numbers, rows[0]?.estimate.unit.trim() ?? "");
  const at = scale(low, high, 0, 100);
  const marks = drawn ? ticks(low, high, 4) : [];
  return h(
    "div",
    { class: "forest", role: "table", "aria-label": `Estimates: ${claim}` },
    ...rows.map((row) => line(row, at, marks)),
    drawn
      ? h("div", { class: "forest-axis", "aria-hidden": "true" }, h("span"), h("div", { class: "field" }, ...marks.map((value) => placed(h("span", {}, tickText(value, marks)), at(value)))), h("small", {}, rows[0]?.estimate.unit.trim() ?? ""))
      : null,
  );
}

/** A correlation or a share is shown on its own scale, from 0 (or what lies below) to 1, where it would be seen there. */
function range(numbers: (number | null | undefined)[], unit: string): [number, number] {
  const [least, most] = extent(numbers);
  if (!unit && least >= -1 && most <= 1 && most > 0.2) return [least < 0 ? Math.max(-1, Math.floor(least * 5) / 5) : 0, 1];
  const [low, high] = extent([...numbers, 0], 0.04);
  return [low, high];
}

function line(row: ForestRow, at: (value: number) => number, marks: number[]): HTMLElement {
  const { estimate, role } = row;
  const { value, interval } = estimate;
  const field = h("div", { class: "field", role: "cell", "aria-hidden": "true" }, ...marks.map((mark) => placed(h("i", { class: mark === 0 ? "tick zero" : "tick" }), at(mark))));
  if (interval && interval.low !== null && interval.high !== null) {
    const bar = placed(h("i", { class: "interval" }), at(interval.low));
    bar.style.width = `${at(interval.high) - at(interval.low)}%`;
    field.append(bar);
  }
  if (value !== null) field.append(placed(h("i", { class: "dot" }), at(value)));
  const span = interval ? `[${number(interval.low, 2)}, ${number(interval.high, 2)}]` : "";
  const difference = row.difference ? `\nthe effect is above it by ${number(row.difference.low, 2)} to ${number(row.difference.high, 2)} (${row.difference.method})` : "";
  const title = `${ROLE_WORD[role] ? `${ROLE_WORD[role]}: ` : ""}${estimate.name}\n${value === null ? "undefined" : `${number(value)}${estimate.unit}`} ${span}, n = ${estimate.n}${estimate.note ? `\n${estimate.note}` : ""}${difference}`;
  return h(
    "div",
    { class: `forest-row ${role}`, role: "row", title },
    h("span", { class: "name", role: "rowheader" }, ROLE_WORD[role] ? h("small", {}, ROLE_WORD[role]) : null, estimate.name),
    field,
    h("span", { class: "value", role: "cell" }, h("b", {}, value === null ? "–" : number(value, 2)), h("small", {}, `n ${estimate.n}`)),
  );
}

function placed<E extends HTMLElement>(element: E, percent: number): E {
  element.style.left = `${percent}%`;
  return element;
}
