/** Causal abstraction: where a causal model's variables lie in a network, and the pairs where the claim fails. */

import { estimate, inWords, readEvidence } from "../core/evidence";
import type { EstimateRow, EvidenceRow } from "../core/files";
import { number as figure, percent } from "../core/names";
import { anything, dict, fallback, isObject, list, Malformed, matrix, maybe, nullable, number, record, text, truth } from "../core/shape";
import { dataTable } from "../parts/datatable";
import { type Child, h, replace } from "../parts/dom";
import { forest } from "../parts/forest";
import { heatmap } from "../parts/heatmap";
import { layered, type LayeredEdge } from "../parts/layered";
import { capacitySection } from "./capacity";
import { type Context, type Page, section } from "./context";

const causal = record({ name: fallback(text, "the causal model"), output: fallback(text, ""), variables: list(record({ name: text, domain: anything, parents: fallback(list(text), []), mechanism: nullable(text) })) });
const failure = record({ base: text, sources: fallback(dict(text), new Map<string, string>()), expected: anything, before: anything, said: anything, changes: nullable(truth), share: maybe });
const aligned = record({
  model: fallback(text, ""), causal_model: nullable(causal), n: fallback(number, 0), seeds: fallback(list(number), []),
  variables: fallback(list(record({ name: text, place: anything, size: fallback(list(maybe), []) })), []),
  iia: nullable(estimate), iia_by_seed: fallback(list(maybe), []), cause: nullable(estimate), isolate: nullable(estimate), disentangle: maybe, competence: nullable(estimate), divergence: nullable(estimate),
  attributes: fallback(list(record({ name: text, cause: estimate, isolate: estimate, disentangle: maybe })), []),
  changes_at_random: maybe, held_out: fallback(text, ""), failures: fallback(list(failure), []), how_run: fallback(text, ""),
});
const swept = record({
  model: fallback(text, ""), causal_model: nullable(causal), variable: fallback(text, ""), what: fallback(text, ""), n: fallback(number, 0), unit: fallback(text, "IIA"), chance: maybe,
  axes: list(record({ name: text, labels: list(text) })), null: nullable(record({ name: fallback(text, "null") })), best: nullable(record({ place: text, position: text })), competence: nullable(estimate), failures: fallback(list(failure), []),
});
const scrubbed = record({ model: fallback(text, ""), causal_model: anything, partners: maybe, rows: list(record({ resampled: text, loss: maybe, recovered: estimate, accuracy: estimate })) });

export function alignmentPage({ result }: Context): Page {
  const file = aligned(result.body, "");
  return { evidence: readEvidence(result.body.evidence), facts: alignedFacts(file), sections: alignmentSections(file) };
}

export function alignmentSweepPage(context: Context): Page {
  const { body } = context.result;
  const file = swept(body, "");
  return { evidence: readEvidence(body.evidence), facts: [["model", file.model], ["variable", file.variable], ["items", String(file.n)], ["exchanged", file.what], ...(file.competence ? [["the network is right on", inWords(file.competence)] as [string, string]] : [])], sections: [...sweepSections(context, body), causalSection(file.causal_model, []), failing(file.failures)] };
}

export function scrubbingPage({ result }: Context): Page {
  const file = scrubbed(result.body, "");
  return { evidence: readEvidence(result.body.evidence), facts: [["model", file.model], ["causal model", isObject(file.causal_model) ? String(file.causal_model.name) : String(file.causal_model ?? "")]], sections: [scrubSection(file)] };
}

