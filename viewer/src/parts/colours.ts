/** The page's colours as numbers, for what is drawn on canvas: read from the style sheet, so that a theme has one home. */

export type Rgb = readonly [number, number, number];

export interface Palette {
  panel: Rgb;
  up: Rgb;
  down: Rgb;
  fire: Rgb;
  ink: string;
  faint: string;
  line: string;
}

export function palette(): Palette {
  const css = getComputedStyle(document.documentElement);
  const said = (name: string) => css.getPropertyValue(name).trim();
  return {
    panel: rgb(said("--panel")),
    up: rgb(said("--pos")),
    down: rgb(said("--neg")),
    fire: said("--fire").split(/\s+/).map(Number) as unknown as Rgb,
    ink: said("--ink-2"),
    faint: said("--ink-3"),
    line: said("--line-2"),
  };
}

export function rgb(hex: string): Rgb {
  const value = Number.parseInt(hex.replace("#", ""), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

/** From `a` to `b`, share 0 … 1. */
export function mix(a: Rgb, b: Rgb, share: number): string {
  const t = Math.max(0, Math.min(1, share));
  return `rgb(${a.map((x, i) => Math.round(x + (b[i]! - x) * t)).join(" ")})`;
}

/** Whether dark or light letters are read on the mix. */
export function needsLight(a: Rgb, b: Rgb, share: number): boolean {
  const [r, g, bl] = a.map((x, i) => x + (b[i]! - x) * share) as [number, number, number];
  return 0.299 * r + 0.587 * g + 0.114 * bl < 140;
}
