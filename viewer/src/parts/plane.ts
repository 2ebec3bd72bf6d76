/** A path in a plane of equal axes, walked point by point: at each its osculating circle, and the forms that it turns about. */

import { number } from "../core/names";
import { extent, ticks, tickText } from "../core/stats";
import { h, replace, svg } from "./dom";

export type Point = readonly [number, number];

export interface Form {
  step: number;
  point: Point;
  centre: Point;
  radius: number;
}

export interface Plane {
  label: string;
  xTitle: string;
  yTitle: string;
  steps: readonly number[];
  path: readonly Point[];
  /** The centre of the circle at each step, null where the path is straight. */
  centres: readonly (Point | null)[];
  forms: readonly Form[];
  onmove?(step: number): void;
}

export interface DrawnPlane {
  element: HTMLElement;
  /** Stand at a point of the path, by its place in `steps`. */
  move(i: number): void;
}

const SIZE = 460;
const FRAME = { left: 54, right: SIZE - 10, top: 10, bottom: SIZE - 42 };
/** Forms whose circles are drawn all the while; the others' when one stands at them. Of very many, the sharpest are marked. */
const MOST_CIRCLES = 6;
const MOST_FORMS = 200;
/** Pieces of the path, each of one darkness. */
const LEGS = 60;
let drawn = 0;

/** Words that lie on no other's: the first come first. */
function apart<T extends { x: number; y: number }>(words: readonly T[]): T[] {
  const kept: T[] = [];
  for (const one of words) if (kept.every((other) => Math.abs(other.x - one.x) > 34 || Math.abs(other.y - one.y) > 11)) kept.push(one);
  return kept;
}

