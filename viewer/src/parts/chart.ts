/** Curves over one axis, with their intervals: walked with the arrow keys, each point said in words. */

import { number } from "../core/names";
import { extent, scale, ticks, tickText } from "../core/stats";
import { h, replace, svg } from "./dom";

export interface Spot {
  x: number;
  y: number | null;
  low?: number | null;
  high?: number | null;
}

export interface Series {
  name: string;
  /** One of the page's colours: up, down, fire, ink, faint. Nulls are faint and dashed. */
  tone: "up" | "down" | "fire" | "ink" | "faint";
  spots: readonly Spot[];
  dashed?: boolean;
  /** Points without a line between them. */
  loose?: boolean;
}

export interface Chart {
  label: string;
  xTitle: string;
  yTitle: string;
  series: readonly Series[];
  /** Names of the x values, where they are places and not numbers. */
  names?: ReadonlyMap<number, string>;
  log?: boolean;
  yRange?: readonly [number, number];
  zero?: boolean;
  spans?: readonly { from: number; to: number; label: string }[];
  marks?: readonly { x: number; label: string; low?: number | null; high?: number | null }[];
  height?: number;
  at?: number | null;
  /** The cursor stands at any x, not only where there is a point. */
  free?: boolean;
  /** One of a stack: a heading in place of the legend, and what it says at the cursor only for those who hear it. */
  stacked?: boolean;
  onmove?(x: number): void;
  onopen?(x: number): void;
}

export interface Drawn {
  element: HTMLElement;
  move(x: number): void;
}

const WIDTH = 760;

