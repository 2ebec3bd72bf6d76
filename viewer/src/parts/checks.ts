/** Numbers beside what is known of them: theory or exact truth, and whether each holds. */

import type { EstimateRow } from "../core/files";
import { estimate } from "../core/evidence";
import { number as figure } from "../core/names";
import { anything, fallback, isObject, list, maybe, nullable, number, record, text, truth } from "../core/shape";
import { dataTable } from "./datatable";
import { h } from "./dom";

/** A row of an exam or a check of a toy. `estimate` is a number with `interval` beside it, or a whole estimate. */
export const checkRow = record({
  name: text,
  truth: anything,
  estimate: anything,
  interval: anything,
  n: nullable(number),
  tolerance: anything,
  passed: nullable(truth),
  rule: fallback(text, ""),
  why: fallback(text, ""),
  table: nullable(list(text)),
});
export const checkRows = list(checkRow);
export type CheckRow = ReturnType<typeof checkRow>;

const SIGN: Record<string, string> = { equal: "=", "at least": "≥", "at most": "≤" };

/** A row's estimate with its interval, whichever way it is written. */
export function estimateOf(row: CheckRow): EstimateRow {
  if (isObject(row.estimate)) return estimate(row.estimate, "estimate");
  const span = Array.isArray(row.interval) && row.interval.length === 2 ? { low: maybe(row.interval[0], "interval[0]"), high: maybe(row.interval[1], "interval[1]"), level: 0.95, method: "" } : null;
  return { name: row.name, value: typeof row.estimate === "number" ? row.estimate : null, interval: span, n: row.n ?? 0, unit: "", note: "" };
}

export function verdictOf(passed: boolean | null): HTMLElement {
  const [tone, word] = passed === null ? ["open", "reported"] : passed ? ["good", "passed"] : ["bad", "failed"];
  return h("span", { class: `verdict ${tone}` }, word!);
}

/** The checks as a table, those that fail first where there are any. */
export function checkTable(rows: readonly CheckRow[], caption: string): HTMLElement {
  const spoken = (value: unknown) => (typeof value === "number" ? figure(value, 4) : typeof value === "string" ? value : "");
  const ordered = [...rows.filter((row) => row.passed === false), ...rows.filter((row) => row.passed !== false)];
  const counts = ordered.some((row) => row.n);
  return dataTable(
    [
      { name: "verdict", value: (row) => (row.passed === null ? "reported" : row.passed ? "passed" : "failed"), draw: (row) => verdictOf(row.passed), words: true },
      { name: "what", value: (row) => row.name, draw: (row) => (row.why ? h("span", { title: row.why }, row.name) : row.name) },
      { name: "truth", title: "theory, or what is exactly known", value: (row) => spoken(row.truth), draw: (row) => `${row.truth === null || row.truth === undefined ? "–" : `${SIGN[row.rule] ? `${SIGN[row.rule]} ` : ""}${spoken(row.truth)}`}` },
      { name: "measured", value: (row) => estimateOf(row).value, draw: (row) => h("b", {}, written(estimateOf(row))) },
      { name: "interval", value: (row) => estimateOf(row).interval?.low ?? null, draw: (row) => interval(estimateOf(row)) },
      ...(counts ? [{ name: "n", value: (row: CheckRow) => estimateOf(row).n || null }] : []),
      { name: "allowed", title: "how far from the truth it may lie", value: (row) => (typeof row.tolerance === "number" ? row.tolerance : null), draw: (row) => (typeof row.tolerance === "number" ? `± ${figure(row.tolerance, 2)}` : "") },
    ],
    ordered,
    { caption },
  );
}

function written(one: EstimateRow): string {
  return one.value === null ? "undefined" : `${figure(one.value, 4)}${one.unit}`;
}

function interval(one: EstimateRow): string {
  return one.interval && one.interval.low !== null && one.interval.high !== null ? `[${figure(one.interval.low, 3)}, ${figure(one.interval.high, 3)}]` : "";
}

/** "5 of 6 checks passed, 2 reported". */
export function counted(rows: readonly CheckRow[]): string {
  const judged = rows.filter((row) => row.passed !== null);
  const told = rows.length - judged.length;
  const passed = judged.filter((row) => row.passed).length;
  const said = judged.length ? [`${passed} of ${judged.length} check${judged.length === 1 ? "" : "s"} passed`] : [];
  return [...said, ...(told ? [`${told} reported, not judged`] : [])].join(", ");
}
