"""A board of 2 x 3 whose state was read, made by hand: a whole result, its two parts, and a world without a board."""

from __future__ import annotations

from typing import Any

from tests.viewer.hand_made_tables import estimate, evidence

SQUARES = ["a1", "b1", "c1", "a2", "b2", "c2"]
SHARES = {"resid_post.0": [0.5, 0.6, 0.7, 0.8, 0.9, None], "resid_post.1": [0.6, 0.7, 0.8, 0.9, 1.0, None]}
PROBE: dict[str, Any] = {
    "schema": "cutaway.state-probe/1",
    "model": "m",
    "data": "world",
    "n": {"train": 6, "validation": 2, "test": 2},
    "values": ["empty", "mine", "theirs"],
    "blank": "empty",
    "best": "resid_post.1",
    "everywhere": estimate("with blanks", 0.9, 0.8, 0.95),
    "sweep": [
        {
            "point": point,
            "validation": 0.7,
            "test": estimate(point, 0.7, 0.6, 0.8),
            "untrained": estimate("re-randomised model", 0.5, 0.4, 0.6),
            "by_variable": shares,
            "untrained_by_variable": [0.31] * 5 + [None],
        }
        for point, shares in SHARES.items()
    ],
    "variables": [{"name": n, "accuracy": x, "n": 9} for n, x in zip(SQUARES, SHARES["resid_post.1"])],
    "shape": [2, 3],
    "rivals": [{"name": "bag of the tokens", "by_variable": [0.41] * 5 + [None]}],
    "examples": [
        {
            "sequence": 4,
            "tokens": ["start", "b2", "c1"],
            "state": [[1, 2, 0, 0, 0, -1], [1, 2, 0, 0, 1, -1], [2, 1, 1, 0, 2, -1]],
            "read": {
                "resid_post.0": [[0] * 6] * 3,
                "resid_post.1": [[1, 2, 0, 0, 0, 0], [1, 2, 0, 0, 1, 0], [2, 2, 1, 1, 2, 0]],
            },
        },
        {"sequence": 7, "tokens": ["start"], "state": [[1] * 6], "read": {"resid_post.1": [[1] * 6]}},
    ],
    "evidence": [evidence("The state of world can be read from resid_post.1")],
}
EDITED = evidence("m chooses by the state") | {"effect": estimate("errors after an edit", 1.5, 1.2, 1.9)}
EDIT: dict[str, Any] = {
    "schema": "cutaway.state-edit/1",
    "model": "m",
    "data": "world",
    "n": {"chosen by": 5, "reported on": 7},
    "sweep": [{"from": p, "strength": s, "errors": s + i} for i, p in enumerate(SHARES) for s in (0.5, 2.0)],
    "best": {"from": "resid_post.0", "strength": 0.5},
    "own": estimate("no change asked for", 0.25, 0.2, 0.3),
    "mass": estimate("probability on valid tokens", 0.9, 0.8, 1.0),
    "evidence": [EDITED],
}
STATE: dict[str, Any] = {
    "schema": "cutaway.state/1",
    "model": "m",
    "data": "world",
    "probe": PROBE,
    "edit": EDIT,
    "evidence": PROBE["evidence"] + EDIT["evidence"],
}
OLDER = {  # without what later versions add
    key: value for key, value in PROBE.items() if key not in ("shape", "rivals", "examples")
} | {"sweep": [{key: row[key] for key in ("point", "validation", "test", "untrained")} for row in PROBE["sweep"]]}

STATES: dict[str, tuple[dict[str, Any], str]] = {
    "state": (STATE, "probe"),
    "state-row": ({**PROBE, "shape": None}, "variables"),
    "state-edit": (EDIT, "sweep"),
    "state-older": ({**STATE, "probe": OLDER, "edit": None}, "probe"),
}
