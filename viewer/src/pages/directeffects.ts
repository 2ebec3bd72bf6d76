/** Direct logit attribution: what each head and MLP adds to the logit difference, and what taking it out does. */

import { readEvidence } from "../core/evidence";
import { number as figure, signed } from "../core/names";
import { fallback, list, maybe, nullable, number, pair, record, text } from "../core/shape";
import { dataTable } from "../parts/datatable";
import { heatmap } from "../parts/heatmap";
import { forest } from "../parts/forest";
import { type Context, type Page, section } from "./context";

const shape = record({
  model: fallback(text, ""), n: fallback(number, 0), logit_difference: maybe, max_error: maybe, pairs: fallback(list(list(nullable(text))), []),
  components: list(record({ name: text, direct: number, interval: nullable(pair(number, number)), change_when_zeroed: maybe })),
});

export function directEffectsPage({ result }: Context): Page {
  const file = shape(result.body, "");
  const places = new Map(file.components.flatMap((one) => (/^head \d+\.\d+$/.test(one.name) ? [[one.name.slice(5), one] as const] : [])));
  const size = (part: 0 | 1) => Math.min(4096, Math.max(-1, ...[...places.keys()].map((name) => Number(name.split(".")[part]))) + 1);
  const [layers, heads] = [size(0), size(1)];
  const index = (n: number) => Array.from({ length: n }, (_, i) => String(i));
  const one = (r: number, c: number) => places.get(`${r}.${c}`);
  const largest = [...file.components].sort((a, b) => Math.abs(b.direct) - Math.abs(a.direct)).slice(0, 16);
  return {
    evidence: readEvidence(result.body.evidence),
    facts: [["model", file.model], ["prompts", String(file.n)], ["logit difference", figure(file.logit_difference)], ["the parts add up to it to", figure(file.max_error, 1)]],
    sections: [
      places.size
        ? section(
            "What each head adds",
            "to the logit difference, directly",
            heatmap({
              label: "Direct effect of each head", rows: index(layers), columns: index(heads), rowTitle: "layer", columnTitle: "head", colours: "diverging", unit: "logits", marks: "interval excludes 0", cell: { width: 52, height: 28 },
              value: (r, c) => one(r, c)?.direct ?? null,
              text: (r, c) => (heads <= 16 && one(r, c) ? one(r, c)!.direct.toFixed(1).replace("-", "−") : ""),
              marked: (r, c) => (one(r, c)?.interval?.[0] ?? -1) > 0 || (one(r, c)?.interval?.[1] ?? 1) < 0,
              describe: (r, c) => [`head ${r}.${c}`, `adds ${signed(one(r, c)?.direct ?? NaN)} logits${one(r, c)?.interval ? ` [${figure(one(r, c)!.interval![0])}, ${figure(one(r, c)!.interval![1])}]` : ""}`, ...(typeof one(r, c)?.change_when_zeroed === "number" ? [`when zeroed the difference changes by ${signed(one(r, c)!.change_when_zeroed!)}`] : [])],
            }).element,
          )
        : null,
      section("The largest", "bars are intervals over prompts", forest(largest.map((row) => ({ role: "part" as const, estimate: { name: row.name, value: row.direct, interval: row.interval ? { low: row.interval[0], high: row.interval[1], level: 0.95, method: "" } : null, n: file.n, unit: " logits", note: "" } })), "direct effects")),
      section("All parts", "“when zeroed”: how the difference changes when the part is taken out and later ones react", dataTable([{ name: "part", value: (row) => row.name }, { name: "direct", title: "logits", value: (row) => row.direct }, { name: "low", value: (row) => row.interval?.[0] ?? null }, { name: "high", value: (row) => row.interval?.[1] ?? null }, { name: "when zeroed", title: "logits", value: (row) => row.change_when_zeroed }], file.components, { caption: "Direct effects" })),
    ],
  };
}
