/** How a circuit is judged as a whole: is each part needed, is anything missing, do formal tests agree. */

import { estimate, inWords } from "../core/evidence";
import { number as figure } from "../core/names";
import { fallback, list, maybe, nullable, number, type Read, record, text, truth } from "../core/shape";
import { chart } from "../parts/chart";
import { dataTable } from "../parts/datatable";
import { type Child, h } from "../parts/dom";
import { section } from "./context";

const scored = record({ part: text, without: fallback(list(text), []), score: estimate, p: maybe, p_holm: maybe, needed: nullable(truth) });
const minimality = record({ least: maybe, n: fallback(number, 0), parts: list(scored), outside: fallback(list(scored), []) });
const completeness = record({ n: fallback(number, 0), whole: maybe, knockouts: list(record({ chosen: fallback(text, ""), out: list(text), circuit: number, model: number, gap: maybe })) });
const tests = record({ alpha: fallback(number, 0.05), tests: list(record({ name: text, question: fallback(text, ""), null: fallback(text, ""), statistic: nullable(estimate), p: maybe, p_holm: maybe, outcome: text, note: fallback(text, "") })) });

/** Sections for whichever of the three a circuit's body holds. */
export function scoring(body: Record<string, unknown>): Child[] {
  return [given(body, "minimality", minimality, needed), given(body, "completeness", completeness, missing), given(body, "tests", tests, formal)];
}

function given<T>(body: Record<string, unknown>, key: string, read: Read<T>, draw: (value: T) => Child): Child {
  return body[key] === undefined || body[key] === null ? null : draw(read(body[key], key));
}

function needed(found: ReturnType<typeof minimality>): Child {
  const rows = [...found.parts.map((row) => ({ ...row, inside: true })), ...found.outside.map((row) => ({ ...row, inside: false }))];
  return section(
    "Is every part needed?",
    `what a part adds once the parts that stand in for it are out, as a share of the task; needed: above ${figure(found.least)} with Holm over all; ${found.n} items`,
    dataTable(
      [
        { name: "part", value: (row) => row.part },
        { name: "in the circuit", value: (row) => (row.inside ? "yes" : "no") },
        { name: "adds", value: (row) => row.score.value, draw: (row) => inWords(row.score) },
        { name: "p, Holm", value: (row) => row.p_holm },
        { name: "needed", value: (row) => (row.needed === null ? null : row.needed ? "yes" : "no"), draw: (row) => (row.needed === null ? "–" : h("span", { class: `verdict ${row.needed === row.inside ? "good" : "bad"}` }, row.needed ? "needed" : "not shown to be")) },
        { name: "with these out", value: (row) => row.without.join(", ") || "–" },
      ],
      rows,
      { caption: "Minimality, a row a part" },
    ),
  );
}

function missing(found: ReturnType<typeof completeness>): Child {
  const kinds = [...new Set(found.knockouts.map((one) => one.chosen))].slice(0, 4);
  const ends = found.knockouts.flatMap((one) => [one.circuit, one.model]);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const tones = ["up", "down", "fire", "ink"] as const;
  return section(
    "Is anything missing?",
    `some parts taken out of the circuit, and the same out of the model; on the line the circuit is complete; ${found.n} items`,
    chart({
      label: "Circuit against model without the same parts", xTitle: "metric of the model without them", yTitle: "of the circuit without them", height: 280, zero: false,
      series: [...kinds.map((kind, i) => ({ name: `parts chosen: ${kind || "given"}`, tone: tones[i]!, loose: true, spots: found.knockouts.filter((one) => one.chosen === kind).map((one) => ({ x: one.model, y: one.circuit })) })), { name: "complete", tone: "faint" as const, dashed: true, spots: [{ x: low, y: low }, { x: high, y: high }] }],
    }).element,
    dataTable([{ name: "out", value: (row) => row.out.join(", ") || "nothing" }, { name: "chosen", value: (row) => row.chosen }, { name: "circuit", value: (row) => row.circuit }, { name: "model", value: (row) => row.model }, { name: "gap", value: (row) => row.gap }], found.knockouts, { caption: "Completeness, a row a knockout" }),
  );
}

function formal(found: ReturnType<typeof tests>): Child {
  const tone = (outcome: string) => (/^(holds|passes|passed|accepted)/.test(outcome) ? "good" : /^(fails|failed|rejected)/.test(outcome) ? "bad" : "open");
  return section(
    "Tests of the hypothesis",
    `at ${found.alpha}, Holm over all`,
    dataTable(
      [
        { name: "test", value: (row) => row.name },
        { name: "asks", value: (row) => row.question },
        { name: "its null", value: (row) => row.null },
        { name: "statistic", value: (row) => row.statistic?.value ?? null, draw: (row) => (row.statistic ? `${row.statistic.name}: ${inWords(row.statistic)}` : "–") },
        { name: "p, Holm", value: (row) => row.p_holm },
        { name: "outcome", value: (row) => row.outcome, draw: (row) => h("span", {}, h("span", { class: `verdict ${tone(row.outcome)}` }, row.outcome), row.note ? ` ${row.note}` : "") },
      ],
      found.tests,
      { caption: "Tests" },
    ),
  );
}
