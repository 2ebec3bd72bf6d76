/** Pictures made for a unit, each beside what the same procedure made on a network that learned nothing. */

import { readEvidence } from "../core/evidence";
import { number as figure } from "../core/names";
import { fallback, list, maybe, nullable, number, record, text, truth } from "../core/shape";
import { chart } from "../parts/chart";
import { type Child, h } from "../parts/dom";
import { type Context, type Page, section } from "./context";
import { figures } from "./generic";

const begun = record({ labels: fallback(list(text), []), value: maybe });
const made = record({ silent: fallback(list(truth), []), redirected_steps: fallback(number, 0), model: text, reached: fallback(list(maybe), []), trace: fallback(list(maybe), []) });
const shape = record({ model: fallback(text, ""), objective: fallback(text, ""), method: fallback(text, ""), steps: fallback(number, 0), start: nullable(list(begun)), trained: made, null: nullable(made), best_picture: maybe });
type Row = ReturnType<typeof made>;

export function visualisationPage({ result }: Context): Page {
  const file = shape(result.body, "");
  const stem = (name: string) => name.split("/").at(-1)!.replace(/\.\w+$/, "");
  const named = (wanted: string) => result.pictures.find((one) => stem(one.name) === wanted);
  const row = (given: Row | null, prefix: string, word: string): Child => {
    const found = (given?.reached ?? []).map((value, i) => ({ value, picture: named(`${prefix}-${i}`) })).filter((one) => one.picture);
    if (!given || !found.length) return null;
    return h("div", { class: "made-row", role: "group", "aria-label": `${word}: ${given.model}` }, h("h3", {}, word, h("span", { class: "note" }, ` ${given.model}`)), h("div", { class: "made-pictures" }, ...found.map(({ value, picture }, i) => h("figure", {}, h("img", { src: picture!.data, alt: `Picture ${i + 1} made on ${given.model}, which reaches ${figure(value)}` }), h("figcaption", {}, "reaches ", h("b", {}, figure(value)))))));
  };
  const from = (file.start ?? []).map((one, i) => ({ ...one, picture: named(`start-${i}`) })).filter((one) => one.picture);
  const start = from.length ? h("div", { class: "made-row", role: "group", "aria-label": "Begun from" }, h("h3", {}, "Begun from", h("span", { class: "note" }, " the real pictures that excite it most, the null from the same")), h("div", { class: "made-pictures" }, ...from.map((one) => h("figure", {}, h("img", { src: one.picture!.data, alt: `Real picture of ${one.labels.join(" ")}` }), h("figcaption", {}, `${one.labels.join(" ")} `, h("b", {}, figure(one.value))))))) : null;
  const rows = [start, row(file.trained, "picture", "The model"), row(file.null, "null", "The null")].filter(Boolean);
  const asleep = (given: Row | null) => given?.silent.filter(Boolean).length ?? 0;
  const woken = [
    file.trained.redirected_steps ? `On ${file.trained.redirected_steps} of ${file.steps} steps a picture left it silent, and the gradient came through ReLUs that were shut.` : "",
    asleep(file.trained) ? `${asleep(file.trained)} of ${file.trained.silent.length} pictures stayed silent.` : "",
    asleep(file.null) ? `Of the null’s, ${asleep(file.null)} of ${file.null!.silent.length} stayed silent.` : "",
  ].filter(Boolean).join(" ");
  const whole = named("visualisation");
  const shaded = named("shaded");
  const spots = (given: Row) => given.trace.map((y, i) => ({ x: Math.round(((i + 1) * (file.steps || given.trace.length)) / given.trace.length), y }));
  const best = file.best_picture;
  const last = file.steps || file.trained.trace.length;
  return {
    evidence: readEvidence(result.body.evidence),
    facts: [["model", file.model], ["objective", file.objective], ["method", `${file.method}, ${file.steps} steps from ${file.start ? "real pictures" : "noise"}`]],
    sections: [
      section(
        "Pictures that drive it",
        file.null ? "above, those made on the model; below, the same seeds, steps and transforms on its weights drawn anew: what both rows show is of the method" : "the re-randomised model was left out, so nothing says what of this is of the method",
        rows.length > (file.null ? 1 : 0) + (start ? 1 : 0) ? h("div", { class: "made-rows" }, ...rows) : whole ? h("img", { class: "strip", src: whole.data, alt: `Above, pictures made on ${file.trained.model}; below, on ${file.null?.model ?? "nothing"}` }) : h("p", { class: "note" }, "The pictures do not lie beside this file."),
        woken ? h("p", { class: "note" }, woken) : null,
      ),
      file.trained.trace.length
        ? section(
            "How far it climbs",
            "the objective's mean over the pictures, as they are made",
            chart({
              label: "Objective by step", xTitle: "step", yTitle: file.objective || "objective",
              series: [
                { name: file.trained.model, tone: "up", spots: spots(file.trained) },
                ...(file.null ? [{ name: file.null.model, tone: "faint" as const, dashed: true, spots: spots(file.null) }] : []),
                ...(best === null ? [] : [{ name: "strongest of the pictures at hand", tone: "down" as const, dashed: true, spots: [{ x: 1, y: best }, { x: last, y: best }] }]),
              ],
            }).element,
          )
        : null,
      shaded ? section("Where in the picture it matters", "what the gradient never touched is clear; above the model, below its null", h("img", { class: "strip shaded", src: shaded.data, alt: "The same pictures, transparent where the gradient was small" })) : null,
      ...(rows.length || whole ? [] : figures(result.pictures)),
    ],
  };
}
