/** Components as boxes, the input below and the output above, with the edges between them. */

import { h, svg } from "./dom";
import { hideTip, showTip } from "./tip";

export interface LayeredEdge {
  source: string;
  node: string;
  port: string;
  weight: number;
  /** "up", "down"; of two graphs compared: "shared", "a", "b". */
  tone: string;
  key: string;
  describe: string[];
}

export interface LayeredNode {
  name: string;
  word: string;
  stage: number;
  /** Edges enter it as queries, keys and values. */
  ports: boolean;
  marked?: boolean;
}

export interface Layered {
  element: HTMLElement;
  /** Draw the first `count` of the edges given. */
  show(edges: readonly LayeredEdge[], count: number): void;
  select(key: string): void;
}

const PORTS = ["q", "k", "v"];
const ROW = 46;

export function layered(nodes: readonly LayeredNode[], label: string, onselect: (edge: LayeredEdge) => void): Layered {
  const stages = [...new Set(nodes.map((node) => node.stage))].sort((a, b) => a - b);
  const widest = Math.max(...stages.map((stage) => nodes.filter((node) => node.stage === stage).length));
  const step = Math.max(34, Math.min(124, 880 / (widest + 1)));
  const width = step * (widest + 1) + 40;
  const height = stages.length * ROW + 34;
  const box = { width: Math.min(70, step - 8), height: 22 };
  const at = new Map<string, { x: number; y: number }>();
  for (const [level, stage] of stages.entries()) {
    const row = nodes.filter((node) => node.stage === stage);
    row.forEach((node, i) => at.set(node.name, { x: width / 2 + (i - (row.length - 1) / 2) * step, y: height - 26 - level * ROW }));
  }
  const paths = svg("g", { class: "edges" });
  const boxes = svg("g", { class: "nodes" });
  const drawing = svg("svg", { class: "layered", viewBox: `0 0 ${width} ${height}`, width, height, tabindex: 0, role: "application", "aria-roledescription": "graph", "aria-label": `${label}. Up and down arrow keys go through the edges, strongest first.` }, paths, boxes);
  const spoken = h("div", { class: "unseen", role: "status", "aria-live": "polite" });
  const element = h("div", { class: "layered-scroll" }, drawing, spoken);
  const groups = new Map<string, SVGGElement>();
  for (const node of nodes) {
    const { x, y } = at.get(node.name)!;
    const group = svg(
      "g",
      { class: node.marked ? "node-box marked" : "node-box" },
      svg("rect", { x: x - box.width / 2, y: y - box.height / 2, width: box.width, height: box.height, rx: 5 }),
      svg("text", { x, y: y + 4, "text-anchor": "middle" }, node.word),
      ...(node.ports && box.width >= 44 ? PORTS.map((port, i) => svg("text", { class: "port", x: x + (i - 1) * (box.width / 3.4), y: y + box.height / 2 + 8, "text-anchor": "middle" }, port)) : []),
    );
    groups.set(node.name, group);
    boxes.append(group);
  }

  let given: readonly LayeredEdge[] = [];
  let drawn: SVGPathElement[] = [];
  let shown = 0;
  let chosen = -1;
  let most = 1;

  const portX = (edge: LayeredEdge, x: number) => (edge.port ? x + (PORTS.indexOf(edge.port) - 1) * (box.width / 3.4) : x);

  function path(edge: LayeredEdge, i: number): SVGPathElement {
    const [from, to] = [at.get(edge.source), at.get(edge.node)];
    const thick = 0.7 + 5 * Math.sqrt(Math.abs(edge.weight) / most);
    if (!from || !to) return svg("path", {});
    const [x0, y0, x1, y1] = [from.x, from.y - box.height / 2, portX(edge, to.x), to.y + box.height / 2];
    const bend = Math.min(70, (y0 - y1) * 0.45);
    const aside = from.x === to.x && y0 - y1 > ROW ? (i % 2 ? 26 : -26) : 0;
    return svg("path", { class: `edge ${edge.tone}`, d: `M${x0} ${y0}C${x0 + aside} ${y0 - bend} ${x1 + aside} ${y1 + bend} ${x1} ${y1}`, "stroke-width": thick.toFixed(2), "data-i": i });
  }

  function show(edges: readonly LayeredEdge[], count: number): void {
    if (edges !== given) {
      given = edges;
      most = Math.max(1e-300, ...edges.slice(0, 200).map((edge) => Math.abs(edge.weight)));
      paths.replaceChildren();
      drawn = [];
      shown = 0;
      chosen = -1;
    }
    while (drawn.length < count && drawn.length < edges.length) {
      const made = path(edges[drawn.length]!, drawn.length);
      drawn.push(made);
      paths.prepend(made); // the strongest on top
    }
    const [low, high] = [Math.min(shown, count), Math.max(shown, count)];
    for (let i = low; i < high && i < drawn.length; i++) drawn[i]!.style.display = i < count ? "" : "none";
    shown = Math.min(count, edges.length);
    const active = new Map<string, Set<string>>();
    for (const edge of edges.slice(0, shown)) {
      active.set(edge.source, active.get(edge.source) ?? new Set());
      active.set(edge.node, (active.get(edge.node) ?? new Set()).add(edge.port));
    }
    for (const [name, group] of groups) group.classList.toggle("on", active.has(name));
  }

  function mark(i: number, tell: boolean): void {
    drawn[chosen]?.classList.remove("selected");
    chosen = i;
    const edge = given[i];
    if (!edge) return;
    drawn[i]?.classList.add("selected");
    spoken.textContent = edge.describe.join(", ");
    for (const [name, group] of groups) group.classList.toggle("selected", name === edge.source || name === edge.node);
    if (tell) onselect(edge);
  }

  const edgeAt = (event: Event) => {
    const i = (event.target as Element).getAttribute?.("data-i");
    return i === null || i === undefined ? -1 : Number(i);
  };
  drawing.addEventListener("pointermove", (event) => {
    const edge = given[edgeAt(event)];
    if (edge) showTip(edge.describe, event.clientX, event.clientY);
    else hideTip();
  });
  drawing.addEventListener("pointerleave", hideTip);
  drawing.addEventListener("click", (event) => edgeAt(event) >= 0 && mark(edgeAt(event), true));
  drawing.addEventListener("keydown", (event) => {
    const to: Record<string, number> = { ArrowDown: Math.min(shown - 1, chosen + 1), ArrowUp: Math.max(0, chosen - 1), Home: 0, End: shown - 1 };
    const next = to[event.key];
    if (next === undefined) return;
    event.preventDefault();
    mark(next, true);
  });
  return { element, show, select: (key) => mark(given.findIndex((edge) => edge.key === key), false) };
}
