"""Causal models drawn: as text, and as an SVG that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from cutaway.core.table import columns

if TYPE_CHECKING:
    from cutaway.abstraction.causal_model import CausalModel


def text(model: CausalModel) -> str:
    """One line a variable, inputs first: its parents and its domain."""
    rows = []
    for name in model.order:
        variable = model.variables[name]
        arrow = f"<- {', '.join(variable.parents)}" if variable.parents else "input"
        domain = "any value" if variable.domain is None else _domain(variable.domain)
        rows.append((name + (" *" if name == model.out else ""), arrow, domain))
    return "\n".join([f"{model.name} (* the output)", *columns(rows)])


def _domain(domain: tuple[object, ...]) -> str:
    shown = ", ".join(map(str, domain[:5]))
    return f"in {{{shown}}}" if len(domain) <= 5 else f"in {{{shown}, …}}, {len(domain)} values"


WIDE, HIGH, GAP_X, GAP_Y, EDGE = 120, 44, 24, 46, 16


def svg(model: CausalModel, marked: Mapping[str, str]) -> str:
    """Inputs below, the output on top. Colours follow the page's (`currentColor`), so that it reads in both themes."""
    layers = model.layers()
    width = max(len(layer) for layer in layers) * (WIDE + GAP_X) - GAP_X + 2 * EDGE
    height = len(layers) * (HIGH + GAP_Y) - GAP_Y + 2 * EDGE
    at: dict[str, tuple[float, float]] = {}
    for depth, layer in enumerate(layers):
        row = len(layer) * (WIDE + GAP_X) - GAP_X
        for i, name in enumerate(layer):
            x = (width - row) / 2 + i * (WIDE + GAP_X)
            at[name] = x, height - EDGE - HIGH - depth * (HIGH + GAP_Y)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(model.name)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="currentColor"/></marker></defs>',
    ]
    for name in model.order:
        x, y = at[name]
        for parent in model.variables[name].parents:
            px, py = at[parent]
            lines.append(
                f'<line x1="{px + WIDE / 2:g}" y1="{py:g}" x2="{x + WIDE / 2:g}" y2="{y + HIGH + 2:g}" '
                'stroke="currentColor" stroke-opacity=".6" marker-end="url(#tip)"/>'
            )
    for name in model.order:
        x, y = at[name]
        fill = ' fill="#0072b2" fill-opacity=".22"' if name in marked else ' fill="none"'
        lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{WIDE}" height="{HIGH}" rx="8" stroke="currentColor" '
            f'stroke-width="{2 if name == model.out else 1}"{fill}/>'
        )
        below = marked.get(name, "")
        lines.append(_words(name, x, y + (HIGH / 2 + 5 if not below else 19), 16))
        if below:
            lines.append(_words(below, x, y + 35, 22, small=True))
    return "\n".join([*lines, "</svg>"])


def _words(words: str, x: float, y: float, most: int, small: bool = False) -> str:
    shown = words if len(words) <= most else words[: most - 1] + "…"
    size = ' font-size="10"' if small else ""
    return f'<text x="{x + WIDE / 2:g}" y="{y:g}" text-anchor="middle" fill="currentColor"{size}>{escape(shown)}</text>'
