/** Boards: a small one of shares, square by square, and one of a state with the discs that lie on it. */

import type { Board } from "../core/board";
import { number } from "../core/names";
import { h, style, svg } from "./dom";
import { hideTip, showTip } from "./tip";

const CELL = 30;
/** Of a row, whose squares have room for a word. */
const WIDE = 66;
const EDGE = 15;

interface Square {
  /** Lines said of it; the first is its name. */
  lines: string[];
  draw(x: number, y: number, wide: number): (SVGElement | null)[];
}

function squares(board: Board, label: string, kind: string, square: (i: number) => Square): SVGSVGElement {
  const wide = board.rows === 1 ? WIDE : CELL;
  const [left, top] = [board.rowNames.length ? EDGE : 1, board.columnNames.length ? EDGE : 1];
  const [width, height] = [left + board.columns * wide + 1, top + board.rows * CELL + 1];
  const place = (i: number): [number, number] => [left + (i % board.columns) * wide, top + Math.floor(i / board.columns) * CELL];
  const edge = (text: string, x: number, y: number) => svg("text", { class: "edge-name", x, y, "text-anchor": "middle" }, board.rows === 1 ? text.slice(0, 11) : text.slice(0, 4));
  const drawn = svg(
    "svg",
    { class: `board ${kind}`, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    ...board.columnNames.map((name, c) => edge(name, left + (c + 0.5) * wide, 10)),
    ...board.rowNames.map((name, r) => edge(name, 7, top + (r + 0.5) * CELL + 4)),
    ...Array.from({ length: board.rows * board.columns }, (_, i) => {
      const { lines, draw } = square(i);
      const group = svg("g", { class: "square" }, ...draw(...place(i), wide));
      group.addEventListener("pointermove", (event) => showTip(lines, event.clientX, event.clientY));
      group.addEventListener("pointerleave", hideTip);
      return group;
    }),
  );
  // A long row keeps its squares' size and is scrolled; a board fills the room that it is given.
  if (board.rows === 1) style(drawn, { width: `${width}px`, "max-width": "none" });
  return drawn;
}

/** Each square's share, 0 … 1, as colour and in two digits. */
export function shareBoard(board: Board, names: readonly string[], shares: readonly (number | null)[], label: string, also: (i: number) => string): SVGSVGElement {
  return squares(board, `${label}: ${names.map((name, i) => `${name} ${number(shares[i], 2)}`).join(", ")}`, "shares", (i) => {
    const share = shares[i] ?? null;
    return {
      lines: [names[i]!, share === null ? "never counted" : `read rightly ${number(share)}`, also(i), label],
      draw(x, y, wide) {
        const box = svg("rect", { x, y, width: wide - 1, height: CELL - 1 });
        if (share !== null) style(box, { fill: `color-mix(in srgb, rgb(var(--fire)) ${Math.round(5 + 95 * share)}%, var(--panel))` });
        return [box, svg("text", { class: share !== null && share > 0.55 ? "strong" : "", x: x + wide / 2 - 0.5, y: y + CELL / 2 + 3.5, "text-anchor": "middle" }, share === null ? "–" : twoDigits(share))];
      },
    };
  });
}

/** ".93", "1". */
export function twoDigits(share: number): string {
  return share >= 0.995 ? "1" : share.toFixed(2).replace(/^0/, "");
}

export interface State {
  values: readonly string[];
  /** The value that is drawn as an empty square, or -1. */
  blank: number;
  /** [S], -1 where nothing is said. */
  here: readonly number[];
  /** What it should be, where this is a reading. */
  truth?: readonly number[];
  /** The square that the last token names, or -1. */
  last: number;
}

export function stateBoard(board: Board, names: readonly string[], state: State, label: string): SVGSVGElement {
  const { values, here, truth } = state;
  const word = (value: number) => (value < 0 ? "not asked for" : (values[value] ?? String(value)));
  const wrong = (i: number) => truth !== undefined && truth[i]! >= 0 && truth[i] !== here[i];
  const missed = names.filter((_, i) => wrong(i));
  return squares(board, `${label}: ${names.map((name, i) => `${name} ${word(here[i] ?? -1)}`).join(", ")}${truth ? `; wrong: ${missed.join(", ") || "none"}` : ""}`, "state", (i) => {
    const value = here[i] ?? -1;
    return {
      lines: [`${names[i]}: ${word(value)}`, truth ? (truth[i]! < 0 ? "not asked for" : wrong(i) ? `wrong: it is ${word(truth[i]!)}` : "right") : "", i === state.last ? "the last token" : ""].filter(Boolean),
      draw(x, y, wide) {
        const [cx, cy] = [x + wide / 2 - 0.5, y + CELL / 2 - 0.5];
        // Over a disc, but beside a word.
        const [mx, my, arm] = value !== state.blank && value >= 0 && kindOf(value, values, state.blank) === 2 ? [x + wide - 8, y + 8, 2.5] : [cx, cy, 4];
        const cross = `M${mx - arm} ${my - arm}l${2 * arm} ${2 * arm}m0-${2 * arm}l-${2 * arm} ${2 * arm}`;
        return [
          svg("rect", { class: i === state.last ? "last" : "", x: x + 0.5, y: y + 0.5, width: wide - 2, height: CELL - 2, rx: 2 }),
          ...disc(value, state, cx, cy, wide > CELL ? 9 : 3),
          wrong(i) ? svg("path", { class: "wrong", d: `M${x + 2.5} ${y + 2.5}h${wide - 6}v${CELL - 6}h${6 - wide}z` }) : null,
          ...(wrong(i) ? ["wrong-halo", "wrong-cross"].map((name) => svg("path", { class: name, d: cross })) : []),
        ];
      },
    };
  });
}

/** The values' discs, numbered among those that are not blank: the first two by colour and form, all others by letters. */
function disc(value: number, { values, blank }: State, cx: number, cy: number, letters = 3): (SVGElement | null)[] {
  if (value < 0) return [svg("circle", { class: "unasked", cx, cy, r: 1.5 })];
  if (value === blank) return [];
  const kind = kindOf(value, values, blank);
  if (kind < 2) return [svg("circle", { class: `disc d${kind}`, cx, cy, r: 10.5 }), kind ? svg("circle", { class: "hole", cx, cy, r: 4.5 }) : null];
  return [svg("text", { class: "letters", x: cx, y: cy + 4, "text-anchor": "middle" }, (values[value] ?? String(value)).slice(0, letters))];
}

/** 0 and 1: the two kinds of discs. 2: letters, for a world of more values than two that are not blank. */
function kindOf(value: number, values: readonly string[], blank: number): number {
  const others = values.map((_, i) => i).filter((i) => i !== blank);
  return others.length > 2 ? 2 : others.indexOf(value);
}

/** What the discs stand for. */
export function discLegend(values: readonly string[], blank: number, last: boolean): HTMLElement {
  const sign = (value: number) => svg("svg", { class: "board state sign", viewBox: "0 0 24 24", width: 18, height: 18, "aria-hidden": "true" }, ...disc(value, { values, blank, here: [], last: -1 }, 12, 12));
  const signed = values.map((word, i) => ({ word, i })).filter(({ i }) => i !== blank && kindOf(i, values, blank) < 2);
  return h(
    "p",
    { class: "disc-legend note" },
    ...signed.map(({ word, i }) => h("span", {}, sign(i), word)),
    last ? h("span", {}, h("i", { class: "key-last" }), "the last token") : null,
    h("span", {}, h("i", { class: "key-wrong" }, "×"), "read wrongly"),
  );
}
