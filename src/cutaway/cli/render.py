"""A trace as a person reads it in a terminal: the answer, what the graph shows, how far to believe it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cutaway.core import Comparison, Estimate, Evidence
    from cutaway.graphs import AttributionGraph

N_FEATURES, N_PATHS = 10, 4


def render_trace(graph: AttributionGraph, cards: Mapping[str, Any]) -> str:
    """cards: `{layer}_{feature}` -> feature JSON, as `graph.feature_cards` gives them ({} where there are none)."""
    short = graph.to_json()
    return "\n".join([*_answer(short), "", *_shown(short, cards), "", *_believed(graph.evidence)])


def _answer(short: Mapping[str, Any]) -> list[str]:
    answers = ", ".join(f"{text.strip() or repr(text)} {100 * p:.3g} %" for text, p in short["logits"][:5])
    return [f"{short['prompt']}  →  {answers}"]


def _shown(short: Mapping[str, Any], cards: Mapping[str, Any]) -> list[str]:
    nodes, scores, sums = short["nodes"], short["scores"], short["accounting"]
    name = short["dictionary"]["name"]
    lines = [
        f"What the graph shows ({short['model']}, dictionary {name})",
        f"  {nodes['feature']:,} features, {nodes['error']:,} errors, {nodes['bias']:,} biases, "
        f"{short['edges']:,} edges; inputs sum to the pre-activation at all {sums['nodes']:,} nodes "
        f"(largest error {sums['max_error']:.0e})",
        f"  replacement {_number(scores['replacement'])}, completeness {_number(scores['completeness'])} "
        "(1: features explain all, 0: errors do)",
    ]
    if scores["unexplored"]:
        lines.append(f"  {scores['unexplored']:,} active features were too many to explore: counted as error")
    rows = [
        (
            f"{100 * f['influence']:.1f} %",
            f"{f['effect']:+.2f}",
            f"L{f['layer']} #{f['feature']}",
            f"at {f['token'].strip() or repr(f['token'])}",
            _fires(cards.get(f"{f['layer']}_{f['feature']}")),
        )
        for f in short["features"][:N_FEATURES]
    ]
    if rows:
        known = any(row[4] for row in rows)
        head = ("influence", "effect", "feature", "", "fires on" if known else "")
        lines += ["", *_columns([head, *rows], right=(0, 1))]
    paths = [p for p in short["paths"][:N_PATHS] if len(p["nodes"]) > 1]
    if paths:
        lines += ["", "  strongest paths"]
        lines += [f"  {100 * p['share']:8.1f} %  {' → '.join(_node(n, short) for n in p['nodes'])}" for p in paths]
    return lines


def _fires(card: Mapping[str, Any] | None) -> str:
    """The end of the strongest example, the token in question in brackets, and what the feature says."""
    if not card or not card["examples_quantiles"]:
        return ""
    best = card["examples_quantiles"][0]["examples"][0]
    at = best["train_token_ind"]
    before = "".join(best["tokens"][max(0, at - 4) : at]).replace("\n", "⏎").strip()
    says = ", ".join(text.strip() for text, _ in card["top_logits"][:2])
    return f"{before} [{best['tokens'][at].strip() or '⏎'}]" + (f"  says {says}" if says else "")


def _node(node_id: str, short: Mapping[str, Any]) -> str:
    """`E_532_7` -> the token; `1_44_7` -> L1 #44; the logit's -> its token."""
    parts = node_id.split("_")
    if parts[0] == "E":
        return repr(short["tokens"][int(parts[-1])].strip())
    texts = dict(zip(map(str, short["target"]["tokens"]), (text for text, _ in short["logits"])))
    layers = {str(f["layer"]) for f in short["features"]}
    if parts[1] in texts and parts[0] not in layers:
        return repr(texts[parts[1]].strip())
    return f"L{parts[0]} #{parts[1]} at {short['tokens'][int(parts[2])].strip()!r}"


def _believed(evidence: Sequence[Evidence]) -> list[str]:
    if not evidence:
        return []
    lines = ["How far to believe it (features and edges taken out of the real model; 95 % intervals)"]
    for item in evidence:
        lines += ["", f"  {item.claim}", f"    {item.verdict_text}"]
        rows = [("the graph", _estimate(item.effect))]
        rows += [("null: " + n.estimate.name, _beside(n)) for n in item.nulls]
        rows += [("baseline: " + b.estimate.name, _beside(b)) for b in item.baselines]
        for word, found in (("again", item.second_data), ("paraphrased", item.paraphrase)):
            if found is not None:
                rows.append((f"{word}: {found.name}", _estimate(found)))
        lines += [f"      {row}" for row in _columns(rows, indent="")]
        lines.append(f"      ({item.effect.name})")
    missing: dict[str, list[str]] = {}
    for item in evidence:
        for gap in item.not_done:
            if gap.what not in missing.setdefault(gap.why, []):
                missing[gap.why].append(gap.what)
    lines += [""] + [f"  Not done: {', '.join(what)} ({why})" for why, what in missing.items()]
    return lines


def _estimate(estimate: Estimate) -> str:
    if not math.isfinite(estimate.value):
        return f"undefined (n = {estimate.n})"
    span = estimate.interval
    ends = f" [{_number(span.low)}, {_number(span.high)}]" if span else ""
    return f"{_number(estimate.value)}{estimate.unit}{ends}" + (f" n = {estimate.n}" if estimate.n > 1 else "")


def _beside(comparison: Comparison) -> str:
    return _estimate(comparison.estimate)


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "undefined"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def _columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: str = "  ") -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        (
            indent
            + "  ".join(cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        ).rstrip()
        for row in rows
    ]
