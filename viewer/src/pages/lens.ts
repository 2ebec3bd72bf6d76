/** A lens: what each layer would say next at each position, and how near that is to what the model says. */

import { readEvidence } from "../core/evidence";
import { number as figure, percent, tokenText } from "../core/names";
import { fallback, list, Malformed, maybe, number, pair, record, text } from "../core/shape";
import { chart } from "../parts/chart";
import { dataTable } from "../parts/datatable";
import { h, replace } from "../parts/dom";
import { heatmap } from "../parts/heatmap";
import { choose, type Context, type Page, section } from "./context";

const shape = record({
  model: fallback(text, ""), kind: fallback(text, "lens"), points: list(text), null_kl: fallback(list(maybe), []),
  prompts: list(
    record({
      tokens: list(text),
      answer: record({ token: text }),
      prediction_depth: fallback(list(number), []),
      points: list(record({ point: text, top: list(list(pair(text, number))), kl_to_final: list(maybe), answer_rank: number, answer_probability: number })),
    }),
  ),
});

type Colour = "probability" | "kl";

export function lensPage({ result, params }: Context): Page {
  const file = shape(result.body, "");
  if (!file.prompts.length) throw new Malformed("prompts should hold at least one prompt");
  file.prompts.forEach((prompt, p) =>
    prompt.points.forEach((point, i) => {
      if (point.top.length !== prompt.tokens.length || point.kl_to_final.length !== prompt.tokens.length) throw new Malformed(`prompts[${p}].points[${i}] should have an entry for each of its ${prompt.tokens.length} tokens`);
    }),
  );
  const holder = h("div");
  const detail = h("div", { class: "cell-detail", "aria-live": "polite" });
  const curves = h("div", { class: "nested" });

  function show(): void {
    const prompt = file.prompts[params.whole("prompt", 0, file.prompts.length - 1) ?? 0]!;
    const colour = params.choice<Colour>("colour", ["probability", "kl"]);
    const rows = [...prompt.points].reverse(); // the output on top, as in the model
    const tokens = prompt.tokens.map(tokenText);
    const tell = (r: number, c: number) => {
      const point = rows[r]!;
      replace(
        detail,
        h("b", {}, `${point.point} after ‘${tokens[c]}’`),
        h("span", {}, "would say ", ...point.top[c]!.map(([token, p]) => h("span", { class: "vocab up" }, `${tokenText(token)} ${percent(p)}`))),
        h("span", {}, `KL to the output ${figure(point.kl_to_final[c])} nats`),
        c === tokens.length - 1 ? h("span", {}, `rank of ‘${tokenText(prompt.answer.token)}’: ${point.answer_rank.toLocaleString("en")}, ${percent(point.answer_probability)}`) : null,
      );
    };
    const map = heatmap({
      label: `What each layer would say after each token of “${prompt.tokens.join("")}”`, rows: rows.map((row) => row.point), columns: tokens, rowTitle: "point", columnTitle: "after the token",
      colours: "sequential", range: colour === "probability" ? [0, 1] : [0, Math.max(0.1, ...rows.flatMap((row) => row.kl_to_final.map((x) => x ?? 0)))], unit: colour === "probability" ? "probability of the token in the cell" : "KL to the output, nats",
      cell: { width: 84, least: 46, height: 25 },
      value: (r, c) => (colour === "probability" ? (rows[r]!.top[c]![0]?.[1] ?? null) : rows[r]!.kl_to_final[c]!),
      text: (r, c) => tokenText(rows[r]!.top[c]![0]?.[0] ?? ""),
      describe: (r, c) => [`${rows[r]!.point} after ‘${tokens[c]}’`, ...rows[r]!.top[c]!.slice(0, 5).map(([token, p]) => `${tokenText(token)} ${percent(p)}`), `KL to the output ${figure(rows[r]!.kl_to_final[c])} nats`],
      onselect: (r, c) => (params.set({ cell: `${r}.${c}` }), tell(r, c)),
    });
    const picker = h("select", { "aria-label": "Prompt", onchange: () => params.set({ prompt: picker.value, cell: null }) }, ...file.prompts.map((one, i) => h("option", { value: i, selected: one === prompt }, `${i + 1}. ${one.tokens.join("").slice(0, 90)}`)));
    replace(holder, h("div", { class: "bar" }, file.prompts.length > 1 ? picker : null, choose("Colour", [["probability", "probability"], ["kl", "distance to the output"]], colour, (value) => params.set({ colour: value }))), map.element, detail);
    const [r, c] = params.get("cell").split(".").map(Number);
    const there = r !== undefined && c !== undefined && rows[r]?.top[c] !== undefined;
    map.select(there ? r : 0, there ? c : tokens.length - 1);
    tell(there ? r : 0, there ? c : tokens.length - 1);

    const names = new Map(prompt.points.map((point, i) => [i, point.point]));
    const mean = (values: (number | null)[]) => values.reduce<number>((sum, x) => sum + (x ?? 0), 0) / Math.max(1, values.length);
    const kl = file.points.map((_, i) => mean(file.prompts.flatMap((one) => one.points[i]?.kl_to_final ?? [])));
    replace(
      curves,
      chart({ label: "Distance to the output by point", xTitle: "point", yTitle: "KL, nats", names, height: 220, series: [{ name: `${file.kind}, all positions of ${file.prompts.length} prompt${file.prompts.length > 1 ? "s" : ""}`, tone: "up", spots: kl.map((y, x) => ({ x, y })) }, ...(file.null_kl.length ? [{ name: "the same on the re-randomised model", tone: "faint" as const, dashed: true, spots: file.null_kl.map((y, x) => ({ x, y })) }] : [])] }).element,
      dataTable(
        [{ name: "point", value: (row) => row.point }, { name: `rank of ‘${tokenText(prompt.answer.token)}’`, title: "1 is the likeliest", value: (row) => row.answer_rank }, { name: "its probability", value: (row) => row.answer_probability }, { name: "KL at the end", title: "nats", value: (row) => row.kl_to_final.at(-1) ?? null }, { name: "says", value: (row) => tokenText(row.top.at(-1)?.[0]?.[0] ?? "") }],
        rows,
        { caption: "At the prompt’s end" },
      ),
    );
  }
  show();
  params.listen((changed) => (changed.has("prompt") || changed.has("colour")) && show());
  return {
    evidence: readEvidence(result.body.evidence),
    facts: [["model", file.model], ["read through", file.kind], ["prompts", String(file.prompts.length)]],
    sections: [section("What each layer would say next", "the likeliest next token, read from the stream after each token; the output on top", holder), section("Nearing the output", "for the whole prompt, and at its end", curves)],
  };
}
