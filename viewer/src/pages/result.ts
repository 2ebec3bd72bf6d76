/** The frame of every page but a trace's: the finding on top, what was found, how far to believe it, how it was made. */

import { inWords } from "../core/evidence";
import type { EvidenceRow } from "../core/files";
import { Malformed } from "../core/shape";
import { isDark, type Theme } from "../core/theme";
import { claim, TONE, TONE_ICON } from "../parts/claim";
import { type Child, h, icon, replace } from "../parts/dom";
import { mark } from "../parts/header";
import { type Help, pageHelp } from "../parts/help";
import type { Context, Page } from "./context";
import { genericPage, settingsTable } from "./generic";
import { kindOf } from "./kinds";

export function resultPage(root: HTMLElement, context: Context): void {
  const { result, params } = context;
  const kind = kindOf(result.schema);
  const help = pageHelp();
  let page: Page;
  let trouble = "";
  try {
    page = kind.draw(context);
  } catch (error) {
    trouble = error instanceof Malformed ? error.message : `the page cannot draw it (${error instanceof Error ? error.message : String(error)})`;
    page = genericPage(context, true);
  }
  const [first, ...rest] = page.evidence;
  const title = page.finding ?? first?.claim ?? result.name;
  document.title = `${title} · Cutaway`;
  replace(
    root,
    head(context, kind.word, help),
    h(
      "main",
      { class: "page" },
      h(
        "div",
        { class: "column" },
        trouble ? h("p", { class: "trouble", role: "alert" }, h("b", {}, `${result.file} is not what its schema ${result.schema} says: `), trouble, ". What can be read of it is below.") : null,
        finding(title, first, page),
        ...page.sections,
        evidence(first, rest),
        made(context),
      ),
    ),
    help.element,
  );
  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "?") help.open();
    else if (event.key.toLowerCase() === "t") toggle(context);
    else if (event.key.toLowerCase() === "e") document.getElementById("evidence")?.scrollIntoView();
    else return;
    event.preventDefault();
  });
  printing(params.choice<Theme>("theme", ["auto", "light", "dark"]));
}

function toggle({ params }: Context): void {
  params.set({ theme: isDark(params.choice<Theme>("theme", ["auto", "light", "dark"])) ? "light" : "dark" });
}

function head(context: Context, word: string, help: Help): HTMLElement {
  const { result, several } = context;
  const theme = h("button", { type: "button", class: "icon-button", title: "Light or dark (T)", "aria-label": "Light or dark (T)", onclick: () => toggle(context) }, icon("moon"));
  return h(
    "header",
    { class: "header page-header" },
    several ? h("a", { class: "icon-button", href: "#", title: "All results", "aria-label": "All results" }, icon("back")) : null,
    h("span", { class: "brand" }, mark(), "Cutaway"),
    h("span", { class: "kind" }, word),
    h("span", { class: "name" }, result.name),
    h("span", { class: "spring" }),
    theme,
    h("button", { type: "button", class: "icon-button", title: "Help (?)", "aria-label": "Help (?)", onclick: help.open }, icon("help")),
  );
}

/** The finding in one sentence with its null, baseline and interval. */
function finding(title: string, first: EvidenceRow | undefined, page: Page): HTMLElement {
  const tone = first ? (TONE[first.verdict] ?? "open") : "open";
  const pieces: Child[] = [];
  if (first) {
    pieces.push(h("span", {}, h("b", {}, inWords(first.effect)), ` ${first.effect.name}`));
    for (const one of first.nulls) pieces.push(h("span", {}, "null ", h("b", {}, inWords(one.estimate)), ` ${one.estimate.name}`));
    for (const one of first.baselines) pieces.push(h("span", {}, "baseline ", h("b", {}, inWords(one.estimate)), ` ${one.estimate.name}`));
  }
  return h(
    "section",
    { class: "finding", "aria-label": "The finding" },
    h("h1", {}, title),
    first
      ? h("p", { class: "measured-as" }, ...pieces)
      : page.measured?.length
        ? h("p", { class: "measured-as" }, ...page.measured)
        : h("p", { class: "note" }, "This result carries no evidence: no null, no baseline and no interval stand beside it."),
    h("div", { class: "fact-line" }, first ? h("a", { class: `verdict ${tone}`, href: "#evidence", onclick: toEvidence }, icon(TONE_ICON[tone]), first.verdict_text || first.verdict) : null, ...page.facts.filter(([, value]) => value).map(([name, value]) => h("span", { class: "fact" }, h("span", {}, name), h("b", { title: value }, value)))),
  );
}

function toEvidence(event: Event): void {
  event.preventDefault();
  document.getElementById("evidence")?.scrollIntoView();
}

function evidence(first: EvidenceRow | undefined, rest: EvidenceRow[]): HTMLElement | null {
  if (!first) return null;
  return h("section", { class: "block", id: "evidence", "aria-label": "Evidence" }, h("div", { class: "block-head" }, h("h2", {}, "How far to believe it"), h("p", { class: "note" }, "each claim beside its nulls and baselines; bars are intervals")), h("div", { class: "claims" }, ...[first, ...rest].map((one) => claim(one))));
}

function made({ result }: Context): HTMLElement {
  const { manifest } = result;
  const command = manifest.command;
  return h(
    "section",
    { class: "block made", "aria-label": "How it was made" },
    h("div", { class: "block-head" }, h("h2", {}, "How it was made")),
    command ? h("pre", { class: "command" }, command) : null,
    settingsTable({ ...(manifest.created ? { created: manifest.created } : {}), schema: result.schema || "none", file: result.file, ...(manifest.settings ?? {}) }),
  );
}

/** Paper is white: the charts on canvas are drawn again in light colours while the page is printed. */
function printing(theme: Theme): void {
  window.addEventListener("beforeprint", () => (document.documentElement.dataset.theme = "light"), { capture: true });
  window.addEventListener("afterprint", () => (document.documentElement.dataset.theme = isDark(theme) ? "dark" : "light"));
}
