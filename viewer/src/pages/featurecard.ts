/** One feature of a dictionary, for somebody who has never seen one: when it fires, what it does, what is near it. */

import type { FeatureRow } from "../core/files";
import { number as figure, percent, signed, tokenText } from "../core/names";
import { anything, dict, fallback, list, maybe, number, record, text } from "../core/shape";
import { dataTable } from "../parts/datatable";
import { type Child, h } from "../parts/dom";
import { examples, histogram, logitTable } from "../parts/feature";
import { forest } from "../parts/forest";
import { type Context, type Page, section } from "./context";

const weighed = fallback(list(record({ token: text, value: number })), []);
const shape = record({
  about: fallback(dict(anything), new Map<string, unknown>()), feature: number, label: fallback(text, ""),
  token_auroc: maybe, pair_auroc: maybe, rule_tokens: fallback(list(text), []), rule_p: fallback(list(maybe), []),
  frequency: maybe, fired: maybe, maximum: maybe, span: maybe, histogram: fallback(list(number), []), logit_histogram: fallback(list(number), []), logit_edges: fallback(list(number), []),
  top_logits: weighed, bottom_logits: weighed, lost: weighed, clamp_raised: weighed,
  nearest: fallback(list(number), []), nearest_cosine: fallback(list(maybe), []), nearest_by_chance: maybe,
  seed_partner: maybe, seed_cosine: maybe, seed_by_chance: maybe, parent: maybe, parent_cosine: maybe, children: fallback(list(anything), []), neuron: maybe, neuron_correlation: maybe, neuron_point: fallback(text, ""),
  effect: maybe, effect_random: maybe, clamp_effect: maybe,
  examples: fallback(list(record({ band: fallback(text, ""), tokens: list(text), activations: list(number) })), []),
});

export function featureCardPage({ result }: Context): Page {
  return featureCard(result.body, "");
}

/** `go`: to the card of another feature, where there are several. */
export function featureCard(body: unknown, at: string, go?: (feature: number) => void): Page {
  const f = shape(body, at);
  const about = (key: string) => String(f.about.get(key) ?? "");
  const bands = [...new Set(f.examples.map((one) => one.band))];
  const row: FeatureRow = {
    histogram: f.histogram, act_min: 0, act_max: f.maximum ?? 1,
    top_logits: f.top_logits.map((one): [string, number] => [one.token, one.value]),
    bottom_logits: f.bottom_logits.map((one): [string, number] => [one.token, one.value]),
    // Tokens of a card have no blanks of their own.
    examples_quantiles: bands.map((band) => ({ quantile_name: band, examples: f.examples.filter((one) => one.band === band).map((one) => ({ tokens: one.tokens.map((token, i) => (i && !/^[.,?!:;)\]}]/.test(token) ? ` ${token}` : token)), tokens_acts_list: one.activations })) })),
  };
  const estimateOf = (name: string, value: number | null, unit = " nats") => ({ name, value, interval: null, n: 1, unit, note: "" });
  return {
    finding: f.label ? `Feature ${f.feature} fires ${f.label}` : `Feature ${f.feature}`,
    measured: [
      ...(f.effect !== null ? [h("span", {}, h("b", {}, `${figure(f.effect)} nats`), " change of the output when it is taken out where it is strongest")] : []),
      ...(f.effect_random !== null ? [h("span", {}, "null ", h("b", {}, `${figure(f.effect_random)} nats`), " a random direction of the same length")] : []),
      ...(f.token_auroc !== null ? [h("span", {}, "baseline ", h("b", {}, figure(f.token_auroc)), " AUROC of telling from the token alone where it fires (0.5 is guessing)")] : []),
    ],
    evidence: [],
    facts: [["model", about("model")], ["dictionary", about("dictionary")], ["fires on", `${percent(f.frequency ?? 0)} of tokens${f.fired === null ? "" : ` (${f.fired.toLocaleString("en")} of ${Number(f.about.get("n_tokens") ?? 0).toLocaleString("en")})`}`]],
    sections: [
      section(
        "When it fires",
        "the deeper the colour, the stronger; from the strongest down to the weak, not only the best",
        h("div", { class: "two" }, examples(row) ?? h("p", { class: "note" }, "no examples"), h("div", { class: "nested" }, rule(f), histogram(row, null), told(f))),
      ),
      section(
        "What it does",
        "to the model’s next token; measured by changing it in the real model",
        h(
          "div",
          { class: "two" },
          h("div", { class: "nested" }, forest([{ estimate: estimateOf("taken out", f.effect), role: "effect" }, { estimate: estimateOf("pushed to three times its strength", f.clamp_effect), role: "part" }, { estimate: estimateOf("a random direction of the same length", f.effect_random), role: "null" }], "effect on the output, KL"), h("p", { class: "note" }, "KL between the outputs with and without the change, at its strongest example.")),
          h("div", { class: "nested" }, chips("Less likely without it", f.lost, "up"), chips("More likely when it is pushed", f.clamp_raised, "up"), logitTable(row)),
        ),
      ),
      section("What is near it", "", near(f, go)),
    ],
  };
}