/** A case: the sweep, the alignment at its best place, the scrubbing, IIA against capacity, in one page. */
export function casePage(context: Context): Page {
  const { body } = context.result;
  const file = aligned(body.alignment, "alignment");
  const [sweep, scrub] = [isObject(body.sweep) ? body.sweep : null, isObject(body.scrubbing) ? scrubbed(body.scrubbing, "scrubbing") : null];
  const evidence = (value: unknown): EvidenceRow[] => (isObject(value) ? readEvidence(value.evidence) : []);
  const said = record({ case: fallback(text, ""), about: fallback(text, ""), expect: fallback(text, "") })(body, "");
  return {
    evidence: [...evidence(body.alignment), ...evidence(body.sweep), ...evidence(body.scrubbing), ...evidence(body.capacity)],
    facts: [["case", said.case], ...alignedFacts(file)],
    sections: [
      said.about || said.expect ? h("p", { class: "prose" }, said.about, said.expect ? h("span", { class: "note" }, ` Expected: ${said.expect}`) : null) : null,
      ...(sweep ? sweepSections(context, sweep, "sweep") : []),
      ...alignmentSections(file),
      scrub ? scrubSection(scrub) : null,
      isObject(body.capacity) ? capacitySection(body.capacity) : null,
      isObject(body.rivals) && Object.keys(body.rivals).length ? section("Rival causal models", Object.keys(body.rivals).join(", "), ...Object.values(body.rivals).map((one, i) => causalDrawing(causal(one, `rivals[${i}]`), []))) : null,
    ],
  };
}

type Aligned = ReturnType<typeof aligned>;

function alignedFacts(file: Aligned): [string, string][] {
  return [["model", file.model], ["causal model", file.causal_model?.name ?? ""], ["held out", `${file.n} items${file.held_out ? `, ${file.held_out}` : ""}`], ["seeds", file.seeds.join(", ")]];
}

function alignmentSections(file: Aligned): Child[] {
  const estimates: [string, EstimateRow | null][] = [["IIA: says what the causal model says", file.iia], ["cause: where the exchange should change the answer", file.cause], ["isolate: where it should not", file.isolate], ["the network alone is right", file.competence]];
  const seeds = file.iia_by_seed.filter((x): x is number => x !== null);
  const place = (value: unknown) => (isObject(value) ? String(value.label ?? value.at ?? "") : "");
  return [
    section(
      "Does an exchange in the network do what it does in the causal model?",
      file.changes_at_random === null ? "" : `in pairs drawn at random an exchange changes the answer in ${percent(file.changes_at_random)}`,
      forest(estimates.flatMap(([name, row]) => (row ? [{ estimate: { ...row, name }, role: "part" as const }] : [])), "interchange"),
      seeds.length > 1 ? h("p", { class: "note" }, `IIA by seed: ${seeds.map((x) => figure(x)).join(", ")}.`) : null,
      file.divergence ? h("p", { class: "note" }, `${file.divergence.name}: ${inWords(file.divergence)} (how far exchanged activations lie from natural ones).`) : null,
      file.how_run ? h("p", { class: "note" }, file.how_run) : null,
    ),
    attributesSection(file.attributes),
    causalSection(file.causal_model, file.variables.map((row) => ({ name: row.name, place: place(row.place), size: row.size.filter((x) => x !== null).join(", ") }))),
    failing(file.failures),
  ];
}

/** RAVEL's measures of each variable, where there are several: moving it moves the answer, moving the others does not. */
function attributesSection(rows: Aligned["attributes"]): Child {
  if (!rows.length) return null;
  return section(
    "Each variable by itself",
    "cause: its exchange changes the answer as it should; isolate: where the answer should stay, it stays; disentangle is their mean",
    forest(rows.flatMap((row) => [{ estimate: { ...row.cause, name: `cause of ${row.name}` }, role: "part" as const }, { estimate: { ...row.isolate, name: `isolate of ${row.name}` }, role: "part" as const }]), "each variable"),
    dataTable([{ name: "variable", value: (row) => row.name }, { name: "cause", value: (row) => row.cause.value, draw: (row) => inWords(row.cause) }, { name: "isolate", value: (row) => row.isolate.value, draw: (row) => inWords(row.isolate) }, { name: "disentangle", value: (row) => row.disentangle }], rows, { caption: "Each variable by itself" }),
  );
}

