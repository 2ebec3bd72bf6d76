/** The state of a world: what can be read of it from each layer, a sequence told in full, and whether it is used. */

import { type Board, boardOf, tally } from "../core/board";
import { estimate, inWords, readEvidence } from "../core/evidence";
import type { EstimateRow } from "../core/files";
import { number as figure } from "../core/names";
import type { Params } from "../core/params";
import { dict, fallback, list, Malformed, maybe, nullable, number, record, type Shape, text } from "../core/shape";
import { discLegend, shareBoard, stateBoard, twoDigits } from "../parts/board";
import { chart, type Series } from "../parts/chart";
import { rowsOf } from "../parts/claim";
import { dataTable } from "../parts/datatable";
import { type Child, h, replace } from "../parts/dom";
import { forest, type ForestRow } from "../parts/forest";
import { heatmap } from "../parts/heatmap";
import { choose, type Context, type Page, section } from "./context";
import { spotOf } from "./probe";

const shares = nullable(list(maybe));
const example = record({ sequence: fallback(number, 0), tokens: list(text), state: list(list(number)), read: dict(list(list(number))) });
const probeShape = record({
  model: fallback(text, ""), data: fallback(text, ""), n: fallback(dict(number), new Map<string, number>()), values: list(text), blank: nullable(text), best: text, everywhere: nullable(estimate),
  sweep: list(record({ point: text, validation: maybe, test: estimate, untrained: nullable(estimate), by_variable: shares, untrained_by_variable: shares })),
  variables: list(record({ name: text, accuracy: maybe, n: maybe })),
  shape: nullable(list(number)),
  rivals: fallback(list(record({ name: text, by_variable: list(maybe) })), []),
  evidence: readEvidence,
  examples: fallback(list(example), []),
});
const editShape = record({
  model: fallback(text, ""), data: fallback(text, ""), n: fallback(dict(number), new Map<string, number>()),
  sweep: list(record({ from: text, strength: number, errors: maybe })), best: record({ from: text, strength: number }),
  own: nullable(estimate), mass: nullable(estimate),
});
const MOST_BUTTONS = 8;
type Probe = Shape<typeof probeShape>;
type Example = Shape<typeof example>;

export function statePage({ result, params }: Context): Page {
  const { body } = result;
  const probe = readProbe(body.probe, "probe");
  return {
    evidence: readEvidence(body.evidence),
    facts: facts(probe),
    sections: [...probeSections(probe, params), ...(body.edit ? editSections(body.edit, "edit") : [section("Is it used?", "", h("p", {}, "The data describes no edits (a changed variable with the next tokens that fit it), so this was not asked. That a state can be read does not say that the model uses it."))])],
  };
}

export function stateProbePage({ result, params }: Context): Page {
  const probe = readProbe(result.body, "");
  return { evidence: readEvidence(result.body.evidence), facts: facts(probe), sections: probeSections(probe, params) };
}

export function stateEditPage({ result }: Context): Page {
  const file = editShape(result.body, "");
  return { evidence: readEvidence(result.body.evidence), facts: [["model", file.model], ["world", file.data]], sections: editSections(result.body, "") };
}

function facts(probe: Probe): [string, string][] {
  return [["model", probe.model], ["world", probe.data], ["variables", `${probe.variables.length}, each ${probe.values.join(" / ")}`.slice(0, 70)], ["sequences", [...probe.n].map(([name, n]) => `${n} ${name}`).join(", ")], ["chosen", probe.best]];
}

/** Raises Malformed where lists that go together have different lengths. */
function readProbe(value: unknown, at: string): Probe {
  const probe = probeShape(value, at);
  const size = probe.variables.length;
  const fits = (what: string, row: readonly unknown[] | null) => {
    if (row && row.length !== size) throw new Malformed(`${at ? `${at}.` : ""}${what} should have ${size} values, one a variable`);
  };
  if (!size) throw new Malformed(`${at ? `${at}.` : ""}variables should hold at least one`);
  probe.sweep.forEach((row, i) => (fits(`sweep[${i}].by_variable`, row.by_variable), fits(`sweep[${i}].untrained_by_variable`, row.untrained_by_variable)));
  probe.rivals.forEach((row, i) => fits(`rivals[${i}].by_variable`, row.by_variable));
  probe.examples.forEach((one, e) => {
    for (const [point, states] of [["state", one.state], ...one.read] as [string, number[][]][]) {
      if (states.length !== one.tokens.length) throw new Malformed(`${at ? `${at}.` : ""}examples[${e}] (${point}) should have a state after each of its ${one.tokens.length} tokens`);
      states.forEach((row, t) => fits(`examples[${e}] (${point})[${t}]`, row));
    }
  });
  return probe;
}

