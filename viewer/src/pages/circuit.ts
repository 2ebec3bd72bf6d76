/** A circuit: the layered graph at any size on the faithfulness curve, an edge's own page, and another circuit beside. */

import { readEvidence } from "../core/evidence";
import { number as figure, signed } from "../core/names";
import { linkTo } from "../core/params";
import { chart, type Drawn } from "../parts/chart";
import { type Column, dataTable } from "../parts/datatable";
import { eachFrame, h, replace } from "../parts/dom";
import { forest } from "../parts/forest";
import { layered, type LayeredEdge } from "../parts/layered";
import { pattern } from "../parts/pattern";
import { Circuit, compare, type Edge, headOf, keyOf } from "./circuitfile";
import { type Context, type Page, section } from "./context";
import { scoring } from "./scoring";

const MOST_DRAWN = 3000;

export function circuitPage(context: Context): Page {
  const { params, result, source } = context;
  const circuit = new Circuit(result.body);
  const { file, ranked } = circuit;
  const total = ranked.length;
  const unit = circuit.choice("unit") || circuit.choice("metric");
  const word = circuit.scoreWord(unit);
  const ofNodes = circuit.things === "nodes";
  const evidence = readEvidence(result.body.evidence);
  let size = params.whole("size", 1, total) ?? (ofNodes ? total : Math.min(file.size, total));

  const ported = new Set(ranked.flatMap((edge) => (edge.port ? [edge.node] : [])));
  const nodes = [...new Set([...file.sources, ...ranked.map((edge) => edge.node)])].map((name) => ({ name, word: headOf(name) ?? name, stage: circuit.stage.get(name) ?? 0, ports: ported.has(name) }));

  const detail = h("div", { class: "edge-detail" });
  const graph = layered(nodes, `Circuit of ${circuit.choice("task")} in ${circuit.choice("model")}`, (edge) => {
    params.set({ edge: edge.key });
    about(edge.key);
  });
  const drawn = ranked.slice(0, MOST_DRAWN).map((edge): LayeredEdge => asLayered(circuit, edge, edge.score >= 0 ? "up" : "down", unit));

  // ---- the size

  const slider = h("input", { type: "range", min: 0, max: 1000, step: 1, "aria-label": "Edges in the circuit" });
  const exactSize = h("input", { type: "number", class: "size", min: 1, max: total, "aria-label": "Edges in the circuit, as a number" });
  const says = h("span", { class: "size-says", role: "status" });
  const asStep = (n: number) => Math.round((Math.log(n) / Math.log(Math.max(2, total))) * 1000);
  let curve: Drawn | null = null;
  const draw = eachFrame(() => {
    if (!params.get("with")) graph.show(drawn, Math.min(size, MOST_DRAWN));
    const found = circuit.faithfulness(size);
    const heads = new Set(ranked.slice(0, size).flatMap((edge) => [edge.source, edge.node]).filter((name) => headOf(name)));
    replace(
      says,
      h("b", {}, size.toLocaleString("en")), ` of ${total.toLocaleString("en")} edges, at ${heads.size} heads. `,
      found ? h("span", {}, "Faithfulness ", h("b", {}, figure(found.value)), found.between ? ` (between those measured at ${found.between.join(" and ")})` : " (measured)") : h("span", {}, "Faithfulness was not measured here."),
      size > MOST_DRAWN ? ` The ${MOST_DRAWN.toLocaleString("en")} strongest are drawn.` : "",
    );
    slider.value = String(asStep(size));
    slider.style.setProperty("--at", `${asStep(size) / 10}%`);
    slider.setAttribute("aria-valuetext", says.textContent ?? "");
    exactSize.value = String(size);
    if (!ofNodes) curve?.move(size);
  });
  const resize = (to: number) => {
    size = Math.max(1, Math.min(total, Math.round(to) || 1));
    params.set({ size: size === file.size ? null : size });
    draw();
  };
  slider.addEventListener("input", () => resize(Math.exp((Number(slider.value) / 1000) * Math.log(Math.max(2, total)))));
  exactSize.addEventListener("change", () => resize(Number(exactSize.value)));

  if (file.curve) {
    const { sizes, absolute, signed: bySign } = file.curve;
    curve = chart({
      label: "Faithfulness over sizes", xTitle: circuit.things, yTitle: "faithfulness", log: true, height: 190, ...(ofNodes ? {} : { onmove: resize, free: true, at: size }),
      series: [
        { name: "taken by |score|", tone: "up", spots: sizes.map((x, i) => ({ x, y: absolute[i] ?? null })) },
        ...(bySign.length ? [{ name: "taken by score", tone: "faint" as const, dashed: true, spots: sizes.map((x, i) => ({ x, y: bySign[i] ?? null })) }] : []),
        ...(file.faithfulness?.[0] ? [{ name: "this circuit", tone: "fire" as const, loose: true, spots: [{ x: circuit.count, y: file.faithfulness[0].faithfulness.value, low: file.faithfulness[0].faithfulness.interval?.low ?? null, high: file.faithfulness[0].faithfulness.interval?.high ?? null }] }] : []),
      ],
    });
  }

  // ---- an edge

  function about(key: string): void {
    const rank = ranked.findIndex((edge) => keyOf(edge.source, edge.destination) === key);
    const edge = ranked[rank];
    if (!edge) return replace(detail, h("p", { class: "note" }, ofNodes ? "Choose an edge in the graph: the score of the node that it leaves and the attention pattern of its head stand here." : "Choose an edge in the graph or in the table: its score, its exact effect and the attention pattern of its head stand here."));
    const exact = circuit.exact.get(key);
    const way = { q: "the queries of", k: "the keys of", v: "the values of" }[edge.port] ?? "";
    const heads = [...new Set([edge.node, edge.source])].map(headOf).filter((name): name is string => name !== null);
    const cards = source.entries.filter((entry) => entry.schema.startsWith("cutaway.heads/") && entry.model === circuit.choice("model"));
    replace(
      detail,
      h("h3", {}, `${edge.source} → ${way ? `${way} ` : ""}${edge.node}${edge.span ? ` at ${edge.span}` : ""}`),
      h(
        "dl",
        { class: "facts" },
        fact(ofNodes ? `${word.name} of ${edge.source}` : word.name, `${signed(edge.score)} ${word.unit}`),
        ofNodes ? null : fact("exact effect, ablated alone", exact ? `${signed(exact.value ?? NaN)}${typeof exact.low === "number" ? ` [${figure(exact.low)}, ${figure(exact.high)}]` : ""} ${unit}` : "not measured"),
        ofNodes ? null : fact("rank", `${rank + 1} of ${total.toLocaleString("en")}`),
        fact("in the circuit", edge.inside ? "yes" : "no"),
      ),
      ...heads.flatMap((head) => {
        const rows = file.example?.patterns.get(head);
        const links = cards.map((card) => h("a", { href: linkTo(card.name, { head }) }, `head card of ${head}`));
        return [h("h4", {}, `Attention of head ${head} on the task’s first item `, ...links), rows && file.example ? pattern(`head ${head}`, file.example.tokens, rows) : h("p", { class: "note" }, file.example ? "Its pattern is not in the file: it is not one of the circuit’s heads." : "This file has no patterns; `cutaway circuit --out` writes them.")];
      }),
    );
  }

  // ---- two circuits

  const others = source.entries.filter((entry) => entry.schema.startsWith("cutaway.circuit/") && entry.name !== result.name && !entry.problem);
  const compared = h("div", { class: "compared" });
  const pick = h("select", { "aria-label": "Compare with another circuit", onchange: () => params.set({ with: pick.value }) }, h("option", { value: "" }, "no other"), ...others.map((entry) => h("option", { value: entry.name }, entry.name)));
  async function beside(): Promise<void> {
    const name = others.some((entry) => entry.name === params.get("with")) ? params.get("with") : "";
    pick.value = name;
    controls.hidden = name !== "";
    if (!name) {
      replace(compared);
      return draw();
    }
    try {
      const opened = await source.open(name);
      if (!("result" in opened)) throw new Error("it is no circuit");
      two(name, new Circuit(opened.result.body));
    } catch (error) {
      replace(compared, h("p", { class: "trouble", role: "alert" }, `${name} cannot be compared: ${(error as Error).message}`));
    }
  }
  function two(name: string, other: Circuit): void {
    const mine = ranked.filter((edge) => edge.inside);
    const theirs = other.ranked.filter((edge) => edge.inside);
    const found = compare(mine, theirs);
    const score = new Map(other.ranked.map((edge) => [keyOf(edge.source, edge.destination), edge.score]));
    const own = new Map(ranked.map((edge) => [keyOf(edge.source, edge.destination), edge.score]));
    const rows = [...found.shared.map((edge) => ({ edge, where: "shared" })), ...found.onlyA.map((edge) => ({ edge, where: `only ${result.name}` })), ...found.onlyB.map((edge) => ({ edge, where: `only ${name}` }))];
    const tones = { shared: "shared", [`only ${result.name}`]: "a", [`only ${name}`]: "b" } as Record<string, string>;
    const edges = rows.slice(0, MOST_DRAWN).map(({ edge, where }) => asLayered(circuit, edge, tones[where]!, unit, 0.35));
    graph.show(edges, edges.length);
    const counts: [string, string, number][] = [["shared", "in both", found.shared.length], ["a", `only ${result.name}`, found.onlyA.length], ["b", `only ${name}`, found.onlyB.length]];
    const columns: Column<(typeof rows)[number]>[] = [
      { name: "edge", value: (row) => keyOf(row.edge.source, row.edge.destination) },
      { name: "where", value: (row) => row.where },
      { name: result.name, value: (row) => own.get(keyOf(row.edge.source, row.edge.destination)) ?? null },
      { name, value: (row) => score.get(keyOf(row.edge.source, row.edge.destination)) ?? null },
    ];
    replace(compared, h("p", { class: "chart-legend" }, ...counts.map(([tone, word, n]) => h("span", { class: `edge-key ${tone}` }, h("i"), `${word}: `, h("b", {}, String(n)))), h("span", {}, `Jaccard of the edges ${figure(found.jaccard)}`)), dataTable(columns, rows, { caption: `Edges of ${result.name} and ${name}` }));
  }
  const controls = h("div", { class: "size-bar" }, slider, exactSize, says, h("button", { type: "button", class: "text-button", onclick: () => resize(file.size) }, "As found"));

  params.listen((changed) => changed.has("with") && void beside());
  void beside();
  about(params.get("edge"));
  draw();
  const chosen = params.get("edge");
  if (chosen) requestAnimationFrame(() => requestAnimationFrame(() => graph.select(chosen)));

  const facts: [string, string][] = (["model", "task", "method", "ablation", "metric", "n"] as const).flatMap((name) => (circuit.choice(name) ? [[name, circuit.choice(name)] as [string, string]] : []));
  const table = ofNodes ? null : dataTable(edgeColumns(circuit, unit), ranked.slice(0, Math.max(file.edges.length, MOST_DRAWN)), {
    caption: "Edges by score",
    onopen: (edge) => {
      params.set({ edge: keyOf(edge.source, edge.destination) });
      about(keyOf(edge.source, edge.destination));
      graph.select(keyOf(edge.source, edge.destination));
      detail.scrollIntoView({ block: "nearest" });
    },
  });
  return {
    evidence,
    facts,
    sections: [
      section(
        "The circuit",
        `input below, logits above; ${coloured(circuit)}. ${ported.size ? "Edges enter a head on the left as queries, in the middle as keys, on the right as values." : ""}`,
        ofNodes ? h("p", {}, ofNodesInWords(circuit)) : controls,
        others.length ? h("label", { class: "bar" }, h("span", { class: "note" }, "Compare with"), pick) : null,
        h("div", { class: "circuit-two" }, graph.element, detail),
        compared,
      ),
      curve ? section("Faithfulness over sizes", `${file.curve!.ablation} ablation, ${file.curve!.n} items held out${ofNodes ? "" : "; drag along it to change the size"}`, curve.element) : null,
      file.faithfulness?.length ? section("Faithfulness by ablation", "1: the circuit does what the model does; 0: what is left when every edge is ablated", forest(file.faithfulness.map((row) => ({ estimate: { ...row.faithfulness, name: row.ablation }, role: "part" as const })), "faithfulness by ablation")) : null,
      agreement(circuit, unit),
      ...scoring(result.body),
      table ? section("Edges", `all ${total.toLocaleString("en")} that were scored, the strongest first; choose one to see it above`, table) : null,
      circuit.nodes.length ? section("Nodes", `all ${circuit.nodes.length.toLocaleString("en")} that were scored, the strongest first; the input is always in the circuit`, dataTable([{ name: "node", value: (node) => node.name }, { name: word.name, title: [circuit.means, word.unit].filter(Boolean).join("; "), value: (node) => node.score }, { name: "in the circuit", value: (node) => (node.inside ? "yes" : "no") }], circuit.nodes, { caption: "Nodes by score" })) : null,
    ],
  };
}

