/** The same dictionary on the model and on four networks that learned nothing: each statistic, arm beside arm. */

import { estimate, looksLikeEstimate, readEvidence } from "../core/evidence";
import { anything, dict, fallback, isObject, list, number, record, text } from "../core/shape";
import { forest } from "../parts/forest";
import { h, replace } from "../parts/dom";
import { dataTable } from "../parts/datatable";
import { number as figure } from "../core/names";
import { choose, type Context, type Page, section } from "./context";

const shape = record({ model: fallback(text, ""), n_tokens: fallback(number, 0), n_held_out: fallback(number, 0), seeds: fallback(list(number), []), settings: fallback(dict(anything), new Map<string, unknown>()), columns: fallback(dict(list(text)), new Map<string, string[]>()), rows: list(dict(anything)) });
/** The arms in words (Heap et al. 2025). */
const ARMS: Record<string, string> = {
  trained: "trained",
  rerandomised_excl: "re-randomised, embeddings kept",
  rerandomised_incl: "re-randomised, all",
  step0: "before training",
  control: "control: fresh noise for every token",
};

export function armsPage({ result, params }: Context): Page {
  const file = shape(result.body, "");
  const word = (row: ReadonlyMap<string, unknown>, key: string) => (typeof row.get(key) === "string" ? (row.get(key) as string) : "");
  const points = [...new Set(file.rows.map((row) => word(row, "point")))];
  const keys = [...(file.columns.size ? file.columns.keys() : new Set(file.rows.flatMap((row) => [...row].filter(([, value]) => looksLikeEstimate(value)).map(([key]) => key))))];
  const said = (key: string): [string, string] => [file.columns.get(key)?.[0] ?? key.replace(/_/g, " "), file.columns.get(key)?.[1] ?? ""];
  const value = (row: ReadonlyMap<string, unknown>, key: string) => (isObject(row.get(key)) ? estimate(row.get(key), `rows.${key}`) : null);
  const panels = h("div", { class: "nested" });
  function drawPoint(): void {
    const point = params.choice("point", points.length ? points : [""]);
    const rows = file.rows.filter((row) => word(row, "point") === point);
    replace(
      panels,
      points.length > 1 ? choose("At", points.map((one) => [one, one] as const), point, (one) => params.set({ point: one })) : null,
      h(
        "div",
        { class: "three arms" },
        ...keys.map((key) => {
          const [name, meaning] = said(key);
          const estimates = rows.flatMap((row) => {
            const one = value(row, key);
            return one ? [{ estimate: { ...one, name: ARMS[word(row, "arm")] ?? word(row, "arm") }, role: word(row, "arm") === "trained" ? ("effect" as const) : ("null" as const) }] : [];
          });
          return estimates.length ? h("div", {}, h("h3", {}, name), h("p", { class: "note" }, meaning), forest(estimates, name)) : null;
        }),
      ),
    );
  }
  drawPoint();
  params.listen((changed) => changed.has("point") && drawPoint());
  return {
    evidence: readEvidence(result.body.evidence),
    facts: [["model", file.model], ["dictionaries", [...file.settings].map(([key, one]) => `${key} ${String(one)}`).join(", ").slice(0, 80)], ["tokens", `${file.n_tokens.toLocaleString("en")} to train, ${file.n_held_out.toLocaleString("en")} held out`], ["seeds", file.seeds.join(", ")]],
    sections: [
      section(
        "Five arms, every statistic",
        "what the networks that learned nothing score as well as the trained one says nothing of what the model learned",
        panels,
      ),
      section("The same as a table", "range over seeds in brackets", dataTable([{ name: "arm", value: (row: ReadonlyMap<string, unknown>) => ARMS[word(row, "arm")] ?? word(row, "arm") }, ...(points.length > 1 ? [{ name: "point", value: (row: ReadonlyMap<string, unknown>) => word(row, "point") }] : []), ...keys.map((key) => ({ name: said(key)[0], title: said(key)[1], value: (row: ReadonlyMap<string, unknown>) => value(row, key)?.value ?? null, draw: (row: ReadonlyMap<string, unknown>) => { const one = value(row, key); return one ? h("span", { class: "two-lines" }, figure(one.value, 3), one.interval ? h("small", { class: "note" }, `[${figure(one.interval.low, 2)}, ${figure(one.interval.high, 2)}]`) : null) : "–"; } }))], file.rows, { caption: "Five arms" })),
    ],
  };
}
