"""Small results, made by hand, whose pages are tables and rows of pictures: exams, toys, classification, arms, an LLC,
a visualisation."""

from __future__ import annotations

from typing import Any


def estimate(name: str, value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    interval = None if low is None else {"low": low, "high": high, "level": 0.95, "method": "Wilson"}
    return {"name": name, "value": value, "interval": interval, "n": 40, "unit": "", "note": ""}


def evidence(claim: str) -> dict[str, Any]:
    return {
        "claim": claim,
        "effect": estimate("effect", 0.9, 0.8, 0.95),
        "how": "by hand",
        "seeds": [0],
        "settings": {},
        "nulls": [{"estimate": estimate("the null", 0.5, 0.4, 0.6), "difference": None}],
        "baselines": [],
        "residual_tail": [],
        "not_done": [],
        "second_data": None,
        "paraphrase": None,
        "verdict": "distinguishable from null",
        "verdict_text": "distinguishable from null",
    }


CHECKS: list[dict[str, Any]] = [
    {"name": "angle", "truth": 72.0, "rule": "equal", "estimate": 71.9, "interval": [71.5, 72.3], "n": 16,
     "tolerance": 1.0, "passed": True, "why": "theory"},
    {"name": "share", "truth": 0.5, "rule": "at least", "estimate": 0.31, "interval": None, "n": 16,
     "tolerance": 0.0, "passed": False, "why": ""},
]  # fmt: skip
TOY: dict[str, Any] = {
    "schema": "cutaway.superposition/1", "name": "toy", "claim": "five features lie 72 degrees apart",
    "setting": "n = 5, m = 2", "passed": False, "seconds": 2.0, "rows": CHECKS, "evidence": [evidence("72 degrees")],
    "data": {"angles": [72.0, 71.0]},
}  # fmt: skip
EXAM = {
    "schema": "cutaway.exam/1", "room": "graphs", "quick": True, "seed": 0, "evidence": evidence("examined"),
    "rows": [
        *CHECKS,
        {"name": "an approximation", "truth": None, "estimate": 0.4, "interval": None, "n": 3, "tolerance": None,
         "passed": None},
        *({"name": f"{line} {column}", "truth": 1.0, "estimate": 0.25, "interval": None, "n": 3, "tolerance": 0.1,
           "passed": column == "b", "table": ["faithfulness", line, column]} for line in ("x", "y") for column in "ab"),
    ],
}  # fmt: skip
CLASSIFY = {
    "schema": "cutaway.classify/1", "data": "topics", "dictionary": "an SAE", "n_learn": 40, "n_test": 20,
    "classes": ["sea", "snow"], "few": 3, "shifted_by": "longer texts", "chance": 0.5,
    "width": {"features": 8, "TF-IDF": 40}, "regimes": ["plentiful", "scarce"],
    "accuracy": {
        "features": {"plentiful": estimate("a", 0.9, 0.8, 0.95), "scarce": estimate("b", 0.6, 0.5, 0.7)},
        "TF-IDF": {"plentiful": estimate("c", 0.8, 0.7, 0.9), "scarce": estimate("d", 0.7, 0.6, 0.8)},
    },
    "winners": {"plentiful": "features", "scarce": "TF-IDF"}, "evidence": [evidence("features classify")],
}  # fmt: skip
ARMS = {
    "schema": "cutaway.arm_study/1", "model": "m", "n_tokens": 100, "n_held_out": 50, "seeds": [0, 1, 2],
    "settings": {"features": 16}, "columns": {"auroc": ["AUROC", "from the token alone"]},
    "rows": [
        {"arm": arm, "point": point, "auroc": estimate("auroc", value, value - 0.02, value + 0.02)}
        for arm, value in (("trained", 0.9), ("rerandomised_excl", 0.73), ("control", 0.5))
        for point in ("resid_post.0", "resid_post.2")
    ],
    "evidence": [evidence("features carry context")],
}  # fmt: skip
LLC = {
    "schema": "cutaway.llc/1", "estimate": estimate("lambda hat", 6.7, 6.1, 7.2), "believed": False,
    "refused": ["chains disagree"], "per_chain": [6.1, 7.2, None], "setting": {"sampler": "sgld"}, "n": 5, "d": 15,
    "loss": 0.02, "distance": 0.4, "acceptance": None, "r_hat": 1.3, "ess": 20.0,
    "checks": [{"name": "R-hat of the loss", "value": 1.3, "allowed": "<= 1.1", "passed": False}],
    "sweep": [{"n_beta": 10.0, "value": 6.0}], "gradients": 900, "seconds": 1.0, "evidence": [evidence("an LLC")],
}  # fmt: skip
SEEN = {
    "schema": "cutaway.visualisation/1", "model": "m", "objective": "path.units unit 5", "method": "fourier",
    "steps": 8, "trained": {"model": "m", "reached": [11.0, 9.5], "trace": [1.0, 4.0, 8.0, 10.0]},
    "null": {"model": "m re-randomised", "reached": [2.0, 2.5], "trace": [1.0, 1.5, 1.8, 2.0]}, "best_picture": 5.0,
    "evidence": [evidence("further than a network that learned nothing")],
}  # fmt: skip

WOKEN = {
    **SEEN,
    "start": [{"row": 3, "labels": ["red", "sun"], "value": 1.5}],
    "trained": {**SEEN["trained"], "silent": [False, False], "redirected_steps": 2},
    "null": {**SEEN["null"], "reached": [0.0, 2.0], "silent": [True, False], "redirected_steps": 4},
}

TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "toy": (TOY, "rows"),
    "toys": (
        {"schema": "cutaway.superposition-several/1", "passed": False, "experiments": [TOY, {**TOY, "name": "second"}]},
        "experiments",
    ),
    "exam": (EXAM, "rows"),
    "classify": (CLASSIFY, "accuracy"),
    "arms": (ARMS, "rows"),
    "llc": (LLC, "estimate"),
    "seen/visualisation": (SEEN, "trained"),
    "woken/visualisation": (WOKEN, "trained"),
}
