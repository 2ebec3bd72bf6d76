/** Attention heads: every head's scores beside the null, and one head's card. */

import { estimate, inWords, readEvidence } from "../core/evidence";
import { number as figure, signed, tokenText } from "../core/names";
import { dict, fallback, list, Malformed, maybe, nullable, number, pair, record, type Shape, text } from "../core/shape";
import { type Column, dataTable } from "../parts/datatable";
import { type Child, h, replace } from "../parts/dom";
import { heatmap } from "../parts/heatmap";
import { forest } from "../parts/forest";
import { pattern } from "../parts/pattern";
import { choose, type Context, type Page, section } from "./context";

const weighed = list(pair(text, number));
const cards = record({
  tokens: list(text),
  patterns: dict(list(list(maybe))),
  circuits: nullable(dict(record({ OV: list(record({ token: text, raises: weighed, lowers: weighed })), QK: list(record({ token: text, looks_for: weighed })) }))),
  ablation: nullable(dict(estimate)),
  ablation_null: nullable(record({ name: text, value: maybe })),
  ablation_unit: fallback(text, ""),
});
const shape = record({
  model: fallback(text, ""), sequences: fallback(number, 0), tokens: fallback(number, 0), repeats: fallback(number, 0),
  loss: nullable(record({ first: maybe, later: maybe })),
  heads: list(record({ head: text })),
  threshold: fallback(dict(number), new Map<string, number>()),
  uniform: fallback(dict(number), new Map<string, number>()),
  composition: nullable(record({ heads: list(text), scores: dict(list(list(number))), largest_in_random_draws: fallback(dict(list(number)), new Map<string, number[]>()), expected: maybe })),
  cards: nullable(cards),
});

interface Head {
  name: string;
  layer: number;
  index: number;
  scores: Map<string, number | null>;
}

const MEANING: Record<string, string> = {
  "previous token": "attention to the token before",
  "duplicate token": "attention to earlier copies of the token",
  "prefix matching": "attention to what followed earlier copies, all of them",
  induction: "attention to what followed the last copy",
  "first token": "attention to the first position, where heads rest",
  copying: "whether attending to a token raises that token (eigenvalues of OV, from −1 to 1)",
};

