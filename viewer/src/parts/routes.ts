/** Lines between boxes: each side's ends are spread along it, in the order of where they lead, so that few cross. */

import type { Placed, UnitEdge } from "../core/subgraph";

interface Wanted {
  edge: UnitEdge;
  from: Placed;
  to: Placed;
}

const ARROW = 6;

export function routes(wanted: Wanted[]): { edge: UnitEdge; path: string }[] {
  const upward = wanted.filter(({ from, to }) => !level(from, to));
  const leaving = ports(upward, (one) => one.from, (one) => one.to);
  const arriving = ports(upward, (one) => one.to, (one) => one.from);
  return wanted.map((one) => ({ edge: one.edge, path: level(one.from, one.to) ? sideways(one.from, one.to) : rising(one) }));

  function rising(one: Wanted): string {
    const { from, to } = one;
    const above = to.y < from.y;
    const [x1, x2] = [leaving.get(one)!, arriving.get(one)!];
    const [y1, y2] = above ? [from.y, to.y + to.height + ARROW] : [from.y + from.height, to.y - ARROW];
    const bend = (y2 - y1) * 0.4;
    return `M${x1},${y1}C${x1 + (x2 - x1) * 0.12},${y1 + bend} ${x2 - (x2 - x1) * 0.12},${y2 - bend} ${x2},${y2}`;
  }
}

function level(from: Placed, to: Placed): boolean {
  return Math.abs(from.y - to.y) < Math.max(from.height, to.height);
}

/** For each line the x at which it meets its box. */
function ports(lines: Wanted[], own: (one: Wanted) => Placed, other: (one: Wanted) => Placed): Map<Wanted, number> {
  const byBox = new Map<Placed, Wanted[]>();
  for (const line of lines) byBox.set(own(line), [...(byBox.get(own(line)) ?? []), line]);
  const at = new Map<Wanted, number>();
  for (const [box, ends] of byBox) {
    const middle = (one: Wanted) => other(one).x + other(one).width / 2;
    ends.sort((a, b) => middle(a) - middle(b));
    const step = Math.min(16, (box.width - 24) / Math.max(1, ends.length));
    for (const [i, end] of ends.entries()) at.set(end, box.x + box.width / 2 + (i - (ends.length - 1) / 2) * step);
  }
  return at;
}

/** Between boxes of one row: straight where they are neighbours, else over the top. */
function sideways(from: Placed, to: Placed): string {
  const right = to.x > from.x;
  const [x1, x2] = [right ? from.x + from.width : from.x, right ? to.x - ARROW : to.x + to.width + ARROW];
  const [y1, y2] = [from.y + from.height / 2, to.y + to.height / 2];
  if (Math.abs(x2 - x1) < 40) return `M${x1},${y1}L${x2},${y2}`;
  const [sag, out] = [Math.min(from.y, to.y) - 14, right ? 18 : -18];
  return `M${x1},${y1}C${x1 + out},${sag} ${x2 - out},${sag} ${x2},${y2}`;
}
