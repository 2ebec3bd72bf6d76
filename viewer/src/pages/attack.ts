/** Attacks by written words: how often a picture is taken for what is written on it, beside gibberish of equal ink. */

import { estimate, inWords, readEvidence } from "../core/evidence";
import { dict, fallback, list, number, record, text } from "../core/shape";
import { chart } from "../parts/chart";
import { dataTable } from "../parts/datatable";
import { forest } from "../parts/forest";
import { type Context, type Page, section } from "./context";
import { figures } from "./generic";
import { spotOf } from "./probe";

const shape = record({
  model: fallback(text, ""), names: fallback(list(text), []), n: fallback(number, 0), accuracy: fallback(dict(estimate), new Map()),
  rates: list(record({ classifier: text, size: number, fooled: estimate, fooled_by_gibberish: estimate, changed: estimate, changed_by_gibberish: estimate, twins: fallback(list(estimate), []) })),
  examples: fallback(list(record({ true: text, written: text, says: text })), []),
});

export function attackPage({ result }: Context): Page {
  const file = shape(result.body, "");
  const kinds = [...new Set(file.rates.map((row) => row.classifier))];
  return {
    evidence: readEvidence(result.body.evidence),
    facts: [["model", file.model], ["pictures", String(file.n)], ["names", file.names.join(", ").slice(0, 70)]],
    sections: [
      ...kinds.map((kind) => {
        const rows = file.rates.filter((row) => row.classifier === kind);
        const twins = [...new Set(rows.flatMap((row) => row.twins.map((one) => one.name)))];
        return section(
          `Fooled, ${kind}`,
          "share of pictures seen rightly before that are said to be what is written on them; bands are 95 % intervals",
          chart({
            label: `Fooled by size of letters, ${kind}`, xTitle: "letters, px", yTitle: "share fooled", yRange: [0, 1],
            series: [
              { name: "by the word", tone: "down", spots: rows.map((row) => spotOf(row.size, row.fooled)) },
              { name: "by gibberish of equal ink", tone: "faint", dashed: true, spots: rows.map((row) => spotOf(row.size, row.fooled_by_gibberish)) },
              ...twins.map((name) => ({ name, tone: "up" as const, spots: rows.map((row) => spotOf(row.size, row.twins.find((one) => one.name === name) ?? null)) })),
            ],
          }).element,
        );
      }),
      ...figures(result.pictures),
      file.accuracy.size ? section("Without letters", "accuracy on clean pictures", forest([...file.accuracy].map(([name, row]) => ({ estimate: { ...row, name }, role: "part" as const })), "accuracy")) : null,
      section("All rates", "", dataTable([{ name: "classifier", value: (row) => row.classifier }, { name: "letters, px", value: (row) => row.size }, { name: "fooled", value: (row) => row.fooled.value, draw: (row) => inWords(row.fooled) }, { name: "by gibberish", value: (row) => row.fooled_by_gibberish.value, draw: (row) => inWords(row.fooled_by_gibberish) }, { name: "answer changed", value: (row) => row.changed.value, draw: (row) => inWords(row.changed) }, { name: "by gibberish", value: (row) => row.changed_by_gibberish.value, draw: (row) => inWords(row.changed_by_gibberish) }], file.rates, { caption: "Rates" })),
      file.examples.length ? section("Examples", "", dataTable([{ name: "the picture", value: (row) => row.true }, { name: "written on it", value: (row) => row.written }, { name: "the model says", value: (row) => row.says }], file.examples, { caption: "Examples" })) : null,
    ],
  };
}
