/** Essential dynamics: training as a path through the principal components of the model's outputs, its circles and forms. */

import { number as figure } from "../core/names";
import { fallback, list, Malformed, maybe, nullable, number, pair, record, text } from "../core/shape";
import { dataTable } from "../parts/datatable";
import { type Child, h } from "../parts/dom";
import { plane, type Point } from "../parts/plane";
import { type Context, type Page, section } from "./context";

const spot = pair(number, number);
export const dynamics = record({
  steps: fallback(list(number), []), scores: list(list(number)), explained: fallback(list(number), []), null: fallback(list(number), []),
  circles: fallback(list(record({ plane: spot, centres: list(pair(maybe, maybe)) })), []),
  forms: fallback(list(record({ step: number, plane: spot, point: nullable(spot), centre: nullable(spot), radius: number })), []),
});
type Dynamics = ReturnType<typeof dynamics>;

export function essentialPage({ result }: Context): Page {
  const file = record({ model: fallback(text, "") })(result.body, "");
  const found = dynamics(result.body, "");
  if (!found.steps.length) throw new Malformed("steps should hold at least one checkpoint");
  const share = (values: readonly number[], k: number) => `${figure(100 * (values[k] ?? NaN), 3)} %`;
  return {
    finding: `Training${file.model ? ` of ${file.model}` : ""} as a path: ${found.forms.length} ${found.forms.length === 1 ? "form" : "forms"} that it turns about`,
    measured: [h("span", {}, h("b", {}, share(found.explained, 0)), " of the variance of the outputs in component 1"), h("span", {}, "null ", h("b", {}, share(found.null, 0)), " with each output’s checkpoints shuffled"), h("span", {}, h("b", {}, `n = ${found.steps.length}`), " checkpoints")],
    evidence: [],
    facts: [["model", file.model], ["checkpoints", String(found.steps.length)], ["forms", String(found.forms.length)]],
    sections: [
      essentialSection(found, found.steps),
      section("What the components hold", "shares of the variance of the outputs over checkpoints; a path through noise has such shares with checkpoints shuffled", dataTable([{ name: "component", value: (k) => k + 1 }, { name: "share", value: (k) => found.explained[k] ?? null, draw: (k) => share(found.explained, k) }, { name: "checkpoints shuffled", value: (k) => found.null[k] ?? null, draw: (k) => share(found.null, k) }], [...found.explained.keys()], { caption: "What the components hold" })),
    ],
  };
}

/** A plane for each two components that have circles, at most three; the same step in all. */
export function essentialSection(found: Dynamics, steps: readonly number[]): Child {
  if (found.scores.length < 3 || found.scores.some((row) => row.length < 2)) return null;
  if (found.scores.length !== steps.length) throw new Malformed(`essential.scores should have ${steps.length} rows`);
  const share = (k: number) => `component ${k + 1}: ${figure(100 * (found.explained[k] ?? NaN), 2)} % (shuffled ${figure(100 * (found.null[k] ?? NaN), 2)} %)`;
  const wide = found.scores[0]!.length;
  const planes = ([[0, 1], [0, 2], [1, 2]] as const).filter(([, b]) => b < wide);
  const same = (one: readonly [number, number], two: readonly [number, number]) => one[0] === two[0] && one[1] === two[1];
  const drawn = planes.map((axes) => {
    const circles = found.circles.find((one) => same(one.plane, axes))?.centres ?? [];
    return plane({
      label: `Components ${axes[0] + 1} and ${axes[1] + 1}`, xTitle: share(axes[0]), yTitle: share(axes[1]), steps,
      path: found.scores.map((row): Point => [row[axes[0]]!, row[axes[1]]!]),
      centres: steps.map((_, i) => { const at = circles[i]; return at && at[0] !== null && at[1] !== null ? [at[0], at[1]] : null; }),
      forms: found.forms.flatMap((form) => (same(form.plane, axes) && form.point && form.centre ? [{ step: form.step, point: form.point, centre: form.centre, radius: form.radius }] : [])),
      onmove: (step) => stand(steps.indexOf(step)),
    });
  });
  const stand = (i: number) => drawn.forEach((one) => one.move(i));
  return section(
    "Essential dynamics",
    "training as a path through the principal components of the model’s outputs (pale early, dark late). At each checkpoint the circle that fits the path there; dashed, the way of its centre. A form (dot, its centre a cross) is where the circle is smallest for a while: the course turns about it",
    h("div", { class: "planes" }, ...drawn.map((one) => one.element)),
    found.forms.length ? dataTable([{ name: "form at step", value: (row) => row.step }, { name: "components", value: (row) => row.plane.map((k) => k + 1).join(" and ") }, { name: "radius of the circle", value: (row) => row.radius }], found.forms, { caption: "Forms", onopen: (row) => stand(steps.indexOf(row.step)) }) : h("p", { class: "note" }, "No form: the path turns nowhere more sharply than before and after, two checkpoints off either end."),
  );
}