/** What the edges' colours and widths say. */
function coloured(circuit: Circuit): string {
  const of = circuit.things === "nodes" ? ", an edge having the score of the node that it leaves" : "";
  return circuit.isEffect ? `blue edges raise the metric, orange lower it; the wider, the larger |score|${of}` : `the wider an edge, the larger its |score|: ${circuit.means}${of}`;
}

/** "10 of 20 nodes (6 heads, 4 others) with every edge among them, beside the input, which is always in." */
function ofNodesInWords(circuit: Circuit): string {
  const inside = circuit.nodes.filter((node) => node.inside);
  const heads = inside.filter((node) => headOf(node.name.split("@")[0]!)).length;
  const whole = circuit.file.whole ?? circuit.nodes.length;
  return `A circuit of nodes: ${circuit.count} of ${whole}${inside.length ? ` (${heads} at heads, ${inside.length - heads} at MLPs)` : ""}, with every edge among them; the input is always in.`;
}

function asLayered(circuit: Circuit, edge: Edge, tone: string, unit: string, weight?: number): LayeredEdge {
  const key = keyOf(edge.source, edge.destination);
  const exact = circuit.exact.get(key);
  return { ...edge, key, tone, weight: weight ?? edge.score, describe: [key, `${circuit.scoreWord(unit).name}${circuit.things === "nodes" ? ` of ${edge.source}` : ""} ${signed(edge.score)} ${circuit.scoreWord(unit).unit}`, ...(exact ? [`exact ${signed(exact.value ?? NaN)} ${unit}`] : [])] };
}

