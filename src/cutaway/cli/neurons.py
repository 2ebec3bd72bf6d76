"""`cutaway neurons`: what the units of a vision model stand for, in pictures and in written words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cutaway.cli.findings import claim, sealed, told_where, write_result
from cutaway.cli.output import JSON, print_json, say, step
from cutaway.cli.towers import (
    MODEL,
    MODULE,
    N_PICTURES,
    PICTURES,
    SIDE,
    TWIN,
    others_of,
    pictures_of,
    told,
    tower_of,
    words_of,
)

if TYPE_CHECKING:
    from cutaway.vision import Arithmetic, Card, Pictures, Survey, Tower

N_WORDS = 30


def neurons(
    model: str | None = MODEL,
    point: str | None = typer.Option(None, "--point", help="Whose units: path.neurons, mlp_act.3, path.layer3 …"),
    unit: list[int] = typer.Option([], "--unit", "-u", help="Print this unit's card; repeatable."),
    cards: int = typer.Option(0, "--cards", min=0, help="With --out: cards of so many units drawn at random, too."),
    sums: str | None = typer.Option(
        None, "--sums", help='Write labels as sums of units: "red,fish,red fish", or "all" for every concept.'
    ),
    pictures: Path | None = PICTURES,
    module: str | None = MODULE,
    side: int | None = SIDE,
    twin: list[str] = TWIN,
    over: str = typer.Option("max", "--over", help="A unit's number for a picture: its max or mean over space."),
    n: int = typer.Option(N_PICTURES, "--n", min=1, help="Pictures of a shipped model's own world."),
    quick: bool = typer.Option(False, "--quick", help="Leave the re-randomised model out, and say so."),
    seed: int = typer.Option(0, min=0, help="For pictures, words, halves, samples and nulls."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write neurons.json and cards with their pictures here."),
    as_json: bool = JSON,
) -> None:
    """Which units of a vision model stand for one concept, in pictures and in rendered words.

    Counts the units with an AUROC of .9 or more for one concept in both, beside permuted labels, the model with its
    weights re-randomised and, for primer, its twin that never saw text in pictures. --unit N prints a unit's card:
    strongest pictures and words, P(concept | activation), facets, captions, classes, and what its absence does.

    Example:  cutaway neurons primer --unit 3 --out out/primer
    """
    from cutaway.core import InputError

    if over not in ("max", "mean"):
        raise InputError(f"--over is max or mean; given {over!r}.")
    if cards and out is None:
        raise InputError("--cards writes folders: give --out DIR.")
    claim(out, "neurons")
    tower = tower_of(model, module, side)
    seen = pictures_of(tower, pictures, n, seed)
    from cutaway.vision import card, survey

    with step(f"Looking at {point or tower.point} on {len(seen)} pictures"), told():
        found = survey(
            tower, seen, words_of(tower, seen, N_WORDS, seed), point, others=others_of(tower, twin, seen, quick, seed),
            over=over, seed=seed,  # type: ignore[arg-type]
        )  # fmt: skip
    shown = [card(found, u, seed=seed) for u in unit]
    added = None if sums is None else _sums(tower, found, sums, seen, quick, seed)
    body: dict[str, Any] = {**found.to_json(), "cards": [c.to_json() for c in shown]}
    if added is not None:
        body["sums"] = added.to_json()
    if out is not None:
        _write(out, tower, found, shown, cards, body, seed)
    if as_json:
        print_json(body.pop("schema"), {**body, "out": None if out is None else str(out)})
        return
    for part in ([found] if not shown else []) + shown + ([added] if added is not None else []):
        print(part, end="\n\n")
    if not shown and found.found.multimodal:
        say(f"(--unit {found.found.multimodal[0]} prints a unit's card; --out DIR writes cards with their pictures)")


def _sums(tower: Tower, found: Survey, labels: str, seen: Pictures, quick: bool, seed: int) -> Arithmetic:
    from cutaway.vision import arithmetic, rerandomised

    names = list(found.found.concepts) if labels == "all" else [s.strip() for s in labels.split(",") if s.strip()]
    images = seen.images[:64]
    null = None if quick else rerandomised(tower, seed, seen.images[:256])
    return arithmetic(tower, names, images, found.point, null=null, seed=seed)


def _write(
    out: Path, tower: Tower, found: Survey, shown: list[Card], cards: int, body: dict[str, Any], seed: int
) -> None:
    """neurons.json, result.txt, evidence.json and cards/<unit>/ of every multimodal unit, of those asked for, and of
    `cards` drawn at random."""
    from cutaway.core import atomic_folder
    from cutaway.vision import card

    made = {c.unit: c for c in shown}
    wanted = list(dict.fromkeys([*made, *found.found.multimodal, *found.sample[:cards]]))
    with atomic_folder(out, ("neurons.json",)) as folder:
        write_result(folder, "neurons.json", body, str(found))
        with step(f"Writing {len(wanted)} cards"):
            for unit in wanted:
                (made.get(unit) or card(found, unit, seed=seed)).write(folder / "cards" / f"{unit:04d}")
        sealed(folder, "neurons", tower.name, {"point": found.point, "seed": seed}, tower.model.fingerprint)
    told_where(out, f"neurons.json, {len(wanted)} cards in {out}/cards")
