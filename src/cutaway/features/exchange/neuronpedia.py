"""Feature cards as Neuronpedia's feature JSON, and back as far as it goes.

Neuronpedia's fields hold less than a card: rules, spans, effects, nulls, neighbours and stability have no place there
and are written below "cutaway", which Neuronpedia ignores and `from_neuronpedia` reads. Bars and their values are
parallel lists (one value a bar, its middle): the page indexes one by the other.
"""

from __future__ import annotations

from typing import Any

from cutaway.core import InputError

_BELOW = "cutaway"
_HELD = ("feature", "examples", "top_logits", "bottom_logits", "frequency", "maximum", "histogram",
         "logit_histogram", "logit_edges", "neuron", "neuron_correlation", "nearest", "nearest_cosine", "schema",
         "about", "label")  # fmt: skip


def to_neuronpedia(card: dict[str, Any], model_id: str, source_set: str) -> dict[str, Any]:
    """`cutaway.feature_card/1` -> Neuronpedia's feature. source_set: as "2-res-mine": layer, site, whose."""
    peak, counts = float(card["maximum"]), list(card["histogram"])
    edges = card["logit_edges"] or [0.0, 0.0]
    step = (edges[1] - edges[0]) / max(1, len(card["logit_histogram"]))
    found: dict[str, Any] = {
        "modelId": model_id,
        "layer": source_set,
        "index": str(card["feature"]),
        "sourceSetName": source_set.partition("-")[2],
        "maxActApprox": peak,
        "frac_nonzero": card["frequency"],
        "pos_str": [one["token"] for one in card["top_logits"]],
        "pos_values": [one["value"] for one in card["top_logits"]],
        "neg_str": [one["token"] for one in card["bottom_logits"]],
        "neg_values": [one["value"] for one in card["bottom_logits"]],
        "freq_hist_data_bar_heights": counts,
        "freq_hist_data_bar_values": [peak * (i + 0.5) / max(1, len(counts)) for i in range(len(counts))],
        "logits_hist_data_bar_heights": list(card["logit_histogram"]),
        "logits_hist_data_bar_values": [edges[0] + step * (i + 0.5) for i in range(len(card["logit_histogram"]))],
        "correlated_neurons_indices": [] if card["neuron"] is None else [card["neuron"]],
        "correlated_neurons_pearson": [] if card["neuron"] is None else [card["neuron_correlation"]],
        "topkCosSimIndices": list(card["nearest"]),
        "topkCosSimValues": list(card["nearest_cosine"]),
        "explanations": [
            {"description": card["label"], "explanationModelName": "rule", "typeName": "cutaway-rule", "scores": []}
        ],
        "activations": [
            {
                "tokens": one["tokens"],
                "values": one["activations"],
                "maxValue": max(one["activations"]),
                "minValue": min(one["activations"]),
                "maxValueTokenIndex": one["activations"].index(max(one["activations"])),
                "qualifyingTokenIndex": one["place"],
                "binMin": None,
                "binMax": None,
                "dataSource": one["band"],
            }
            for one in card["examples"]
        ],
    }
    return {**found, _BELOW: {"schema": card["schema"], "about": card["about"], "logit_edges": card["logit_edges"],
                              **{k: v for k, v in card.items() if k not in _HELD}}}  # fmt: skip


def from_neuronpedia(value: dict[str, Any]) -> dict[str, Any]:
    """Neuronpedia's feature -> a card. What Neuronpedia does not hold is None or empty; of what `to_neuronpedia` wrote
    nothing is lost. Raises `InputError` for JSON that is no feature of theirs."""
    missing = [name for name in ("modelId", "layer", "index", "pos_str", "neg_str") if name not in value]
    if missing:
        raise InputError(f"this is no feature of Neuronpedia: it lacks {', '.join(missing)}.")
    ours = dict(value.get(_BELOW) or {})
    heights = list(value.get("logits_hist_data_bar_heights") or [])
    middles = list(value.get("logits_hist_data_bar_values") or [])
    if ours.get("logit_edges") is not None:
        edges = ours.pop("logit_edges")
    else:
        half = (middles[1] - middles[0]) / 2 if len(middles) > 1 else 0.0
        edges = [middles[0] - half, middles[-1] + half] if middles else []
    neurons, r = value.get("correlated_neurons_indices") or [], value.get("correlated_neurons_pearson") or []
    said = value.get("explanations") or []
    card: dict[str, Any] = {
        "schema": "cutaway.feature_card/1",
        "about": ours.pop("about", {"model": value["modelId"], "dictionary": value["layer"]}),
        "feature": int(value["index"]),
        "label": str(said[0].get("description") or "") if said else "",
        "frequency": value.get("frac_nonzero") or 0.0,
        "maximum": value.get("maxActApprox") or 0.0,
        "histogram": list(value.get("freq_hist_data_bar_heights") or []),
        "top_logits": _pairs(value, "pos"),
        "bottom_logits": _pairs(value, "neg"),
        "logit_histogram": heights,
        "logit_edges": edges,
        "neuron": neurons[0] if neurons else None,
        "neuron_correlation": r[0] if r else None,
        "nearest": list(value.get("topkCosSimIndices") or []),
        "nearest_cosine": list(value.get("topkCosSimValues") or []),
        "examples": [
            {
                "band": str(one.get("dataSource") or "Examples"),
                "tokens": one["tokens"],
                "activations": one["values"],
                "place": int(one.get("qualifyingTokenIndex") or one.get("maxValueTokenIndex") or 0),
            }
            for one in value.get("activations") or []
        ],
    }
    ours.pop("schema", None)
    return {**card, **ours}


def _pairs(value: dict[str, Any], side: str) -> list[dict[str, Any]]:
    return [
        {"token": token, "value": v}
        for token, v in zip(value.get(f"{side}_str") or [], value.get(f"{side}_values") or [])
    ]