const OWN = "feature of this dictionary";

type Card = ReturnType<typeof shape>;

function rule(f: Card): Child {
  if (!f.rule_tokens.length) return null;
  return h("div", {}, h("h4", {}, "Of the times it sees this token, it fires in"), dataTable([{ name: "token", value: (row) => row.token, draw: (row) => tokenText(row.token) }, { name: "share", value: (row) => row.p, draw: (row) => (row.p === null ? "–" : percent(row.p)) }], f.rule_tokens.map((token, i) => ({ token, p: f.rule_p[i] ?? null })), { caption: "Tokens that it fires on" }));
}

function told(f: Card): HTMLElement {
  const lines = [
    f.token_auroc === null ? "" : `From the token alone one can tell where it fires with AUROC ${figure(f.token_auroc)}${f.pair_auroc === null ? "" : `; with the token before, ${figure(f.pair_auroc)}`} (held out; 0.5 is guessing, 1 is certainty).`,
    f.span === null ? "" : f.span < 0 ? "It looks further back than 32 tokens." : `It needs the last ${f.span} tokens to fire as it does.`,
  ];
  return h("div", { class: "note" }, ...lines.filter(Boolean).map((line) => h("p", {}, line)));
}

function chips(title: string, rows: readonly { token: string; value: number }[], side: string): Child {
  if (!rows.length) return null;
  return h("div", {}, h("h4", {}, title), h("div", { class: "weighed" }, ...rows.map((row) => h("span", { class: `vocab ${side}`, title: `${signed(row.value)} log-probability` }, tokenText(row.token)))));
}

function near(f: Card, go?: (feature: number) => void): HTMLElement {
  const rows = [
    ...f.nearest.map((feature, i) => ({ what: OWN, which: feature, value: f.nearest_cosine[i] ?? null, chance: f.nearest_by_chance })),
    ...(f.seed_partner === null ? [] : [{ what: "partner in a dictionary of another seed", which: f.seed_partner, value: f.seed_cosine, chance: f.seed_by_chance }]),
    ...(f.parent === null ? [] : [{ what: "parent in a narrower dictionary", which: f.parent, value: f.parent_cosine, chance: null }]),
    ...(f.neuron === null ? [] : [{ what: `neuron of ${f.neuron_point} (correlation)`, which: f.neuron, value: f.neuron_correlation, chance: null }]),
  ];
  return dataTable([{ name: "what", value: (row) => row.what }, { name: "number", value: (row) => row.which, draw: (row) => (go && row.what === OWN ? h("button", { type: "button", class: "link", onclick: () => go(row.which) }, String(row.which)) : String(row.which)) }, { name: "cosine", value: (row) => row.value }, { name: "by chance", title: "the nearest of as many random directions", value: (row) => row.chance }], rows, { caption: "Neighbours" });
}
