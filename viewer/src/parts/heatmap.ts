/** A matrix of numbers as colours: drawn on canvas, walked with the arrow keys, each cell said in words. */

import { number } from "../core/names";
import { mix, needsLight, palette, type Palette } from "./colours";
import { eachFrame, h, style } from "./dom";
import { hideTip, showTip } from "./tip";

export interface Heat {
  /** What the map is of, for those who hear the page. */
  label: string;
  rows: readonly string[];
  columns: readonly string[];
  rowTitle: string;
  columnTitle: string;
  value(row: number, column: number): number | null;
  /** "diverging" around zero (blue raises, orange lowers) or "sequential" from low to high. */
  colours: "diverging" | "sequential";
  /** Where the colours end; by default the largest size among the values. */
  range?: readonly [number, number];
  unit: string;
  /** The cell in lines; the first is its name. */
  describe(row: number, column: number): string[];
  /** A cell that stands out from its null is marked with a dot. */
  marked?(row: number, column: number): boolean;
  /** What the dot means. */
  marks?: string;
  /** What stands in a cell, where cells are large enough. */
  text?(row: number, column: number): string;
  /** A gap is drawn above these rows. */
  breaks?: ReadonlySet<number>;
  /** Whether a cell without a value is marked by a dash; false where it is plain that there is none. */
  dashes?: boolean;
  cell?: { width?: number; least?: number; height?: number };
  onselect?(row: number, column: number): void;
  /** Enter or a double click. */
  onopen?(row: number, column: number): void;
}

export interface Heatmap {
  element: HTMLElement;
  select(row: number, column: number): void;
  redraw(): void;
}

const FONT = "11px Inter, ui-sans-serif, system-ui, sans-serif";
const GAP = 5;

export function heatmap(heat: Heat): Heatmap {
  const { rows, columns } = heat;
  const [low, high] = heat.range ?? reach(heat);
  let at: [number, number] = [0, 0];
  let chosen = false;
  let focused = false;
  const canvas = h("canvas", { "aria-hidden": "true" });
  const spoken = h("div", { class: "unseen", role: "status", "aria-live": "polite" });
  const box = h(
    "div",
    {
      class: "heatmap", tabindex: 0, role: "application", "aria-roledescription": "heatmap",
      "aria-label": `${heat.label}: ${rows.length} rows by ${columns.length} columns. Arrow keys move between cells${heat.onopen ? ", Enter opens one" : ""}. The table has the same numbers.`,
    },
    canvas,
  );
  const element = h("figure", { class: "heat" }, h("div", { class: "heat-scroll" }, box), legend(heat, low, high), spoken);
  let geometry = measure(heat, 600);

  const share = (value: number) => (heat.colours === "diverging" ? Math.abs(value) / Math.max(Math.abs(low), Math.abs(high), 1e-300) : (value - low) / (high - low || 1));

  function draw(): void {
    const width = element.clientWidth || 600;
    geometry = measure(heat, width);
    const { left, cell, row, total, tall } = geometry;
    const ratio = Math.max(1, window.devicePixelRatio || 1);
    canvas.width = Math.round(total * ratio);
    canvas.height = Math.round(tall * ratio);
    style(canvas, { width: `${total}px`, height: `${tall}px` });
    const pen = canvas.getContext("2d");
    if (!pen) return;
    const colours = palette();
    pen.scale(ratio, ratio);
    pen.font = FONT;
    for (let r = 0; r < rows.length; r++)
      for (let c = 0; c < columns.length; c++) {
        const value = heat.value(r, c);
        const [x, y] = [left + c * cell, geometry.tops[r]!];
        const inset = cell > 5 && row > 5 ? 1 : 0;
        if (value === null || !Number.isFinite(value)) {
          if (heat.dashes === false) continue;
          pen.strokeStyle = colours.line;
          pen.lineWidth = 1;
          pen.beginPath();
          pen.moveTo(x + cell * 0.35, y + row / 2);
          pen.lineTo(x + cell * 0.65, y + row / 2);
          pen.stroke();
          continue;
        }
        const towards = heat.colours === "sequential" ? colours.fire : value >= 0 ? colours.up : colours.down;
        const strength = share(value);
        pen.fillStyle = mix(colours.panel, towards, 0.05 + 0.95 * strength);
        pen.fillRect(x, y, cell - inset, row - inset);
        const light = needsLight(colours.panel, towards, strength);
        const text = heat.text && row >= 13 ? heat.text(r, c) : "";
        if (text) {
          pen.fillStyle = light ? "#fff" : "#14161a";
          pen.textAlign = "center";
          pen.textBaseline = "middle";
          pen.fillText(fit(pen, text, cell - 6), x + (cell - inset) / 2, y + row / 2);
        }
        if (heat.marked?.(r, c)) {
          pen.fillStyle = light ? "#fff" : "#14161a";
          pen.beginPath();
          const size = Math.min(2.2, cell / 5);
          pen.arc(text ? x + cell - 5 : x + (cell - inset) / 2, text ? y + 4.5 : y + (row - inset) / 2, size, 0, 7);
          pen.fill();
        }
      }
    names(pen, colours);
    if (chosen || focused) {
      pen.strokeStyle = colours.ink;
      pen.lineWidth = 2;
      pen.strokeRect(left + at[1] * cell - 1, geometry.tops[at[0]]! - 1, cell + 1, row + 1);
    }
  }

  function names(pen: CanvasRenderingContext2D, colours: Palette): void {
    const { left, top, cell, row } = geometry;
    pen.textBaseline = "middle";
    const every = Math.max(1, Math.ceil(12 / row));
    for (let r = 0; r < rows.length; r += every) {
      pen.fillStyle = r === at[0] && (chosen || focused) ? colours.ink : colours.faint;
      pen.textAlign = "right";
      pen.fillText(fit(pen, rows[r]!, left - 10), left - 6, geometry.tops[r]! + row / 2);
    }
    const sparse = Math.max(1, Math.ceil(13 / cell));
    for (let c = 0; c < columns.length; c += sparse) {
      pen.fillStyle = c === at[1] && (chosen || focused) ? colours.ink : colours.faint;
      pen.save();
      pen.translate(left + c * cell + cell / 2, top - 6);
      pen.textAlign = geometry.upright ? "center" : "left";
      if (!geometry.upright) pen.rotate(-Math.PI / 3);
      pen.fillText(fit(pen, columns[c]!, geometry.upright ? cell - 2 : 110), 0, geometry.upright ? -4 : 0);
      pen.restore();
    }
    pen.fillStyle = colours.faint;
    pen.textAlign = "left";
    pen.fillText(heat.columnTitle, left, 7);
    pen.textAlign = "right";
    pen.fillText(heat.rowTitle, left - 6, top - 9);
  }

  const redraw = eachFrame(draw);

  function go(row: number, column: number, tell = true): void {
    at = [Math.max(0, Math.min(rows.length - 1, row)), Math.max(0, Math.min(columns.length - 1, column))];
    chosen = true;
    spoken.textContent = heat.describe(...at).join(", ");
    redraw();
    if (tell) heat.onselect?.(...at);
  }

  function cellAt(event: PointerEvent | MouseEvent): [number, number] | null {
    const bounds = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
    const column = Math.floor((x - geometry.left) / geometry.cell);
    const row = geometry.tops.findIndex((top) => y >= top && y < top + geometry.row);
    return row >= 0 && column >= 0 && column < columns.length ? [row, column] : null;
  }

  canvas.addEventListener("pointermove", (event) => {
    const cell = cellAt(event);
    if (cell) showTip(heat.describe(...cell), event.clientX, event.clientY);
    else hideTip();
  });
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("click", (event) => {
    const cell = cellAt(event);
    if (cell) go(...cell);
  });
  canvas.addEventListener("dblclick", (event) => {
    const cell = cellAt(event);
    if (cell) heat.onopen?.(...cell);
  });
  box.addEventListener("focus", () => ((focused = true), redraw()));
  box.addEventListener("blur", () => ((focused = false), redraw()));
  box.addEventListener("keydown", (event) => {
    const [r, c] = at;
    const steps: Record<string, [number, number]> = {
      ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1],
      Home: [r, 0], End: [r, columns.length - 1], PageUp: [r - 8, c], PageDown: [r + 8, c],
    };
    const step = steps[event.key];
    if (step) go(...step);
    else if (event.key === "Enter" || event.key === " ") {
      go(...at);
      if (event.key === "Enter") heat.onopen?.(...at);
    } else return;
    event.preventDefault();
  });
  new ResizeObserver(redraw).observe(element);
  new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  window.addEventListener("beforeprint", draw);
  return { element, select: (row, column) => go(row, column, false), redraw };
}

