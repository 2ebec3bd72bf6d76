/** Where the link graph puts its nodes: a column a token, a row a layer, a small grid in each cell. */

import type { Graph, Node } from "./graph";

export interface Column {
  position: number | null;
  x: number;
  width: number;
  label: string;
}

export interface Row {
  name: string;
  top: number;
  height: number;
}

export interface Layout {
  width: number;
  height: number;
  columns: Column[];
  rows: Row[];
  /** World coordinates of each node, NaN where it is not shown. */
  x: Float64Array;
  y: Float64Array;
  /** Half the width of an output's box; 0 for nodes that are drawn as glyphs. */
  half: Float64Array;
  /** Size of the glyphs: 1, or less where there are many. */
  scale: number;
}

export interface Room {
  width: number;
  height: number;
}

/** Distance between glyphs in a cell; the first at which the columns fit into not much more than the room is taken. */
export const PITCH = 17;
const TIGHTER = [1, 0.85, 0.72, 0.6, 0.5];
const OVERFLOW = 1.25;
const PADDING = 10;
const BOX = { height: 22, gap: 6, padding: 9 };
const TOKEN_ROW = 30;
/** Kept free at the top left for the zoom buttons. */
const CORNER = 96;

/** `measure` gives the width of a text in the graph's font; `boxText` what an output's box says. */
export function layoutGraph(
  graph: Graph,
  shown: Uint8Array,
  room: Room,
  measure: (text: string) => number,
  columnText: (position: number) => string,
  boxText: (node: Node) => string,
): Layout {
  const glyphs = graph.nodes.filter((node) => shown[node.index] && node.kind !== "logit");
  const outputs = graph.nodes.filter((node) => shown[node.index] && node.kind === "logit");
  const nowhere = glyphs.some((node) => node.position === null);
  const positions: (number | null)[] = [...(nowhere ? [null] : []), ...graph.tokens.keys()];
  const cells = groupCells(glyphs);

  const texts = positions.map((position) => (position === null ? "all" : columnText(position)));
  const wanted = texts.map((text) => Math.max(30, Math.min(140, measure(text) + 2 * PADDING)));
  const boxes = packOutputs(outputs, Math.max(room.width, sum(wanted)) - CORNER, measure, boxText);

  const middle = graph.rows - 2;
  const free = Math.max(room.height - TOKEN_ROW - boxes.height - 8, middle * (PITCH + 8));
  const rowHeight = free / Math.max(1, middle);
  const fit = TIGHTER.map((scale) => ({ scale, ...columnWidths(scale) }));
  const { scale, widths, across } = fit.find((one) => sum(one.widths) <= OVERFLOW * Math.max(room.width, sum(wanted))) ?? fit.at(-1)!;
  const pitch = PITCH * scale;
  const spare = Math.max(0, room.width - sum(widths)) / Math.max(1, widths.length);
  const columns: Column[] = [];
  let x = 0;
  for (const [i, position] of positions.entries()) {
    columns.push({ position, x, width: widths[i]! + spare, label: texts[i]! });
    x += widths[i]! + spare;
  }
  const height = boxes.height + 8 + free + TOKEN_ROW;
  const rows: Row[] = graph.rowNames.map((name, row) => {
    if (row === 0) return { name, top: height - TOKEN_ROW, height: TOKEN_ROW };
    if (row === graph.rows - 1) return { name, top: 0, height: boxes.height };
    return { name, top: height - TOKEN_ROW - row * rowHeight, height: rowHeight };
  });

  const layout: Layout = {
    width: x,
    height,
    columns,
    rows,
    x: new Float64Array(graph.nodes.length).fill(NaN),
    y: new Float64Array(graph.nodes.length).fill(NaN),
    half: new Float64Array(graph.nodes.length),
    scale,
  };
  for (const column of columns)
    for (let row = 0; row < graph.rows; row++) placeCell(layout, cells.get(cellKey(column.position, row)), column, row);
  for (const { node, left, top, width } of boxes.placed) {
    layout.x[node.index] = x - left - width / 2;
    layout.y[node.index] = top + BOX.height / 2;
    layout.half[node.index] = width / 2;
  }
  return layout;

  function columnWidths(scale: number) {
    const step = PITCH * scale;
    const lines = Math.max(1, Math.floor((rowHeight - 8) / step));
    const across = (cell: Node[], width: number) =>
      Math.max(Math.ceil(cell.length / lines), Math.min(cell.length, Math.floor((width - 8) / step)), 1);
    const widths = positions.map((position, column) => {
      let width = wanted[column]!;
      for (let row = 0; row < graph.rows; row++) {
        const cell = cells.get(cellKey(position, row));
        if (cell) width = Math.max(width, across(cell, wanted[column]!) * step + 10);
      }
      return width;
    });
    return { widths, across };
  }

  function placeCell(into: Layout, cell: Node[] | undefined, column: Column, row: number): void {
    if (!cell) return;
    const count = Math.min(cell.length, Math.max(across(cell, column.width), 1));
    const deep = Math.ceil(cell.length / count);
    const even = Math.ceil(cell.length / deep);
    const band = into.rows[row]!;
    for (const [i, node] of cell.entries()) {
      const line = Math.floor(i / even);
      const inLine = Math.min(even, cell.length - line * even);
      into.x[node.index] = column.x + column.width / 2 + ((i % even) - (inLine - 1) / 2) * pitch;
      into.y[node.index] = band.top + band.height / 2 + ((deep - 1) / 2 - line) * pitch;
    }
  }
}

/** The strongest first; errors and biases behind the features. */
function groupCells(nodes: Node[]): Map<string, Node[]> {
  const cells = new Map<string, Node[]>();
  for (const node of nodes) {
    const key = cellKey(node.position, node.row);
    const cell = cells.get(key);
    if (cell) cell.push(node);
    else cells.set(key, [node]);
  }
  const order: Record<string, number> = { embedding: 0, feature: 1, error: 2, bias: 3 };
  for (const cell of cells.values())
    cell.sort((a, b) => order[a.kind]! - order[b.kind]! || a.influence - b.influence || a.index - b.index);
  return cells;
}

interface Packed {
  height: number;
  placed: { node: Node; left: number; top: number; width: number }[];
}

/** Outputs as boxes, the likeliest at the right edge above the last token, wrapping to further lines. */
function packOutputs(
  outputs: Node[],
  width: number,
  measure: (text: string) => number,
  boxText: (node: Node) => string,
): Packed {
  const placed: Packed["placed"] = [];
  let [left, top] = [4, 4];
  for (const node of [...outputs].sort((a, b) => b.probability - a.probability)) {
    const box = measure(boxText(node)) + 2 * BOX.padding;
    if (left + box > width - 4 && left > 4) [left, top] = [4, top + BOX.height + BOX.gap];
    placed.push({ node, left, top, width: box });
    left += box + BOX.gap;
  }
  return { height: top + BOX.height + 10, placed };
}

function cellKey(position: number | null, row: number): string {
  return `${position ?? "*"}:${row}`;
}

function sum(values: number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