export function headsPage({ result, params }: Context): Page {
  const { body } = result;
  const file = shape(body, "");
  const raw = body.heads as Record<string, unknown>[];
  const kinds = Object.keys(raw[0] ?? {}).filter((key) => key !== "head");
  const heads = file.heads.map(({ head: name }, i): Head => {
    const [layer, index] = name.split(".").map(Number);
    if (!Number.isInteger(layer) || !Number.isInteger(index) || index! > 4096 || layer! > 4096) throw new Malformed(`heads[${i}].head should be layer.head, as 2.1`);
    return { name, layer: layer!, index: index!, scores: new Map(kinds.map((kind) => [kind, maybe(raw[i]![kind], `heads[${i}].${kind}`)])) };
  });
  if (!heads.length) throw new Malformed("heads should hold at least one head");
  const at = new Map(heads.map((head) => [head.name, head]));
  const layers = Math.max(...heads.map((head) => head.layer)) + 1;
  const wide = Math.max(...heads.map((head) => head.index)) + 1;
  const over = (head: Head, kind: string) => kind !== "first token" && file.threshold.has(kind) && (head.scores.get(kind) ?? -Infinity) > file.threshold.get(kind)!;
  const best = [...heads].sort((a, b) => (b.scores.get(kinds[0]!) ?? 0) - (a.scores.get(kinds[0]!) ?? 0))[0]!;

  const map = h("div");
  const card = h("div", { class: "head-card" });
  const composed = h("div");

  function show(): void {
    const kind = params.choice("score", [...kinds, ...(file.cards?.ablation ? ["ablation"] : [])]);
    const value = (head: Head | undefined) => (!head ? null : kind === "ablation" ? (file.cards?.ablation?.get(head.name)?.value ?? null) : (head.scores.get(kind) ?? null));
    const drawn = heatmap({
      label: `${kind} of each head`, rows: Array.from({ length: layers }, (_, i) => String(i)), columns: Array.from({ length: wide }, (_, i) => String(i)), rowTitle: "layer", columnTitle: "head",
      colours: kind === "copying" || kind === "ablation" ? "diverging" : "sequential", unit: kind === "ablation" ? (file.cards?.ablation_unit ?? "") : (MEANING[kind] ?? ""),
      cell: { width: 52, height: 28 },
      value: (r, c) => value(at.get(`${r}.${c}`)),
      text: (r, c) => (wide <= 16 ? (value(at.get(`${r}.${c}`))?.toFixed(2).replace("-", "−") ?? "") : ""),
      describe: (r, c) => [`head ${r}.${c}`, `${kind} ${figure(value(at.get(`${r}.${c}`)))}`, kind === "ablation" ? `null ${figure(file.cards?.ablation_null?.value)}` : file.threshold.has(kind) ? `best head of the re-randomised model ${figure(file.threshold.get(kind)!)}` : "no null was run"],
      marked: (r, c) => {
        const head = at.get(`${r}.${c}`);
        return head !== undefined && (kind === "ablation" ? (file.cards?.ablation?.get(head.name)?.interval?.low ?? -Infinity) > (file.cards?.ablation_null?.value ?? Infinity) : over(head, kind));
      },
      marks: "above every head of the null",
      onselect: (r, c) => at.has(`${r}.${c}`) && params.set({ head: `${r}.${c}` }),
      onopen: () => card.scrollIntoView(),
    });
    const words: [string, string][] = [...kinds.map((one): [string, string] => [one, one]), ...(file.cards?.ablation ? [["ablation", "taken out"] as [string, string]] : [])];
    replace(map, choose("Score", words, kind, (score) => params.set({ score })), drawn.element);
    const now = chosen();
    drawn.select(now.layer, now.index);
  }
  const chosen = () => at.get(params.get("head")) ?? best;

  function showCard(): void {
    const head = chosen();
    const roles = kinds.filter((kind) => over(head, kind));
    const found = file.cards;
    const rows = found?.patterns.get(head.name);
    const lost = found?.ablation?.get(head.name);
    const columns: Column<string>[] = [
      { name: "score", value: (kind) => kind, draw: (kind) => h("span", { title: MEANING[kind] }, kind) },
      { name: "this head", value: (kind) => head.scores.get(kind) ?? null },
      { name: "best of the null", value: (kind) => file.threshold.get(kind) ?? null },
      { name: "attention spread evenly", value: (kind) => file.uniform.get(kind) ?? null },
    ];
    replace(
      card,
      h("h3", {}, `Head ${head.name}`, h("span", { class: "note" }, roles.length ? ` above every head of the re-randomised models in ${roles.join(", ")}` : " above the re-randomised models in no score")),
      h(
        "div",
        { class: "two" },
        h(
          "div",
          { class: "nested" },
          dataTable(columns, kinds, { caption: `Scores of head ${head.name}` }),
          lost
            ? h("div", {}, h("h4", {}, `Taken out (at its mean output): ${found!.ablation_unit}`), forest([{ estimate: lost, role: "effect" }, ...(found!.ablation_null ? [{ estimate: { name: found!.ablation_null.name, value: found!.ablation_null.value, interval: null, n: lost.n, unit: lost.unit, note: "" }, role: "null" as const }] : [])], `ablation of head ${head.name}`), h("p", { class: "note" }, inWords(lost)))
            : null,
        ),
        rows && found ? h("div", {}, h("h4", {}, "Its attention on an example"), pattern(`head ${head.name}`, found.tokens, rows)) : h("p", { class: "note" }, "`cutaway heads --out` keeps patterns, circuits and ablations of every head; this file has none."),
      ),
      circuits(head.name, found),
    );
  }

  function showComposition(): void {
    const given = file.composition;
    if (!given) return;
    const kind = params.choice("composes", [...given.scores.keys()]);
    const scores = given.scores.get(kind)!;
    const top = Math.max(0, ...(given.largest_in_random_draws.get(kind) ?? []));
    const later = (r: number, c: number) => Number(given.heads[r]!.split(".")[0]) > Number(given.heads[c]!.split(".")[0]);
    replace(
      composed,
      choose("By way of", [...given.scores.keys()].map((one): [string, string] => [one, { Q: "queries", K: "keys", V: "values" }[one] ?? one]), kind, (value) => params.set({ composes: value })),
      heatmap({
        label: `${kind}-composition of pairs of heads`, rows: given.heads, columns: given.heads, rowTitle: "later", columnTitle: "earlier head", colours: "sequential", unit: "share of the norm", marks: "above the largest of all pairs with earlier heads turned at random", dashes: false,
        cell: { width: 26, height: 18 },
        value: (r, c) => (later(r, c) ? (scores[r]?.[c] ?? null) : null),
        marked: (r, c) => later(r, c) && (scores[r]?.[c] ?? 0) > top,
        describe: (r, c) => [`${given.heads[r]} reads ${given.heads[c]} by its ${{ Q: "queries", K: "keys", V: "values" }[kind] ?? kind}`, figure(scores[r]?.[c]), `largest of random draws ${figure(top)}, expected ${figure(given.expected)}`],
        onselect: (r) => params.set({ head: given.heads[r]! }),
      }).element,
    );
  }

  show();
  showCard();
  showComposition();
  params.listen((changed) => {
    if (changed.has("score")) show();
    if (changed.has("head")) showCard();
    if (changed.has("composes")) showComposition();
  });
  const columns: Column<Head>[] = [
    { name: "head", value: (head) => head.name },
    ...kinds.map((kind): Column<Head> => ({ name: kind, ...(MEANING[kind] ? { title: MEANING[kind] } : {}), value: (head) => head.scores.get(kind) ?? null, draw: (head) => h("span", { class: over(head, kind) ? "over" : "" }, figure(head.scores.get(kind))) })),
    ...(file.cards?.ablation ? [{ name: "taken out", title: file.cards.ablation_unit, value: (head: Head) => file.cards!.ablation!.get(head.name)?.value ?? null }] : []),
  ];
  const loss = file.loss;
  return {
    evidence: readEvidence(body.evidence),
    facts: [["model", file.model], ["sequences", `${file.sequences} of ${file.tokens} random tokens, ${file.repeats} times over`], ...(loss ? [["loss", `${figure(loss.first)} nats the first time, ${figure(loss.later)} in repeats`] as [string, string]] : [])],
    sections: [
      section("Every head", "choose a head to see its card", map),
      section("Head card", "where it looks, what it copies, what it costs to lose", card),
      section("All scores", "bold: above every head of the re-randomised models", dataTable(columns, heads, { caption: "Scores of every head", onopen: (head) => (params.set({ head: head.name }), show(), card.scrollIntoView()) })),
      file.composition ? section("Composition", "how much of what an earlier head writes a later one reads", composed) : null,
    ],
  };
}

