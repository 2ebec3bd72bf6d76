/** Keys that work anywhere but in a text field. */

import type { App } from "../core/app";
import { isDark } from "../core/theme";

export function keyboard(app: App, help: { element: HTMLDialogElement; open: () => void }): void {
  const keys: Record<string, () => void> = {
    ArrowDown: () => app.step("inputs"),
    ArrowUp: () => app.step("outputs"),
    ArrowLeft: () => app.step(-1),
    ArrowRight: () => app.step(1),
    p: () => (app.selected ? app.togglePin(app.selected) : app.say("Select a node first, then press P to pin it.")),
    g: () => app.group(),
    u: () => app.ungroup(),
    n: () => app.store.set({ tab: "node" }),
    e: () => app.store.set({ tab: "evidence" }),
    t: () => app.store.set({ theme: isDark(app.store.state.theme) ? "light" : "dark" }),
    "0": () => document.querySelector(".linkgraph")?.dispatchEvent(new Event("cutaway:fit")),
    "/": () => document.querySelector<HTMLInputElement>("#search")?.focus(),
    "?": () => help.open(),
    Escape: () => {
      if (app.store.state.marked.length) app.store.set({ marked: [] });
      else app.select(null);
    },
  };
  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    const typing = target.matches("input:not([type=range], [type=checkbox]), textarea");
    const sliding = target.matches("input[type=range]") && event.key.startsWith("Arrow");
    if (typing || sliding || event.ctrlKey || event.metaKey || event.altKey) return;
    if (help.element.open && event.key !== "?") return;
    const work = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!work) return;
    event.preventDefault();
    work();
  });
}
