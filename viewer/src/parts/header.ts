/** The head of the page: the prompt and what followed it, the model, the scores, the verdict. */

import type { App } from "../core/app";
import { number, percent, tokenLiteral, tokenText } from "../core/names";
import { isDark } from "../core/theme";
import { summary, TONE_ICON } from "./claim";
import { download, h, icon, replace } from "./dom";

const SCORES: Record<string, [string, string]> = {
  replacement: ["replacement", "Of the influence on the output, the part that comes from tokens through features, not from reconstruction errors. 1 is best."],
  completeness: ["completeness", "Influence-weighted share of the nodes’ input that comes from features, tokens and biases, not from errors. 1 is best."],
};

export function header(app: App, openHelp: () => void, back: (() => void) | null): HTMLElement {
  const theme = h("button", { type: "button", class: "icon-button", onclick: () => app.store.set({ theme: isDark(app.store.state.theme) ? "light" : "dark" }) });
  const show = () => {
    const dark = isDark(app.store.state.theme);
    const label = dark ? "Light theme (T)" : "Dark theme (T)";
    theme.setAttribute("aria-label", label);
    theme.title = label;
    replace(theme, icon(dark ? "sun" : "moon"));
  };
  show();
  app.store.listen((_, changed) => changed.has("theme") && show());
  const saveLabels = h(
    "button",
    { type: "button", class: "text-button", title: "Download the labels given here as labels.json", onclick: () => download("labels.json", app.labels.all()) },
    icon("down"),
    "Labels",
  );
  return h(
    "header",
    { class: "header" },
    h(
      "div",
      { class: "prompt-line" },
      back
        ? h("button", { type: "button", class: "icon-button", title: "All results", "aria-label": "All results", onclick: back }, icon("back"))
        : h("span", { class: "brand" }, mark(), "Cutaway"),
      prompt(app),
      h(
        "div",
        { class: "tools" },
        app.labels.served ? null : saveLabels,
        theme,
        h("button", { type: "button", class: "icon-button", title: "Help (?)", "aria-label": "Help (?)", onclick: openHelp }, icon("help")),
      ),
    ),
    h("div", { class: "fact-line" }, ...facts(app), h("span", { class: "spring" }), ...scores(app), badge(app)),
  );
}

export function mark(): SVGSVGElement {
  const element = icon("mark");
  element.setAttribute("class", "mark");
  element.querySelector("path")?.setAttribute("d", "M8 1.500a6.500 6.500 0 1 0 6.500 6.500H8ZM10.500 1.600v3.900h3.900");
  return element;
}

function prompt(app: App): HTMLElement {
  const { graph } = app;
  const tokens = graph.tokens.map((token, position) =>
    h(
      "button",
      {
        type: "button",
        class: token.startsWith(" ") || position === 0 ? "token" : "token joined",
        title: `token ${position}: ${tokenLiteral(token)}`,
        onclick: () => app.select(graph.nodes.find((node) => node.kind === "embedding" && node.position === position) ?? null),
      },
      tokenText(token),
    ),
  );
  const answers = (app.trace.graph.metadata.cutaway?.logits ?? []).slice(0, 3).map(([token, probability], rank) => {
    const node = graph.nodes.find((one) => one.kind === "logit" && one.clerp.includes(`"${token}"`));
    return h(
      "button",
      {
        type: "button",
        class: rank ? "answer" : "answer first",
        title: `${tokenLiteral(token)} follows with probability ${probability.toFixed(4)}`,
        onclick: () => node && app.select(node),
      },
      h("b", {}, tokenText(token)),
      h("span", {}, percent(probability)),
    );
  });
  return h(
    "div",
    { class: "prompt", role: "group", "aria-label": "The prompt and its probable next tokens" },
    h("div", { class: "tokens" }, ...tokens),
    answers.length ? h("span", { class: "arrow", "aria-label": "is followed by" }, "→") : null,
    h("div", { class: "answers" }, ...answers),
  );
}

function facts(app: App): HTMLElement[] {
  const { model, dictionary } = app.about();
  const rows: [string, string][] = [
    ["model", model],
    ["dictionary", dictionary],
    ["target", targetText(app)],
  ];
  return rows.map(([name, value]) => h("span", { class: "fact" }, h("span", {}, name), h("b", {}, value)));
}

/** The tracer says what it explained: the likely next tokens, one token, or one against another. */
function targetText(app: App): string {
  const { kind, words: given } = (app.trace.graph.metadata.cutaway?.target ?? {}) as { kind?: string; words?: unknown };
  if (kind !== "token" && kind !== "contrast") return "likely next tokens";
  const words = (Array.isArray(given) ? given : []).filter((token): token is string => typeof token === "string");
  const [first] = app.graph.nodes.filter((node) => node.kind === "logit");
  if (!words.length) return first ? `‘${app.name(first).text}’` : kind;
  return words.map((token) => `‘${tokenText(token)}’`).join(" over ");
}

function scores(app: App): HTMLElement[] {
  const ours = app.trace.graph.metadata.cutaway;
  const shown = Object.entries(ours?.scores ?? {})
    .filter(([name, value]) => name in SCORES && typeof value === "number")
    .map(([name, value]) => {
      const [word, plain] = SCORES[name]!;
      const biased = ours?.scores?.[`${name}_with_biases`];
      const meaning = typeof biased === "number" ? `${plain} With biases counted as explained: ${biased.toFixed(2)}.` : plain;
      const gauge = h("i", { class: "gauge" }, h("i"));
      (gauge.firstElementChild as HTMLElement).style.width = `${Math.max(0, Math.min(1, value!)) * 100}%`;
      return h("span", { class: "score tip", "data-tip": meaning, tabindex: 0, "aria-label": `${word} ${value!.toFixed(2)}. ${meaning}` }, word, h("b", {}, value!.toFixed(2)), gauge);
    });
  if (!ours?.accounting) return shown;
  const { nodes, max_error: error } = ours.accounting;
  const holds = error <= 1e-4;
  const meaning = `Every node’s inputs were summed and compared with its pre-activation: ${nodes} nodes, largest relative difference ${error.toExponential(1)} (1e-4 is allowed).`;
  return [
    ...shown,
    h("span", { class: `score tip ${holds ? "" : "broken"}`, "data-tip": meaning, tabindex: 0, "aria-label": meaning }, "sums", h("b", {}, holds ? "exact to " : "off by ", number(error, 1))),
  ];
}

function badge(app: App): HTMLElement {
  const { text, tone } = summary(app.trace.evidence.evidence);
  return h(
    "button",
    { type: "button", class: `verdict tip ${tone}`, "data-tip": [...app.trace.evidence.evidence.map((one) => `${one.claim}: ${one.verdict_text || one.verdict}.`), "Click to open the evidence (E)."].join("\n\n"), onclick: () => app.store.set({ tab: "evidence" }) },
    icon(TONE_ICON[tone]),
    text,
  );
}
