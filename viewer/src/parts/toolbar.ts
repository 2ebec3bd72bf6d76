/** Sliders for pruning with live counts, switches for kinds, the search. */

import type { App } from "../core/app";
import { nodeWhere } from "../core/names";
import { eachFrame, h, icon, replace } from "./dom";
import { glyph } from "./glyph";

export function toolbar(app: App): HTMLElement {
  return h(
    "div",
    { class: "toolbar", role: "toolbar", "aria-label": "What the graph shows" },
    slider(app, "node", "Nodes", "Show the nodes that together carry this much of the influence on the output"),
    slider(app, "edge", "Links", "Show the links that together carry this much of the links’ influence"),
    toggle(app, "errors", "Errors"),
    toggle(app, "biases", "Biases"),
    legend(),
    h("span", { class: "spring" }),
    search(app),
  );
}

function legend(): HTMLElement {
  return h(
    "span",
    { class: "legend", "aria-hidden": "true" },
    h("span", {}, h("i", { class: "stroke up" }), "raises"),
    h("span", {}, h("i", { class: "stroke down" }), "lowers"),
  );
}

function slider(app: App, key: "node" | "edge", word: string, meaning: string): HTMLElement {
  const { graph, store } = app;
  const of = key === "node" ? graph.nodes.length : graph.source.length;
  const input = h("input", { type: "range", min: 0, max: 1, step: 0.005, "aria-label": `${word}: ${meaning}`, value: app.thresholds()[key] });
  const share = h("output", { class: "share" });
  const count = h("output", { class: "count", "data-count": key });
  const tell = () => {
    const value = app.thresholds()[key];
    input.value = String(value);
    input.style.setProperty("--at", `${value * 100}%`);
    share.textContent = `${Number((value * 100).toFixed(1))}%`;
    const shown = key === "node" ? app.shown.nodes : app.shown.links;
    count.textContent = `${shown.toLocaleString("en")} of ${of.toLocaleString("en")}`;
    input.setAttribute("aria-valuetext", `${share.textContent}, ${count.textContent} shown`);
  };
  const apply = eachFrame(() => store.set({ [key]: Number(input.value) }));
  input.addEventListener("input", apply);
  app.on("shown", tell);
  tell();
  return h("label", { class: "slider", title: meaning }, h("span", { class: "word" }, word), input, share, count);
}

function toggle(app: App, key: "errors" | "biases", word: string): HTMLElement {
  const kind = key === "errors" ? "error" : "bias";
  const box = h("input", { type: "checkbox", checked: app.store.state[key], onchange: () => app.store.set({ [key]: box.checked }) });
  app.store.listen((state, changed) => changed.has(key) && (box.checked = state[key]));
  return h("label", { class: "switch" }, box, glyph(kind, 11), word);
}

const MOST = 12;

function search(app: App): HTMLElement {
  const { graph } = app;
  const list = h("ul", { class: "found", role: "listbox", id: "found", "aria-label": "Nodes found", hidden: true });
  const input = h("input", {
    type: "search", id: "search", placeholder: "Search labels, tokens, ids", role: "combobox", autocomplete: "off", spellcheck: "false",
    "aria-label": "Search labels, tokens and feature ids", "aria-controls": "found", "aria-expanded": "false",
  });
  let found: string[] = [];
  let at = 0;

  function look(): void {
    const words = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const hits = words.length
      ? graph.nodes
          .map((node) => ({ node, text: `${app.name(node).text} ${nodeWhere(graph, node)} ${node.id} ${node.kind}`.toLowerCase() }))
          .filter(({ text }) => words.every((word) => text.includes(word)))
          .sort((a, b) => app.shown.node[b.node.index]! - app.shown.node[a.node.index]! || b.node.share - a.node.share)
      : [];
    found = hits.slice(0, MOST).map(({ node }) => node.id);
    at = 0;
    list.hidden = !words.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    replace(
      list,
      ...hits.slice(0, MOST).map(({ node }, i) => {
        const name = app.name(node);
        return h(
          "li",
          {
            role: "option", id: `found-${i}`, "aria-selected": i === at,
            class: app.shown.node[node.index] ? "" : "hidden-node",
            onpointerdown: (event: Event) => (event.preventDefault(), choose(i)),
          },
          glyph(node.kind),
          h("span", { class: name.automatic ? "name automatic" : "name" }, name.text),
          h("span", { class: "where" }, nodeWhere(graph, node)),
        );
      }),
      hits.length > MOST ? h("li", { class: "more", role: "presentation" }, `${hits.length - MOST} more`) : null,
      words.length && !hits.length ? h("li", { class: "more", role: "presentation" }, "Nothing found.") : null,
    );
    point();
  }

  function point(): void {
    for (const [i, item] of [...list.querySelectorAll('[role="option"]')].entries()) item.setAttribute("aria-selected", String(i === at));
    if (found.length) input.setAttribute("aria-activedescendant", `found-${at}`);
    else input.removeAttribute("aria-activedescendant");
  }

  function choose(i: number): void {
    const node = graph.byId.get(found[i] ?? "");
    if (!node) return;
    app.select(node);
    close();
  }

  function close(): void {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.blur();
  }

  input.addEventListener("input", look);
  input.addEventListener("focus", () => input.value && look());
  input.addEventListener("blur", () => (list.hidden = true));
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      at = (at + (event.key === "ArrowDown" ? 1 : -1) + found.length) % Math.max(1, found.length);
      point();
      event.preventDefault();
    } else if (event.key === "Enter") choose(at);
    else if (event.key === "Escape") {
      input.value = "";
      close();
      event.stopPropagation();
    }
  });
  return h("div", { class: "search" }, icon("search"), input, h("kbd", { "aria-hidden": "true" }, "/"), list);
}
