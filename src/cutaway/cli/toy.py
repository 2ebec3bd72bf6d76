"""`cutaway toy`: subjects whose truth is exact, each made and checked."""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli.findings import claim, sealed
from cutaway.cli.output import JSON, print_json, say


def toy(
    name: str | None = typer.Argument(None, help="A toy (rasp), or an item of one (reverse). None: list them."),
    items: list[str] = typer.Argument(
        None, help="Its items: for rasp and siit, programs. None: all (siit: a quick one)."
    ),
    exhaustive: bool = typer.Option(False, "--exhaustive", help="Check every input there is, not a first few hundred."),
    given: str | None = typer.Option(None, "--input", "-i", help='An input to trace through one item: "a b c".'),
    settings: list[str] = typer.Option(
        None, "--set", "-s", metavar="NAME=VALUE", help="An option of the toy, repeatable; `cutaway toy` lists them."
    ),
    seed: int | None = typer.Option(None, "--seed", min=0, help="The same as --set seed=N, where a toy draws."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write what was made here, as folders that load."),
    as_json: bool = JSON,
) -> None:
    """Make subjects whose truth is exact, check them, and show what is known of them.

    `rasp`: programs compiled to transformer weights; for each variable its subspace and what computes it, true edges,
    and the model beside the program's interpreter. `siit`: networks trained to be such a program, scored beside
    untrained ones. `superposition`: each experiment of "Toy Models of Superposition", trained, beside what theory says
    and the linear network (`all`: every one, some seven minutes). Exit status 1 when a check fails.

    Example:  cutaway toy rasp reverse --input "a b c"

    Example:  cutaway toy pentagon --out out/pentagon
    """
    from cutaway.core import InputError
    from cutaway.toys import TOYS, Asked, find

    if name is None:
        _list(as_json)
        return
    chosen: dict[str, str] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InputError(f"--set takes NAME=VALUE; given {setting!r}.")
        chosen[key] = value
    found, item = find(name)
    if seed is not None:
        if "seed" not in found.open().options():
            raise InputError(f"{name} draws nothing at random: it takes no --seed.")
        chosen["seed"] = str(seed)
    claim(out, "toy", "program.json", "siit.json")
    wanted = tuple(([item] if item else []) + list(items or []))
    asked = Asked(wanted, exhaustive, given, chosen, out, on=lambda what: say(f"{what} …"))
    result = found.open().run(asked)
    label = next(key for key, value in TOYS.items() if value is found)
    if as_json:
        print_json("cutaway.toy/1", {"toy": label, "passed": result.passed, "result": result.to_json()})
    else:
        print(result)
        if (legend := getattr(result, "legend", None)) is not None:
            say(f"\n{legend()}")
    if out is not None:
        sealed(out, "toy", label, {"items": wanted, **chosen})
        say(f"\nWrote {out}/")
    if not result.passed:
        raise typer.Exit(1)


def _list(as_json: bool) -> None:
    """The toys, their items and options."""
    from cutaway.toys import TOYS

    opened = {name: (toy.about, toy.open()) for name, toy in TOYS.items()}
    if as_json:
        listed = {
            name: {"about": about, "items": dict(module.items()), "options": dict(module.options())}
            for name, (about, module) in opened.items()
        }
        print_json("cutaway.toys/1", {"toys": listed})
        return
    for name, (about, module) in opened.items():
        print(f"{name}: {about}")
        found, own = module.items(), module.options()
        for item, says in found.items():
            print(f"  {item:16} {says}")
        print("  options (--set NAME=VALUE):")
        for option, says in own.items():
            print(f"    {option:14} {says}")