function fact(name: string, value: string): HTMLElement {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

/** Where both are known, the exact effect against the approximate. */
function agreement(circuit: Circuit, unit: string): HTMLElement | null {
  const rows = circuit.ranked.flatMap((edge) => {
    const exact = circuit.exact.get(keyOf(edge.source, edge.destination));
    return exact ? [{ edge, exact }] : [];
  });
  if (rows.length < 3) return null;
  const spots = (inside: boolean) => rows.filter((row) => row.edge.inside === inside).map(({ edge, exact }) => ({ x: edge.score, y: exact.value, low: exact.low ?? null, high: exact.high ?? null }));
  const scores = rows.map((row) => row.edge.score);
  const [low, high] = [Math.min(0, ...scores), Math.max(0, ...scores)];
  const { name, titled } = circuit.scoreWord(unit);
  const drawn = chart({
    label: `Exact effects against ${circuit.isEffect ? "approximate ones" : "scores"}`, xTitle: titled, yTitle: `exact effect, ${unit}`, height: 260,
    series: [{ name: "in the circuit", tone: "up", loose: true, spots: spots(true) }, { name: "outside", tone: "down", loose: true, spots: spots(false) }, ...(circuit.isEffect ? [{ name: "equal", tone: "faint" as const, dashed: true, spots: [{ x: low, y: low }, { x: high, y: high }] }] : [])],
  });
  return section(`Exact effect beside ${name}`, `${rows.length} edges were ablated for real, one at a time; bars are intervals over items${circuit.isEffect ? "" : `; the score is ${circuit.means}, so the two have different units`}`, drawn.element);
}

function edgeColumns(circuit: Circuit, unit: string): Column<Edge>[] {
  const word = circuit.scoreWord(unit);
  const exact = (edge: Edge) => circuit.exact.get(keyOf(edge.source, edge.destination))?.value ?? null;
  return [
    { name: "edge", value: (edge) => keyOf(edge.source, edge.destination) },
    { name: "into", value: (edge) => ({ q: "query", k: "key", v: "value" })[edge.port] ?? "–" },
    ...(circuit.ranked.some((edge) => edge.span) ? [{ name: "at", title: "positions", value: (edge: Edge) => edge.span || "–" }] : []),
    { name: word.name, title: [circuit.means, word.unit].filter(Boolean).join("; "), value: (edge) => edge.score },
    { name: "exact", title: `${unit}, ablated alone`, value: exact },
    { name: "in the circuit", value: (edge) => (edge.inside ? "yes" : "no") },
  ];
}
