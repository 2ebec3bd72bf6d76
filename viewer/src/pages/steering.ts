/** Steering: how the target moves with the dose, and what else moves. */

import { estimate, inWords, readEvidence } from "../core/evidence";
import { number as figure, signed } from "../core/names";
import { fallback, list, maybe, nullable, number, record, text } from "../core/shape";
import { chart } from "../parts/chart";
import { dataTable } from "../parts/datatable";
import { h } from "../parts/dom";
import { type Context, type Page, section } from "./context";
import { spotOf } from "./probe";

const shape = record({
  model: fallback(text, ""), contrast: fallback(text, ""), strength: number, budget: maybe,
  steering: nullable(record({ kind: fallback(text, ""), at: fallback(text, "") })),
  unsteered: nullable(record({ log_odds: nullable(estimate), perplexity: maybe })),
  ceiling: nullable(estimate),
  doses: list(record({ strength: number, effect: nullable(estimate), kl: nullable(estimate), perplexity: maybe })),
  tried: fallback(list(record({ at: text, strength: number, effect: maybe, kl: maybe })), []),
  random: nullable(record({ effects: fallback(list(maybe), []), p: maybe })),
  samples: fallback(list(record({ prompt: text, unsteered: text, steered: text })), []),
});

export function steeringPage({ result }: Context): Page {
  const file = shape(result.body, "");
  const { doses, random } = file;
  const log = doses.length > 2 && doses.every((dose) => dose.strength > 0);
  const effects = (random?.effects ?? []).filter((x): x is number => x !== null).sort((a, b) => a - b);
  const quantile = (q: number) => effects[Math.round(q * (effects.length - 1))] ?? null;
  const side = doses.some((dose) => dose.kl);
  return {
    evidence: readEvidence(result.body.evidence),
    facts: [["model", file.model], ["steering", `${file.steering?.kind ?? ""} at ${file.steering?.at ?? "?"}, strength ${figure(file.strength)}`], ["target", file.contrast.slice(0, 90)], ...(random && random.p !== null ? [["random directions", `${effects.length}, p = ${figure(random.p)}`] as [string, string]] : [])],
    sections: [
      section(
        "Dose and response",
        "change of the target’s log-odds on prompts that nothing was chosen on, with 95 % intervals",
        chart({
          label: "Effect by strength", xTitle: "strength", yTitle: "change of log-odds, nats", log,
          series: [
            { name: "steered", tone: "up", spots: doses.map((dose) => spotOf(dose.strength, dose.effect)) },
            ...(effects.length ? [{ name: `random directions of equal norm (median, all ${effects.length})`, tone: "faint" as const, loose: true, spots: [{ x: file.strength, y: quantile(0.5), low: effects[0]!, high: effects.at(-1)! }] }] : []),
          ],
          marks: [{ x: file.strength, label: "the strength chosen" }],
          at: file.strength,
        }).element,
      ),
      side
        ? section(
            "What else moves",
            `KL a token on neutral text${file.budget === null ? "" : `; at most ${figure(file.budget)} nats were allowed`}`,
            chart({ label: "KL elsewhere by strength", xTitle: "strength", yTitle: "KL, nats a token", log, height: 190, series: [{ name: "KL on neutral text", tone: "down", spots: doses.map((dose) => spotOf(dose.strength, dose.kl)) }], marks: [{ x: file.strength, label: "the strength chosen" }], at: file.strength }).element,
          )
        : null,
      file.samples.length ? section("Continuations", "the same prompt, unsteered and steered", h("div", { class: "samples" }, ...file.samples.map((one) => h("div", {}, h("p", { class: "prose" }, one.prompt), h("div", { class: "two" }, h("p", { class: "prose" }, h("small", {}, "unsteered "), one.unsteered), h("p", { class: "prose steered" }, h("small", {}, "steered "), one.steered)))))) : null,
      section(
        "Numbers",
        [file.unsteered?.log_odds ? `unsteered log-odds ${inWords(file.unsteered.log_odds)}` : "", file.unsteered?.perplexity ? `unsteered perplexity ${figure(file.unsteered.perplexity)}` : "", file.ceiling ? `${file.ceiling.name} ${inWords(file.ceiling)}` : ""].filter(Boolean).join("; "),
        dataTable([{ name: "strength", value: (row) => row.strength }, { name: "effect", value: (row) => row.effect?.value ?? null, draw: (row) => (row.effect ? inWords(row.effect) : "–") }, { name: "KL elsewhere", value: (row) => row.kl?.value ?? null, draw: (row) => (row.kl ? inWords(row.kl) : "–") }, { name: "perplexity", value: (row) => row.perplexity }], doses, { caption: "Doses" }),
        file.tried.length ? h("details", {}, h("summary", {}, `Tried for the choice: ${file.tried.length} places and strengths`), dataTable([{ name: "at", value: (row) => row.at }, { name: "strength", value: (row) => row.strength }, { name: "effect", value: (row) => row.effect, draw: (row) => signed(row.effect ?? NaN) }, { name: "KL", value: (row) => row.kl }], file.tried, { caption: "Tried on the choosing half" })) : null,
      ),
    ],
  };
}
