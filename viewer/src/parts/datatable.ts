/** A table that sorts by any column; long ones are shown by the hundred. */

import { number } from "../core/names";
import { type Child, h, replace } from "./dom";

export interface Column<Row> {
  name: string;
  value(row: Row): string | number | null;
  /** What stands in the cell, where that is more than the value. */
  draw?(row: Row): Child;
  title?: string;
  /** Set to the left though its values, which sort it, are numbers. */
  words?: boolean;
}

export interface TableOptions<Row> {
  caption: string;
  onopen?(row: Row): void;
  /** The column sorted by at first, downwards; by default the order given. */
  sort?: number;
}

const STEP = 100;

export function dataTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[], options: TableOptions<Row>): HTMLElement {
  let by = options.sort ?? -1;
  let down = true;
  let most = STEP;
  const numeric = columns.map((column) => !column.words && rows.every((row) => typeof column.value(row) !== "string"));
  const body = h("tbody");
  const more = h("button", { type: "button", class: "text-button", onclick: () => ((most += 10 * STEP), show()) });
  const heads = columns.map((column, i) =>
    h(
      "th",
      { scope: "col", class: numeric[i] ? "number" : "", title: column.title },
      h("button", { type: "button", onclick: () => ((down = by === i ? !down : rows.length > 0 && typeof column.value(rows[0]!) === "number"), (by = i), show()) }, column.name),
    ),
  );
  function show(): void {
    const sorted = by < 0 ? rows : [...rows].sort((a, b) => compare(columns[by]!.value(a), columns[by]!.value(b)) * (down ? -1 : 1));
    heads.forEach((head, i) => head.setAttribute("aria-sort", i !== by ? "none" : down ? "descending" : "ascending"));
    replace(body, ...sorted.slice(0, most).map((row) => h("tr", {}, ...columns.map((column, i) => cell(column, row, i)))));
    more.hidden = rows.length <= most;
    more.textContent = `Show more (${most.toLocaleString("en")} of ${rows.length.toLocaleString("en")})`;
  }
  function cell(column: Column<Row>, row: Row, i: number): HTMLElement {
    const value = column.value(row);
    const drawn = column.draw ? column.draw(row) : typeof value === "number" ? plain(value) : (value ?? "–");
    const inside = i === 0 && options.onopen ? h("button", { type: "button", class: "link", onclick: () => options.onopen!(row) }, drawn) : drawn;
    return h(i === 0 ? "th" : "td", { class: numeric[i] ? "number" : "", ...(i === 0 ? { scope: "row" } : {}) }, inside);
  }
  show();
  return h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": options.caption }, h("table", { class: "data" }, h("caption", { class: "unseen" }, options.caption), h("thead", {}, h("tr", {}, ...heads)), body), more);
}

function compare(a: string | number | null, b: string | number | null): number {
  if (a === b) return 0;
  if (a === null) return -1;
  if (b === null) return 1;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

/** Whole numbers as they are, others to three digits. */
export function plain(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1e15 ? value.toLocaleString("en").replace("-", "−") : number(value);
}
