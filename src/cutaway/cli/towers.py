"""What the verbs of vision share: a tower by name or module, pictures and words for it, its twins, folders written."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cutaway.cli.output import say, step, warn

if TYPE_CHECKING:
    from cutaway.vision import Pictures, Tower

MODEL = typer.Argument(
    None,
    help="A shipped name (primer), a Hugging Face folder, a hub id, or a module of one's own as FILE.PY:FACTORY (the "
    "file is run). None: primer.",
)
MODULE = typer.Option(None, "--model", "-m", "--module", help="The same as an option, as in other verbs.")
PICTURES = typer.Option(
    None, "--pictures", "-p", help="A folder with a subfolder a class (or labels.csv). A shipped model has its own."
)
SIDE = typer.Option(None, "--side", min=1, help="Pixels of a picture's side, where the model does not say.")
TWIN = typer.Option([], "--twin", help="Another model looked at alike, as a null; repeatable.")
N_PICTURES = 1200


def tower_of(name: str | None, option: str | None, side: int | None) -> Tower:
    """The tower that was named, as an argument or an option. Raises InputError for both, or a model without one."""
    from cutaway.core import InputError

    if name is not None and option is not None:
        raise InputError("give a model's name or --model, not both.")
    wanted = name or option or "primer"
    with step(f"Loading {wanted}"):
        from cutaway.model import load_module
        from cutaway.vision import look

        return look(load_module(wanted) if ".py:" in wanted else wanted, side=side)


def pictures_of(tower: Tower, folder: Path | None, n: int, seed: int, *, subjects: bool = False) -> Pictures:
    """The pictures of `--pictures`, or those of a shipped model's own world. Labels that are numbers become the names
    of the tower's classes. Raises InputError where there are none."""
    from cutaway.core import InputError
    from cutaway.vision import read_pictures

    if folder is None:
        from cutaway.organisms.primer import NAMES

        if tower.name not in NAMES:
            raise InputError(f"{tower.name} comes without pictures: give --pictures DIR, a folder a class.")
        from cutaway.organisms.primer.world import world_pictures

        with step(f"Drawing {n} pictures"):
            return world_pictures(n, seed, subjects=subjects)
    with told():
        found = read_pictures(folder, tower.side)
    if tower.classes and all(label.isdigit() for names in found.labels for label in names):
        try:
            named = tuple(tuple(tower.classes[int(label)] for label in names) for names in found.labels)
        except IndexError:
            raise InputError(f"{folder}: a label is beyond the {len(tower.classes)} classes of {tower.name}.") from None
        found = replace(found, labels=named)
    return found


def words_of(tower: Tower, pictures: Pictures, each: int, seed: int) -> Pictures:
    """Every concept of the pictures, written."""
    from cutaway.organisms.primer import NAMES
    from cutaway.vision import word_pictures

    if tower.name in NAMES:
        from cutaway.organisms.primer.world import world_words

        return world_words(each, seed)
    return word_pictures(pictures.concepts, each, tower.side, seed)


def others_of(tower: Tower, twins: list[str], pictures: Pictures, quick: bool, seed: int) -> list[Tower]:
    """The twin that ships with a model, those asked for, and the re-randomised tower (unless `quick`)."""
    from cutaway.organisms.primer import TWINS
    from cutaway.vision import look, rerandomised

    names = list(twins) or [TWINS[name] for name in (tower.name,) if name in TWINS]
    found = [look(name, side=tower.side) for name in names]
    if quick:
        warn("the re-randomised model was left out (--quick)")
        return found
    return [*found, rerandomised(tower, seed, pictures.images[:256])]


@contextmanager
def told() -> Iterator[None]:
    """Warnings of the work as lines on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for message in dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning):
        warn(message)


def ticker(what: str) -> Callable[[int, int, float], None]:
    """A line of progress on stderr, at most 20 in all."""

    def tell(done: int, of: int, value: float) -> None:
        if done == of or done % max(1, of // (20 if sys.stderr.isatty() else 4)) == 0:
            say(f"{what}: step {done} of {of}, {value:.3g}")

    return tell