function measure(heat: Heat, width: number) {
  const pen = document.createElement("canvas").getContext("2d");
  if (pen) pen.font = FONT;
  const long = (words: readonly string[], most: number) => Math.min(most, Math.max(0, ...words.map((word) => pen?.measureText(word).width ?? 6 * word.length)));
  const left = Math.ceil(Math.max(long(heat.rows, 150), long([heat.rowTitle], 150))) + 14;
  const wanted = heat.cell?.width ?? 34;
  const least = heat.cell?.least ?? 7;
  const cell = Math.max(least, Math.min(wanted, Math.floor((width - left - 24) / Math.max(1, heat.columns.length))));
  const widest = long(heat.columns, 110);
  const upright = widest <= cell - 2 || cell >= 48;
  const top = upright ? 36 : Math.ceil(widest * 0.87) + 30;
  const row = heat.cell?.height ?? Math.max(7, Math.min(24, cell, Math.floor(520 / Math.max(1, heat.rows.length))));
  const tops: number[] = [];
  let y = top;
  for (let r = 0; r < heat.rows.length; r++) {
    if (r && heat.breaks?.has(r)) y += GAP;
    tops.push(y);
    y += row;
  }
  return { left, top, cell, row, tops, upright, total: left + cell * heat.columns.length + (upright ? 4 : 60), tall: y + 4 };
}

function reach(heat: Heat): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (let r = 0; r < heat.rows.length; r++)
    for (let c = 0; c < heat.columns.length; c++) {
      const value = heat.value(r, c);
      if (value !== null && Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
  if (low > high) return [0, 1];
  if (heat.colours === "sequential") return [Math.min(0, low), high > low ? high : low + 1];
  const size = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return [-size, size];
}

function legend(heat: Heat, low: number, high: number): HTMLElement {
  const marks = heat.colours === "diverging" ? [low, 0, high] : [low, high];
  return h(
    "figcaption",
    { class: "heat-legend" },
    h("span", { class: `ramp ${heat.colours}`, "aria-hidden": "true" }),
    h("span", { class: "ramp-marks" }, ...marks.map((value) => h("span", {}, number(value, 2)))),
    h("span", { class: "note" }, heat.unit),
    heat.marked ? h("span", { class: "note" }, `● ${heat.marks ?? "stands out from its null"}`) : null,
    heat.dashes === false ? null : h("span", { class: "note" }, "– no value"),
  );
}

function fit(pen: CanvasRenderingContext2D, words: string, width: number): string {
  if (pen.measureText(words).width <= width) return words;
  let end = words.length;
  while (end > 1 && pen.measureText(`${words.slice(0, end)}…`).width > width) end--;
  return end <= 1 && pen.measureText(words[0] ?? "").width > width ? "" : `${words.slice(0, end)}…`;
}
