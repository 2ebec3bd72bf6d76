/** Claims and their verdicts, wherever a page shows them. */

import type { EstimateRow, EvidenceRow, Verdict } from "../core/files";
import { number } from "../core/names";
import { type Child, h, icon } from "./dom";
import { forest, type ForestRow } from "./forest";

export type ItemName = (item: string) => Child;
const plain: ItemName = (item) => item;

export const TONE: Record<Verdict, keyof typeof TONE_ICON> = {
  "distinguishable from null": "good",
  "not distinguishable from null": "bad",
  "beaten by a baseline": "bad",
  "no null was run": "open",
  undefined: "open",
};

/** In a word what the evidence as a whole says; a click opens it. */
export function summary(evidence: readonly EvidenceRow[]): { text: string; tone: "good" | "bad" | "open" } {
  const total = evidence.length;
  const count = (verdict: string) => evidence.filter((one) => one.verdict === verdict).length;
  if (!total) return { text: "no evidence", tone: "open" };
  const stand = count("distinguishable from null");
  const matched = count("not distinguishable from null") + count("beaten by a baseline");
  if (stand === total) return { text: total === 1 ? "distinguishable from null" : `all ${total} claims distinguishable from null`, tone: "good" };
  if (!stand && !matched) return { text: "no null was run", tone: "open" };
  return { text: `${stand} of ${total} claims distinguishable from null`, tone: matched ? "bad" : "open" };
}

export const TONE_ICON = { good: "check", bad: "wave", open: "minus" } as const;

/** One claim with its estimates, how it was made, what was not done. `name`: an item of the tail as the page calls it. */
export function claim(one: EvidenceRow, name: ItemName = plain): HTMLElement {
  const tone = TONE[one.verdict] ?? "open";
  return h(
    "article",
    { class: "claim", "aria-label": one.claim },
    h("h3", {}, one.claim),
    h("p", { class: `verdict ${tone}` }, icon(TONE_ICON[tone]), one.verdict_text || one.verdict),
    forest(rowsOf(one), one.claim),
    h("p", { class: "how" }, one.how),
    details(one, name),
  );
}

export function rowsOf(one: EvidenceRow): ForestRow[] {
  const row = (estimate: EstimateRow, role: ForestRow["role"]): ForestRow => ({ estimate, role });
  return [
    row(one.effect, "effect"),
    ...(one.second_data ? [row(one.second_data, "again")] : []),
    ...(one.paraphrase ? [row(one.paraphrase, "paraphrase")] : []),
    ...one.nulls.map((other) => ({ ...row(other.estimate, "null"), difference: other.difference })),
    ...one.baselines.map((other) => ({ ...row(other.estimate, "baseline"), difference: other.difference })),
  ];
}

function details(one: EvidenceRow, name: ItemName): HTMLElement {
  const { interval } = one.effect;
  const facts: [string, string][] = [["n", String(one.effect.n)]];
  if (interval) facts.push(["interval", `${Math.round(interval.level * 100)}%, ${interval.method}`]);
  if (one.seeds.length) facts.push([one.seeds.length > 1 ? "seeds" : "seed", one.seeds.join(", ")]);
  for (const [key, value] of Object.entries(one.settings))
    if (value !== null) facts.push([key.replace(/_/g, " "), typeof value === "number" ? (Number.isInteger(value) ? String(value) : number(value)) : typeof value === "string" ? value : said(value)]);
  const reasons = [...new Set(one.not_done.map((item) => item.why))];
  return h(
    "div",
    { class: "details" },
    h("p", { class: "facts-inline" }, ...facts.map(([word, value]) => h("span", {}, `${word} `, h("b", {}, value)))),
    one.not_done.length
      ? h("div", { class: "not-done" }, h("h4", {}, "Not done"), h("ul", {}, ...reasons.map((why) => h("li", {}, h("b", {}, one.not_done.filter((item) => item.why === why).map((item) => item.what).join(", ")), `: ${why}`))))
      : null,
    one.residual_tail.length ? tail(one, name) : null,
  );
}

/** A setting that is a list or a record of plain values, in words. */
function said(value: unknown): string {
  const plain = (one: unknown) => (typeof one === "number" ? (Number.isInteger(one) ? String(one) : number(one)) : typeof one === "string" ? one : JSON.stringify(one));
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (typeof value === "object" && value !== null) return Object.entries(value).map(([key, one]) => `${key.replace(/_/g, " ")} ${plain(one)}`).join(", ");
  return plain(value);
}

/** The items where the explanation fails, worst first. */
function tail(one: EvidenceRow, name: ItemName): HTMLElement {
  return h(
    "details",
    { class: "tail" },
    h("summary", {}, `Where it fails: the ${one.residual_tail.length} worst`),
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, h("th", {}, "item"), h("th", {}, "predicted"), h("th", {}, "measured"))),
      h(
        "tbody",
        {},
        ...one.residual_tail.map((row) => h("tr", {}, h("td", {}, name(row.item)), h("td", {}, number(row.predicted)), h("td", {}, number(row.measured)))),
      ),
    ),
  );
}
