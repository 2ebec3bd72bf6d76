/** One preview beside the pointer, for all charts of a page. */

import { h, replace, style } from "./dom";

let tip: HTMLElement | null = null;

/** `lines`: the first is the heading. */
export function showTip(lines: readonly string[], x: number, y: number): void {
  if (!tip) document.body.append((tip = h("div", { class: "tooltip", role: "tooltip" })));
  tip.hidden = false;
  replace(tip, ...lines.map((line, i) => h("div", { class: i ? "facts" : "name" }, line)));
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = x + 16 + width > innerWidth ? x - width - 12 : x + 16;
  const top = y + 16 + height > innerHeight ? y - height - 12 : y + 16;
  style(tip, { left: `${Math.max(4, left)}px`, top: `${Math.max(4, top)}px` });
}

export function hideTip(): void {
  if (tip) tip.hidden = true;
}
