/** An attribution graph: its links, the subgraph, the node and the evidence. */

import { App } from "../core/app";
import type { Trace } from "../core/files";
import type { LabelStore } from "../core/labels";
import { decodeState, encodeState, Store } from "../core/state";
import { isDark, theme } from "../core/theme";
import { h, replace } from "../parts/dom";
import { evidencePanel } from "../parts/evidence";
import { header } from "../parts/header";
import { helpDialog } from "../parts/help";
import { keyboard } from "../parts/keyboard";
import { linkGraph } from "../parts/linkgraph";
import { nodePanel } from "../parts/nodepanel";
import { splitter } from "../parts/panes";
import { subgraphPane } from "../parts/subgraph";
import { toolbar } from "../parts/toolbar";

/** The page of one attribution graph; `several`: a list to go back to. */
export function tracePage(root: HTMLElement, trace: Trace, labels: LabelStore, several: boolean): void {
  const { name } = trace;
  const read = () => ({ ...decodeState(location.hash), trace: several ? name : "" });
  const store = new Store(read());
  theme(isDark(store.state.theme));
  const app = new App(trace, labels, store);
  const help = helpDialog();
  const back = () => {
    location.hash = "";
  };
  document.title = `${app.about().prompt} · Cutaway`;

  const right = h("div", { class: "work" });
  const left = h("div", { class: "left" });
  left.append(linkGraph(app), splitter(left, { variable: "--subgraph", axis: "y", label: "Height of the subgraph", least: 90, leaves: 160 }), subgraphPane(app));
  right.append(left, splitter(right, { variable: "--side", axis: "x", label: "Width of the side panel", least: 300, leaves: 380 }), sidePanel(app));
  const notice = h("div", { class: "notice", role: "status", "aria-live": "polite" });
  let fading = 0;
  app.on("notice", () => {
    notice.textContent = app.notice;
    notice.classList.add("on");
    clearTimeout(fading);
    fading = window.setTimeout(() => notice.classList.remove("on"), 3500);
  });
  const spoken = h("div", { class: "unseen", role: "status", "aria-live": "polite" });
  store.listen((_, changed) => {
    if (changed.has("selected")) spoken.textContent = app.selected ? app.describe(app.selected) : "Nothing selected";
  });
  replace(root, header(app, help.open, several ? back : null), h("main", {}, toolbar(app), right), help.element, notice, spoken);
  keyboard(app, help);

  let writing = false;
  store.listen((state, changed) => {
    if (changed.has("theme")) theme(isDark(state.theme));
    writing = true;
    const url = encodeState(state) || `${location.pathname}${location.search}`;
    if (changed.has("selected")) history.pushState(null, "", url);
    else history.replaceState(null, "", url);
    writing = false;
  });
  const reread = () => !writing && decodeState(location.hash).trace === store.state.trace && store.set(read());
  window.addEventListener("hashchange", reread);
  window.addEventListener("popstate", reread);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(isDark(store.state.theme)));
  document.documentElement.dataset.ready = "true";
}

function sidePanel(app: App): HTMLElement {
  const panels = { node: nodePanel(app), evidence: evidencePanel(app) };
  const count = app.trace.evidence.evidence.length;
  const words = { node: "Node", evidence: count ? `Evidence ${count}` : "Evidence" };
  const names = ["node", "evidence"] as const;
  const tabs = names.map((name) =>
    h(
      "button",
      {
        type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`,
        onclick: () => app.store.set({ tab: name }),
        onkeydown: (event: KeyboardEvent) => {
          if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
          app.store.set({ tab: name === "node" ? "evidence" : "node" });
          tabs.find((tab) => tab.getAttribute("aria-selected") === "true")?.focus();
          event.stopPropagation();
        },
      },
      words[name],
    ),
  );
  const bodies = names.map((name) => h("div", { class: "tab-body", role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}`, tabindex: -1 }, panels[name]));
  const show = () => {
    for (const [i, name] of names.entries()) {
      const on = app.store.state.tab === name;
      tabs[i]!.setAttribute("aria-selected", String(on));
      tabs[i]!.tabIndex = on ? 0 : -1;
      bodies[i]!.hidden = !on;
    }
  };
  app.store.listen((_, changed) => {
    if (changed.has("tab")) show();
    if (changed.has("selected")) bodies[0]!.scrollTop = 0;
  });
  show();
  return h("aside", { class: "pane side", "aria-label": "Node and evidence" }, h("div", { class: "tabs", role: "tablist", "aria-label": "Side panel" }, ...tabs), ...bodies);
}
