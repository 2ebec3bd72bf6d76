"""`cutaway attack`: words laid on pictures, and whether the model reads instead of looking."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cutaway.cli.findings import claim, sealed, told_where, write_result
from cutaway.cli.output import JSON, print_result, step
from cutaway.cli.towers import MODEL, MODULE, PICTURES, SIDE, TWIN, pictures_of, tower_of

if TYPE_CHECKING:
    from cutaway.vision import Bench, Tower


def attack(
    model: str | None = MODEL,
    pictures: Path | None = PICTURES,
    names: str | None = typer.Option(
        None, "--names", help="What a picture can be, with commas; by default its labels."
    ),
    sizes: str | None = typer.Option(None, "--sizes", help="Letters in pixels: 8,12,16. By default four sizes."),
    probe: bool = typer.Option(False, "--probe", help="Attack a linear probe on the embeddings, too."),
    module: str | None = MODULE,
    side: int | None = SIDE,
    twin: list[str] = TWIN,
    n: int = typer.Option(560, "--n", min=1, help="Pictures of a shipped model's own world."),
    seed: int = typer.Option(0, min=0, help="For pictures, words, places and gibberish."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write attack.json and examples.png here."),
    as_json: bool = JSON,
) -> None:
    """Write another name on each picture, at several sizes, and see whether the model says it.

    Beside it gibberish of equal ink at the same place (what letters alone do), and the same words on a twin; for primer
    the one trained without text in pictures. Models that know colours also take the Stroop test: colour words in
    another colour's ink.

    Example:  cutaway attack primer --out out/attack
    """
    from cutaway.core import InputError

    claim(out, "attack")
    try:
        wanted = tuple(int(s) for s in sizes.split(",")) if sizes else ()
    except ValueError:
        raise InputError(f"--sizes are numbers with commas, as 8,12,16; given {sizes!r}.") from None
    if any(size < 1 for size in wanted):
        raise InputError(f"--sizes are pixels, from 1 on; given {sizes!r}.")
    tower = tower_of(model, module, side)
    seen = pictures_of(tower, pictures, n, seed, subjects=True)
    from cutaway.organisms.primer import NAMES, TWINS
    from cutaway.vision import attack as bench
    from cutaway.vision import look

    given = None if names is None else tuple(s.strip() for s in names.split(",") if s.strip())
    if given == ():
        raise InputError("--names names nothing: give at least two, as fish,house.")
    if given is None and pictures is None and tower.name in NAMES:
        from cutaway.organisms.primer.concepts import SUBJECTS

        given = SUBJECTS
    train = pictures_of(tower, pictures, 2 * n, seed + 1, subjects=True) if probe else None
    if probe and pictures is not None:
        train, seen = seen.halves(seed)
    twins = [look(name, side=tower.side) for name in (twin or [TWINS[t] for t in (tower.name,) if t in TWINS])]
    with step(f"Attacking {len(seen)} pictures"):
        found = bench(tower, seen, given, sizes=wanted, twins=twins, train=train, seed=seed)
    if out is not None:
        _write(out, tower, found, seed)
    print_result(found, out, as_json)


def _write(out: Path, tower: Tower, found: Bench, seed: int) -> None:
    from cutaway.core import atomic_folder
    from cutaway.vision.attack import example_sheet
    from cutaway.vision.pictures import to_png

    with atomic_folder(out, ("attack.json",)) as folder:
        write_result(folder, "attack.json", found.to_json(), str(found))
        if found.examples:
            to_png(example_sheet(found), folder / "examples.png")
        sealed(folder, "attack", tower.name, {"seed": seed}, tower.model.fingerprint)
    told_where(out, "attack.json, examples.png: what the model says of each picture, red where it is fooled")