interface Placed {
  name: string;
  place: string;
  size: string;
}

function causalSection(model: ReturnType<typeof causal> | null, placed: readonly Placed[]): Child {
  if (!model) return null;
  return section(
    "The causal model",
    `${model.name}: inputs below, the output ${model.output} above${placed.length ? "; marked: the variables that were looked for" : ""}`,
    h(
      "div",
      { class: "two" },
      causalDrawing(model, placed),
      h(
        "div",
        { class: "nested" },
        placed.length ? dataTable([{ name: "variable", value: (row) => row.name }, { name: "place", value: (row) => row.place }, { name: "dimensions", value: (row) => row.size || "whole" }], placed, { caption: "Where the variables were looked for" }) : null,
        dataTable([{ name: "variable", value: (row) => row.name }, { name: "from", value: (row) => row.parents.join(", ") || "input" }, { name: "by", value: (row) => row.mechanism ?? "", draw: (row) => (row.mechanism ? h("code", {}, row.mechanism.slice(0, 300)) : "–") }], model.variables, { caption: "Variables and mechanisms" }),
      ),
    ),
  );
}

function causalDrawing(model: ReturnType<typeof causal>, placed: readonly Placed[]): HTMLElement {
  const depth = new Map<string, number>();
  // Variables come in the order they are computed: parents before children.
  for (const one of model.variables) depth.set(one.name, 1 + Math.max(-1, ...one.parents.map((parent) => depth.get(parent) ?? -1)));
  const where = new Map(placed.map((row) => [row.name, row.place]));
  const nodes = model.variables.map((one) => ({ name: one.name, word: one.name, stage: depth.get(one.name)!, ports: false, marked: where.has(one.name) }));
  const edges = model.variables.flatMap((one) => one.parents.map((parent): LayeredEdge => ({ source: parent, node: one.name, port: "", weight: 0.1, tone: "shared", key: `${parent}→${one.name}`, describe: [`${parent} → ${one.name}`, ...(where.get(one.name) ? [`looked for at ${where.get(one.name)}`] : [])] })));
  const drawn = layered(nodes, model.name, () => undefined);
  drawn.show(edges, edges.length);
  return drawn.element;
}

function failing(rows: readonly ReturnType<typeof failure>[]): Child {
  if (!rows.length) return null;
  const said = (value: unknown) => (Array.isArray(value) ? value.join(" ") : value === null || value === undefined ? "–" : String(value));
  return section(
    "Pairs that fail",
    `${rows.length} held-out items where the network does not say what the causal model says, worst first`,
    dataTable(
      [
        { name: "base", value: (row) => row.base },
        { name: "sources", value: (row) => [...row.sources].map(([name, source]) => `${name}: ${source}`).join("\n"), draw: (row) => h("div", {}, ...[...row.sources].map(([name, source]) => h("p", {}, h("b", {}, `${name} `), source))) },
        { name: "should say", value: (row) => said(row.expected) },
        { name: "says", value: (row) => said(row.said) },
        { name: "said before", value: (row) => said(row.before) },
        { name: "right in", title: "share of seeds", value: (row) => row.share },
      ],
      rows,
      { caption: "Pairs that fail" },
    ),
  );
}

