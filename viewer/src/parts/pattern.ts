/** An attention pattern: each token's query in a row, the keys it attends to in the columns. */

import { number, tokenText } from "../core/names";
import { Malformed } from "../core/shape";
import { heatmap } from "./heatmap";

export function pattern(name: string, tokens: readonly string[], rows: readonly (readonly (number | null)[])[]): HTMLElement {
  if (rows.length !== tokens.length || rows.some((row) => row.length !== tokens.length)) throw new Malformed(`the pattern of ${name} should be ${tokens.length} by ${tokens.length}`);
  const words = tokens.map(tokenText);
  return heatmap({
    label: `Attention pattern of ${name}`, rows: words, columns: words, rowTitle: "from", columnTitle: "attends to", unit: "attention", colours: "sequential", range: [0, 1], dashes: false,
    cell: { width: 22, least: 8, height: 17 },
    value: (q, k) => (k > q && !rows[q]![k] ? null : rows[q]![k]!),
    describe: (q, k) => [`‘${words[q]}’ attends to ‘${words[k]}’`, `${number(rows[q]![k])}`],
  }).element;
}
