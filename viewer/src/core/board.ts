/** The state of a world as a board: where its variables lie, what they are called there, what is read rightly. */

export interface Board {
  rows: number;
  columns: number;
  /** Along the edges, where the variables' names are made of a column's and a row's name ("a1"); else empty. */
  rowNames: string[];
  columnNames: string[];
}

/** Rows and columns as said, row by row; one row where nothing is said, or what is said does not hold the variables. */
export function boardOf(names: readonly string[], shape: readonly number[] | null): Board {
  const [rows = 0, columns = 0] = shape ?? [];
  if (!Number.isInteger(rows) || !Number.isInteger(columns) || rows < 1 || rows * columns !== names.length)
    return { rows: 1, columns: names.length, rowNames: [], columnNames: [...names] };
  const across = Array.from({ length: columns }, (_, c) => shared(names.filter((_, i) => i % columns === c), "start"));
  const down = Array.from({ length: rows }, (_, r) => shared(names.slice(r * columns, (r + 1) * columns), "end"));
  const whole = names.every((name, i) => name === across[i % columns]! + down[Math.floor(i / columns)]!);
  return whole ? { rows, columns, rowNames: down, columnNames: across } : { rows, columns, rowNames: [], columnNames: [] };
}

/** What all words begin (or end) with. */
function shared(words: readonly string[], side: "start" | "end"): string {
  const [first = ""] = words;
  for (let length = first.length; length > 0; length--) {
    const part = side === "start" ? first.slice(0, length) : first.slice(-length);
    if (words.every((word) => (side === "start" ? word.startsWith(part) : word.endsWith(part)))) return part;
  }
  return "";
}

export interface Tally {
  /** Variables that are asked for and not blank in truth, and how many of them are read rightly. */
  asked: number;
  right: number;
  /** All variables that are asked for, blank ones too. */
  all: number;
  allRight: number;
}

/** truth: -1 where not asked for. blank: the value that does not count, or -1. */
export function tally(truth: readonly number[], read: readonly number[], blank: number): Tally {
  const found = { asked: 0, right: 0, all: 0, allRight: 0 };
  truth.forEach((value, i) => {
    if (value < 0) return;
    const right = Number(read[i] === value);
    found.all++;
    found.allRight += right;
    if (value === blank) return;
    found.asked++;
    found.right += right;
  });
  return found;
}
