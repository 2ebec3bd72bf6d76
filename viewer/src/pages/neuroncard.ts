/** A neuron of a vision tower: pictures and words that excite it, what its firing says, what it is for. */

import { estimate, readEvidence } from "../core/evidence";
import { number as figure, signed } from "../core/names";
import { fallback, list, maybe, nullable, number, record, text } from "../core/shape";
import { chart } from "../parts/chart";
import { dataTable } from "../parts/datatable";
import { h } from "../parts/dom";
import { forest } from "../parts/forest";
import { type Context, type Page, section } from "./context";

const item = record({ activation: number, labels: fallback(list(text), []), facet: fallback(text, "") });
const shape = record({
  model: fallback(text, ""), point: fallback(text, ""), unit: number, concept: fallback(text, ""),
  activation: nullable(record({ mean: maybe, sd: maybe, over: fallback(text, "") })),
  quantiles: fallback(list(record({ quantile: text, items: list(item) })), []),
  top_words: fallback(list(item), []),
  words: fallback(list(record({ word: text, activation_sd: estimate })), []),
  curve: fallback(list(record({ low_sd: maybe, high_sd: maybe, p: estimate })), []),
  facets: fallback(list(record({ facet: text, auroc: estimate })), []),
  captions: fallback(list(record({ caption: text, change_of_logit: number })), []),
  serves: fallback(list(record({ class: text, weight: number })), []),
});

export function neuronCardPage({ result }: Context): Page {
  const card = shape(result.body, "");
  const picture = (name: string) => result.pictures.find((one) => one.name.split("/").at(-1)?.includes(name));
  const [top, words] = [picture("top"), picture("words")];
  const spans = card.curve.map((bin) => (bin.low_sd === null ? `below ${figure(bin.high_sd, 2)}` : bin.high_sd === null ? `${figure(bin.low_sd, 2)} and more` : `${figure(bin.low_sd, 2)} to ${figure(bin.high_sd, 2)}`));
  const said = (labels: readonly string[]) => labels.join(" ");
  return {
    evidence: readEvidence(result.body.evidence),
    facts: [["model", card.model], ["neuron", `${card.unit} of ${card.point}`], ["concept", card.concept], ...(card.activation ? [["activation", `${card.activation.over} over space; mean ${figure(card.activation.mean)}, SD ${figure(card.activation.sd)}`] as [string, string]] : [])],
    sections: [
      section(
        "Pictures that excite it",
        "a row for each strength: from the strongest down to the middle, not only the best",
        h(
          "div",
          { class: "quantiles" },
          top ? h("img", { src: top.data, alt: `Pictures by how strongly unit ${card.unit} fires: ${card.quantiles.map((row) => `${row.quantile}: ${row.items.map((one) => said(one.labels)).join("; ")}`).join(". ")}` }) : h("p", { class: "note" }, "The pictures (top.png) do not lie beside this file."),
          h("div", { class: "quantile-words" }, ...card.quantiles.map((row) => h("p", {}, h("b", {}, row.quantile), h("span", { class: "note" }, ` ${figure(Math.min(...row.items.map((one) => one.activation)))} to ${figure(Math.max(...row.items.map((one) => one.activation)))}: ${[...new Set(row.items.map((one) => said(one.labels)))].slice(0, 8).join("; ")}`)))),
        ),
      ),
      card.top_words.length || card.words.length
        ? section("Words that excite it", "words drawn as pictures; mean activation in standard deviations over pictures", words ? h("img", { class: "strip", src: words.data, alt: `The strongest words: ${card.top_words.map((one) => said(one.labels)).join(", ")}` }) : null, forest(card.words.slice(0, 10).map((row) => ({ estimate: { ...row.activation_sd, name: row.word }, role: "part" as const })), "words"))
        : null,
      section(
        "What its firing says",
        `how often the picture is of “${card.concept}”, by how strongly it fires`,
        card.curve.length ? chart({ label: "Conditional probability", xTitle: "activation, SD", yTitle: `P(${card.concept})`, yRange: [0, 1], names: new Map(spans.map((name, i) => [i, name])), series: [{ name: `share that is “${card.concept}”, 95 % interval`, tone: "up", spots: card.curve.map((bin, x) => ({ x, y: bin.p.value, low: bin.p.interval?.low ?? null, high: bin.p.interval?.high ?? null })) }] }).element : null,
        card.facets.length ? h("div", {}, h("h3", {}, "AUROC by kind of picture"), forest(card.facets.map((row) => ({ estimate: { ...row.auroc, name: row.facet }, role: "part" as const })), "AUROC by facet")) : null,
      ),
      card.captions.length || card.serves.length
        ? section(
            "What it is for",
            "captions that boosting it makes likelier; classes whose probe reads it",
            h(
              "div",
              { class: "two" },
              card.captions.length ? dataTable([{ name: "caption", value: (row) => row.caption }, { name: "change of logit", value: (row) => row.change_of_logit, draw: (row) => signed(row.change_of_logit) }], card.captions, { caption: "Captions" }) : h("p", { class: "note" }, "The model reads no captions."),
              card.serves.length ? dataTable([{ name: "class", value: (row) => row.class }, { name: "weight", value: (row) => row.weight, draw: (row) => signed(row.weight) }], card.serves, { caption: "Classes it serves" }) : h("p", { class: "note" }, "No class’s probe reads it."),
            ),
          )
        : section("What it is for", "", h("p", { class: "note" }, "No class’s probe reads it, and the model reads no captions: what it is for is not known from these pictures.")),
    ],
  };
}
