"""A study of the shipped model, small, written by the rooms themselves: what they write is what the pages must read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CIRCUITS = (("circuit", "eap", 30), ("circuit-small", "eap", 12), ("circuit-nodes", "attribution-patching", 5))
PROMPT = "the capital of the state containing Dallas is"


def write_study(folder: Path) -> Path:
    """One result of each room that has a page, in folders named by their kind; about fifteen seconds."""
    from dataclasses import replace

    import cutaway as cw
    from cutaway.circuits.masked import opened
    from cutaway.circuits.measured import measured_edges
    from cutaway.readouts import direct_effects, head_cards, head_scores, patterns, read_labelled
    from cutaway.study.finding import write_finding

    model = cw.load("almanac")
    task = cw.task("ioi", model, n=8)
    cw.sweep(model, task, at="z.*", each=("head", "position"), out=folder / "sweep")
    for name, method, size in CIRCUITS:
        found = cw.discover(model, task, method, size=size, check="quick" if name != "circuit-small" else "none")
        if found.level == "edge":
            shown = {"measured": measured_edges(opened(model), found, task.take(range(2)), most=4)}
            heads = [(int(one[1]), int(one[4:])) for one in found.heads]
            example = _Json(patterns(model, task.take(range(1)).clean, heads))
            found = replace(found, parts={**found.parts, **shown, "example": example})
        write_finding(folder / name, "circuit", model, found, command=f"cutaway circuit ioi --size {size}")
    scores = head_scores(model, sequences=4, null_seeds=(0,), ablate=False)
    cards = head_cards(model, "Mary and John", sequences=4)
    write_finding(folder / "heads", "heads", model, _Json({**scores.to_json(), "composition": None, "cards": cards}))
    write_finding(folder / "lens", "lens", model, cw.lens(model, PROMPT, null_seeds=(0,)), prompt=PROMPT)
    write_finding(folder / "direct", "lens", model, direct_effects(model, task, ablate=2, null_seeds=(0,)))
    rows = [f'"{a} said the story was {w} .",{w in ("happy", "bright")}' for a in NAMES for w in WORDS]
    (folder / "labelled.csv").write_text("\n".join(["text,label", *rows]))
    probe = cw.probe(
        model, read_labelled(folder / "labelled.csv"), ["resid_post.0", "resid_post.2"], k=(1, 2), null=False
    )
    write_finding(folder / "probe", "probe", model, probe)
    sad, glad = ([f"{a} was {w} and the day was" for a in NAMES] for w in ("sad", "happy"))
    steered = cw.steer(model, sad, glad, at="resid_post.1", strengths=(0.5, 1.0, 2.0), randoms=4, null=False)
    write_finding(folder / "steering", "steering", model, steered)
    return folder


NAMES = ("Mary", "John", "Emma", "Adam", "Sara", "Peter", "Jane", "Nancy")
WORDS = ("happy", "sad", "bright", "dark")


class _Json:
    """What a verb puts together of several results."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    def to_json(self) -> dict[str, Any]:
        return dict(self.body)

    def __str__(self) -> str:
        return "as the verb prints it"
