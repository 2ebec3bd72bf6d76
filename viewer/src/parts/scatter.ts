/** Predicted against measured effect, a point an intervention. */

import type { App } from "../core/app";
import type { Measurement } from "../core/files";
import { number } from "../core/names";
import { extent, scale, spearman, ticks, tickText } from "../core/stats";
import { h, replace, svg } from "./dom";
import { itemNodes, itemText } from "./evidence";
import { glyphPath } from "./glyph";

const KINDS: Record<string, string> = {
  feature: "of most influence",
  sample: "a sample of the others",
  edge: "of most influence",
  "edge sample": "a sample of the others",
  random: "random directions of equal norm",
};
const SIZE = { width: 420, height: 300, left: 46, right: 10, top: 10, bottom: 38 };

/** Features and links apart: their effects have different units. */
export function scatters(app: App, measurements: readonly Measurement[]): HTMLElement[] {
  const links = measurements.filter((one) => one.kind.startsWith("edge"));
  const features = measurements.filter((one) => !one.kind.startsWith("edge"));
  return [
    ...(features.length ? [scatter(app, features, "Features: predicted against measured", "What a feature’s presence adds to the target, over all paths of the graph, and what it adds in the real model.")] : []),
    ...(links.length ? [scatter(app, links, "Links: predicted against measured", "A link’s weight, and what its source adds to its target in the real model, by every path.")] : []),
  ];
}

function scatter(app: App, measurements: readonly Measurement[], title: string, how: string): HTMLElement {
  const kinds = [...new Set(measurements.map((one) => one.kind))].sort((a, b) => order(a) - order(b));
  const off = new Set<string>();
  const chart = svg("svg", { class: "scatter", viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "group", "aria-label": title });
  const readout = h("p", { class: "note readout", "aria-live": "polite" });

  function draw(): void {
    const rows = measurements.filter((one) => !off.has(one.kind));
    const both = extent(rows.flatMap((one) => [one.predicted, one.measured]), 0.06);
    const x = scale(...both, SIZE.left, SIZE.width - SIZE.right);
    const y = scale(...both, SIZE.height - SIZE.bottom, SIZE.top);
    const marks = ticks(...both, 5);
    replace(
      chart,
      ...marks.flatMap((mark) => [
        svg("line", { class: mark === 0 ? "grid zero" : "grid", x1: x(mark), x2: x(mark), y1: SIZE.top, y2: SIZE.height - SIZE.bottom }),
        svg("line", { class: mark === 0 ? "grid zero" : "grid", x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: y(mark), y2: y(mark) }),
        svg("text", { class: "tick", x: x(mark), y: SIZE.height - SIZE.bottom + 14, "text-anchor": "middle" }, tickText(mark, marks)),
        svg("text", { class: "tick", x: SIZE.left - 6, y: y(mark) + 3.5, "text-anchor": "end" }, tickText(mark, marks)),
      ]),
      svg("line", { class: "equal", x1: x(both[0]), y1: y(both[0]), x2: x(both[1]), y2: y(both[1]) }),
      svg("text", { class: "axis", x: (SIZE.left + SIZE.width - SIZE.right) / 2, y: SIZE.height - 6, "text-anchor": "middle" }, "predicted effect"),
      svg("text", { class: "axis", transform: `translate(11,${(SIZE.top + SIZE.height - SIZE.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "measured effect"),
      ...[...rows].sort((a, b) => order(b.kind) - order(a.kind)).map((row) => point(row, x(row.predicted), y(row.measured))),
    );
  }

  function point(row: Measurement, x: number, y: number): SVGGElement {
    const nodes = itemNodes(app, row.id);
    const words = `${KINDS[row.kind] ?? row.kind}: ${itemNodes(app, row.id).length ? itemText(app, row.id) : (row.label ?? row.id)}; predicted ${number(row.predicted)}, measured ${number(row.measured)}`;
    const mark = svg("g", { class: `point ${tone(row.kind)}`, transform: `translate(${x},${y})`, role: nodes.length ? "button" : "img", "aria-label": words }, svg("title", {}, words), svg("path", { d: shape(row.kind) }));
    mark.addEventListener("pointerenter", () => (readout.textContent = words));
    if (nodes[0] && row.kind !== "random") mark.addEventListener("click", () => app.select(nodes[0]!));
    return mark;
  }

  const legend = kinds.map((kind) => {
    const rows = measurements.filter((one) => one.kind === kind);
    const rho = spearman(rows.map((one) => one.predicted), rows.map((one) => one.measured));
    const box = h("input", {
      type: "checkbox", checked: true,
      onchange: () => {
        if (box.checked) off.delete(kind);
        else off.add(kind);
        draw();
      },
    });
    return h(
      "li",
      {},
      h("label", {}, box, svg("svg", { class: "glyph", viewBox: "-7 -7 14 14", width: 12, height: 12 }, svg("g", { class: `point ${tone(kind)}` }, svg("path", { d: shape(kind) }))), h("span", {}, KINDS[kind] ?? kind), h("small", {}, `n ${rows.length}`), h("b", {}, Number.isFinite(rho) ? `ρ ${number(rho, 2)}` : "ρ –")),
    );
  });
  draw();
  return h(
    "section",
    { class: "measurements", "aria-label": title },
    h("h3", {}, title),
    h("p", { class: "how" }, `${how} ρ is Spearman’s rank correlation; on the dashed line the two are equal.`),
    h("ul", { class: "scatter-legend" }, ...legend),
    chart,
    readout,
  );
}

function tone(kind: string): string {
  if (kind === "edge sample") return "sample";
  return kind in KINDS ? kind : "sample";
}

function order(kind: string): number {
  const at = Object.keys(KINDS).indexOf(kind);
  return at < 0 ? Object.keys(KINDS).length : at;
}

function shape(kind: string): string {
  if (kind.startsWith("edge")) return "M0,-4.500L4,3.200L-4,3.200Z";
  if (kind === "random") return "M-3,-3L3,3M3,-3L-3,3";
  return glyphPath("feature", kind === "feature" ? 3.8 : 3);
}