function probeSections(probe: Probe, params: Params): Child[] {
  const board = boardOf(probe.variables.map((one) => one.name), probe.shape);
  const baselines = probe.evidence.flatMap((one) => one.baselines.map((other) => other.estimate));
  const counted = probe.blank ? `, where it is not ${probe.blank}` : "";
  const row = (name: string, tone: Series["tone"], of: (EstimateRow | null)[], dashed = false) => (of.some((one) => one) ? [{ name, tone, dashed, spots: of.map((one, x) => spotOf(x, one)) }] : []);
  return [
    probe.examples.length ? section("A sequence, told in full", "left the world as it is, right what the probes read from the model’s stream; test sequences, the first of them, chosen by nothing else", told(probe, board, params)) : null,
    section(
      "What can be read from each layer",
      `share of variables read rightly${counted}, on test sequences, with 95 % intervals; the point is chosen on validation sequences`,
      chart({
        label: "Share read rightly by point", xTitle: "point", yTitle: "share read rightly", names: new Map(probe.sweep.map((one, i) => [i, one.point])), zero: false, yRange: [0, 1.02],
        series: [...row("linear probes", "up", probe.sweep.map((one) => one.test)), ...row("re-randomised model", "faint", probe.sweep.map((one) => one.untrained), true), ...baselines.flatMap((one, i) => row(one.name, i ? "ink" : "down", probe.sweep.map(() => one), true))],
      }).element,
      dataTable(
        [{ name: "point", value: (one) => one.point, draw: (one) => (one.point === probe.best ? `${one.point} (chosen)` : one.point) }, { name: "test", value: (one) => one.test.value, draw: (one) => inWords(one.test) }, { name: "re-randomised", value: (one) => one.untrained?.value ?? null, draw: (one) => (one.untrained ? inWords(one.untrained) : "–") }, { name: "validation", value: (one) => one.validation }],
        probe.sweep,
        { caption: "Share read rightly by point" },
      ),
      probe.everywhere && probe.blank !== null ? h("p", { class: "note" }, `${probe.blank} counted too, at ${probe.best}: ${inWords(probe.everywhere)}`) : null,
    ),
    section(board.rows > 1 ? "Square by square" : "Variable by variable", `share of test tokens on which each is read rightly${counted}; darker (in a dark theme: brighter) is more`, bySquare(probe, board, params)),
  ];
}

interface Source {
  name: string;
  group: string;
  shares: (number | null)[];
  note: string;
}

/** All that reads the state: the model's points, the re-randomised model's, and what needs no model. */
function sources(probe: Probe): Source[] {
  const of = (one: EstimateRow | null) => (one?.value === undefined || one.value === null ? "" : figure(one.value));
  const found: Source[] = probe.sweep.flatMap((one) => {
    const given = one.by_variable ?? (one.point === probe.best ? probe.variables.map((variable) => variable.accuracy) : null);
    return given ? [{ name: one.point, group: "The model", shares: given, note: `${of(one.test)}${one.point === probe.best ? ", chosen" : ""}` }] : [];
  });
  for (const one of probe.sweep) if (one.untrained_by_variable) found.push({ name: one.point, group: "Null: the model re-randomised", shares: one.untrained_by_variable, note: of(one.untrained) });
  for (const one of probe.rivals) found.push({ name: one.name, group: "Baselines: without the model", shares: one.by_variable, note: "" });
  return found;
}

