/** What every page is given, and the pieces that pages are made of. */

import type { EvidenceRow, Result } from "../core/files";
import type { Source } from "../core/load";
import type { Params } from "../core/params";
import { type Child, h } from "../parts/dom";

export interface Context {
  result: Result;
  params: Params;
  source: Source;
  /** There is a list to go back to. */
  several: boolean;
}

export interface Page {
  /** The finding in a sentence, where the first claim of the evidence is not it. */
  finding?: string;
  /** What stands under the sentence where there is no record of evidence: effect, null, baseline. */
  measured?: Child[];
  evidence: EvidenceRow[];
  /** What the result is of: model, task, how many. */
  facts: [string, string][];
  sections: Child[];
}

export function section(title: string, note: string, ...children: (Child | Child[])[]): HTMLElement {
  return h("section", { class: "block", "aria-label": title }, h("div", { class: "block-head" }, h("h2", {}, title), note ? h("p", { class: "note" }, note) : null), ...children);
}

/** Buttons of which one is pressed, kept in the URL. */
export function choose<T extends string>(label: string, words: readonly (readonly [T, string])[], now: T, take: (value: T) => void): HTMLElement {
  return h(
    "div",
    { class: "choose", role: "group", "aria-label": label },
    h("span", { class: "note" }, label),
    ...words.map(([value, word]) => h("button", { type: "button", "aria-pressed": String(value === now), onclick: () => take(value) }, word)),
  );
}
