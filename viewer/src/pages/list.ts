/** What a folder of several results opens with. */

import type { Entry, Verdict } from "../core/files";
import { linkTo } from "../core/params";
import { TONE, TONE_ICON } from "../parts/claim";
import { h, icon, replace } from "../parts/dom";
import { kindOf } from "./kinds";

/** `asked`: a name in the address that nothing here has. */
export function listPage(root: HTMLElement, entries: readonly Entry[], asked = ""): void {
  document.title = "Cutaway";
  const kinds = [...new Set(entries.map((entry) => kindOf(entry.schema).word))];
  // Cards come by the hundred: a kind of more than a dozen is folded, unless it is all there is.
  const many = kinds.length > 1 ? kinds.filter((word) => count(entries, word) > 12) : [];
  const few = entries.filter((entry) => entry.problem || !many.includes(kindOf(entry.schema).word));
  replace(
    root,
    h(
      "main",
      { class: "trace-list" },
      h("h1", {}, "Results"),
      asked ? h("p", { class: "trouble", role: "alert" }, `No result here is named “${asked}”. It may have been moved or written anew under another name.`) : null,
      h("p", { class: "note" }, `${entries.length} in this folder: ${kinds.map((word) => `${count(entries, word)} ${word}${count(entries, word) > 1 ? "s" : ""}`).join(", ")}`),
      h("ul", {}, ...few.map(line)),
      ...many.map((word) => {
        const rows = entries.filter((entry) => !entry.problem && kindOf(entry.schema).word === word);
        return h("details", { class: "many" }, h("summary", {}, `${rows.length} ${word}s`), h("ul", {}, ...rows.map(line)));
      }),
    ),
  );
}

function count(entries: readonly Entry[], word: string): number {
  return entries.filter((entry) => kindOf(entry.schema).word === word).length;
}

function line(entry: Entry): HTMLElement {
  const where = [entry.name, entry.model, entry.created.slice(0, 10)].filter(Boolean).join(" · ");
  const kind = h("span", { class: "kind" }, kindOf(entry.schema).word);
  if (entry.problem) return h("li", { class: "broken" }, h("div", { class: "entry" }, h("span", { class: "kind" }, "damaged"), h("span", { class: "words" }, entry.problem), h("span", { class: "where" }, where)));
  const tone = entry.verdict ? (TONE[entry.verdict as Verdict] ?? "open") : null;
  const href = entry.kind === "trace" ? `#trace=${encodeURIComponent(entry.name)}` : linkTo(entry.name);
  return h(
    "li",
    {},
    h(
      "a",
      { class: "entry", href },
      kind,
      h("span", { class: "words" }, h("b", {}, entry.title || entry.prompt || entry.name)),
      tone ? h("span", { class: `verdict ${tone}` }, icon(TONE_ICON[tone]), entry.verdict) : null,
      h("span", { class: "where" }, where),
    ),
  );
}
