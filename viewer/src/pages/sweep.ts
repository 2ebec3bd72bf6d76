/** A sweep: what changing each part by itself does, as a map of layers against heads or positions. */

import { estimate, inWords, readEvidence } from "../core/evidence";
import { number as figure, signed } from "../core/names";
import { linkTo } from "../core/params";
import { fallback, list, matrix, Malformed, nullable, number, record, text } from "../core/shape";
import { type Column, dataTable } from "../parts/datatable";
import { h, replace } from "../parts/dom";
import { type Heat, heatmap } from "../parts/heatmap";
import { choose, type Context, type Page, section } from "./context";

const shape = record({
  model: fallback(text, ""), task: fallback(text, ""), n: fallback(number, 0), at: fallback(text, ""), how: fallback(text, ""), metric: fallback(text, ""), unit: fallback(text, ""),
  clean: nullable(estimate), counterfactual: nullable(estimate), note: fallback(text, ""),
  axes: list(record({ name: text, labels: list(text) })),
  tokens: fallback(list(text), []),
});

const HOW: Record<string, string> = {
  denoise: "the counterfactual’s run, with one part as in the clean run: does it suffice?",
  noise: "the clean run, with one part as in the counterfactual’s: is it needed?",
  zero: "the clean run with one part set to zero.",
  mean: "the clean run with one part at its mean.",
  resample: "the clean run with one part of another item.",
};

/** One part that was changed; `at`: its index on each axis. */
interface Cell {
  at: number[];
  name: string;
  effect: number | null;
  low: number | null;
  high: number | null;
  none: number | null;
}

type View = "all" | "0,1" | "0,2" | "table";

