/** The page of a schema that has none of its own: evidence, tables, curves, matrices and figures, found by their form. */

import { estimate, inWords, looksLikeEstimate, readEvidence } from "../core/evidence";
import type { EvidenceRow } from "../core/files";
import { number as figure } from "../core/names";
import { isObject, Malformed } from "../core/shape";
import { chart, sparkline } from "../parts/chart";
import { type Column, dataTable, plain } from "../parts/datatable";
import { type Child, h } from "../parts/dom";
import { heatmap } from "../parts/heatmap";
import { type Context, type Page, section } from "./context";

/** What a result was made with, and what its figures draw: shown last, folded. */
const LAST = new Set(["settings", "seeds", "columns", "choices", "about", "data", "plan", "notes"]);
const APART = new Set(["schema", "evidence", "title", "claim", "finding"]);
const DEPTH = 3;
const LONG = 12;

/** `broken`: the file is not what its schema says, so that nothing of it is taken on trust, evidence included. */
export function genericPage({ result }: Context, broken = false): Page {
  const { body, pictures } = result;
  let evidence: EvidenceRow[] = [];
  let note: Child = null;
  try {
    evidence = readEvidence(body.evidence);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    note = broken ? null : h("p", { class: "trouble", role: "alert" }, `Its evidence cannot be read: ${error.message}.`);
  }
  const scalars = Object.entries(body).filter(([key, value]) => !APART.has(key) && isScalar(value));
  const deep = Object.entries(body).filter(([key, value]) => !APART.has(key) && !isScalar(value));
  const last = deep.filter(([key]) => LAST.has(key));
  const beside = columnsOf(deep.filter(([key]) => !LAST.has(key)));
  const rest = deep.filter(([key]) => !LAST.has(key) && !beside.some(([name]) => name === key));
  const few = rest.filter(([, value]) => briefly(value) !== "");
  const shown = rest.filter(([, value]) => briefly(value) === "");
  const said = [body.finding, body.claim, body.title, body.about].find((value): value is string => typeof value === "string" && value !== "");
  const verdict = typeof body.passed === "boolean" ? [h("span", { class: `verdict ${body.passed ? "good" : "bad"}` }, body.passed ? "passed" : "failed")] : [];
  return {
    ...(said && !evidence.length ? { finding: said } : {}),
    measured: verdict,
    evidence,
    facts: scalars.filter(([, value]) => value !== null && String(value).length < 60).slice(0, 8).map(([key, value]) => [words(key), scalar(value)]),
    sections: [
      note,
      ...figures(pictures),
      beside.length ? section(`By ${words(beside[0]![0]).replace(/s$/, "")}`, "", table("by", (beside[0]![1] as unknown[]).map((_, i) => Object.fromEntries(beside.map(([name, list]) => [name, (list as unknown[])[i]]))))) : null,
      ...shown.map(([key, value]) => part(key, value, key === "rows" ? body.columns : undefined)),
      few.length || scalars.length > 8 ? section("Values", "", settingsTable(Object.fromEntries([...(scalars.length > 8 ? scalars : []), ...few.map(([key, value]): [string, unknown] => [key, briefly(value)])]))) : null,
      last.length ? section("Settings and data", "", ...last.map(([key, value]) => h("details", {}, h("summary", {}, words(key)), draw(key, value, 0)))) : null,
    ],
  };
}

/** Lists that belong together: one of words, all different, and at least two of as many numbers. The words come first. */
function columnsOf(lists: readonly [string, unknown][]): [string, unknown][] {
  const scalars = lists.filter((entry): entry is [string, (string | number | null)[]] => Array.isArray(entry[1]) && entry[1].length > 1 && entry[1].every((one) => one === null || typeof one === "number" || typeof one === "string"));
  for (const names of scalars) {
    if (!names[1].every((one) => typeof one === "string") || new Set(names[1]).size !== names[1].length) continue;
    const numbers = scalars.filter(([, one]) => one.length === names[1].length && one.every((x) => typeof x !== "string"));
    if (numbers.length > 1) return [names, ...numbers];
  }
  return [];
}

/** What is to be seen in pictures whose verbs write them under these names. */
const SEEN: Record<string, string> = { "visualisation": "above, the model; below, the same on the model with its weights re-randomised", "examples": "below each picture: what it is, and what the model says" };