export function plane(given: Plane): DrawnPlane {
  // One scale for both axes, or a circle would be none.
  const [x0, x1] = extent(given.path.map((p) => p[0]), 0.12);
  const [y0, y1] = extent(given.path.map((p) => p[1]), 0.12);
  const span = Math.max(x1 - x0, y1 - y0) || 1;
  const [left, low] = [(x0 + x1 - span) / 2, (y0 + y1 - span) / 2];
  const unit = (FRAME.right - FRAME.left) / span;
  const x = (value: number) => FRAME.left + (value - left) * unit;
  const y = (value: number) => FRAME.bottom - (value - low) * unit;
  const seen = (p: Point) => p[0] >= left && p[0] <= left + span && p[1] >= low && p[1] <= low + span;
  const marks = (from: number) => ticks(from, from + span, 5);
  const clip = `plane-${++drawn}`;
  const inside = svg("g", { "clip-path": `url(#${clip})` });
  const here = svg("g", { class: "here" });
  const readout = h("p", { class: "readout", role: "status", "aria-live": "polite" });
  let at = given.path.length - 1;

  const circle = (centre: Point, radius: number, kind: string) => svg("circle", { class: kind, cx: x(centre[0]), cy: y(centre[1]), r: Math.max(0.5, radius * unit) });
  const cross = (p: Point) => svg("path", { class: "centre", d: `M${x(p[0]) - 4} ${y(p[1]) - 4}l8 8m0 -8l-8 8` });
  const evolute = given.centres.map((centre, i) => (centre && seen(centre) ? `${given.centres[i - 1] && seen(given.centres[i - 1]!) ? "L" : "M"}${x(centre[0]).toFixed(1)} ${y(centre[1]).toFixed(1)}` : "")).join("");
  const sharp = [...given.forms].sort((a, b) => a.radius - b.radius);
  const sharpest = sharp.slice(0, MOST_CIRCLES);
  // Later is darker.
  const each = Math.max(1, Math.ceil(given.path.length / LEGS));
  const legs = given.path.flatMap((_, i) => (i % each === 0 && i + 1 < given.path.length ? [given.path.slice(i, i + each + 1)] : []));
  replace(
    inside,
    svg("path", { class: "evolute", d: evolute }),
    ...sharpest.map((form) => circle(form.centre, form.radius, "form-circle")),
    ...legs.map((leg, i) => svg("path", { class: "leg", d: leg.map((p, k) => `${k ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join(""), "stroke-opacity": (0.25 + (0.75 * (i + 1)) / legs.length).toFixed(2) })),
    ...(given.path.length <= 120 ? given.path.map((p) => svg("circle", { class: "stop", cx: x(p[0]), cy: y(p[1]), r: 2 })) : []),
    ...sharp.slice(0, MOST_FORMS).map((form) => svg("g", { class: "form" }, svg("circle", { cx: x(form.point[0]), cy: y(form.point[1]), r: 4 }), svg("title", {}, `form at step ${number(form.step)}, radius ${number(form.radius)}`))),
    ...sharpest.filter((form) => seen(form.centre)).map((form) => cross(form.centre)),
    ...apart(sharpest.map((form) => ({ x: x(form.point[0]) + 7, y: y(form.point[1]) - 6, word: form.step.toLocaleString("en") }))).map((one) => svg("text", { class: "form-word", x: one.x, y: one.y }, one.word)),
    here,
  );
  const drawing = svg(
    "svg",
    { class: "chart plane", viewBox: `0 0 ${SIZE} ${SIZE}`, role: "application", "aria-roledescription": "chart", tabindex: 0, "aria-label": `${given.label}. Left and right arrow keys walk along the path.` },
    svg("defs", {}, svg("clipPath", { id: clip }, svg("rect", { x: FRAME.left, y: FRAME.top, width: FRAME.right - FRAME.left, height: FRAME.bottom - FRAME.top }))),
    ...marks(left).flatMap((mark) => [svg("line", { class: mark === 0 ? "grid zero" : "grid", x1: x(mark), x2: x(mark), y1: FRAME.top, y2: FRAME.bottom }), svg("text", { x: x(mark), y: FRAME.bottom + 15, "text-anchor": "middle" }, tickText(mark, marks(left)))]),
    ...marks(low).flatMap((mark) => [svg("line", { class: mark === 0 ? "grid zero" : "grid", x1: FRAME.left, x2: FRAME.right, y1: y(mark), y2: y(mark) }), svg("text", { x: FRAME.left - 6, y: y(mark) + 3.5, "text-anchor": "end" }, tickText(mark, marks(low)))]),
    svg("text", { class: "axis", x: (FRAME.left + FRAME.right) / 2, y: SIZE - 8, "text-anchor": "middle" }, given.xTitle),
    svg("text", { class: "axis", "text-anchor": "middle", transform: `rotate(-90 11 ${(FRAME.top + FRAME.bottom) / 2})`, x: 11, y: (FRAME.top + FRAME.bottom) / 2 }, given.yTitle),
    inside,
  );

  function move(i: number): void {
    at = Math.min(given.path.length - 1, Math.max(0, i));
    const [p, centre] = [given.path[at]!, given.centres[at] ?? null];
    const radius = centre ? Math.hypot(p[0] - centre[0], p[1] - centre[1]) : null;
    const form = given.forms.find((one) => one.step === given.steps[at]);
    replace(here, centre && radius !== null ? circle(centre, radius, "now-circle") : null, centre && seen(centre) ? svg("line", { class: "spoke", x1: x(p[0]), y1: y(p[1]), x2: x(centre[0]), y2: y(centre[1]) }) : null, svg("circle", { class: "now", cx: x(p[0]), cy: y(p[1]), r: 5 }));
    replace(readout, h("b", {}, `step ${given.steps[at]!.toLocaleString("en")}`), h("span", {}, radius === null ? "straight" : `circle of radius ${number(radius)}`), form ? h("span", { class: "fire" }, "a form: the circle stops shrinking here") : null);
  }

  function walk(i: number): void {
    move(i);
    given.onmove?.(given.steps[at]!);
  }
  drawing.addEventListener("keydown", (event) => {
    const to: Record<string, number> = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: given.path.length - 1 };
    const next = to[event.key];
    if (next === undefined) return;
    walk(next);
    event.preventDefault();
  });
  drawing.addEventListener("pointerdown", (event) => {
    const box = drawing.getBoundingClientRect();
    const [px, py] = [((event.clientX - box.left) / box.width) * SIZE, ((event.clientY - box.top) / box.height) * SIZE];
    const far = given.path.map((p) => Math.hypot(x(p[0]) - px, y(p[1]) - py));
    walk(far.indexOf(Math.min(...far)));
  });
  move(at);
  return { element: h("figure", { class: "chart-box" }, h("figcaption", { class: "chart-name" }, given.label), drawing, readout), move };
}
