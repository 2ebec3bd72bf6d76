/** What a feature does elsewhere: what it writes, how strongly it fires, where it fired. */

import type { Example, FeatureRow } from "../core/files";
import { number, signed, tokenLiteral, tokenText } from "../core/names";
import { h } from "./dom";

export function logitTable(feature: FeatureRow): HTMLElement | null {
  const list = (rows: FeatureRow["top_logits"], side: "up" | "down") => {
    const pairs = (rows ?? []).slice(0, 8).map((row): [string, number | null] => (Array.isArray(row) ? row : [row, null]));
    const largest = Math.max(...pairs.map(([, value]) => Math.abs(value ?? 0)), 1e-12);
    return h(
      "ul",
      { class: side },
      ...pairs.map(([token, value]) => {
        const chip = h("span", { class: "vocab" }, tokenText(token));
        chip.style.setProperty("--heat", String(value === null ? 0.4 : 0.15 + 0.85 * (Math.abs(value) / largest)));
        return h("li", { title: `${tokenLiteral(token)}${value === null ? "" : ` ${signed(value)}`}` }, chip);
      }),
    );
  };
  if (!feature.top_logits?.length && !feature.bottom_logits?.length) return null;
  return h(
    "section",
    { class: "vocabulary", "aria-label": "Output tokens" },
    h("h3", {}, "Writes to the output"),
    feature.top_logits?.length ? h("div", {}, h("span", { class: "side" }, "raises"), list(feature.top_logits, "up")) : null,
    feature.bottom_logits?.length ? h("div", {}, h("span", { class: "side" }, "lowers"), list(feature.bottom_logits, "down")) : null,
  );
}

export function histogram(feature: FeatureRow, activation: number | null): HTMLElement | null {
  const counts = feature.histogram ?? [];
  if (!counts.length) return null;
  const most = Math.log1p(Math.max(...counts));
  const edges = feature.quantile_values?.length === counts.length + 1 ? feature.quantile_values : [feature.act_min ?? 0, feature.act_max ?? 1];
  const [low, high] = [edges[0]!, edges.at(-1)!];
  const bars = counts.map((count, i) => {
    const bar = h("i");
    bar.style.height = `${most ? (Math.log1p(count) / most) * 100 : 0}%`;
    const from = low + ((high - low) * i) / counts.length;
    bar.title = `${number(from, 2)} to ${number(from + (high - low) / counts.length, 2)}: ${count} tokens`;
    return bar;
  });
  const here = h("u", { class: "here" }, h("span", {}, activation !== null ? `here ${number(activation)}` : ""));
  const at = activation === null ? 0 : Math.max(0, Math.min(1, (activation - low) / (high - low || 1)));
  here.style.left = `${at * 100}%`;
  here.classList.toggle("late", at > 0.5);
  return h(
    "section",
    { class: "histogram", "aria-label": "Activations" },
    h("h3", {}, "Activations ", h("small", {}, "tokens per bin, log scale")),
    h("div", { class: "bars", role: "img", "aria-label": `Histogram of activations from ${number(low)} to ${number(high)}` }, ...bars, activation === null ? null : here),
    h("div", { class: "ends" }, h("span", {}, number(low)), h("span", {}, number(high))),
  );
}

export function examples(feature: FeatureRow): HTMLElement | null {
  const quantiles = (feature.examples_quantiles ?? []).filter((one) => one.examples.length);
  if (!quantiles.length) return null;
  const most = Math.max(feature.act_max ?? 0, ...quantiles.flatMap((one) => one.examples.flatMap((example) => example.tokens_acts_list)), 1e-12);
  return h(
    "section",
    { class: "examples", "aria-label": "Examples" },
    h("h3", {}, "Where it fires"),
    ...quantiles.map((one) => h("div", {}, h("h4", {}, quantileName(one.quantile_name)), h("ol", {}, ...one.examples.map((each) => h("li", {}, passage(each, most)))))),
  );
}

function quantileName(name: string): string {
  return /^top/i.test(name) ? "strongest" : name.toLowerCase();
}

/** The text around the strongest token; the highlight's depth is the activation. */
function passage(example: Example, most: number): HTMLElement {
  const acts = example.tokens_acts_list;
  const peak = acts.indexOf(Math.max(...acts));
  const [from, to] = [Math.max(0, peak - 18), Math.min(example.tokens.length, peak + 12)];
  const line = h("p", { class: "passage" }, from > 0 ? "… " : null);
  for (let i = from; i < to; i++) {
    const token = example.tokens[i]!;
    const activation = acts[i] ?? 0;
    // Word-level tokenizers give punctuation a blank of its own.
    const text = token.replace(/\n/g, "⏎").replace(/^ (?=[.,?!:;)\]}]$)/, "");
    if (activation <= 0) {
      line.append(text);
      continue;
    }
    if (text.startsWith(" ")) line.append(" ");
    const mark = h("mark", { class: i === peak ? "peak" : "", title: `${tokenLiteral(token)} activation ${number(activation)}` }, tokenText(token));
    mark.style.setProperty("--heat", String(Math.min(1, activation / most)));
    line.append(mark);
  }
  if (to < example.tokens.length) line.append(" …");
  return line;
}
