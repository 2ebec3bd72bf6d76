/** IIA against the size of the map: what a large enough map finds, it finds in a network that learned nothing, too. */

import { estimate, inWords, looksLikeEstimate, readEvidence } from "../core/evidence";
import { anything, fallback, list, number, nullable, record, text } from "../core/shape";
import { chart } from "../parts/chart";
import { dataTable } from "../parts/datatable";
import type { Child } from "../parts/dom";
import { type Context, type Page, section } from "./context";
import { spotOf } from "./probe";

const point = record({ dims: number, parameters: nullable(number), iia: anything, untrained: anything });
const shape = record({ model: fallback(text, ""), causal_model: fallback(text, ""), places: fallback(list(text), []), untrained: fallback(text, ""), seeds: fallback(list(number), []), rows: list(point), nonlinear: fallback(list(point), []), nothing_exchanged: nullable(estimate) });

export function capacityPage({ result }: Context): Page {
  const file = shape(result.body, "");
  return { evidence: readEvidence(result.body.evidence), facts: [["model", file.model], ["causal model", file.causal_model], ["places", [...new Set(file.places)].join(", ")], ["seeds", file.seeds.join(", ")]], sections: [capacitySection(result.body)] };
}

/** Values are numbers or estimates, as the file has them. */
export function capacitySection(body: Record<string, unknown>): Child {
  const { rows, nonlinear, nothing_exchanged: idle, untrained } = shape(body, "capacity");
  const spot = (x: number, value: unknown) => (looksLikeEstimate(value) ? spotOf(x, estimate(value, "capacity.rows")) : { x, y: typeof value === "number" ? value : null });
  const said = (value: unknown) => (looksLikeEstimate(value) ? inWords(estimate(value, "capacity.rows")) : typeof value === "number" ? String(value) : "–");
  const all = [...rows.map((row) => ({ ...row, kind: "linear" })), ...nonlinear.map((row) => ({ ...row, kind: "nonlinear" }))];
  const [least, most] = [Math.min(...all.map((row) => row.dims)), Math.max(...all.map((row) => row.dims))];
  return section(
    "IIA against capacity",
    `a map that is large enough finds anything anywhere: beside the network stands an untrained one${untrained ? ` (${untrained})` : ""}${nonlinear.length ? "; what a nonlinear map finds in the untrained network, such a map can find anywhere" : ""}`,
    chart({
      label: "IIA by dimensions", xTitle: "dimensions exchanged for each variable", yTitle: "IIA", log: true, yRange: [0, 1],
      series: [
        { name: "linear map", tone: "up", spots: rows.map((row) => spot(row.dims, row.iia)) },
        { name: "linear map, untrained network", tone: "faint", dashed: true, spots: rows.map((row) => spot(row.dims, row.untrained)) },
        ...(nonlinear.length ? [{ name: "nonlinear map", tone: "fire" as const, loose: true, spots: nonlinear.map((row) => spot(row.dims, row.iia)) }, { name: "nonlinear map, untrained network", tone: "down" as const, loose: true, spots: nonlinear.map((row) => spot(row.dims, row.untrained)) }] : []),
        ...(idle && idle.value !== null && all.length ? [{ name: "nothing exchanged", tone: "ink" as const, dashed: true, spots: [...new Set([least, most])].map((x) => ({ x, y: idle.value })) }] : []),
      ],
    }).element,
    dataTable([{ name: "map", value: (row) => row.kind }, { name: "dimensions", value: (row) => row.dims }, { name: "trained numbers", value: (row) => row.parameters }, { name: "IIA", value: (row) => said(row.iia) }, { name: "untrained network", value: (row) => said(row.untrained) }], all, { caption: "IIA by map" }),
  );
}
