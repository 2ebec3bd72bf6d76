/** The shapes of the kinds: circles features, diamonds errors, triangles biases, squares tokens and outputs. */

import type { Kind } from "../core/graph";
import { svg } from "./dom";

export function glyphPath(kind: Kind, r: number): string {
  switch (kind) {
    case "feature":
      return `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`;
    case "error":
      return `M0,${-r * 1.2}L${r * 1.2},0L0,${r * 1.2}L${-r * 1.2},0Z`;
    case "bias":
      return `M0,${-r * 1.1}L${r * 1.1},${r * 0.9}L${-r * 1.1},${r * 0.9}Z`;
    default:
      return `M${-r * 0.9},${-r * 0.9}h${r * 1.8}v${r * 1.8}h${-r * 1.8}Z`;
  }
}

export function glyph(kind: Kind, size = 12): SVGSVGElement {
  return svg(
    "svg",
    { class: `glyph ${kind}`, viewBox: "-7 -7 14 14", width: size, height: size, "aria-hidden": "true" },
    svg("path", { d: glyphPath(kind, 5) }),
  );
}