export function figures(pictures: readonly { name: string; data: string }[]): HTMLElement[] {
  if (!pictures.length) return [];
  return [section("Figures", "", h("div", { class: "pictures" }, ...pictures.map((one) => h("figure", {}, h("img", { src: one.data, alt: one.name, loading: "lazy" }), h("figcaption", { class: "note" }, Object.entries(SEEN).find(([word]) => one.name.replace(/\.\w+$/, "").endsWith(word))?.[1] ?? one.name)))))];
}

function part(key: string, value: unknown, names?: unknown): Child {
  const drawn = names !== undefined && Array.isArray(value) && value.every(isObject) ? table(key, value, names) : draw(key, value, 0);
  const title = words(key);
  return drawn === null ? null : section(title.charAt(0).toUpperCase() + title.slice(1), "", drawn);
}

/** Any value of a file by its form. */
export function draw(key: string, value: unknown, depth: number): Child {
  if (value === null || value === undefined) return null;
  if (isScalar(value)) return h("p", { class: "prose" }, scalar(value));
  if (looksLikeEstimate(value)) return h("p", { class: "prose" }, estimateWords(value));
  if (Array.isArray(value)) return drawList(key, value, depth);
  if (!isObject(value)) return null;
  if (isTensor(value)) return h("p", { class: "prose" }, tensorWords(value));
  if (depth >= DEPTH) return json(value);
  const entries = Object.entries(value);
  if (!entries.length) return null;
  if (entries.length > 2 && entries.every(([, one]) => isObject(one) && !looksLikeEstimate(one))) return table(key, entries.map(([name, one]) => ({ name, ...(one as object) })));
  const brief = (one: unknown) => isScalar(one) || looksLikeEstimate(one) || isTensor(one);
  const flat = entries.filter(([, one]) => brief(one));
  const deep = entries.filter(([, one]) => !brief(one));
  return h("div", { class: "nested" }, flat.length ? settingsTable(Object.fromEntries(flat)) : null, ...deep.map(([name, one]) => h("div", {}, h("h3", {}, words(name)), draw(name, one, depth + 1))));
}

function drawList(key: string, value: unknown[], depth: number): Child {
  if (!value.length) return null;
  if (value.every(isObject)) return table(key, value);
  if (value.every((one) => one === null || typeof one === "number")) return numbers(key, value as (number | null)[]);
  if (value.every((one) => Array.isArray(one) && one.every((x) => x === null || typeof x === "number"))) return matrix(key, value as (number | null)[][]);
  if (value.every(isScalar)) return h("ul", { class: "words" }, ...value.slice(0, 200).map((one) => h("li", {}, scalar(one))));
  if (value.every(Array.isArray) && value.every((row) => row.every(isScalar))) return table(key, (value as unknown[][]).map((row) => Object.fromEntries(row.map((one, i) => [String(i + 1), one]))));
  if (depth >= DEPTH) return json(value);
  return h("ol", { class: "parts" }, ...value.slice(0, 100).map((one) => h("li", {}, draw(key, one, depth + 1))));
}

function numbers(key: string, value: (number | null)[]): Child {
  if (value.length <= LONG) return h("p", { class: "prose" }, value.map((one) => (one === null ? "–" : plain(one))).join(", "));
  return chart({ label: words(key), xTitle: "index", yTitle: words(key), zero: false, height: 180, series: [{ name: words(key), tone: "up", spots: value.map((y, x) => ({ x, y })) }] }).element;
}

function matrix(key: string, value: (number | null)[][]): Child {
  const columns = Math.max(...value.map((row) => row.length));
  if (!columns) return null;
  if (columns * value.length > 60_000) return json(value);
  const signed = value.some((row) => row.some((one) => one !== null && one < 0));
  const index = (n: number) => Array.from({ length: n }, (_, i) => String(i));
  return heatmap({
    label: words(key), rows: index(value.length), columns: index(columns), rowTitle: "row", columnTitle: "column", unit: "", colours: signed ? "diverging" : "sequential",
    value: (r, c) => value[r]?.[c] ?? null,
    describe: (r, c) => [`row ${r}, column ${c}`, figure(value[r]?.[c])],
  }).element;
}

/** Rows of whatever keys they have; what is no text and no number is said shortly. `names`: of a column its word and
 * its meaning, as some results give them: {"gain": ["+prev", "what the previous token adds"]}. */
