/** How far to believe what the page shows: each claim beside its nulls and baselines. */

import type { App } from "../core/app";
import type { EstimateRow, EvidenceRow, Verdict } from "../core/files";
import { nodeWhere, number } from "../core/names";
import { h, icon } from "./dom";
import { forest, type ForestRow } from "./forest";
import { TONE_ICON } from "./header";
import { scatters } from "./scatter";

const TONE: Record<Verdict, keyof typeof TONE_ICON> = {
  "distinguishable from null": "good",
  "not distinguishable from null": "bad",
  "beaten by a baseline": "bad",
  "no null was run": "open",
  undefined: "open",
};

export function evidencePanel(app: App): HTMLElement {
  const { evidence, measurements } = app.trace.evidence;
  return h(
    "div",
    { class: "evidence-panel" },
    evidence.length ? null : h("p", { class: "note" }, "This trace carries no evidence: what it shows has not been measured. Run the trace again without --quick."),
    ...evidence.map((one) => claim(app, one)),
    ...scatters(app, measurements),
  );
}

function claim(app: App, one: EvidenceRow): HTMLElement {
  const tone = TONE[one.verdict] ?? "open";
  return h(
    "article",
    { class: "claim", "aria-label": one.claim },
    h("h3", {}, one.claim),
    h("p", { class: `verdict ${tone}` }, icon(TONE_ICON[tone]), one.verdict_text || one.verdict),
    forest(rowsOf(one), one.claim),
    h("p", { class: "how" }, one.how),
    details(app, one),
  );
}

function rowsOf(one: EvidenceRow): ForestRow[] {
  const row = (estimate: EstimateRow, role: ForestRow["role"]): ForestRow => ({ estimate, role });
  return [
    row(one.effect, "effect"),
    ...(one.second_data ? [row(one.second_data, "again")] : []),
    ...(one.paraphrase ? [row(one.paraphrase, "paraphrase")] : []),
    ...one.nulls.map((other) => ({ ...row(other.estimate, "null"), difference: other.difference })),
    ...one.baselines.map((other) => ({ ...row(other.estimate, "baseline"), difference: other.difference })),
  ];
}

function details(app: App, one: EvidenceRow): HTMLElement {
  const { interval } = one.effect;
  const facts: [string, string][] = [["n", String(one.effect.n)]];
  if (interval) facts.push(["interval", `${Math.round(interval.level * 100)}%, ${interval.method}`]);
  if (one.seeds.length) facts.push([one.seeds.length > 1 ? "seeds" : "seed", one.seeds.join(", ")]);
  for (const [key, value] of Object.entries(one.settings))
    if (value !== null) facts.push([key.replace(/_/g, " "), typeof value === "number" ? (Number.isInteger(value) ? String(value) : number(value)) : typeof value === "string" ? value : JSON.stringify(value)]);
  const reasons = [...new Set(one.not_done.map((item) => item.why))];
  return h(
    "div",
    { class: "details" },
    h("p", { class: "facts-inline" }, ...facts.map(([name, value]) => h("span", {}, `${name} `, h("b", {}, value)))),
    one.not_done.length
      ? h("div", { class: "not-done" }, h("h4", {}, "Not done"), h("ul", {}, ...reasons.map((why) => h("li", {}, h("b", {}, one.not_done.filter((item) => item.why === why).map((item) => item.what).join(", ")), `: ${why}`))))
      : null,
    one.residual_tail.length ? tail(app, one) : null,
  );
}

/** The items where the explanation fails, worst first. */
function tail(app: App, one: EvidenceRow): HTMLElement {
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
        ...one.residual_tail.map((row) => h("tr", {}, h("td", {}, itemName(app, row.item)), h("td", {}, number(row.predicted)), h("td", {}, number(row.measured)))),
      ),
    ),
  );
}

/** A node's id, an edge's two ids, or any other text. */
export function itemNodes(app: App, item: string) {
  const whole = app.graph.byId.get(item);
  if (whole) return [whole];
  return item
    .split(/\s*(?:->|→|>|\||,|\s)\s*/)
    .map((id) => app.graph.byId.get(id))
    .filter((node) => node !== undefined);
}

export function itemText(app: App, item: string): string {
  const nodes = itemNodes(app, item);
  if (!nodes.length) return item;
  return nodes.map((node) => app.name(node).text).join(" → ");
}

function itemName(app: App, item: string): HTMLElement {
  const nodes = itemNodes(app, item);
  const [first] = nodes;
  if (!first) return h("span", {}, item);
  return h("button", { type: "button", class: "link", title: nodes.map((node) => `${node.id}, ${nodeWhere(app.graph, node)}`).join("\n"), onclick: () => app.select(first) }, itemText(app, item));
}