function bySquare(probe: Probe, board: Board, params: Params): HTMLElement {
  const names = probe.variables.map((one) => one.name);
  const all = sources(probe);
  const groups = [...new Set(all.map((one) => one.group))];
  const short = (one: Source) => (one.group.startsWith("Null") ? `re-randomised ${one.name}` : one.name);
  const n = (i: number) => (probe.variables[i]!.n === null ? "" : `n = ${probe.variables[i]!.n!.toLocaleString("en")} test tokens`);
  const place = h("div", { class: "nested" });

  function boards(): HTMLElement {
    return h(
      "div",
      { class: "board-groups" },
      ...groups.map((group) =>
        h("div", {}, h("h3", {}, group), h("div", { class: "boards" }, ...all.filter((one) => one.group === group).map((one) => h("figure", { class: one.note.endsWith("chosen") ? "chosen" : "" }, shareBoard(board, names, one.shares, short(one), n), h("figcaption", {}, one.name, one.note ? h("b", {}, ` ${one.note}`) : null))))),
      ),
    );
  }

  function rows(): HTMLElement {
    const breaks = new Set(groups.map((group) => all.findIndex((one) => one.group === group)));
    return heatmap({
      label: "Share read rightly", rows: all.map(short), columns: names, rowTitle: "read from", columnTitle: "variable", colours: "sequential", range: [0, 1], unit: "share read rightly", breaks,
      cell: { width: 34, least: 9, height: 22 },
      value: (r, c) => all[r]!.shares[c] ?? null,
      text: (r, c) => (names.length <= 40 && typeof all[r]!.shares[c] === "number" ? twoDigits(all[r]!.shares[c]) : ""),
      describe: (r, c) => [`${names[c]} read from ${short(all[r]!)}`, `rightly ${figure(all[r]!.shares[c])}`, n(c)].filter(Boolean),
    }).element;
  }

  function show(): void {
    const flat = board.rows === 1;
    const view = params.choice<"boards" | "rows">("squares", flat ? ["rows", "boards"] : ["boards", "rows"]);
    replace(place, flat ? null : choose("Shown as", [["boards", "boards"], ["rows", "one map"]], view, (squares) => params.set({ squares })), view === "boards" && !flat ? boards() : rows());
  }
  show();
  params.listen((changed) => changed.has("squares") && show());
  const table = dataTable(
    [{ name: "variable", value: (i: number) => names[i]!, words: true }, { name: "n", title: "test tokens on which it is counted", value: (i: number) => probe.variables[i]!.n }, ...all.map((one) => ({ name: short(one), value: (i: number) => one.shares[i] ?? null }))],
    names.map((_, i) => i),
    { caption: "Share read rightly by variable" },
  );
  return h("div", { class: "nested" }, place, h("details", {}, h("summary", {}, "The numbers as a table"), table));
}

/** One sequence: the truth and the reading after a token that is chosen. */
function told(probe: Probe, board: Board, params: Params): HTMLElement {
  const names = probe.variables.map((one) => one.name);
  const blank = probe.blank === null ? -1 : probe.values.indexOf(probe.blank);
  const bar = h("div", { class: "bar" });
  const tokens = h("div", { class: "token-strip", role: "group", "aria-label": "Tokens" });
  const boards = h("div", { class: board.rows > 1 ? "board-pair" : "board-rows" });
  const detail = h("div", { class: "cell-detail", role: "status", "aria-live": "polite" });
  const slider = h("input", { type: "range", min: 0, step: 1, "aria-label": "After token" });

  const chosen = (): { one: Example; game: number; points: string[]; point: string; at: number } => {
    const game = params.whole("sequence", 0, probe.examples.length - 1) ?? 0;
    const one = probe.examples[game]!;
    const points = [...one.read.keys()];
    const point = points.find((name) => name === params.get("read")) ?? points.find((name) => name === probe.best) ?? points[0] ?? "";
    return { one, game, points, point, at: params.whole("at", 0, one.tokens.length - 1) ?? Math.floor(one.tokens.length / 2) };
  };

  function selected(points: string[], point: string): HTMLElement {
    const select = h("select", { "aria-label": "Read from", onchange: () => params.set({ read: select.value }) }, ...points.map((name) => h("option", { value: name, selected: name === point }, name)));
    return select;
  }

  function controls(): void {
    const { one, game, points, point } = chosen();
    slider.max = String(one.tokens.length - 1);
    replace(
      bar,
      probe.examples.length > 1 ? choose("Sequence", probe.examples.map((_, i) => [String(i), String(i + 1)] as const), String(game), (sequence) => params.set({ sequence })) : null,
      points.length > MOST_BUTTONS ? selected(points, point) : points.length > 1 ? choose("Read from", points.map((name) => [name, name] as const), point, (read) => params.set({ read })) : null,
      h("label", { class: "bar scrub" }, h("span", { class: "note" }, "After token"), slider),
    );
    replace(tokens, ...one.tokens.map((token, i) => h("button", { type: "button", title: `after token ${i + 1}`, onclick: () => params.set({ at: i }) }, token)));
    go();
  }

  function go(): void {
    const { one, point, at } = chosen();
    const [truth, read] = [one.state[at]!, one.read.get(point)?.[at] ?? []];
    slider.value = String(at);
    slider.style.setProperty("--at", `${(at / Math.max(1, one.tokens.length - 1)) * 100}%`);
    slider.setAttribute("aria-valuetext", `after ${one.tokens[at]}, ${at + 1} of ${one.tokens.length}`);
    [...tokens.children].forEach((button, i) => (button.setAttribute("aria-pressed", String(i === at)), button.classList.toggle("later", i > at)));
    const state = { values: probe.values, blank, last: names.indexOf(one.tokens[at]!) };
    const side = (title: string, drawn: SVGSVGElement) => h("figure", {}, h("figcaption", {}, title), h("div", { class: "board-scroll" }, drawn));
    replace(boards, side("as it is", stateBoard(board, names, { ...state, here: truth }, "The world as it is")), side(`as read from ${point}`, stateBoard(board, names, { ...state, here: read, truth }, `As read from ${point}`)));
    const { asked, right, all, allRight } = tally(truth, read, blank);
    const word = (value: number | undefined) => probe.values[value ?? -1] ?? "?";
    const missed = names.flatMap((name, i) => (truth[i]! >= 0 && truth[i] !== read[i] ? [`${name} is ${word(truth[i])}, read as ${word(read[i])}`] : []));
    replace(
      detail,
      h("b", {}, `After ‘${one.tokens[at]}’, ${at + 1} of ${one.tokens.length}`),
      h("span", {}, asked ? `${right} of ${asked}${blank >= 0 ? ` that are not ${probe.blank}` : ""} read rightly` : "nothing is asked for here", blank >= 0 && all ? `; ${allRight} of all ${all}` : ""),
      missed.length ? h("span", {}, `wrong: ${missed.slice(0, 6).join("; ")}${missed.length > 6 ? `; and ${missed.length - 6} more` : ""}`) : null,
    );
  }

  slider.addEventListener("input", () => params.set({ at: Number(slider.value) }));
  controls();
  params.listen((changed) => (changed.has("sequence") || changed.has("read") ? controls() : changed.has("at") && go()));
  return h("div", { class: "nested" }, bar, tokens, boards, discLegend(probe.values, blank, probe.examples.some((one) => one.tokens.some((token) => names.includes(token)))), detail);
}