function table(key: string, rows: Record<string, unknown>[], names?: unknown): HTMLElement {
  const given = (name: string) => {
    const found = isObject(names) && Object.hasOwn(names, name) ? names[name] : null;
    return Array.isArray(found) && found.every((one) => typeof one === "string") ? (found as string[]) : [];
  };
  const keys = [...new Set(rows.slice(0, 50).flatMap((row) => Object.keys(row)))].slice(0, 24);
  const columns: Column<Record<string, unknown>>[] = keys.map((name) => ({
    name: given(name)[0] ?? words(name),
    ...(given(name)[1] ? { title: given(name)[1]! } : {}),
    value: (row) => sortable(own(row, name)),
    draw: (row) => cell(name, own(row, name)),
  }));
  return dataTable(columns, rows, { caption: words(key) });
}

function own(row: Record<string, unknown>, name: string): unknown {
  return Object.hasOwn(row, name) ? row[name] : null;
}

function sortable(value: unknown): string | number | null {
  if (typeof value === "number" || typeof value === "string") return value;
  if (value === null || value === undefined) return null;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (looksLikeEstimate(value)) return (value as { value: number | null }).value;
  return isInterval(value) ? value[0] : JSON.stringify(value).slice(0, 60);
}

function cell(name: string, value: unknown): Child {
  if (value === null || value === undefined) return "–";
  if (name === "passed" && typeof value === "boolean") return h("span", { class: `verdict ${value ? "good" : "bad"}` }, value ? "passed" : "failed");
  if (isScalar(value)) return scalar(value);
  if (looksLikeEstimate(value)) return h("span", { title: estimateWords(value) }, estimateWords(value).replace(/ \(n = [^)]*\)$/, ""));
  if (isInterval(value)) return `[${figure(value[0])}, ${figure(value[1])}]`;
  if (Array.isArray(value) && value.every((one) => one === null || typeof one === "number")) return value.length > 6 ? sparkline(value, name) : value.map((one) => figure(one)).join(", ");
  if (Array.isArray(value) && value.every(isScalar)) return value.map(scalar).join(", ").slice(0, 240);
  if (isObject(value) && typeof value.low === "number" && typeof value.high === "number") return `[${figure(value.low)}, ${figure(value.high)}]`;
  return h("details", {}, h("summary", {}, "more"), json(value));
}

interface Tensor {
  dtype: string;
  shape: number[];
}

function isTensor(value: unknown): value is Tensor {
  return isObject(value) && typeof value.dtype === "string" && typeof value.base64 === "string" && Array.isArray(value.shape) && value.shape.every((one) => typeof one === "number");
}

/** Its numbers are for programs. */
function tensorWords({ dtype, shape }: Tensor): string {
  return `a tensor [${shape.join(", ")}] of ${dtype}`;
}

function isInterval(value: unknown): value is [number, number] {
  return Array.isArray(value) && value.length === 2 && value.every((one) => typeof one === "number");
}

function estimateWords(value: unknown): string {
  try {
    return inWords(estimate(value, ""));
  } catch {
    return JSON.stringify(value).slice(0, 200);
  }
}

function isScalar(value: unknown): value is string | number | boolean | null {
  return value === null || ["string", "number", "boolean"].includes(typeof value);
}

function scalar(value: unknown): string {
  if (typeof value === "number") return plain(value);
  return value === null ? "–" : value === true ? "yes" : value === false ? "no" : String(value);
}

/** A short list of words, or a few names with their values, in a line; "" for anything else. */
function briefly(value: unknown): string {
  let said = "";
  if (Array.isArray(value) && value.length && value.every((one) => typeof one === "string")) said = value.join(" · ");
  else if (isObject(value) && !looksLikeEstimate(value) && Object.keys(value).length && Object.values(value).every(isScalar)) said = Object.entries(value).map(([name, one]) => `${words(name)}: ${scalar(one as string)}`).join(" · ");
  return said.length <= 240 ? said : "";
}

export function words(key: string): string {
  return key.replace(/_/g, " ");
}

function json(value: unknown): HTMLElement {
  const said = JSON.stringify(value, null, 1);
  return h("pre", { class: "json" }, said.length > 20_000 ? `${said.slice(0, 20_000)}\n…` : said);
}

/** Names and values, one a line; what is deep is said as JSON. */
export function settingsTable(settings: Record<string, unknown>): HTMLElement {
  const rows = Object.entries(settings).filter(([, value]) => value !== null && value !== undefined);
  return h(
    "dl",
    { class: "settings" },
    ...rows.flatMap(([key, value]) => [h("dt", {}, words(key)), h("dd", {}, isScalar(value) ? scalar(value) : looksLikeEstimate(value) ? estimateWords(value) : isTensor(value) ? tensorWords(value) : JSON.stringify(value).length < 120 ? JSON.stringify(value) : h("details", {}, h("summary", {}, "show"), json(value)))]),
  );
}
