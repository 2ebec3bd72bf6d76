/** Indirect objects whole: the scoreboard, what each head does by behaviour, and the circuit with its judgement. */

import { readEvidence } from "../core/evidence";
import { number as figure, signed } from "../core/names";
import { anything, dict, fallback, isObject, list, maybe, nullable, number, pair, record, text, truth } from "../core/shape";
import { dataTable } from "../parts/datatable";
import { h, replace } from "../parts/dom";
import { heatmap } from "../parts/heatmap";
import { circuitPage } from "./circuit";
import { headOf } from "./circuitfile";
import { type Context, type Page, section } from "./context";

const shape = record({
  model: fallback(text, ""), of: fallback(number, 0), heads: fallback(list(text), []), passed: nullable(truth), absent: fallback(list(text), []),
  criteria: fallback(list(record({ name: text, value: maybe, asked: fallback(text, ""), met: nullable(truth), interval: nullable(pair(number, number)) })), []),
  classes: fallback(dict(record({ circuit: fallback(list(text), []), others: fallback(list(text), []) })), new Map()),
  measured: fallback(list(record({ head: text, in_circuit: truth, classes: fallback(list(text), []), values: dict(maybe) })), []),
  null: fallback(dict(maybe), new Map<string, number | null>()),
  circuit: nullable(anything),
});

export function ioiPage(context: Context): Page {
  const { body } = context.result;
  const { params } = context;
  const file = shape(body, "");
  const circuit = isObject(file.circuit) ? circuitPage({ ...context, result: { ...context.result, body: file.circuit } }) : null;
  const kinds = [...new Set(file.measured.flatMap((row) => [...row.values.keys()]))];
  const places = new Map(file.measured.flatMap((row) => (headOf(row.head) ? [[headOf(row.head)!, row] as const] : [])));
  const size = (part: 0 | 1) => Math.min(4096, Math.max(-1, ...[...places.keys()].map((name) => Number(name.split(".")[part]))) + 1);
  const index = (n: number) => Array.from({ length: n }, (_, i) => String(i));
  const map = h("div");
  const detail = h("div", { class: "cell-detail", "aria-live": "polite" });
  function show(): void {
    const kind = params.choice("score", kinds);
    const pick = h("select", { "aria-label": "Score", onchange: () => params.set({ score: pick.value }) }, ...kinds.map((one) => h("option", { value: one, selected: one === kind }, one)));
    const row = (r: number, c: number) => places.get(`${r}.${c}`);
    const tell = (r: number, c: number) => {
      const head = row(r, c);
      if (head) replace(detail, h("b", {}, head.head), h("span", {}, head.in_circuit ? "in the circuit" : "not in the circuit"), h("span", {}, head.classes.join(", ") || "no class"), ...[...head.values].map(([name, value]) => h("span", {}, `${name} `, h("b", {}, figure(value)))));
    };
    const none = file.null.get(kind);
    const drawn = heatmap({
      label: `${kind} of each head`, rows: index(size(0)), columns: index(size(1)), rowTitle: "layer", columnTitle: "head", colours: "diverging", unit: kind, marks: "in the circuit", cell: { width: 56, height: 28 },
      value: (r, c) => row(r, c)?.values.get(kind) ?? null,
      text: (r, c) => (size(1) <= 16 ? figure(row(r, c)?.values.get(kind), 2) : ""),
      marked: (r, c) => row(r, c)?.in_circuit ?? false,
      describe: (r, c) => [`head ${r}.${c}`, `${kind} ${signed(row(r, c)?.values.get(kind) ?? NaN)}`, row(r, c)?.classes.join(", ") || "no class", none === undefined ? "" : `best head of the re-randomised model ${figure(none)}`],
      onselect: tell,
    });
    replace(map, h("div", { class: "bar" }, h("label", {}, h("span", { class: "note" }, "Score "), pick), none === undefined ? null : h("span", { class: "note" }, `best head of the re-randomised model: ${figure(none)}`)), drawn.element, detail);
  }
  if (places.size && kinds.length) show();
  params.listen((changed) => changed.has("score") && show());
  return {
    evidence: readEvidence(body.evidence),
    facts: [["model", file.model], ["heads", `${file.heads.length} of ${file.of}: ${file.heads.join(", ")}`], ["criteria met", `${file.criteria.filter((row) => row.met).length} of ${file.criteria.length}`]],
    sections: [
      file.criteria.length ? section("What was asked", "", dataTable([{ name: "criterion", value: (row) => row.name }, { name: "value", value: (row) => row.value, draw: (row) => `${figure(row.value)}${row.interval ? ` [${figure(row.interval[0])}, ${figure(row.interval[1])}]` : ""}` }, { name: "asked", value: (row) => row.asked }, { name: "met", value: (row) => (row.met ? "yes" : "no"), draw: (row) => (row.met === null ? "–" : h("span", { class: `verdict ${row.met ? "good" : "bad"}` }, row.met ? "met" : "not met")) }], file.criteria, { caption: "Criteria" })) : null,
      file.classes.size ? section("Classes of heads", `named by behaviour${file.absent.length ? `; absent here: ${file.absent.join(", ")}` : ""}`, dataTable([{ name: "class", value: ([name]) => name }, { name: "in the circuit", value: ([, row]) => row.circuit.join(", ") || "–" }, { name: "others", value: ([, row]) => row.others.join(", ") || "–" }], [...file.classes], { caption: "Classes" })) : null,
      places.size ? section("What each head does", "dots: heads of the circuit", map) : null,
      ...(circuit?.sections ?? []),
    ],
  };
}
