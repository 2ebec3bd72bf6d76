/** The evidence of any result, read as a stranger's: what a record lacks is left out, what is no record is refused. */

import type { EstimateRow, EvidenceRow, Verdict } from "./files";
import { number as figure } from "./names";
import { anything, dict, fallback, isObject, list, maybe, nullable, number, type Read, record, text } from "./shape";

const interval = record({ low: maybe, high: maybe, level: fallback(number, 0.95), method: fallback(text, "") });
export const estimate: Read<EstimateRow> = record({ name: fallback(text, ""), value: maybe, interval: nullable(interval), n: fallback(number, 0), unit: fallback(text, ""), note: fallback(text, "") });
const comparison = record({ estimate, difference: nullable(interval) });
const one = record({
  claim: fallback(text, ""),
  effect: estimate,
  nulls: fallback(list(comparison), []),
  baselines: fallback(list(comparison), []),
  seeds: fallback(list(number), []),
  how: fallback(text, ""),
  settings: fallback(dict(anything), new Map()),
  second_data: nullable(estimate),
  paraphrase: nullable(estimate),
  residual_tail: fallback(list(record({ item: text, predicted: maybe, measured: maybe })), []),
  not_done: fallback(list(record({ what: text, why: text })), []),
  verdict: fallback(text, "no null was run"),
  verdict_text: fallback(text, ""),
});

/** `evidence` of a result: one record or a list of them. */
export function readEvidence(value: unknown): EvidenceRow[] {
  if (value === null || value === undefined) return [];
  const given = Array.isArray(value) ? value : [value];
  return given.map((item, i) => {
    const found = one(item, `evidence[${i}]`);
    const verdict = (found.verdict || "no null was run") as Verdict;
    return { ...found, verdict, settings: Object.fromEntries([...found.settings].filter(([key]) => key !== "__proto__")) };
  });
}

export function looksLikeEstimate(value: unknown): boolean {
  return isObject(value) && "value" in value && ("interval" in value || "n" in value) && (value.value === null || typeof value.value === "number");
}

/** "0.98 [0.967, 0.989] (n = 32)". */
export function inWords(row: EstimateRow): string {
  if (row.value === null) return `undefined (n = ${row.n})`;
  const span = row.interval && row.interval.low !== null && row.interval.high !== null ? ` [${figure(row.interval.low)}, ${figure(row.interval.high)}]` : "";
  return `${figure(row.value)}${row.unit}${span}${row.n ? ` (n = ${row.n})` : ""}`;
}