function editSections(value: unknown, at: string): Child[] {
  const file = editShape(value, at);
  const [main] = readEvidence((value as Record<string, unknown>).evidence);
  const rows: ForestRow[] = main ? rowsOf(main) : [];
  if (file.own) rows.push({ role: "part", estimate: { ...file.own, name: "no change asked for: the model’s own errors" } });
  const starts = [...new Set(file.sweep.map((one) => one.from))];
  const strengths = [...new Set(file.sweep.map((one) => one.strength))].sort((a, b) => a - b);
  const found = (r: number, c: number) => file.sweep.find((one) => one.from === starts[r] && one.strength === strengths[c])?.errors ?? null;
  const best = (r: number, c: number) => starts[r] === file.best.from && strengths[c] === file.best.strength;
  const n = [...file.n].map(([name, count]) => `${count} ${name}`).join(", ");
  return [
    section(
      "Is it used?",
      `one variable is changed along its probe, and the next tokens should then fit the changed state; errors among them (wrong ones that come first, right ones that do not), fewer is better; edits: ${n}`,
      rows.length ? h("div", { class: "wide-forest" }, forest(rows, "Errors after an edit")) : null,
      file.mass ? h("p", { class: "note" }, `Probability on tokens that fit the changed state, after the edit along the probe: ${inWords(file.mass)}`) : null,
      h("h3", {}, "Where to start, and how far to go"),
      h("p", { class: "note" }, "mean errors on the edits that the start and the strength are chosen by"),
      heatmap({
        label: "Errors by start and strength", rows: starts, columns: strengths.map(String), rowTitle: "from", columnTitle: "strength", colours: "sequential", unit: "mean errors, fewer is better",
        cell: { width: 74, least: 40, height: 24 }, value: found, text: (r, c) => figure(found(r, c)), marked: best, marks: "chosen",
        describe: (r, c) => [`from ${starts[r]} on, strength ${strengths[c]}`, `mean errors ${figure(found(r, c))}`, best(r, c) ? "chosen" : ""].filter(Boolean),
      }).element,
      h("details", {}, h("summary", {}, "The numbers as a table"), dataTable([{ name: "from", value: (one) => one.from }, { name: "strength", value: (one) => one.strength }, { name: "mean errors", value: (one) => one.errors }], file.sweep, { caption: "Errors by start and strength" })),
    ),
  ];
}
