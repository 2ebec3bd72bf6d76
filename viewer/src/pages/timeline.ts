/** A training run: measures stacked over the checkpoints, stages shaded, a moment to scrub to and to open. */

import { readEvidence } from "../core/evidence";
import { number as figure } from "../core/names";
import { linkTo } from "../core/params";
import { dict, fallback, list, Malformed, maybe, nullable, number, pair, record, text } from "../core/shape";
import { chart, type Drawn } from "../parts/chart";
import { dataTable } from "../parts/datatable";
import { h, replace } from "../parts/dom";
import { choose, type Context, type Page, section } from "./context";
import { dynamics, essentialSection } from "./essential";

const found = record({ kind: fallback(text, ""), next_p: maybe, points: list(record({ step: number, interval: nullable(pair(maybe, maybe)), p: maybe })) });
const shape = record({
  model: fallback(text, ""), x: nullable(record({ label: fallback(text, "step"), scale: fallback(text, "") })), steps: list(number), labels: fallback(list(text), []), sources: fallback(list(text), []),
  panels: list(record({ title: text, unit: fallback(text, ""), values: list(maybe), low: fallback(list(maybe), []), high: fallback(list(maybe), []), n: fallback(list(maybe), []), notes: fallback(list(text), []), changepoints: nullable(found) })),
  stages: nullable(record({ by: nullable(text), items: fallback(list(record({ name: text, from: number, to: number, changes: fallback(dict(maybe), new Map<string, number | null>()) })), []) })),
  essential: nullable(dynamics),
  summary: fallback(list(text), []),
  notes: fallback(list(text), []),
});

const MOST_PANELS = 12;

