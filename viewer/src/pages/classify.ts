/** Texts classified from features, beside all that could do the same: each regime with its winner. */

import { estimate, readEvidence } from "../core/evidence";
import { number as figure } from "../core/names";
import { dict, fallback, list, maybe, number, record, text } from "../core/shape";
import { dataTable } from "../parts/datatable";
import { h, replace } from "../parts/dom";
import { forest } from "../parts/forest";
import { choose, type Context, type Page, section } from "./context";

const shape = record({
  data: text, dictionary: fallback(text, ""), n_learn: fallback(number, 0), n_test: fallback(number, 0), classes: fallback(list(text), []), few: maybe, shifted_by: fallback(text, ""), chance: maybe,
  width: fallback(dict(number), new Map<string, number>()), regimes: list(text), accuracy: dict(dict(estimate)),
});

export function classifyPage({ result, params }: Context): Page {
  const file = shape(result.body, "");
  const methods = [...file.accuracy.keys()];
  const said: Record<string, string> = { plentiful: `all ${file.n_learn.toLocaleString("en")} texts to learn from`, scarce: `${file.few ?? "few"} texts a class`, noisy: "a part of the labels wrong", shifted: file.shifted_by };
  const alone = file.regimes.filter((where) => methods.slice(1).every((other) => (at(other, where)?.value ?? -1) < (at(methods[0] ?? "", where)?.value ?? -1) - 1e-9)).length;
  function at(method: string, where: string) {
    return file.accuracy.get(method)?.get(where) ?? null;
  }
  const one = h("div", { class: "nested" });
  const note = h("p", { class: "note" });
  function drawRegime(): void {
    const regime = params.choice("regime", file.regimes.length ? file.regimes : [""]);
    const rows = methods.flatMap((method) => {
      const found = at(method, regime);
      return found ? [{ estimate: { ...found, name: method }, role: method === methods[0] ? ("effect" as const) : method.includes("untrained") || method.includes("random") ? ("null" as const) : ("baseline" as const) }] : [];
    });
    rows.sort((a, b) => (b.estimate.value ?? -1) - (a.estimate.value ?? -1));
    note.textContent = said[regime] ?? "";
    replace(one, choose("Learned from", file.regimes.map((name) => [name, name] as const), regime, (value) => params.set({ regime: value })), note, forest(rows, `balanced accuracy, ${regime}`));
  }
  drawRegime();
  params.listen((changed) => changed.has("regime") && drawRegime());
  return {
    finding: `${methods[0] ?? "features"}, ${file.data}: better than all else in ${alone} of ${file.regimes.length} regimes`,
    evidence: readEvidence(result.body.evidence),
    facts: [["texts", file.data], ["dictionary", file.dictionary], ["classes", `${file.classes.length}: ${file.classes.join(", ")}`.slice(0, 80)], ["to learn, to test", `${file.n_learn.toLocaleString("en")}, ${file.n_test.toLocaleString("en")}`], ["chance", figure(file.chance)]],
    sections: [
      section(
        "Balanced accuracy, every method and regime",
        "held-out texts; in bold the best of a column; under each its 95 % interval over texts",
        dataTable(
          [
            { name: "classifies from", value: (method: string) => method },
            { name: "numbers a text", value: (method) => file.width.get(method) ?? null },
            ...file.regimes.map((where) => ({
              name: where,
              title: said[where] ?? "",
              value: (method: string) => at(method, where)?.value ?? null,
              draw: (method: string) => {
                const one = at(method, where);
                if (!one) return "–";
                const best = Math.max(...methods.map((other) => at(other, where)?.value ?? -1));
                const span = one.interval ? `[${figure(one.interval.low, 2)}, ${figure(one.interval.high, 2)}]` : "";
                return h("span", { class: "two-lines" }, h(one.value !== null && one.value >= best - 1e-9 ? "b" : "span", {}, figure(one.value, 3)), h("small", { class: "note" }, span));
              },
            })),
          ],
          methods,
          { caption: "Balanced accuracy" },
        ),
      ),
      section("One regime", "from the best to the worst", one),
    ],
  };
}
