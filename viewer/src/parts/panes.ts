/** Panes whose borders can be dragged, or moved with the arrow keys. */

import { h } from "./dom";

const SLOT = "cutaway.panes";

export interface Split {
  /** A CSS variable on the frame that holds the size in pixels. */
  variable: string;
  axis: "x" | "y";
  label: string;
  least: number;
  /** What the pane on the other side keeps. */
  leaves: number;
}

/** A border for the pane that lies after it (right of it, below it). */
export function splitter(frame: HTMLElement, split: Split): HTMLElement {
  const bar = h("div", {
    class: `splitter ${split.axis}`, role: "separator", tabindex: 0, "aria-label": split.label,
    "aria-orientation": split.axis === "x" ? "vertical" : "horizontal",
  });
  const whole = () => (split.axis === "x" ? frame.clientWidth : frame.clientHeight);
  const size = () => {
    const pane = bar.nextElementSibling!.getBoundingClientRect();
    return split.axis === "x" ? pane.width : pane.height;
  };
  const set = (wanted: number) => {
    const value = Math.round(Math.max(split.least, Math.min(whole() - split.leaves, wanted)));
    frame.style.setProperty(split.variable, `${value}px`);
    bar.setAttribute("aria-valuenow", String(value));
    keep(split.variable, value);
  };
  const before = kept()[split.variable];
  if (before) frame.style.setProperty(split.variable, `${before}px`);
  bar.addEventListener("pointerdown", (start) => {
    const from = size();
    bar.setPointerCapture(start.pointerId);
    bar.classList.add("active");
    const move = (event: PointerEvent) => set(from - (split.axis === "x" ? event.clientX - start.clientX : event.clientY - start.clientY));
    const end = () => {
      bar.classList.remove("active");
      bar.removeEventListener("pointermove", move);
    };
    bar.addEventListener("pointermove", move);
    bar.addEventListener("pointerup", end, { once: true });
    start.preventDefault();
  });
  bar.addEventListener("keydown", (event) => {
    const steps: Record<string, number> = split.axis === "x" ? { ArrowLeft: 24, ArrowRight: -24 } : { ArrowUp: 24, ArrowDown: -24 };
    const step = steps[event.key];
    if (!step) return;
    set(size() + step);
    event.preventDefault();
    event.stopPropagation();
  });
  bar.addEventListener("dblclick", () => {
    frame.style.removeProperty(split.variable);
    keep(split.variable, 0);
  });
  return bar;
}

function kept(): Record<string, number> {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(SLOT) ?? "{}");
    return value && typeof value === "object" ? (value as Record<string, number>) : {};
  } catch {
    return {};
  }
}

function keep(variable: string, value: number): void {
  try {
    localStorage.setItem(SLOT, JSON.stringify({ ...kept(), [variable]: value }));
  } catch {
    // Sizes are a convenience: a browser that keeps nothing starts with the usual ones.
  }
}