export function timelinePage({ result, params, source, several }: Context): Page {
  const file = shape(result.body, "");
  const { steps, panels } = file;
  if (!steps.length) throw new Malformed("steps should hold at least one checkpoint");
  for (const panel of panels) if (panel.values.length !== steps.length) throw new Malformed(`panel ${panel.title} should have ${steps.length} values`);
  const stages = file.stages?.items ?? [];
  const moment = h("div", { class: "moment", "aria-live": "polite" });
  const stack = h("div", { class: "stack" });
  const slider = h("input", { type: "range", min: 0, max: steps.length - 1, step: 1, "aria-label": "Checkpoint" });
  let drawn: Drawn[] = [];
  let at = params.whole("at", 0, steps.length - 1) ?? steps.length - 1;

  const picked = () => {
    const asked = new Set(params.get("panels").split("~").filter(Boolean));
    const known = panels.filter((panel) => asked.has(panel.title));
    return known.length ? known : panels.slice(0, MOST_PANELS);
  };

  function go(i: number): void {
    at = i;
    params.set({ at: i });
    slider.value = String(i);
    slider.style.setProperty("--at", `${(i / Math.max(1, steps.length - 1)) * 100}%`);
    slider.setAttribute("aria-valuetext", `step ${steps[i]}`);
    for (const one of drawn) one.move(steps[i]!);
    const from = file.sources[i] ?? "";
    const stage = stages.find((one) => steps[i]! >= one.from && steps[i]! <= one.to);
    const name = from.split("/").filter(Boolean).at(-1) ?? "";
    const here = source.entries.filter((entry) => entry.name !== result.name && [from, name, file.labels[i]].includes(entry.model) && entry.model !== "");
    replace(
      moment,
      h("h3", {}, `Step ${steps[i]!.toLocaleString("en")}`, stage ? h("span", { class: "note" }, ` stage ${stage.name}`) : null),
      h("dl", { class: "facts" }, ...picked().map((panel) => h("div", { title: panel.notes[i] ?? "" }, h("dt", {}, panel.title, panel.notes[i] ? " !" : ""), h("dd", {}, `${figure(panel.values[i])}${typeof panel.low[i] === "number" && typeof panel.high[i] === "number" ? ` [${figure(panel.low[i])}, ${figure(panel.high[i])}]` : ""}`)))),
      from ? h("p", {}, h("span", { class: "note" }, "Open the model of this moment: "), h("code", {}, `cutaway lens "…" --model ${/[^\w./:@-]/.test(from) ? `'${from}'` : from}`)) : null,
      here.length ? h("p", {}, h("span", { class: "note" }, "Results of this checkpoint here: "), ...here.map((entry) => h("a", { href: entry.kind === "trace" ? `#trace=${encodeURIComponent(entry.name)}` : linkTo(entry.name) }, entry.title || entry.name))) : several ? h("p", { class: "note" }, "Results made with --model on this checkpoint, in this study’s folder, are linked here.") : null,
    );
  }

  function show(): void {
    const log = params.choice("axis", ["log", "linear"]) === "log";
    drawn = picked().map((panel, i) =>
      chart({
        label: panel.title, xTitle: file.x?.label ?? "step", yTitle: panel.unit || panel.title.slice(0, 24), log, zero: false, height: 168, stacked: true,
        series: [{ name: panel.title, tone: i % 2 ? "fire" : "up", spots: steps.map((x, t) => ({ x, y: panel.values[t] ?? null, low: panel.low[t] ?? null, high: panel.high[t] ?? null })) }],
        spans: stages.map((stage) => ({ from: stage.from, to: stage.to, label: i ? "" : `stage ${stage.name}` })),
        marks: (panel.changepoints?.points ?? []).map((point) => ({ x: point.step, low: point.interval?.[0] ?? null, high: point.interval?.[1] ?? null, label: `changepoint at step ${figure(point.step, 4)}, p ${figure(point.p, 2)}` })),
        onmove: (x) => go(steps.indexOf(x)),
        onopen: () => moment.scrollIntoView({ block: "nearest" }),
      }),
    );
    replace(stack, ...drawn.map((one) => one.element));
    replace(bar, choose("Axis", [["log", "log(step)"], ["linear", "linear"]], log ? "log" : "linear", (axis) => params.set({ axis })), h("label", { class: "bar scrub" }, h("span", { class: "note" }, "Scrub"), slider));
    go(at);
  }
  const bar = h("div", { class: "bar" });
  slider.addEventListener("input", () => go(Number(slider.value)));
  show();
  params.listen((changed) => (changed.has("axis") || changed.has("panels")) && show());

  const points = panels.flatMap((panel) => (panel.changepoints?.points ?? []).map((point) => ({ panel: panel.title, ...point })));
  const turning = panels.find((panel) => panel.changepoints?.points.length);
  const turns = turning?.changepoints?.points ?? [];
  const without = panels.filter((panel) => panel.changepoints && !panel.changepoints.points.length);
  const boxes = panels.length > 1 ? h("details", {}, h("summary", {}, `${picked().length} of ${panels.length} measures shown`), h("div", { class: "choices" }, ...panels.map((panel) => choice(panel.title)))) : null;
  function choice(title: string): HTMLElement {
    const box = h("input", { type: "checkbox", checked: picked().some((panel) => panel.title === title) });
    box.addEventListener("change", () => {
      const now = new Set(picked().map((panel) => panel.title));
      if (box.checked) now.add(title);
      else now.delete(title);
      params.set({ panels: panels.map((panel) => panel.title).filter((one) => now.has(one)).join("~") });
    });
    return h("label", { class: "switch" }, box, title);
  }
  const evidence = readEvidence(result.body.evidence);
  return {
    ...(evidence.length ? {} : { finding: turning ? `${turning.title} of ${file.model} changes course at step ${turns.map((point) => point.step.toLocaleString("en")).join(", ")}` : `${file.model} over ${steps.length} checkpoints` }),
    measured: turning
      ? [h("span", {}, h("b", {}, turns.map((point) => `${figure(point.step, 4)} [${figure(point.interval?.[0])}, ${figure(point.interval?.[1])}]`).join(", ")), ` changepoints of ${turning.title}`), h("span", {}, "null ", h("b", {}, `p ${turns.map((point) => figure(point.p, 2)).join(", ")}`), " against the checkpoints shuffled"), h("span", {}, h("b", {}, `n = ${steps.length}`), " checkpoints")]
      : without.length
        ? [h("span", {}, `no changepoint beyond the checkpoints shuffled in ${without.map((panel) => panel.title).join(", ")}`), h("span", {}, h("b", {}, `n = ${steps.length}`), " checkpoints")]
        : [],
    evidence,
    facts: [["model", file.model], ["checkpoints", String(steps.length)], ["steps", `${steps[0]!.toLocaleString("en")} to ${steps.at(-1)!.toLocaleString("en")}`], ["measures", String(panels.length)]],
    sections: [
      file.summary.length ? section("In short", "", h("ul", { class: "lines" }, ...file.summary.map((line) => h("li", {}, line)))) : null,
      section("Over training", `${stages.length ? `stages lie between the changepoints of ${file.stages?.by ?? "one measure"}; ` : ""}dashed: changepoints with their intervals; arrow keys or dragging move along the checkpoints`, bar, boxes, h("div", { class: "timeline-two" }, stack, moment)),
      points.length || without.length
        ? section("Changepoints", `against the checkpoints shuffled${without.length ? `; none beyond the null in ${without.map((panel) => `${panel.title} (p ${figure(panel.changepoints!.next_p, 2)})`).join(", ")}` : ""}`, dataTable([{ name: "measure", value: (row) => row.panel }, { name: "step", value: (row) => row.step }, { name: "from", value: (row) => row.interval?.[0] ?? null }, { name: "to", value: (row) => row.interval?.[1] ?? null }, { name: "p", value: (row) => row.p }], points, { caption: "Changepoints" }))
        : null,
      stages.length ? section("Stages", "by how much each measure changed from a stage’s first step to its last", dataTable([{ name: "stage", value: (row) => row.name }, { name: "from", value: (row) => row.from }, { name: "to", value: (row) => row.to }, ...panels.slice(0, 10).map((panel) => ({ name: panel.title, value: (row: (typeof stages)[number]) => row.changes.get(panel.title) ?? null }))], stages, { caption: "Stages" })) : null,
      file.essential ? essentialSection(file.essential, file.essential.steps.length ? file.essential.steps : steps) : null,
      section("Every checkpoint", "", dataTable([{ name: "step", value: (i) => steps[i]! }, ...panels.slice(0, 12).map((panel) => ({ name: panel.title, title: panel.unit, value: (i: number) => panel.values[i] ?? null }))], [...steps.keys()], { caption: "Every checkpoint", onopen: (i) => (go(i), moment.scrollIntoView({ block: "nearest" })) })),
      ...file.notes.map((note) => h("p", { class: "note" }, note)),
    ],
  };
}
