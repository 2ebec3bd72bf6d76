/** The features of a dictionary: a list to search and sort, and the card of one. */

import { number as figure, percent } from "../core/names";
import { anything, dict, fallback, list, maybe, nullable, number, record, text } from "../core/shape";
import { dataTable } from "../parts/datatable";
import { h, replace } from "../parts/dom";
import { type Context, type Page, section } from "./context";
import { featureCard } from "./featurecard";

const shape = record({
  model: fallback(text, ""), dictionary: fallback(text, ""), of: number,
  cards: list(record({ feature: number, label: fallback(text, ""), frequency: maybe, token_auroc: maybe, pair_auroc: maybe, effect: maybe, effect_random: maybe, seed_cosine: maybe, rule_tokens: nullable(list(text)), top_logits: nullable(list(record({ token: text }))) })),
  files: nullable(dict(anything)),
});

export function descriptionsPage({ result, params }: Context): Page {
  const file = shape(result.body, "");
  const bodies = new Map(file.cards.map((card, i) => [card.feature, (result.body.cards as unknown[])[i]]));
  const found = new Map(file.cards.map((card) => [card.feature, [card.label, ...(card.rule_tokens ?? []), ...(card.top_logits ?? []).map((one) => one.token)].join(" ").toLowerCase()]));
  const holder = h("div");
  const card = h("div", { class: "stack-blocks" });
  const search = h("input", { type: "search", class: "find", placeholder: "Search labels, tokens, outputs", "aria-label": "Search the features", value: params.get("find") });
  search.addEventListener("input", () => params.set({ find: search.value }));

  function show(): void {
    const words = params.get("find").toLowerCase().split(/\s+/).filter(Boolean);
    const rows = file.cards.filter((one) => words.every((word) => found.get(one.feature)!.includes(word)));
    replace(
      holder,
      h("p", { class: "note", role: "status" }, `${rows.length} of ${file.of.toLocaleString("en")} features${file.of > file.cards.length ? ` (the ${file.cards.length.toLocaleString("en")} of the largest effect are in this page)` : ""}`),
      dataTable(
        [
          { name: "feature", value: (row) => row.feature },
          { name: "fires", value: (row) => row.label },
          { name: "of tokens", value: (row) => row.frequency, draw: (row) => (row.frequency === null ? "–" : percent(row.frequency)) },
          { name: "from the token", title: "held-out AUROC of telling from the token alone where it fires", value: (row) => row.token_auroc },
          { name: "+ before", title: "what the token before adds", value: (row) => (row.pair_auroc === null || row.token_auroc === null ? null : row.pair_auroc - row.token_auroc) },
          { name: "effect", title: "KL, nats, of taking it out where it is strongest", value: (row) => row.effect },
          { name: "random", title: "of a random direction of the same length", value: (row) => row.effect_random },
          { name: "in another seed", title: "cosine with its partner", value: (row) => row.seed_cosine },
        ],
        rows,
        { caption: "Features", onopen: (row) => go(row.feature) },
      ),
    );
  }
  function go(feature: number): void {
    params.set({ feature }, true);
    card.scrollIntoView();
  }
  function showCard(): void {
    const feature = params.whole("feature", 0, 1e9);
    const body = feature === null ? undefined : bodies.get(feature);
    if (feature === null) return replace(card);
    if (body === undefined) return replace(card, h("p", { class: "note" }, `Feature ${feature} has no card in this page.`));
    const page = featureCard(body, "cards", go);
    replace(card, h("h2", { class: "card-title" }, page.finding ?? ""), h("p", { class: "measured-as" }, ...(page.measured ?? [])), ...page.sections);
  }
  show();
  showCard();
  params.listen((changed) => {
    if (changed.has("find")) show();
    if (changed.has("feature")) showCard();
  });
  const above = file.cards.filter((one) => one.effect !== null && one.effect_random !== null && one.effect > one.effect_random).length;
  const measured = file.cards.filter((one) => one.effect !== null && one.effect_random !== null);
  return {
    finding: `${file.of.toLocaleString("en")} features of ${file.dictionary || "a dictionary"}`,
    measured: measured.length ? [h("span", {}, h("b", {}, `${above} of ${measured.length}`), " change the output more than a random direction of the same length does (null), each where it is strongest"), h("span", {}, "median effect ", h("b", {}, `${figure(middle(measured.map((one) => one.effect!)))} nats`), ", null ", h("b", {}, `${figure(middle(measured.map((one) => one.effect_random!)))} nats`))] : [],
    evidence: [],
    facts: [["model", file.model], ["features", String(file.of)]],
    sections: [section("Features", "choose one to read its card", h("div", { class: "bar" }, search), holder), card],
  };
}

function middle(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}
