/** Probes: what can be read from each point, beside what could be read without it. */

import { estimate, inWords, readEvidence } from "../core/evidence";
import type { EstimateRow } from "../core/files";
import { dict, fallback, list, maybe, nullable, number, record, text } from "../core/shape";
import { chart, type Series, type Spot } from "../parts/chart";
import { dataTable } from "../parts/datatable";
import { type Context, type Page, section } from "./context";

const shape = record({
  model: fallback(text, ""), data: fallback(text, ""), classes: fallback(list(text), []), n: fallback(dict(number), new Map<string, number>()), best: fallback(text, ""),
  bag_of_tokens: nullable(estimate),
  sweep: list(record({ point: text, C: maybe, validation: maybe, test: estimate, control: nullable(estimate), selectivity: maybe, difference_in_means: nullable(estimate), untrained: nullable(estimate) })),
  sparse: fallback(list(record({ k: number, coordinates: fallback(list(number), []), test: estimate, random: nullable(estimate), untrained: nullable(estimate) })), []),
});

export function spotOf(x: number, row: EstimateRow | null): Spot {
  return { x, y: row?.value ?? null, low: row?.interval?.low ?? null, high: row?.interval?.high ?? null };
}

export function probePage({ result }: Context): Page {
  const file = shape(result.body, "");
  const series = (name: string, tone: Series["tone"], rows: (EstimateRow | null)[], dashed = false): Series[] => (rows.some((row) => row) ? [{ name, tone, dashed, spots: rows.map((row, x) => spotOf(x, row)) }] : []);
  const { sweep, sparse } = file;
  const sized = (name: string, tone: Series["tone"], rows: (EstimateRow | null)[], dashed = false): Series[] => (rows.some((row) => row) ? [{ name, tone, dashed, spots: rows.map((row, i) => spotOf(sparse[i]!.k, row)) }] : []);
  return {
    evidence: readEvidence(result.body.evidence),
    facts: [["model", file.model], ["data", file.data], ["classes", file.classes.join(", ").slice(0, 60)], ["items", [...file.n].map(([name, n]) => `${n} ${name}`).join(", ")], ["chosen", file.best]],
    sections: [
      section(
        "What can be read from each point",
        "balanced accuracy on test items with 95 % intervals; the point is chosen on validation items",
        chart({
          label: "Accuracy of probes by point", xTitle: "point", yTitle: "balanced accuracy", names: new Map(sweep.map((row, i) => [i, row.point])), zero: false, yRange: [0, 1.02],
          series: [
            ...series("linear probe", "up", sweep.map((row) => row.test)),
            ...series("re-randomised model", "faint", sweep.map((row) => row.untrained), true),
            ...series("control task", "down", sweep.map((row) => row.control)),
            ...series("difference in means", "fire", sweep.map((row) => row.difference_in_means)),
            ...series("bag of tokens", "ink", sweep.map(() => file.bag_of_tokens), true),
          ],
        }).element,
        dataTable(
          [{ name: "point", value: (row) => row.point, draw: (row) => (row.point === file.best ? `${row.point} (chosen)` : row.point) }, { name: "test", value: (row) => row.test.value, draw: (row) => inWords(row.test) }, { name: "control", value: (row) => row.control?.value ?? null }, { name: "selectivity", title: "test less control", value: (row) => row.selectivity }, { name: "re-randomised", value: (row) => row.untrained?.value ?? null, draw: (row) => (row.untrained ? inWords(row.untrained) : "–") }, { name: "difference in means", value: (row) => row.difference_in_means?.value ?? null }, { name: "validation", value: (row) => row.validation }, { name: "C", value: (row) => row.C }],
          sweep,
          { caption: "Probes by point" },
        ),
      ),
      sparse.length
        ? section(
            "On a few coordinates",
            `probes on the k best coordinates of ${file.best}`,
            chart({ label: "Accuracy of sparse probes", xTitle: "coordinates", yTitle: "balanced accuracy", log: true, yRange: [0, 1.02], height: 200, series: [...sized("k best", "up", sparse.map((row) => row.test)), ...sized("k at random", "down", sparse.map((row) => row.random)), ...sized("re-randomised model", "faint", sparse.map((row) => row.untrained), true)] }).element,
            dataTable([{ name: "k", value: (row) => row.k }, { name: "test", value: (row) => row.test.value, draw: (row) => inWords(row.test) }, { name: "k at random", value: (row) => row.random?.value ?? null, draw: (row) => (row.random ? inWords(row.random) : "–") }, { name: "coordinates", value: (row) => row.coordinates.slice(0, 16).join(", ") }], sparse, { caption: "Sparse probes" }),
          )
        : null,
    ],
  };
}
