"""`cutaway visualise`: pictures made for a unit, a direction, a feature or a name, the null's beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cutaway.cli.findings import claim, sealed, told_where, write_result
from cutaway.cli.output import JSON, print_result, say, warn
from cutaway.cli.towers import MODULE, PICTURES, SIDE, pictures_of, ticker, tower_of

if TYPE_CHECKING:
    from cutaway.vision import Objective, Pictures, Tower


def visualise(
    model: str = typer.Argument(
        ..., help="A shipped name (primer), a folder, a hub id, FILE.PY:FACTORY; with --model, the point."
    ),
    point: str | None = typer.Argument(None, help="The point: path.neurons, mlp_act.3 … The model's usual by default."),
    unit: int | None = typer.Option(None, "--unit", "-u", min=0, help="Of the point: a channel, a neuron."),
    says: str | None = typer.Option(None, "--says", help="In place of a unit: what the model should say it sees."),
    direction: Path | None = typer.Option(
        None, "--direction", help="In place of a unit: a direction [unit], the one tensor of a safetensors file."
    ),
    dictionary: Path | None = typer.Option(None, "--dictionary", help="With --feature: a dictionary's folder."),
    feature: int | None = typer.Option(None, "--feature", min=0, help="A feature of the dictionary."),
    method: str = typer.Option("fourier", "--method", help="fourier, or maco (magnitudes of real pictures)."),
    n: int = typer.Option(4, "--n", min=1, help="Pictures to make."),
    steps: int = typer.Option(256, "--steps", min=1, help="Steps of gradient ascent."),
    start: str = typer.Option(
        "noise",
        "--start",
        help="noise (where that leads nowhere, pictures), or pictures: the real ones that excite it most.",
    ),
    diversity: float = typer.Option(0.0, "--diversity", help="Weight of the pictures' unlikeness to one another."),
    facet: str | None = typer.Option(
        None, "--facet", help="Pull towards a kind of picture or a label (outline, word, horse …)."
    ),
    at: str | None = typer.Option(None, "--facet-at", help="The lower point where the facet is probed."),
    pictures: Path | None = PICTURES,
    module: str | None = MODULE,
    side: int | None = SIDE,
    quick: bool = typer.Option(False, "--quick", help="Leave the re-randomised model out, and say so."),
    seed: int = typer.Option(0, min=0, help="For starting pictures, transforms and the null."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the pictures here; killed, it goes on."),
    as_json: bool = JSON,
) -> None:
    """Make pictures that drive a unit, and beside them the same for the model with its weights re-randomised.

    Pictures are optimised through random shifts, turns and scales (fourier), or in phase alone under the magnitudes of
    real pictures (maco). What both rows show is of the method. --out DIR has visualisation.png: the model's row above,
    the null's below.

    Example:  cutaway visualise primer path.neurons --unit 11 --out out/unit11
    """
    from cutaway.core import InputError

    if module is not None:
        point = point or model
    for option, given, known in (("method", method, ("fourier", "maco")), ("start", start, ("noise", "pictures"))):
        if given not in known:
            raise InputError(f"--{option} is {' or '.join(known)}; given {given!r}.")
    claim(out, "visualisation", "trained.state.safetensors", "null.state.safetensors")
    tower = tower_of(None if module is not None else model, module, side)
    from cutaway.vision import Crops, Fourier, Phases, Settings, on_pictures, rerandomised, shown, strongest
    from cutaway.vision import visualise as make
    from cutaway.vision.fourier import colours_of

    at_point = point or tower.point
    seen = _pictures(tower, pictures, seed, needed=method == "maco" or facet is not None or start == "pictures")
    what = _objective(tower, at_point, unit, says, direction, dictionary, feature)
    if diversity:
        from cutaway.vision import diversity as unlike

        what = what + diversity * unlike(at or at_point)
    how = Settings(n=n, steps=steps, seed=seed)
    shape: Any = Fourier(tower.side) if seen is None else Fourier(tower.side, colours=colours_of(seen))
    if method == "maco":
        assert seen is not None
        shape, how = Phases.of(seen), Settings(n=n, steps=steps, seed=seed, transforms=Crops(), learning_rate=0.2)
    null = None if quick else rerandomised(tower, seed, None if seen is None else seen.images[:256])
    made: list[Any] = []
    begin = None
    if start == "pictures":
        assert seen is not None
        begin = strongest(tower, what, seen, n)
        if begin is None:
            raise InputError(
                f"{what.subject.name} is the same on all of the {len(seen)} pictures: it has no strongest."
            )
    for name, subject in (("trained", tower), ("null", null)):
        if subject is None:
            warn("the re-randomised model was left out (--quick)")
            made.append(None)
            continue
        goal = what if facet is None else _faceted(what, subject, seen, facet, at)
        state = None if out is None else out / f"{name}.state.safetensors"
        made.append(
            make(
                subject, goal, how, shape, start=made[0].start if made else begin, seen=None if made else seen,
                state=state, progress=ticker(subject.name), silent=name == "null",
            )
        )  # fmt: skip
    real = None if seen is None else tuple(on_pictures(t, what, seen).numpy() for t in (tower, null or tower))
    result = shown(made[0], made[1], real, seed=seed)
    if out is not None:
        _write(out, tower, result, {"seed": seed, "steps": steps, "n": n, "method": method, "start": start})
    print_result(result, out, as_json)
    if out is None:
        say("\n(--out DIR writes the pictures)")


def _pictures(tower: Tower, folder: Path | None, seed: int, *, needed: bool) -> Pictures | None:
    from cutaway.core import InputError

    try:
        return pictures_of(tower, folder, 400, seed)
    except InputError:
        if needed or folder is not None:
            raise
        return None


def _objective(
    tower: Tower, point: str, unit: int | None, says: str | None, direction: Path | None, dictionary: Path | None,
    feature: int | None,
) -> Objective:  # fmt: skip
    import torch

    from cutaway.core import InputError
    from cutaway.vision import objectives

    given = [unit is not None, says is not None, direction is not None, feature is not None]
    if sum(given) != 1:
        raise InputError(
            "say what to show, one of: --unit N, --says NAME, --direction FILE, --dictionary with --feature."
        )
    if (feature is None) != (dictionary is None):
        raise InputError("--dictionary and --feature go together.")
    if says is not None:
        what = objectives.says(says)
        tower.judge(tower.embedding(torch.full((1, 3, tower.side, tower.side), 0.5)), [says])  # a wrong name ends here
    elif direction is not None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not direction.is_file():
            raise InputError(f"no file {direction}.")
        try:
            tensors = list(load_file(direction).values())
        except SafetensorError as error:
            raise InputError(f"--direction {direction} is no safetensors file: {error}.") from None
        if len(tensors) != 1:
            raise InputError(f"--direction takes a safetensors file of one tensor; {direction} has {len(tensors)}.")
        what = objectives.direction(point, tensors[0].float().flatten(), f"direction {direction.stem} at {point}")
    elif dictionary is not None and feature is not None:
        from cutaway.features import load

        what = objectives.feature(point, load(dictionary), feature)  # type: ignore[arg-type]
    else:
        assert unit is not None
        what = objectives.channel(point, unit)
    return what


def _faceted(what: Objective, tower: Tower, seen: Pictures | None, facet: str, at: str | None) -> Objective:
    from cutaway.core import InputError
    from cutaway.vision.objectives import facet_probe, faceted

    if at is None or seen is None:
        raise InputError("--facet needs --facet-at POINT, a lower point, and pictures of that facet.")
    weight, accuracy = facet_probe(tower, seen, facet, at)
    say(f"probe for {facet} at {at}: {accuracy:.3f} right on held-out pictures ({tower.name})")
    return faceted(what, at, weight)


def _write(out: Path, tower: Tower, result: Any, settings: dict[str, Any]) -> None:
    from cutaway.vision.pictures import sheet, to_png

    rows = [list(v.pictures) for v in (result.trained, result.null) if v is not None]
    begun = result.trained.start
    if begun is not None:
        rows.insert(0, list(begun.images))
        for i, image in enumerate(begun.images):
            to_png(image, out / f"start-{i}.png", max(1, 192 // tower.side))
    enlarge = max(1, 192 // tower.side)
    to_png(sheet(rows), out / "visualisation.png", enlarge)
    shaded = [list(v.shaded()) for v in (result.trained, result.null) if v is not None]
    to_png(sheet(shaded), out / "shaded.png", enlarge)
    for name, made in (("picture", result.trained), ("null", result.null)):
        for i, image in enumerate(() if made is None else made.pictures):
            to_png(image, out / f"{name}-{i}.png", enlarge)
    write_result(out, "visualisation.json", result.to_json(), str(result))
    above = "above" if begun is None else "above what it began from, then"
    sealed(out, "visualisation", tower.name, settings, tower.model.fingerprint)
    below = "" if result.null is None else ", below its null"
    told_where(out, f"visualisation.png: {above} {result.trained.tower}{below}; shaded.png")
