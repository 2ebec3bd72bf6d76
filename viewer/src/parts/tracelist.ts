/** What a folder of several traces opens with. */

import type { TraceEntry } from "../core/files";
import { h } from "./dom";

export function traceList(entries: readonly TraceEntry[], open: (name: string) => void): HTMLElement {
  return h(
    "main",
    { class: "trace-list" },
    h("h1", {}, "Traces"),
    h("p", { class: "note" }, `${entries.length} traces in this folder`),
    h(
      "ul",
      {},
      ...entries.map((entry) =>
        h(
          "li",
          {},
          h(
            "button",
            { type: "button", onclick: () => open(entry.name) },
            h("span", { class: "words" }, h("b", {}, entry.prompt || entry.name)),
            h("span", { class: "where" }, [entry.name, entry.model, entry.created.slice(0, 10)].filter(Boolean).join(" · ")),
          ),
        ),
      ),
    ),
  );
}