function sweepSections({ params }: Context, body: Record<string, unknown>, at = ""): Child[] {
  const file = swept(body, at);
  const [rows, columns] = file.axes;
  if (!rows || !columns || file.axes.length !== 2) throw new Malformed("axes should be two: place and position");
  const grid = (key: string, value: unknown) => matrix(rows.labels.length, columns.labels.length)(value, key);
  const [iia, low, high] = [grid("iia", body.iia), grid("low", body.low), grid("high", body.high)];
  const none = isObject(body.null) ? grid("null.iia", body.null.iia) : null;
  const cause = body.cause === null || body.cause === undefined ? null : grid("cause", body.cause);
  const reach = none ? Math.max(...none.flat().map((x) => x ?? 0), file.chance ?? 0) : Infinity;
  const level = file.chance ?? 0;
  const away = Math.max(level, 1 - level);
  const detail = h("div", { class: "cell-detail", "aria-live": "polite" });
  const words = (r: number, c: number) => [`${rows.labels[r]}, ${columns.labels[c]}`, `IIA ${figure(iia[r]![c])} [${figure(low[r]![c])}, ${figure(high[r]![c])}]`, ...(none ? [`null (${file.null!.name}) ${figure(none[r]![c])}`] : ["no null was run"]), ...(cause ? [`where the answer should change ${figure(cause[r]![c])}`] : []), ...(file.chance === null ? [] : [`nothing exchanged ${figure(file.chance)}`])];
  const tell = (r: number, c: number) => replace(detail, ...words(r, c).map((line, i) => h(i ? "span" : "b", {}, line)));
  const map = heatmap({
    label: `IIA of ${file.variable} by place and position`, rows: [...rows.labels].reverse(), columns: columns.labels, rowTitle: rows.name, columnTitle: columns.name, colours: "diverging", range: [-away, away], unit: `${file.chance === null ? "" : `more (blue) or less than nothing exchanged gives (${figure(file.chance)}); `}${file.unit}`, marks: "above every place of the null", cell: { width: 60, height: 28 },
    value: (r, c) => (iia[rows.labels.length - 1 - r]![c] === null ? null : iia[rows.labels.length - 1 - r]![c]! - level),
    text: (r, c) => (columns.labels.length <= 16 ? (iia[rows.labels.length - 1 - r]![c]?.toFixed(2) ?? "") : ""),
    marked: (r, c) => (low[rows.labels.length - 1 - r]![c] ?? -1) > reach,
    describe: (r, c) => words(rows.labels.length - 1 - r, c),
    onselect: (r, c) => (params.set({ cell: `${r}.${c}` }), tell(rows.labels.length - 1 - r, c)),
  });
  const best: [number, number] = [rows.labels.indexOf(file.best?.place ?? ""), columns.labels.indexOf(file.best?.position ?? "")];
  if (best[0] >= 0 && best[1] >= 0) tell(...best);
  const flat = rows.labels.flatMap((row, r) => columns.labels.map((column, c) => ({ row, column, r, c })));
  return [
    section(
      `Where is ${file.variable || "the variable"}?`,
      `${file.what} exchanged at each place; ${file.n} held-out items${file.chance === null ? "" : `; nothing exchanged gives ${figure(file.chance)}`}`,
      map.element,
      detail,
      h("details", {}, h("summary", {}, "As a table"), dataTable([{ name: rows.name, value: (one) => one.row }, { name: columns.name, value: (one) => one.column }, { name: "IIA", value: (one) => iia[one.r]![one.c]! }, { name: "low", value: (one) => low[one.r]![one.c]! }, { name: "high", value: (one) => high[one.r]![one.c]! }, { name: "null", value: (one) => none?.[one.r]![one.c] ?? null }], flat, { caption: "IIA of every place", sort: 2 })),
    ),
  ];
}

function scrubSection(file: ReturnType<typeof scrubbed>): Child {
  return section(
    "Causal scrubbing",
    `what the hypothesis calls irrelevant is resampled; loss recovered is 1 where that does no harm${file.partners === null ? "" : `; ${percent(file.partners)} of items have a partner with the same values`}`,
    forest(file.rows.map((row) => ({ estimate: { ...row.recovered, name: row.resampled }, role: "part" as const })), "loss recovered"),
    dataTable([{ name: "resampled", value: (row) => row.resampled }, { name: "loss, nats", value: (row) => row.loss }, { name: "loss recovered", value: (row) => row.recovered.value, draw: (row) => inWords(row.recovered) }, { name: "accuracy", value: (row) => row.accuracy.value, draw: (row) => inWords(row.accuracy) }], file.rows, { caption: "Scrubbing" }),
  );
}
