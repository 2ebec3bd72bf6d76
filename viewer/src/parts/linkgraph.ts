/** The link graph: tokens across, layers up. Links on a canvas, nodes as SVG, so that thousands stay quick. */

import type { App } from "../core/app";
import type { Node as GraphNode } from "../core/graph";
import { type Layout, layoutGraph } from "../core/layout";
import { logitToken, percent, tokenLiteral, tokenText } from "../core/names";
import { eachFrame, h, icon, replace, style, svg } from "./dom";
import { glyphPath } from "./glyph";
import { labelled } from "./graphlabels";
import { type Box, LinkCanvas } from "./linkcanvas";
import { panZoom } from "./panzoom";
import { tooltip } from "./tooltip";

const FONT = '500 12px Inter, ui-sans-serif, system-ui, -apple-system, "Segoe UI", sans-serif';

/** The scale down to which a graph is still read without zooming in. */
const LEAST = 0.72;

export function linkGraph(app: App): HTMLElement {
  const { graph, store } = app;
  const base = h("canvas", { class: "links", "aria-hidden": "true" });
  const focus = h("canvas", { class: "links focus", "aria-hidden": "true" });
  const bands = svg("g", { class: "bands" });
  const ground = svg("svg", { class: "nodes ground", "aria-hidden": "true" }, bands);
  const glyphs = svg("g", { class: "glyphs" });
  const labels = svg("g", { class: "labels", "aria-hidden": "true" });
  const world = svg("g", { class: "world" }, glyphs, labels);
  const picture = svg("svg", { class: "nodes", role: "group", "aria-label": "Nodes of the graph" }, world);
  const rowLabels = h("div", { class: "row-labels", "aria-hidden": "true" });
  const axis = h("div", { class: "token-axis" });
  const bar = h("div", { class: "scroll-mark", "aria-hidden": "true" }, h("i"));
  const plot = h("div", { class: "plot" }, ground, base, focus, picture, bar, zoomButtons());
  const pane = h("section", { class: "pane linkgraph", "aria-label": "Link graph" }, rowLabels, plot, h("div", { class: "corner" }), axis);

  const canvas = new LinkCanvas(app, base, focus);
  const marks = new Map<number, SVGGElement>();
  let layout: Layout | null = null;
  let room = { width: 0, height: 0 };
  let box: Box = { k: 1, x: 0, y: 0 };
  let touched = false;

  const measurer = document.createElement("canvas").getContext("2d")!;
  const measure = (text: string) => {
    measurer.font = FONT;
    return measurer.measureText(text).width;
  };
  const columnText = (position: number) => tokenText(graph.tokens[position] ?? "");
  const boxText = (node: GraphNode) => `${tokenText(logitToken(node))}  ${percent(node.probability)}`;

  const zoom = panZoom(plot, (next) => move(next), {
    get: () => box,
    clamp: (next) => clamp(next),
    click: () => store.set({ marked: [] }),
  });

  function relayout(): void {
    if (room.width < 40 || room.height < 40) return;
    const before = layout;
    layout = lay(room);
    // A graph a little too wide is drawn smaller as a whole; then there is more height to lay it out in.
    const k = room.width / layout.width;
    if (k < 1 && k >= LEAST) layout = lay({ width: room.width / k, height: room.height / k });
    place();
    if (!touched || !before) box = home();
    move(clamp(box), false);
  }

  function lay(space: { width: number; height: number }): Layout {
    return layoutGraph(graph, app.shown.node, space, measure, columnText, boxText);
  }

  /** Whole height; whole width where that stays legible, else the end of the prompt. */
  function home(): Box {
    const fit = Math.min(1, room.width / layout!.width, room.height / layout!.height);
    const k = fit >= LEAST ? fit : Math.min(1, Math.max(LEAST, room.height / layout!.height));
    return { k, x: Math.min(0, room.width - layout!.width * k), y: 0 };
  }

  function clamp(next: Box): Box {
    if (!layout) return next;
    const least = Math.min(1, room.width / layout.width, room.height / layout.height);
    const k = Math.min(4, Math.max(least, next.k));
    const bound = (offset: number, size: number, space: number) =>
      size <= space ? (space - size) / 2 : Math.min(0, Math.max(space - size, offset));
    return { k, x: bound(next.x, layout.width * k, room.width), y: bound(next.y, layout.height * k, room.height) };
  }

  function move(next: Box, byHand = true): void {
    if (byHand) touched = true;
    box = next;
    for (const layer of [world, bands]) layer.setAttribute("transform", `translate(${box.x},${box.y}) scale(${box.k})`);
    canvas.move(box);
    placeAxes();
  }

  function place(): void {
    const at = layout!;
    canvas.layout(at, room);
    replace(
      bands,
      ...at.rows.map((row, i) => svg("rect", { class: i % 2 ? "odd" : "even", x: 0, y: row.top, width: at.width, height: row.height })),
      svg("rect", { class: "column-hover", y: 0, height: at.height, width: 0 }),
    );
    const largest = Math.max(...graph.nodes.filter((node) => node.kind === "feature").map((node) => node.share), 1e-9);
    for (const node of graph.nodes) {
      const shown = app.shown.node[node.index];
      let mark = marks.get(node.index);
      if (!shown) {
        mark?.remove();
        marks.delete(node.index);
        continue;
      }
      if (!mark) {
        mark = nodeMark(node, Math.sqrt(node.share / largest));
        marks.set(node.index, mark);
        glyphs.append(mark);
      }
      const size = node.kind === "feature" || node.kind === "error" || node.kind === "bias" ? ` scale(${at.scale})` : "";
      mark.setAttribute("transform", `translate(${at.x[node.index]},${at.y[node.index]})${size}`);
    }
    dress();
  }

  function nodeMark(node: GraphNode, size: number): SVGGElement {
    const common = {
      class: `node ${node.kind}${node.isTarget ? " target" : ""}`,
      role: "button",
      tabindex: -1,
      "data-id": node.id,
      "aria-label": app.describe(node),
    };
    if (node.kind === "logit") {
      const half = layout!.half[node.index]!;
      const shape = { x: -half, y: -11, width: 2 * half, height: 22, rx: 4 };
      return svg(
        "g",
        common,
        svg("rect", { ...shape, class: "ring", x: -half - 3, y: -14, width: 2 * half + 6, height: 28, rx: 7 }),
        svg("rect", { ...shape, class: "shape" }),
        svg("text", { y: 4, "text-anchor": "middle" }, svg("tspan", { class: "word" }, tokenText(logitToken(node))), svg("tspan", { class: "chance", dx: 5 }, percent(node.probability))),
      );
    }
    const r = node.kind === "embedding" ? 5 : 3.4 + 3.6 * Math.min(1, size);
    const mark = svg(
      "g",
      common,
      svg("circle", { class: "hit", r: 8.5 }),
      svg("path", { class: "ring", d: glyphPath(node.kind, r + 3) }),
      svg("path", { class: "shape", d: glyphPath(node.kind, r) }),
    );
    style(mark, { "--weight": String(0.3 + 0.7 * Math.min(1, size)) });
    return mark;
  }

  /** Classes that follow the state: selected, pinned, marked, fed by or feeding the one in focus. */
  function dress(): void {
    const { marked } = store.state;
    const pinned = new Set(store.state.pinned ? app.pinned() : []);
    const focused = app.selected ?? null;
    const entrance = graph.nodes.find((node) => node.isTarget) ?? graph.nodes[0];
    const tones = canvas.tones(focused);
    picture.classList.toggle("focused", focused !== null);
    for (const [index, mark] of marks) {
      const node = graph.nodes[index]!;
      const tone = tones.get(index);
      mark.classList.toggle("selected", node === focused);
      mark.classList.toggle("pinned", pinned.has(node.id));
      mark.classList.toggle("marked", marked.includes(node.id));
      mark.classList.toggle("up", tone !== undefined && tone > 0);
      mark.classList.toggle("down", tone !== undefined && tone < 0);
      mark.setAttribute("tabindex", node === (focused ?? entrance) ? "0" : "-1");
      if (node === focused) mark.setAttribute("aria-current", "true");
      else mark.removeAttribute("aria-current");
      if (tone !== undefined) mark.style.setProperty("--tone", String(0.35 + 0.65 * Math.min(1, Math.sqrt(Math.abs(tone) * 3))));
    }
    const top = focused && marks.get(focused.index);
    if (top && top.nextSibling) glyphs.append(top);
    for (const chip of axis.querySelectorAll<HTMLElement>("button"))
      chip.classList.toggle("selected", focused !== null && Number(chip.dataset.position) === focused.position);
    writeLabels();
  }

  /** Names beside the nodes that matter now, where there is room for them. */
  function writeLabels(): void {
    const marked = labelled(app, layout!, measure);
    replace(labels, ...marked.map(({ node, text, x, y, anchor }) => svg("text", { x, y, "text-anchor": anchor, class: `${app.name(node).automatic ? "automatic " : ""}${node === app.selected ? "selected" : ""}` }, text)));
  }

  function placeAxes(): void {
    if (!layout) return;
    replace(
      rowLabels,
      ...layout.rows.map((row) => {
        const top = row.top * box.k + box.y;
        const label = h("span", {}, row.name);
        style(label, { top: `${top + (row.height * box.k) / 2}px` });
        return label;
      }),
    );
    if (axis.childElementCount !== layout.columns.length) replace(axis, ...layout.columns.map((column) => axisChip(column.position, column.label)));
    for (const [i, column] of layout.columns.entries()) {
      const chip = axis.children[i] as HTMLElement;
      const width = column.width * box.k;
      style(chip, { left: `${column.x * box.k + box.x}px`, width: `${width}px` });
      chip.classList.toggle("tight", width < 22);
    }
    const whole = layout.width * box.k;
    bar.hidden = whole <= room.width + 1;
    style(bar.firstElementChild as HTMLElement, { left: `${(-box.x / whole) * 100}%`, width: `${(room.width / whole) * 100}%` });
  }

  function axisChip(position: number | null, text: string): HTMLElement {
    if (position === null) return h("span", { class: "everywhere", title: "Nodes that belong to all positions" }, text);
    const literal = tokenLiteral(graph.tokens[position] ?? "");
    return h(
      "button",
      {
        type: "button",
        "data-position": position,
        title: `token ${position}: ${literal}`,
        onclick: () => app.select(graph.nodes.find((node) => node.kind === "embedding" && node.position === position) ?? null),
        onpointerenter: () => hoverColumn(position),
        onpointerleave: () => hoverColumn(null),
      },
      text,
    );
  }

  function hoverColumn(position: number | null): void {
    const column = layout?.columns.find((one) => one.position === position);
    const rect = bands.querySelector(".column-hover");
    rect?.setAttribute("x", String(column?.x ?? 0));
    rect?.setAttribute("width", String(position === null ? 0 : (column?.width ?? 0)));
  }

  /** Bring the selected node into sight when it was chosen elsewhere. */
  function reveal(): void {
    const node = app.selected;
    if (!node || !layout || Number.isNaN(layout.x[node.index])) return;
    const [x, y] = [layout.x[node.index]! * box.k + box.x, layout.y[node.index]! * box.k + box.y];
    const shift = (at: number, space: number) => (at < 24 ? 60 - at : at > space - 24 ? space - 60 - at : 0);
    const [dx, dy] = [shift(x, room.width), shift(y, room.height)];
    if (dx || dy) move(clamp({ ...box, x: box.x + dx, y: box.y + dy }));
  }

  function zoomButtons(): HTMLElement {
    const button = (name: string, label: string, work: () => void) =>
      h("button", { type: "button", class: "icon-button", title: label, "aria-label": label, onclick: work }, icon(name));
    return h(
      "div",
      { class: "zoom" },
      button("plus", "Zoom in", () => zoom.by(1.4)),
      button("minus", "Zoom out", () => zoom.by(1 / 1.4)),
      button("fit", "Show all (0)", () => fit()),
    );
  }

  function fit(): void {
    if (!layout) return;
    const k = Math.min(1, room.width / layout.width, room.height / layout.height);
    move(clamp({ k, x: 0, y: 0 }));
    touched = false;
  }

  const nodeAt = (target: EventTarget | null) => {
    const id = (target as Element | null)?.closest?.(".node")?.getAttribute("data-id");
    return id ? (graph.byId.get(id) ?? null) : null;
  };
  picture.addEventListener("click", (event) => {
    const node = nodeAt(event.target);
    if (!node || zoom.dragged()) return;
    if (event.shiftKey || event.ctrlKey || event.metaKey) app.toggleMark([node.id]);
    else app.select(app.selected === node ? null : node);
  });
  picture.addEventListener("keydown", (event) => {
    const node = nodeAt(event.target);
    if (!node || (event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    if (event.shiftKey) app.toggleMark([node.id]);
    else app.select(node);
  });
  picture.addEventListener("dblclick", (event) => {
    const node = nodeAt(event.target);
    if (node) app.togglePin(node);
    event.preventDefault();
  });
  picture.addEventListener("pointerover", (event) => app.hover(nodeAt(event.target)));
  picture.addEventListener("pointerleave", () => app.hover(null));
  tooltip(app, picture, nodeAt);

  const refresh = eachFrame(relayout);
  app.on("shown", refresh);
  app.on("hover", () => {
    for (const mark of glyphs.querySelectorAll(".hovered")) mark.classList.remove("hovered");
    if (app.hovered) marks.get(app.hovered.index)?.classList.add("hovered");
    canvas.focus();
  });
  app.on("labels", () => {
    for (const [index, mark] of marks) {
      const node = graph.nodes[index]!;
      mark.setAttribute("aria-label", app.describe(node));
    }
    if (layout) writeLabels();
  });
  store.listen((_, changed) => {
    if (changed.has("theme")) canvas.repaint();
    if (layout && ["selected", "pinned", "groups", "marked"].some((key) => changed.has(key as never))) dress();
    if (changed.has("selected")) {
      canvas.focus();
      requestAnimationFrame(() => requestAnimationFrame(reveal));
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => canvas.repaint());
  new ResizeObserver(() => {
    room = { width: plot.clientWidth, height: plot.clientHeight };
    refresh();
  }).observe(plot);
  pane.addEventListener("cutaway:fit", fit);
  return pane;
}
