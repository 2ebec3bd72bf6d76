import "./styles/index.css";

import { findSource, type Source } from "./core/load";
import { Params } from "./core/params";
import { isDark, theme, type Theme } from "./core/theme";
import { h, replace } from "./parts/dom";
import { listPage } from "./pages/list";
import { resultPage } from "./pages/result";
import { tracePage } from "./pages/trace";

const root = document.getElementById("app")!;

async function start(): Promise<void> {
  const source = await findSource();
  const params = new Params();
  const dark = () => theme(isDark(params.choice<Theme>("theme", ["auto", "light", "dark"])));
  dark();
  const shown = wanted(source);
  const several = source.entries.length > 1;
  // Another result is another page: it is loaded afresh, and nothing of the one before stays.
  const moved = () => wanted(source) !== shown && location.reload();
  window.addEventListener("hashchange", moved);
  window.addEventListener("popstate", moved);
  if (!shown) {
    listPage(root, source.entries, asked());
    document.documentElement.dataset.ready = "true";
    return;
  }
  const opened = await source.open(shown);
  if ("trace" in opened) return tracePage(root, opened.trace, opened.labels, several);
  params.listen((changed) => changed.has("theme") && dark());
  window.addEventListener("hashchange", () => params.reread());
  window.addEventListener("popstate", () => params.reread());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dark);
  resultPage(root, { result: opened.result, params, source, several });
  document.documentElement.dataset.ready = "true";
}

/** The result that the address names: the only one there is, or "" for the list. */
function wanted(source: Source): string {
  if (source.entries.length === 1) return source.entries[0]!.name;
  const name = asked();
  return source.entries.some((entry) => entry.name === name) ? name : "";
}

function asked(): string {
  const params = new URLSearchParams(location.hash.slice(1));
  return params.get("open") ?? params.get("trace") ?? "";
}

function fail(error: unknown): void {
  const text = error instanceof Error ? error.message : String(error);
  const back = location.hash.includes("open=") || location.hash.includes("trace=");
  replace(root, h("main", { class: "failure", role: "alert" }, h("h1", {}, "This cannot be shown"), h("p", {}, text), back ? h("p", {}, h("a", { href: "#" }, "All results")) : null));
  document.documentElement.dataset.ready = "true";
}

start().catch(fail);
