/** A local learning coefficient: the estimate, its chains one by one, and what was checked before believing it. */

import { estimate, inWords, readEvidence } from "../core/evidence";
import { number as figure } from "../core/names";
import { anything, dict, fallback, list, maybe, number, record, text, truth } from "../core/shape";
import { chart } from "../parts/chart";
import { verdictOf } from "../parts/checks";
import { dataTable } from "../parts/datatable";
import { h } from "../parts/dom";
import { type Context, type Page, section } from "./context";

const shape = record({
  estimate, believed: truth, refused: fallback(list(text), []), per_chain: fallback(list(maybe), []), setting: fallback(dict(anything), new Map<string, unknown>()), n: fallback(number, 0), d: fallback(number, 0),
  loss: maybe, distance: maybe, acceptance: maybe, r_hat: maybe, ess: maybe, gradients: maybe, seconds: maybe,
  checks: fallback(list(record({ name: text, value: maybe, allowed: fallback(text, ""), passed: truth })), []),
  sweep: fallback(list(dict(maybe)), []),
});

export function llcPage({ result }: Context): Page {
  const file = shape(result.body, "");
  const names = new Map(file.per_chain.map((_, i) => [i, `chain ${i + 1}`]));
  const keys = [...new Set(file.sweep.flatMap((row) => [...row.keys()]))];
  return {
    finding: `Local learning coefficient ${inWords(file.estimate)}; a regular model of ${file.d.toLocaleString("en")} weights has ${figure(file.d / 2)}`,
    evidence: readEvidence(result.body.evidence),
    facts: [["believed", file.believed ? "yes" : "no"], ["items", file.n.toLocaleString("en")], ["sampler", String(file.setting.get("sampler") ?? "?")], ["gradients", file.gradients === null ? "?" : file.gradients.toLocaleString("en")]],
    sections: [
      file.refused.length ? h("p", { class: "refused", role: "alert" }, h("b", {}, "Not to be believed: "), file.refused.join("; ")) : null,
      file.per_chain.length
        ? section("Chain by chain", "chains that disagree have not seen the same basin; the dashed line is their mean", chart({ label: "Estimate of each chain", xTitle: "chain", yTitle: "estimate", names, zero: false, series: [{ name: "one chain", tone: "up", loose: true, spots: file.per_chain.map((y, x) => ({ x, y })) }, { name: "the estimate", tone: "faint", dashed: true, spots: file.per_chain.map((_, x) => ({ x, y: file.estimate.value })) }] }).element)
        : null,
      section("What was checked", "", file.checks.length ? dataTable([{ name: "verdict", value: (row) => (row.passed ? "passed" : "failed"), draw: (row) => verdictOf(row.passed), words: true }, { name: "check", value: (row) => row.name }, { name: "value", value: (row) => row.value }, { name: "allowed", value: (row) => row.allowed }], file.checks, { caption: "Checks" }) : h("p", { class: "note" }, "One setting, nothing varied: `calibrated_llc` varies it."), h("div", { class: "choices" }, ...[["L(w*)", file.loss], ["|w − w*|", file.distance], ["acceptance", file.acceptance], ["R-hat", file.r_hat], ["ESS", file.ess]].map(([name, value]) => h("span", {}, `${name as string} `, h("b", {}, figure(value as number | null)))))),
      keys.length ? section("Other settings", "the estimate should not move with them", dataTable(keys.map((key) => ({ name: key.replace(/_/g, " "), value: (row: ReadonlyMap<string, number | null>) => row.get(key) ?? null })), file.sweep, { caption: "Sweep of settings" })) : null,
    ],
  };
}
