"""Small results, made by hand, of the rooms whose methods take minutes: their fields, none of their science."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from cutaway.core import write_json
from tests.viewer.hand_made_state import STATES
from tests.viewer.hand_made_tables import TABLES, estimate, evidence

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


CAUSAL = {
    "schema": "cutaway.causal-model/1",
    "name": "equality",
    "output": "same",
    "variables": [
        {"name": "x", "domain": None, "parents": [], "mechanism": None},
        {"name": "y", "domain": None, "parents": [], "mechanism": None},
        {"name": "same", "domain": None, "parents": ["x", "y"], "mechanism": "lambda x, y: x == y"},
    ],
}
FAILURE = {
    "base": "x=1, y=2",
    "sources": {"same": "x=3, y=3"},
    "expected": ["yes"],
    "before": ["no"],
    "said": ["maybe"],
    "changes": True,
    "share": 0.5,
}
SWEEP = {
    "schema": "cutaway.alignment-sweep/1",
    "model": "m",
    "causal_model": CAUSAL,
    "variable": "same",
    "what": "all",
    "axes": [{"name": "place", "labels": ["resid_post.0", "resid_post.1"]}, {"name": "position", "labels": ["a", "b"]}],
    "unit": "IIA",
    "n": 40,
    "chance": 0.5,
    "iia": [[0.5, 0.6], [0.5, 0.98]],
    "low": [[0.4, 0.5], [0.4, 0.93]],
    "high": [[0.6, 0.7], [0.6, 1.0]],
    "cause": [[0, 0.2], [0, 0.97]],
    "null": {"name": "random", "iia": [[0.5] * 2] * 2},
    "best": {"place": "resid_post.1", "position": "b"},
    "competence": estimate("competence", 1.0, 0.9, 1.0),
    "evidence": evidence("same lies at resid_post.1, b"),
    "failures": [FAILURE],
}
ALIGNMENT = {
    "schema": "cutaway.alignment/1",
    "model": "m",
    "causal_model": CAUSAL,
    "svg": "<svg onload='alert(1)'/>",
    "variables": [{"name": "same", "place": {"label": "resid_post.1 at b"}, "size": [4]}],
    "n": 40,
    "seeds": [0, 1],
    "iia": estimate("IIA", 0.95, 0.9, 0.98),
    "iia_by_seed": [0.94, 0.96],
    "cause": estimate("cause", 0.9, 0.8, 0.95),
    "isolate": estimate("isolate", 0.99, 0.9, 1),
    "competence": estimate("right", 1.0, 0.9, 1),
    "disentangle": 0.94,
    "divergence": estimate("divergence", 0.6),
    "attributes": [
        {
            "name": "same",
            "cause": estimate("cause of same", 0.9, 0.8, 0.95),
            "isolate": estimate("isolate of same", 0.7, 0.6, 0.8),
            "disentangle": 0.8,
        }
    ],
    "changes_at_random": 0.5,
    "held_out": "inputs",
    "failures": [FAILURE],
    "evidence": [evidence("m computes as equality says")],
}
CAPACITY = {
    "schema": "cutaway.alignment-capacity/2",
    "model": "m",
    "causal_model": "equality",
    "places": ["resid_post.1"],
    "untrained": "same shape, untrained",
    "seeds": [0, 1],
    "rows": [
        {"dims": 1, "parameters": 32, "iia": estimate("IIA", 0.5, 0.4, 0.6), "untrained": None},
        {"dims": 4, "parameters": 128, "iia": estimate("IIA", 0.9, 0.8, 0.95), "untrained": estimate("IIA", 0.6)},
    ],
    "nonlinear": [
        {"dims": 4, "parameters": 9000, "iia": estimate("IIA", 0.97), "untrained": estimate("IIA", 0.93, 0.9, 0.95)}
    ],
    "nothing_exchanged": estimate("nothing exchanged", 0.45),
    "evidence": evidence("4 dimensions are enough"),
}
ESSENTIAL = {
    "schema": "cutaway.essential/1",
    "steps": [0, 1, 10, 100],
    "scores": [[-4, 0, 1], [-1, 1, 0], [1, 3, 1], [4, 0, 0]],
    "explained": [0.7, 0.2, 0.05],
    "null": [0.3, 0.3, 0.2],
    "circles": [
        {"plane": [0, 1], "centres": [[None, None], [0, 0.5], [0.5, 1.5], [2, 9]], "curvatures": [0, 1, 2, 0.1]}
    ],
    "forms": [{"step": 10, "plane": [0, 1], "point": [1, 3], "centre": [0.5, 1.5], "radius": 1.58}],
}
TIMELINE = {
    "schema": "cutaway.timeline/1",
    "model": "m",
    "x": {"label": "step", "scale": "log(step + 1)"},
    "steps": [0, 1, 10, 100],
    "labels": [f"step-{s}" for s in (0, 1, 10, 100)],
    "sources": [f"runs/m/step-{s}" for s in (0, 1, 10, 100)],
    "panels": [
        {
            "title": "loss",
            "unit": "nats",
            "values": [7, 6, 2, 1],
            "low": [6.5, 5.5, 1.5, 0.9],
            "high": [7.5, 6.5, 2.5, 1.1],
            "n": [9] * 4,
            "notes": [""] * 4,
            "changepoints": {"kind": "slope", "next_p": 0.4, "points": [{"step": 10, "interval": [1, 10], "p": 0.01}]},
        },
        {
            "title": "llc",
            "unit": "",
            "values": [None, 2, 5, 9],
            "low": [],
            "high": [],
            "n": [],
            "notes": ["far", "", "", ""],
            "changepoints": {"kind": "slope", "next_p": 0.3, "points": []},
        },
    ],
    "stages": {
        "by": "loss",
        "items": [
            {"name": "1", "from": 0, "to": 10, "changes": {"loss": -5, "llc": None}},
            {"name": "2", "from": 10, "to": 100, "changes": {"loss": -1, "llc": 4}},
        ],
    },
    "essential": ESSENTIAL,
    "evidence": [],
    "notes": [],
}
FEATURE = {
    "schema": "cutaway.feature_card/1",
    "about": {"model": "m", "dictionary": "SAE", "n_tokens": 800},
    "feature": 41,
    "label": "on “coat”",
    "token_auroc": 0.83,
    "pair_auroc": 0.85,
    "rule_tokens": ["coat"],
    "rule_p": [0.8],
    "frequency": 0.05,
    "fired": 40,
    "maximum": 5.5,
    "histogram": [0, 8, 4, 1],
    "span": 4,
    "effect": 0.006,
    "effect_random": 0.004,
    "clamp_effect": 0.02,
    "nearest": [7],
    "nearest_cosine": [0.4],
    "nearest_by_chance": 0.25,
    "top_logits": [{"token": "hat", "value": 0.9}],
    "bottom_logits": [],
    "lost": [{"token": "hat", "value": 0.7}],
    "clamp_raised": [],
    "neuron": 3,
    "neuron_correlation": 0.3,
    "neuron_point": "mlp_act.2",
    "examples": [{"band": "Top activations", "tokens": ["a", "red", "coat"], "activations": [0, 0, 5.5], "place": 2}],
}
NEURON = {
    "schema": "cutaway.neuron-card/1",
    "model": "m",
    "point": "path.neurons",
    "unit": 50,
    "concept": "sun",
    "activation": {"mean": 0.9, "sd": 1.2, "over": "max"},
    "quantiles": [
        {"quantile": "strongest", "items": [{"activation": 5.6, "labels": ["red", "sun"], "facet": "filled"}]}
    ],
    "top_words": [{"activation": 4, "labels": ["sun"], "facet": "word"}],
    "words": [{"word": "sun", "activation_sd": estimate("w", 2.1, 1.7, 2.5)}],
    "curve": [
        {"low_sd": None, "high_sd": 0, "p": estimate("p", 0.01, 0, 0.05)},
        {"low_sd": 0, "high_sd": None, "p": estimate("p", 0.9, 0.8, 0.95)},
    ],
    "facets": [{"facet": "word", "auroc": estimate("a", 0.98, 0.9, 1)}],
    "captions": [{"caption": "a sun", "change_of_logit": 5.7}],
    "serves": [{"class": "sun", "weight": 2.4}],
    "evidence": [evidence("Unit 50 stands for sun")],
}
NEURONS = {
    "schema": "cutaway.neurons/1",
    "model": "m",
    "point": "path.neurons",
    "selectivity": {
        "n": {"pictures": 10, "words": 10, "units": 128},
        "bar": 0.9,
        "concepts": ["sun"],
        "served": ["sun"],
        "multimodal": [{"unit": 50, "concept": "sun", "auroc_pictures": 0.96, "auroc_words": 0.98}],
        "permuted": {"n": 200, "mean": 0.0, "max": 0},
    },
    "others": [{"model": "twin", "units": 128, "multimodal": 0, "concepts": []}],
    "probe": None,
    "sample": [{"unit": 3, "rating": "none"}],
    "evidence": [evidence("One unit of 128 is multimodal")],
}
RATE = {
    name: estimate(name, 0.3, 0.2, 0.4) for name in ("fooled", "fooled_by_gibberish", "changed", "changed_by_gibberish")
}
ATTACK = {
    "schema": "cutaway.attack/1",
    "model": "m",
    "names": ["sun"],
    "n": 40,
    "accuracy": {"zero-shot": estimate("a", 0.9, 0.8, 1)},
    "rates": [{"classifier": "zero-shot", "size": size, **RATE, "twins": [estimate("twin", 0.02)]} for size in (8, 13)],
    "examples": [{"true": "sun", "written": "cup", "says": "cup"}],
    "evidence": [evidence("A word fools m")],
}
IOI = {
    "schema": "cutaway.ioi/1",
    "model": "m",
    "of": 4,
    "heads": ["a0.h1"],
    "passed": True,
    "absent": ["induction"],
    "criteria": [{"name": "share of heads", "value": 0.25, "asked": "<= 0.30", "met": True, "interval": None}],
    "classes": {"name mover": {"circuit": ["a0.h1"], "others": []}},
    "measured": [
        {"head": f"a0.h{i}", "in_circuit": i == 1, "classes": [], "values": {"copying": i / 4}} for i in range(4)
    ],
    "null": {"copying": 0.1},
    "evidence": [evidence("1 of 4 heads does it")],
    "circuit": {
        "schema": "cutaway.circuit/1",
        "choices": {"task": "ioi"},
        "level": "node",
        "size": 2,
        "share": 0.5,
        "heads": ["a0.h1"],
        "sources": ["input", "a0.h1"],
        "destinations": ["a0.h1<v>", "logits"],
        "writes": [0, 2],
        "reads": [1, 3],
        "of_port": [0, 1],
        "edges": [
            {"source": "input", "destination": "a0.h1<v>", "score": 1.0},
            {"source": "a0.h1", "destination": "logits", "score": 1.0},
        ],
        "minimality": {
            "least": 0.01,
            "n": 16,
            "outside": [],
            "parts": [
                {
                    "part": "a0.h1",
                    "without": [],
                    "score": estimate("s", 0.6, 0.4, 1),
                    "p": 0.001,
                    "p_holm": 0.001,
                    "needed": True,
                }
            ],
        },
        "completeness": {
            "n": 16,
            "whole": 12.0,
            "knockouts": [{"chosen": "random", "out": ["a0.h1"], "circuit": 8.0, "model": 5.0, "gap": 3.0}],
        },
        "tests": {
            "alpha": 0.05,
            "tests": [
                {
                    "name": "equivalence",
                    "question": "As often?",
                    "null": "one half",
                    "statistic": estimate("s", 0.6),
                    "p": 0.3,
                    "p_holm": 0.6,
                    "outcome": "not settled",
                    "note": "",
                }
            ],
        },
    },
}

# by name: the result, and a field of it without which there is no page
HAND_MADE: dict[str, tuple[dict[str, Any], str]] = {
    "align": (ALIGNMENT, "variables"),
    "align-sweep": (SWEEP, "axes"),
    "case": (
        {
            "schema": "cutaway.abstraction-case/1",
            "case": "equality",
            "about": "a case",
            "expect": "0.95",
            "rivals": {"wrong": CAUSAL},
            "alignment": ALIGNMENT,
            "sweep": SWEEP,
            "scrubbing": None,
            "capacity": CAPACITY,
        },
        "alignment",
    ),
    "scrub": (
        {
            "schema": "cutaway.scrubbing/1",
            "model": "m",
            "causal_model": "equality",
            "partners": 1.0,
            "evidence": evidence("Scrubbed"),
            "rows": [
                {
                    "resampled": "all",
                    "loss": 0.1,
                    "recovered": estimate("r", 0.9, 0.8, 1),
                    "accuracy": estimate("a", 1.0),
                }
            ],
        },
        "rows",
    ),
    "capacity": (CAPACITY, "rows"),
    "timeline": (TIMELINE, "panels"),
    "essential": (ESSENTIAL, "scores"),
    "feature": (FEATURE, "feature"),
    "neurons": (NEURONS, "selectivity"),
    "attack": (ATTACK, "rates"),
    "ioi": (IOI, "measured"),
    "cards/0050": (NEURON, "unit"),
    **TABLES,
    **STATES,
}


def write_hand_made(folder: Path) -> Path:
    """One file each; the neuron's card in a folder of its own, with its pictures."""
    for name, (body, _) in HAND_MADE.items():
        file = "cards/0050/card.json" if name == "cards/0050" else f"{name}.json"
        write_json(folder / file, body)
    for picture in ("top.png", "words.png"):
        (folder / "cards" / "0050" / picture).write_bytes(PIXEL)
    for picture in ("visualisation", "shaded", *(f"{row}-{i}" for row in ("picture", "null") for i in range(2))):
        (folder / "seen" / f"{picture}.png").write_bytes(PIXEL)
        (folder / "woken" / f"{picture}.png").write_bytes(PIXEL)
    (folder / "woken" / "start-0.png").write_bytes(PIXEL)
    (folder / "toy.png").write_bytes(PIXEL)
    return folder