export function chart(given: Chart): Drawn {
  const height = given.height ?? 240;
  const xs = [...new Set(given.series.flatMap((one) => one.spots.map((spot) => spot.x)))].sort((a, b) => a - b);
  // On a logarithmic axis zero has a place of its own, before the smallest number.
  const least = xs.find((x) => x > 0) ?? 1;
  const place = (x: number) => (given.log ? Math.log10(x > 0 ? x : least / 3) : x);
  const values = given.series.flatMap((one) => one.spots.flatMap((spot) => [spot.y, spot.low, spot.high]));
  const [low, high] = given.yRange ?? extent(given.zero === false ? values : [...values, 0], 0.05);
  const frame = { left: 56, right: WIDTH - 12, top: 14, bottom: height - 42 };
  const [from, to] = extent(xs.map(place), given.names ? 0.06 : 0.01);
  const across = scale(from, to, frame.left, frame.right);
  const up = scale(low, high, frame.bottom, frame.top);
  const x = (value: number) => across(place(value));
  const marks = ticks(low, high, 5);
  const cursor = svg("line", { class: "cursor", y1: frame.top, y2: frame.bottom });
  const readout = h("p", { class: given.stacked ? "readout unseen" : "readout", role: "status", "aria-live": "polite" });
  let here = given.at ?? null;

  const drawing = svg(
    "svg",
    {
      class: "chart", viewBox: `0 0 ${WIDTH} ${height}`, role: "application", "aria-roledescription": "chart", tabindex: 0,
      "aria-label": `${given.label}. Left and right arrow keys move along ${given.xTitle}${given.onopen ? ", Enter opens" : ""}.`,
    },
    ...(given.spans ?? []).map((span, i) =>
      svg("g", { class: `span s${i % 2}` }, svg("rect", { x: x(span.from), width: Math.max(1, x(span.to) - x(span.from)), y: frame.top, height: frame.bottom - frame.top }), svg("text", { x: (x(span.from) + x(span.to)) / 2, y: frame.bottom - 5, "text-anchor": "middle" }, span.label)),
    ),
    ...marks.map((mark) => svg("g", { class: "tick" }, svg("line", { class: mark === 0 ? "grid zero" : "grid", x1: frame.left, x2: frame.right, y1: up(mark), y2: up(mark) }), svg("text", { x: frame.left - 7, y: up(mark) + 3.5, "text-anchor": "end" }, tickText(mark, marks)))),
    ...apart(xTicks(given, xs, from, to), x).map(({ at, text }) => svg("g", { class: "tick" }, svg("line", { class: "grid", x1: x(at), x2: x(at), y1: frame.bottom, y2: frame.bottom + 4 }), svg("text", { x: x(at), y: frame.bottom + 16, "text-anchor": "middle" }, text))),
    svg("text", { class: "axis", x: (frame.left + frame.right) / 2, y: height - 6, "text-anchor": "middle" }, given.xTitle),
    svg("text", { class: "axis", x: 12, y: (frame.top + frame.bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(frame.top + frame.bottom) / 2})` }, given.yTitle),
    ...(given.marks ?? []).map((mark) =>
      svg("g", { class: "mark-line" }, mark.low !== null && mark.low !== undefined && mark.high !== null && mark.high !== undefined ? svg("rect", { x: x(mark.low), width: Math.max(1, x(mark.high) - x(mark.low)), y: frame.top, height: frame.bottom - frame.top }) : null, svg("line", { x1: x(mark.x), x2: x(mark.x), y1: frame.top, y2: frame.bottom }), svg("title", {}, mark.label)),
    ),
    ...given.series.map((one) => curve(one, x, up)),
    cursor,
  );

  function move(to: number): void {
    const nearest = given.free ? to : xs.reduce((best, one) => (Math.abs(place(one) - place(to)) < Math.abs(place(best) - place(to)) ? one : best), xs[0] ?? 0);
    here = nearest;
    cursor.setAttribute("x1", String(x(nearest)));
    cursor.setAttribute("x2", String(x(nearest)));
    cursor.classList.add("on");
    const said = given.free ? [] : given.series.flatMap((one) => {
      const spot = one.spots.find((each) => each.x === nearest);
      return spot ? [h("span", { class: one.tone }, `${one.name} `, h("b", {}, number(spot.y)), typeof spot.low === "number" && typeof spot.high === "number" ? ` [${number(spot.low)}, ${number(spot.high)}]` : "")] : [];
    });
    const near = (given.marks ?? []).filter((mark) => mark.x === nearest).map((mark) => h("span", {}, mark.label));
    if (!given.free) replace(readout, h("b", {}, given.names?.get(nearest) ?? `${given.xTitle} ${Number.isInteger(nearest) ? nearest.toLocaleString("en") : number(nearest)}`), ...said, ...near);
  }

  function step(to: number): void {
    move(to);
    given.onmove?.(here!);
  }

  drawing.addEventListener("keydown", (event) => {
    const at = here === null ? -1 : xs.filter((one) => one <= here!).length - 1;
    const to: Record<string, number> = { ArrowLeft: Math.max(0, here !== null && at >= 0 && xs[at]! < here ? at : at - 1), ArrowRight: Math.min(xs.length - 1, at + 1), Home: 0, End: xs.length - 1 };
    const next = to[event.key];
    if (next !== undefined) step(xs[next] ?? 0);
    else if (event.key === "Enter" && here !== null) given.onopen?.(here);
    else return;
    event.preventDefault();
  });
  const valueAt = (event: PointerEvent) => {
    const box = drawing.getBoundingClientRect();
    const inside = ((event.clientX - box.left) / box.width) * WIDTH;
    const placed = from + ((inside - frame.left) / (frame.right - frame.left)) * (to - from);
    return given.log ? 10 ** placed : placed;
  };
  drawing.addEventListener("pointermove", (event) => !given.onmove && move(valueAt(event)));
  drawing.addEventListener("pointerdown", (event) => {
    step(valueAt(event));
    if (!given.onmove) return;
    drawing.setPointerCapture(event.pointerId);
  });
  if (given.onmove) drawing.addEventListener("pointermove", (event) => event.buttons && step(valueAt(event)));
  if (here !== null) move(here);
  return { element: h("figure", { class: "chart-box" }, given.stacked ? h("figcaption", { class: "chart-name" }, given.label) : legend(given.series), drawing, readout), move };
}

function curve(one: Series, x: (value: number) => number, up: (value: number) => number): SVGGElement {
  const spots = one.spots.filter((spot): spot is Spot & { y: number } => typeof spot.y === "number" && Number.isFinite(spot.y));
  const path = (points: [number, number][]) => points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
  const banded = spots.filter((spot) => typeof spot.low === "number" && typeof spot.high === "number");
  const band = banded.length > 1 && !one.loose ? path([...banded.map((s): [number, number] => [x(s.x), up(s.high!)]), ...[...banded].reverse().map((s): [number, number] => [x(s.x), up(s.low!)])]) : "";
  const bars = banded.length === 1 || one.loose ? banded : [];
  return svg(
    "g",
    { class: `series ${one.tone}${one.dashed ? " dashed" : ""}` },
    band ? svg("path", { class: "band", d: `${band}Z` }) : null,
    ...bars.map((s) => svg("line", { class: "bar", x1: x(s.x), x2: x(s.x), y1: up(s.low!), y2: up(s.high!) })),
    one.loose ? null : svg("path", { class: "line", d: path(spots.map((s) => [x(s.x), up(s.y)])) }),
    ...(spots.length <= 40 || one.loose ? spots.map((s) => svg("circle", { cx: x(s.x), cy: up(s.y), r: 2.6 })) : []),
  );
}

function xTicks(given: Chart, xs: readonly number[], from: number, to: number): { at: number; text: string }[] {
  if (given.names) {
    const every = Math.max(1, Math.ceil(xs.length / 16));
    return xs.filter((_, i) => i % every === 0).map((at) => ({ at, text: (given.names!.get(at) ?? "").slice(0, 14) }));
  }
  if (!given.log) {
    const marks = ticks(from, to, 8);
    return marks.map((at) => ({ at, text: tickText(at, marks) }));
  }
  const decades: number[] = [];
  for (let d = Math.ceil(from); d <= Math.floor(to); d++) decades.push(10 ** d);
  const marks = decades.length > 2 ? decades : xs.filter((value) => value > 0).filter((_, i, all) => i % Math.ceil(all.length / 10) === 0);
  return [...(xs[0] === 0 ? [{ at: 0, text: "0" }] : []), ...marks.filter((at) => at > 0).map((at) => ({ at, text: at >= 1000 ? at.toLocaleString("en") : String(Number(at.toPrecision(3))) }))];
}

/** Ticks that leave room for each other's words. */
function apart<T extends { at: number; text: string }>(all: readonly T[], x: (value: number) => number): T[] {
  const kept: T[] = [];
  for (const tick of all) {
    const last = kept.at(-1);
    if (!last || x(tick.at) - x(last.at) > 3.2 * (tick.text.length + last.text.length) + 6) kept.push(tick);
  }
  return kept;
}

function legend(series: readonly Series[]): HTMLElement {
  return h("figcaption", { class: "chart-legend" }, ...series.map((one) => h("span", { class: one.tone }, h("i", { class: one.dashed ? "dashed" : "" }), one.name)));
}

/** A curve small enough for a line of text. */
export function sparkline(values: readonly (number | null)[], label: string): SVGSVGElement {
  const [low, high] = extent(values);
  const up = scale(low, high, 17, 2);
  const step = 90 / Math.max(1, values.length - 1);
  const d = values.map((value, i) => (value === null ? "" : `${i && values[i - 1] !== null ? "L" : "M"}${(i * step).toFixed(1)} ${up(value).toFixed(1)}`)).join("");
  return svg("svg", { class: "spark", viewBox: "0 0 92 20", width: 92, height: 20, role: "img", "aria-label": `${label}: from ${number(low)} to ${number(high)}` }, svg("path", { d }));
}