function circuits(name: string, found: Shape<typeof cards> | null): Child {
  const own = found?.circuits?.get(name);
  if (!own) return null;
  const tokens = (rows: [string, number][]) => h("span", { class: "weighed" }, ...rows.map(([token, value]) => h("span", { class: value >= 0 ? "vocab up" : "vocab down", title: signed(value) }, tokenText(token))));
  return h(
    "div",
    { class: "two" },
    h("div", {}, h("h4", {}, "OV: attending to this token raises and lowers"), dataTable([{ name: "token", value: (row) => row.token, draw: (row) => tokenText(row.token) }, { name: "raises", words: true, value: (row) => row.raises[0]?.[1] ?? null, draw: (row) => tokens(row.raises) }, { name: "lowers", words: true, value: (row) => row.lowers[0]?.[1] ?? null, draw: (row) => tokens(row.lowers) }], own.OV, { caption: `OV circuit of head ${name}` })),
    h("div", {}, h("h4", {}, "QK: this token looks for"), dataTable([{ name: "token", value: (row) => row.token, draw: (row) => tokenText(row.token) }, { name: "looks for", words: true, value: (row) => row.looks_for[0]?.[1] ?? null, draw: (row) => tokens(row.looks_for) }], own.QK, { caption: `QK circuit of head ${name}` })),
  );
}
