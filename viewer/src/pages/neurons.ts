/** Neurons of a vision tower: how many stand for one concept in pictures and in words, and which. */

import { estimate, readEvidence } from "../core/evidence";
import { linkTo } from "../core/params";
import { anything, dict, fallback, list, maybe, nullable, number, record, text } from "../core/shape";
import { dataTable } from "../parts/datatable";
import { h } from "../parts/dom";
import { forest } from "../parts/forest";
import { type Context, type Page, section } from "./context";

const shape = record({
  model: fallback(text, ""), point: fallback(text, ""),
  selectivity: record({
    n: fallback(dict(number), new Map<string, number>()), bar: maybe, concepts: fallback(list(text), []), served: fallback(list(text), []),
    multimodal: list(record({ unit: number, concept: text, auroc_pictures: maybe, auroc_words: maybe })),
    permuted: nullable(record({ n: number, mean: number, max: number })),
  }),
  others: fallback(list(record({ model: text, units: number, multimodal: number, concepts: fallback(list(text), []) })), []),
  sample: fallback(list(record({ unit: number, rating: text })), []),
  probe: nullable(dict(anything)),
});

export function neuronsPage({ result, source }: Context): Page {
  const file = shape(result.body, "");
  const { selectivity: s } = file;
  const cards = new Map(source.entries.filter((entry) => entry.schema.startsWith("cutaway.neuron-card/")).map((entry) => [Number(/(\d+)$/.exec(entry.name)?.[1] ?? -1), entry.name]));
  const unit = (n: number) => (cards.has(n) ? h("a", { href: linkTo(cards.get(n)!) }, String(n)) : String(n));
  const counted = [{ model: file.model, units: s.n.get("units") ?? 0, multimodal: s.multimodal.length, concepts: s.served }, ...file.others];
  const ratings = [...new Set(file.sample.map((row) => row.rating))];
  const estimates = ["accuracy", "random", "dense"].flatMap((key) => {
    const value = file.probe?.get(key);
    return value ? [{ estimate: { ...estimate(value, `probe.${key}`) }, role: key === "accuracy" ? ("effect" as const) : ("baseline" as const) }] : [];
  });
  return {
    evidence: readEvidence(result.body.evidence),
    facts: [["model", file.model], ["neurons", `${s.n.get("units") ?? "?"} of ${file.point}`], ["seen", `${s.n.get("pictures") ?? "?"} pictures, ${s.n.get("words") ?? "?"} words`], ["bar", `AUROC ${s.bar}`]],
    sections: [
      section("Neurons of one concept, in pictures and in words", `${s.multimodal.length} of ${s.n.get("units") ?? "?"}; ${cards.size ? "a number with a line under it has a card" : "cards lie in the study’s folder `cards`"}${s.permuted ? `; with labels permuted ${s.permuted.n} times: ${s.permuted.mean.toFixed(2)} on average, at most ${s.permuted.max}` : ""}`, dataTable([{ name: "neuron", value: (row) => row.unit, draw: (row) => unit(row.unit) }, { name: "concept", value: (row) => row.concept }, { name: "AUROC, pictures", value: (row) => row.auroc_pictures }, { name: "AUROC, words", value: (row) => row.auroc_words }], s.multimodal, { caption: "Multimodal neurons" })),
      section("The same on other models", "a model that saw no text, and one that learned nothing", dataTable([{ name: "model", value: (row) => row.model }, { name: "neurons", value: (row) => row.units }, { name: "of one concept in both", value: (row) => row.multimodal }, { name: "concepts", value: (row) => row.concepts.length, draw: (row) => row.concepts.join(", ") || "none" }], counted, { caption: "Models compared" })),
      file.sample.length ? section("Drawn at random, not picked", `${file.sample.length} live neurons rated by their strongest pictures and words: ${ratings.map((word) => `${file.sample.filter((row) => row.rating === word).length} ${word}`).join(", ")}`, dataTable([{ name: "neuron", value: (row) => row.unit, draw: (row) => unit(row.unit) }, { name: "rating", value: (row) => row.rating }], file.sample, { caption: "Random sample" })) : null,
      estimates.length ? section("Classes read from a few neurons", "accuracy of sparse linear probes, beside as many neurons at random and all of them", forest(estimates, "probe accuracy")) : null,
      h("p", { class: "note" }, `Concepts: ${s.concepts.join(", ")}.`),
    ],
  };
}
