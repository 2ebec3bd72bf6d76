/** Exams and toys: every number beside what is exactly known of it, and the figures that were drawn. */

import { readEvidence } from "../core/evidence";
import type { EvidenceRow } from "../core/files";
import { number as figure } from "../core/names";
import { anything, fallback, list, maybe, nullable, number, record, text, truth } from "../core/shape";
import { type CheckRow, checkRows, checkTable, counted, estimateOf, verdictOf } from "../parts/checks";
import { dataTable } from "../parts/datatable";
import { type Child, h } from "../parts/dom";
import { type Context, type Page, section } from "./context";
import { draw, figures } from "./generic";

const exam = record({ room: text, quick: fallback(truth, false), seed: nullable(number), rows: checkRows });

export function examPage({ result }: Context): Page {
  const file = exam(result.body, "");
  const rows = file.rows.filter((row) => !row.table);
  const failed = file.rows.filter((row) => row.passed === false).length;
  return {
    finding: `${file.room}: ${counted(file.rows)}`,
    measured: [verdictOf(failed === 0), h("span", {}, "each number beside what is exactly known; nulls are rows of their own")],
    evidence: readEvidence(result.body.evidence),
    facts: [["room", file.room], ...(file.seed === null ? [] : [["seed", String(file.seed)] as [string, string]]), ...(file.quick ? [["quick", "fewer items"] as [string, string]] : [])],
    sections: [
      ...figures(result.pictures),
      rows.length ? section("Truth beside estimate", "a row passes by a law that must hold or by a tolerance said beforehand; approximations are reported", checkTable(rows, "Truth beside estimate")) : null,
      ...tables(file.rows),
    ],
  };
}

/** Rows that name a place in a table: [title, line, column]. */
function tables(rows: readonly CheckRow[]): Child[] {
  const placed = rows.filter((row) => row.table && row.table.length === 3);
  return [...new Set(placed.map((row) => row.table![0]!))].map((title) => {
    const mine = placed.filter((row) => row.table![0] === title);
    const columns = [...new Set(mine.map((row) => row.table![2]!))];
    const lines = [...new Set(mine.map((row) => row.table![1]!))];
    const cell = (line: string, column: string) => mine.find((row) => row.table![1] === line && row.table![2] === column);
    return section(
      title,
      "",
      dataTable(
        [
          { name: "line", value: (line: string) => line },
          ...columns.map((column) => ({
            name: column,
            value: (line: string) => { const row = cell(line, column); return row ? estimateOf(row).value : null; },
            draw: (line: string) => { const row = cell(line, column); return row ? h("span", { class: row.passed === false ? "bad-number" : "", title: `${row.name}${row.passed === false ? " (failed)" : ""}` }, figure(estimateOf(row).value, 3)) : "–"; },
          })),
        ],
        lines,
        { caption: title },
      ),
    );
  });
}

const experiment = record({ name: text, claim: fallback(text, ""), setting: fallback(text, ""), passed: truth, seconds: maybe, rows: checkRows, evidence: anything, data: anything });

export function experimentPage({ result }: Context): Page {
  const file = experiment(result.body, "");
  return {
    evidence: readEvidence(result.body.evidence),
    finding: file.claim || file.name,
    facts: [["experiment", file.name], ["setting", file.setting], ["checks", counted(file.rows)], ...(file.seconds === null ? [] : [["took", `${figure(file.seconds, 3)} s`] as [string, string]])],
    sections: [
      ...figures(result.pictures),
      checks(file.rows),
      result.pictures.length ? null : h("p", { class: "note" }, `Its figure (${file.name}.png) does not lie beside this file.`),
      file.data ? section("What the figure draws", "", h("details", {}, h("summary", {}, "the numbers"), draw("data", file.data, 0))) : null,
    ],
  };
}

const several = record({ passed: truth, experiments: list(experiment) });

/** All experiments of a toy in one file. */
export function experimentsPage({ result }: Context): Page {
  const { experiments, passed } = several(result.body, "");
  const all = experiments.flatMap((one) => one.rows);
  const evidence: EvidenceRow[] = experiments.flatMap((one) => readEvidence(one.evidence));
  return {
    evidence,
    finding: `${experiments.length} experiments: ${counted(all)}`,
    facts: [["", passed ? "all passed" : "not all passed"]],
    sections: [...figures(result.pictures), ...experiments.map((one) => section(one.name, `${one.claim}; ${one.setting}`, checkTable(one.rows, one.name)))],
  };
}

function checks(rows: readonly CheckRow[]): HTMLElement {
  return section("Theory beside measurement", counted(rows), checkTable(rows, "Theory beside measurement"));
}
