/** The pinned nodes and groups as a node-link diagram. */

import type { App } from "../core/app";
import { KIND_WORD, percent, placeText, signed } from "../core/names";
import { type Diagram, exportSubgraph, groupKey, layoutUnits, type Placed, subgraphScores, type Unit, unitEdges, type UnitEdge } from "../core/subgraph";
import { download, eachFrame, h, icon, replace, style, svg } from "./dom";
import { glyphPath } from "./glyph";
import { routes } from "./routes";

const FONT = '500 12px Inter, ui-sans-serif, system-ui, -apple-system, "Segoe UI", sans-serif';
const WIDEST = 168;
/** Width of the caption's type against the name's. */
const SMALL = 0.88;
/** Edges below this share of their target's input show only while one of their ends is pointed at. */
const WEAK = 0.01;

export function subgraphPane(app: App): HTMLElement {
  const { store } = app;
  const edgeLayer = svg("g", { class: "edges" });
  const picture = svg("svg", { class: "diagram", role: "group", "aria-label": "Subgraph of the pinned nodes" }, arrowHeads(), edgeLayer);
  const boxes = svg("g", { class: "units" });
  picture.append(boxes);
  const stage = h("div", { class: "stage" }, picture);
  const empty = h("div", { class: "empty" });
  const head = h("div", { class: "pane-head" });
  const pane = h("section", { class: "pane subgraph", "aria-label": "Subgraph" }, head, stage, empty);

  const measurer = document.createElement("canvas").getContext("2d")!;
  const measure = (text: string) => {
    measurer.font = FONT;
    return measurer.measureText(text).width;
  };
  const cut = (text: string, width: number) => {
    if (measure(text) <= width) return text;
    let end = text.length;
    while (end > 1 && measure(`${text.slice(0, end)}…`) > width) end--;
    return `${text.slice(0, end).trimEnd()}…`;
  };

  let diagram: Diagram = { width: 0, height: 0, placed: [] };
  let edges: UnitEdge[] = [];
  /** One line a box instead of two, where two would not fit the pane. */
  let compact = false;
  /** Ends the typing of a group's name, while that goes on. */
  let finishEdit: (() => void) | null = null;

  const unitName = (unit: Unit) => unit.name ?? app.name(unit.nodes[0]!).text;
  const caption = (unit: Unit) => {
    const [node] = unit.nodes;
    if (unit.name !== null) return `${unit.nodes.length} nodes`;
    if (node!.kind === "embedding") return `token ${node!.position}`;
    if (node!.kind === "logit") return `output ${percent(node!.probability)}`;
    return `L${node!.layer} ${placeText(app.graph, node!)}`;
  };

  function draw(): void {
    const units = app.units();
    drawHead(units);
    stage.hidden = units.length === 0;
    empty.hidden = units.length > 0;
    if (!units.length) replace(empty, h("p", {}, "Nothing is pinned. Select a node and press ", h("kbd", {}, "P"), ", or"), h("button", { type: "button", class: "text-button", onclick: () => store.set({ pinned: null }) }, "pin the strongest path"));
    edges = unitEdges(app.graph, units);
    const room = { width: stage.clientWidth, height: stage.clientHeight };
    compact = false;
    diagram = layoutUnits(units, edges, room, size);
    if (diagram.height > room.height + 1) {
      compact = true;
      diagram = layoutUnits(units, edges, room, size);
    }
    for (const placed of diagram.placed) {
      const moved = store.state.moved[placed.unit.key];
      if (moved) [placed.x, placed.y] = moved;
    }
    const right = Math.max(room.width, ...diagram.placed.map((one) => one.x + one.width + 8));
    const bottom = Math.max(room.height, ...diagram.placed.map((one) => one.y + one.height + 8));
    picture.setAttribute("width", String(right));
    picture.setAttribute("height", String(bottom));
    replace(boxes, ...diagram.placed.map(box));
    drawEdges();
  }

  function size(unit: Unit): { width: number; height: number } {
    const [name, below] = [measure(unitName(unit)), measure(caption(unit)) * SMALL];
    const words = compact ? Math.min(WIDEST, name) + below + 7 : Math.min(WIDEST, Math.max(name, below));
    return { width: words + 20 + (unit.name === null ? 14 : 0), height: compact ? 24 : 34 };
  }

  function drawHead(units: Unit[]): void {
    const { pinned, marked, groups } = store.state;
    const suggested = pinned === null && !groups.length;
    const scores = subgraphScores(app.graph, new Set(app.pinned()));
    const grouped = app.selected ? groups.find((group) => group.ids.includes(app.selected!.id)) : undefined;
    replace(
      head,
      h("h2", {}, "Subgraph"),
      h("span", { class: "note" }, suggested ? "the strongest path" : `${app.pinned().length} pinned${groups.length ? `, ${groups.length} ${groups.length > 1 ? "groups" : "group"}` : ""}`),
      scores ? h("span", { class: "note scores", title: "The graph’s two scores with every node outside this subgraph counted as error" }, "replacement ", h("b", {}, scores.replacement.toFixed(2)), " · completeness ", h("b", {}, scores.completeness.toFixed(2))) : null,
      h("span", { class: "spring" }),
      marked.length > 1 || !units.length
        ? button("group", marked.length > 1 ? `Group ${marked.length}` : "Group", "Make one group of the marked nodes (G)", () => app.group(), marked.length < 2)
        : grouped
          ? button("group", "Ungroup", "Take the group apart (U)", () => app.ungroup(groupKey(grouped)))
          : button("group", "Group", "Shift-click two nodes or more, then group them (G)", () => app.group()),
      button("down", "JSON", "Download this subgraph as JSON", () => download("subgraph.json", exported()), !units.length),
      button("close", "Clear", "Unpin everything", () => store.set({ pinned: [], groups: [], marked: [], moved: {} }), !units.length),
    );
  }

  function button(name: string, text: string, title: string, work: () => void, disabled = false): HTMLElement {
    return h("button", { type: "button", class: "text-button", title, disabled, onclick: work }, icon(name), text);
  }

  function exported(): Record<string, unknown> {
    const name = (node: Parameters<typeof app.name>[0]) => app.name(node).text;
    return exportSubgraph(app.graph, app.pinned(), store.state.groups, name, { ...app.about(), url: location.hash });
  }

  function box(placed: Placed): SVGGElement {
    const { unit } = placed;
    const group = unit.name !== null;
    const first = unit.nodes[0]!;
    const name = unitName(unit);
    const ids = unit.nodes.map((node) => node.id);
    const kind = group ? "group" : first.kind;
    const words = group ? `Group ${name}, ${unit.nodes.length} nodes: ${unit.nodes.map((node) => app.name(node).text).join(", ")}` : `${KIND_WORD[first.kind]} ${name}, ${caption(unit)}`;
    const left = group ? 10 : 24;
    const { marked } = store.state;
    const classes = ["unit", kind, ids.some((id) => id === app.selected?.id) && "selected", ids.every((id) => marked.includes(id)) && "marked", !group && app.name(first).automatic && "automatic"];
    const element = svg(
      "g",
      { class: classes.filter(Boolean).join(" "), role: "button", tabindex: 0, "aria-label": words, "data-key": unit.key, "data-ids": ids.join(",") },
      svg("title", {}, words),
      group ? svg("rect", { class: "stack", x: 4, y: -4, width: placed.width - 1, height: placed.height, rx: 6 }) : null,
      svg("rect", { class: "card", width: placed.width, height: placed.height, rx: first.kind === "feature" || group ? 7 : 3 }),
      group ? null : svg("path", { class: `shape ${first.kind}`, transform: `translate(13,${placed.height / 2})`, d: glyphPath(first.kind, 4.5) }),
      ...(compact
        ? [svg("text", { class: "word", x: left, y: 16 }, cut(name, WIDEST), svg("tspan", { class: "caption", dx: 7 }, caption(unit)))]
        : [
            svg("text", { class: "word", x: left, y: 14.5 }, cut(name, placed.width - left - 8)),
            svg("text", { class: "caption", x: left, y: 27 }, cut(caption(unit), (placed.width - left - 8) / SMALL)),
          ]),
    );
    element.setAttribute("transform", `translate(${placed.x},${placed.y})`);
    draggable(element, placed);
    element.addEventListener("pointerenter", () => light(unit));
    element.addEventListener("pointerleave", () => light(null));
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") choose(placed, event.shiftKey), event.preventDefault();
    });
    if (group) element.addEventListener("dblclick", () => edit(placed));
    return element;
  }

  function choose(placed: Placed, several: boolean): void {
    const ids = placed.unit.nodes.map((node) => node.id);
    if (several) return app.toggleMark(ids);
    const [first] = placed.unit.nodes;
    const at = placed.unit.nodes.findIndex((node) => node === app.selected);
    app.select(at >= 0 ? placed.unit.nodes[(at + 1) % ids.length]! : first!);
  }

  function draggable(element: SVGGElement, placed: Placed): void {
    element.addEventListener("pointerdown", (start) => {
      if (start.button !== 0) return;
      const from = { x: placed.x, y: placed.y };
      let far = false;
      const move = (event: PointerEvent) => {
        const [dx, dy] = [event.clientX - start.clientX, event.clientY - start.clientY];
        if (!far && Math.hypot(dx, dy) < 4) return;
        far = true;
        placed.x = Math.max(0, from.x + dx);
        placed.y = Math.max(0, from.y + dy);
        element.setAttribute("transform", `translate(${placed.x},${placed.y})`);
        drawEdges();
      };
      const end = (event: PointerEvent) => {
        window.removeEventListener("pointermove", move);
        window.removeEventListener("pointerup", end);
        if (far) store.set({ moved: { ...store.state.moved, [placed.unit.key]: [Math.round(placed.x), Math.round(placed.y)] } });
        else choose(placed, event.shiftKey || event.ctrlKey || event.metaKey);
      };
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", end);
    });
  }

  function light(unit: Unit | null): void {
    picture.classList.toggle("lit", unit !== null);
    for (const path of edgeLayer.querySelectorAll<SVGElement>("path.edge"))
      path.classList.toggle("on", unit !== null && (path.dataset.source === unit.key || path.dataset.target === unit.key));
    app.hover(unit && unit.nodes.length === 1 ? unit.nodes[0]! : null);
  }

  function drawEdges(): void {
    const at = new Map(diagram.placed.map((one) => [one.unit.key, one]));
    const routed = routes(edges.flatMap((edge) => {
      const [from, to] = [at.get(edge.source.key), at.get(edge.target.key)];
      return from && to ? [{ edge, from, to }] : [];
    }));
    replace(
      edgeLayer,
      ...routed.map(({ edge, path: line }) => {
        const side = edge.weight >= 0 ? "up" : "down";
        const title = `${unitName(edge.source)} → ${unitName(edge.target)}\n${signed(edge.weight)} in sum over ${edge.links} ${edge.links > 1 ? "links" : "link"}, ${percent(edge.share)} of the target’s input`;
        const path = svg("path", { class: `edge ${side}${edge.share < WEAK ? " weak" : ""}`, d: line, "marker-end": `url(#arrow-${side})`, "data-source": edge.source.key, "data-target": edge.target.key }, svg("title", {}, title));
        style(path, { "stroke-width": String(0.9 + Math.min(4, 9 * edge.share)), "--share": String(Math.min(0.9, 0.25 + 2.4 * edge.share)) });
        return path;
      }),
    );
  }

  /** The name of a group, typed in place. */
  function edit(placed: Placed): void {
    finishEdit?.();
    const before = placed.unit.name ?? "";
    const input = h("input", { class: "rename", type: "text", value: before, maxlength: 80, "aria-label": "Name of the group" });
    style(input, { left: `${placed.x}px`, top: `${placed.y}px`, width: `${Math.max(120, placed.width)}px`, height: `${placed.height}px` });
    let done = false;
    const finish = (keep: boolean) => {
      if (done) return;
      done = true;
      app.renaming = null;
      finishEdit = null;
      input.remove();
      if (keep && input.value.trim() && input.value !== before) app.rename(placed.unit.key, input.value);
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") finish(true);
      if (event.key === "Escape") finish(false);
      event.stopPropagation();
    });
    input.addEventListener("blur", () => finish(true));
    finishEdit = () => finish(true);
    stage.append(input);
    input.select();
    input.focus();
  }

  const refresh = eachFrame(() => {
    draw();
    if (!app.renaming || finishEdit) return;
    const placed = diagram.placed.find((one) => one.unit.key === app.renaming);
    if (placed) edit(placed);
  });
  store.listen((_, changed) => {
    if (["pinned", "groups", "selected", "marked", "moved"].some((key) => changed.has(key as never))) refresh();
  });
  app.on("labels", refresh);
  app.on("rename", refresh);
  new ResizeObserver(refresh).observe(stage);
  refresh();
  return pane;
}

function arrowHeads(): SVGDefsElement {
  const head = (side: string) =>
    svg("marker", { id: `arrow-${side}`, viewBox: "0 0 8 8", refX: 3, refY: 4, markerWidth: 8.5, markerHeight: 8.5, markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { class: `head ${side}`, d: "M0,0.500L7.500,4L0,7.500Z" }));
  return svg("defs", {}, head("up"), head("down"));
}