export function sweepPage(context: Context): Page {
  const { body } = context.result;
  const { params } = context;
  const sweep = shape(body, "");
  if (!sweep.axes.length || sweep.axes.length > 3) throw new Malformed("axes should be one to three");
  const sizes = sweep.axes.map((axis) => axis.labels.length);
  const label = (axis: number, i: number) => {
    const { name, labels } = sweep.axes[axis]!;
    const token = name === "position" ? sweep.tokens[i]?.trim() : "";
    return token && token !== labels[i] ? `${labels[i]} ${token}` : labels[i]!;
  };
  const flat = (key: string, value: unknown): (number | null)[] => spread(value, sizes, key);
  const given = nullable(record({ name: fallback(text, "null") }))(body.null, "null");
  const values = {
    effect: flat("effect", body.effect),
    low: flat("low", body.low),
    high: flat("high", body.high),
    none: given ? flat("null.effect", (body.null as { effect?: unknown }).effect) : null,
  };
  const cells: Cell[] = values.effect.map((effect, i) => {
    const at = unravel(i, sizes);
    const name = at.map((index, axis) => (axis === 0 ? `${/^\d+$/.test(label(0, index)) ? "layer " : ""}${label(0, index)}` : `${sweep.axes[axis]!.name} ${label(axis, index)}`)).join(", ");
    return { at, name, effect, low: values.low[i] ?? null, high: values.high[i] ?? null, none: values.none?.[i] ?? null };
  });
  // No part of the null reaches this far.
  const reach = values.none ? Math.max(0, ...values.none.map((value) => Math.abs(value ?? 0))) : Infinity;
  const apart = (cell: Cell) => cell.low !== null && cell.high !== null && (cell.low > reach || cell.high < -reach);
  const range = Math.max(1e-12, ...values.effect.map((value) => Math.abs(value ?? 0)));
  const said = (cell: Cell): string[] => [
    cell.name,
    `${signed(cell.effect ?? NaN)} [${figure(cell.low)}, ${figure(cell.high)}] ${sweep.unit}`,
    values.none ? `null (${given!.name}) ${figure(cell.none)}; its largest ${figure(reach)}` : "no null was run",
  ];

  const three = sizes.length === 3;
  const words: [View, string][] = three
    ? [["0,1", `layer × ${sweep.axes[1]!.name}`], ["0,2", `layer × ${sweep.axes[2]!.name}`], ["all", "every part"], ["table", "table"]]
    : [["all", "map"], ["table", "table"]];
  const holder = h("div");
  const detail = h("div", { class: "cell-detail", "aria-live": "polite" });
  const headAxis = sweep.axes.findIndex((axis) => axis.name === "head");
  const cards = context.source.entries.filter((entry) => entry.schema.startsWith("cutaway.heads/"));

  function show(): void {
    const view = params.choice<View>("view", words.map(([value]) => value));
    replace(
      holder,
      h("div", { class: "bar" }, choose("Show", words, view, (value) => params.set({ view: value })), three && view.includes(",") ? h("span", { class: "note" }, `each cell: the ${sweep.axes[view === "0,1" ? 2 : 1]!.name} with the largest effect`) : null),
      view === "table" ? tableOf() : heatmap(mapOf(view)).element,
      detail,
    );
    const chosen = params.get("cell").split(".").map(Number);
    const cell = chosen.length === sizes.length ? cells.find((one) => one.at.every((index, i) => index === chosen[i])) : undefined;
    tell(cell ?? cells.reduce((best, one) => (Math.abs(one.effect ?? -1) > Math.abs(best.effect ?? -1) ? one : best), cells[0]!));
  }

  function mapOf(view: View): Heat {
    const [rowAxes, columnAxis] = !three ? [[0], 1] : view === "all" ? [[0, 1], 2] : view === "0,1" ? [[0], 1] : [[0], 2];
    const columns = columnAxis < sizes.length ? sizes[columnAxis]! : 1;
    const rows = rowAxes.reduce((product, axis) => product * sizes[axis]!, 1);
    const grid: (Cell | undefined)[][] = Array.from({ length: rows }, () => new Array<Cell | undefined>(columns));
    for (const cell of cells) {
      const r = rowAxes.length === 2 ? cell.at[0]! * sizes[1]! + cell.at[1]! : cell.at[0]!;
      const c = cell.at[columnAxis] ?? 0;
      const there = grid[r]![c];
      if (!there || Math.abs(cell.effect ?? -1) > Math.abs(there.effect ?? -1)) grid[r]![c] = cell;
    }
    const at = (r: number, c: number) => grid[r]![c]!;
    return {
      label: `Effect of each part on ${sweep.metric} of ${sweep.task}`,
      rows: Array.from({ length: rows }, (_, r) => (rowAxes.length === 2 ? `${label(0, Math.floor(r / sizes[1]!))} ${sweep.axes[1]!.name} ${label(1, r % sizes[1]!)}` : label(0, r))),
      columns: Array.from({ length: columns }, (_, c) => (columnAxis < sizes.length ? label(columnAxis, c) : "")),
      rowTitle: rowAxes.length === 2 ? `layer, ${sweep.axes[1]!.name}` : "layer",
      columnTitle: sweep.axes[columnAxis]?.name ?? "",
      colours: "diverging", range: [-range, range], unit: sweep.unit,
      value: (r, c) => at(r, c).effect,
      marked: (r, c) => apart(at(r, c)), marks: "beyond every part of the null",
      describe: (r, c) => said(at(r, c)),
      ...(rowAxes.length === 2 ? { breaks: new Set(Array.from({ length: sizes[0]! }, (_, i) => i * sizes[1]!)), cell: { width: 34, height: rows > 60 ? 10 : 16 } } : { cell: { width: columns <= 16 ? 56 : 34, height: 28 } }),
      ...(columns <= 16 && rowAxes.length === 1 ? { text: (r: number, c: number) => (at(r, c).effect === null ? "" : short(at(r, c).effect!, range)) } : {}),
      onselect: (r, c) => {
        params.set({ cell: at(r, c).at.join(".") });
        tell(at(r, c));
      },
      onopen: (r, c) => {
        const [card] = cards;
        if (card && headAxis > 0) location.hash = linkTo(card.name, { head: headName(at(r, c)) }).slice(1);
      },
    };
  }

  function headName(cell: Cell): string {
    const layer = /(\d+)(?!.*\d)/.exec(sweep.axes[0]!.labels[cell.at[0]!] ?? "")?.[1] ?? String(cell.at[0]);
    return `${layer}.${sweep.axes[headAxis]!.labels[cell.at[headAxis]!]}`;
  }

  function tell(cell: Cell): void {
    const links = headAxis > 0 ? cards.map((card) => h("a", { href: linkTo(card.name, { head: headName(cell) }) }, `Head card of ${headName(cell)}${cards.length > 1 ? ` (${card.name})` : ""}`)) : [];
    const [name, ...lines] = said(cell);
    replace(detail, h("b", {}, name), ...lines.map((line) => h("span", {}, line)), apart(cell) ? h("span", { class: "verdict good" }, "beyond every part of the null") : h("span", { class: "verdict bad" }, values.none ? "within reach of the null" : "no null"), ...links, headAxis > 0 && !cards.length ? h("span", { class: "note" }, "`cutaway heads --out` beside this sweep gives each head a card.") : null);
  }

  function tableOf(): HTMLElement {
    const columns: Column<Cell>[] = [
      { name: "part", value: (cell) => cell.name },
      ...sweep.axes.map((axis, i): Column<Cell> => ({ name: axis.name, value: (cell) => label(i, cell.at[i]!) })),
      { name: "effect", title: sweep.unit, value: (cell) => cell.effect },
      { name: "|effect|", value: (cell) => (cell.effect === null ? null : Math.abs(cell.effect)) },
      { name: "low", title: "95 % interval", value: (cell) => cell.low },
      { name: "high", title: "95 % interval", value: (cell) => cell.high },
      { name: "null", title: given?.name ?? "", value: (cell) => cell.none },
    ];
    const order = [...cells].sort((a, b) => Math.abs(b.effect ?? -1) - Math.abs(a.effect ?? -1));
    return dataTable(columns, order, { caption: "Every part that was changed", onopen: (cell) => (params.set({ cell: cell.at.join(".") }), tell(cell)) });
  }

  show();
  params.listen((changed) => changed.has("view") && show());
  const facts: [string, string][] = [["model", sweep.model], ["task", sweep.task], ["items", String(sweep.n)], ["changed", `${sweep.at}, ${sweep.how}`], ["metric", sweep.metric]];
  if (sweep.clean) facts.push(["clean", inWords(sweep.clean)]);
  if (sweep.counterfactual) facts.push(["counterfactual", inWords(sweep.counterfactual)]);
  const beyond = cells.filter(apart).length;
  const note = `${HOW[sweep.how] ?? `${sweep.how}.`} ${values.none ? `${beyond} of ${cells.length} parts reach beyond every part of the null (${given!.name}).` : "No null was run."}`;
  return { evidence: readEvidence(body.evidence), facts, sections: [section(`What each part does to ${sweep.metric || "the metric"}`, note, holder), sweep.note ? h("p", { class: "note" }, sweep.note) : null] };
}

/** As many decimals as the colours tell apart. */
function short(value: number, range: number): string {
  const decimals = Math.max(0, 2 - Math.max(0, Math.floor(Math.log10(range) + 1)));
  return range < 0.05 ? figure(value, 2) : value.toFixed(decimals).replace("-", "−").replace(/^−(0(\.0*)?)$/, "$1");
}

/** Nested lists as one, checked against the axes. */
function spread(value: unknown, sizes: readonly number[], at: string): (number | null)[] {
  if (sizes.length === 1) return matrix(1, sizes[0]!)([value], at)[0]!;
  if (sizes.length === 2) return matrix(sizes[0]!, sizes[1]!)(value, at).flat();
  if (!Array.isArray(value) || value.length !== sizes[0]) throw new Malformed(`${at} should be a list of ${sizes[0]}`);
  return value.flatMap((one, i) => matrix(sizes[1]!, sizes[2]!)(one, `${at}[${i}]`).flat());
}

function unravel(index: number, sizes: readonly number[]): number[] {
  const found: number[] = [];
  let left = index;
  for (const size of [...sizes].reverse()) {
    found.unshift(left % size);
    left = Math.floor(left / size);
  }
  return found;
}
