"""`cutaway probe`: what can be read from each layer by a linear probe, beside what could be read without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cutaway.cli.findings import MODEL, OUT, TRUST, claim, finish, load_model
from cutaway.cli.output import JSON, step

if TYPE_CHECKING:
    from cutaway.model import Model


def probe(
    data: Path = typer.Argument(
        ...,
        help="Labelled text: .csv or .jsonl with columns text and label; .jsonl with lists words and labels; .conllu.",
    ),
    model: str = MODEL,
    at: str = typer.Option("resid_post.*", help="Points to read, separated by commas: resid_post.*, mlp_act.2, z.1 …"),
    k: str | None = typer.Option(None, "--k", metavar="1,2,4", help="Also probes on the k best coordinates."),
    where: str = typer.Option("last", help="Texts are read at their 'last' token, or as the 'mean' over tokens."),
    dictionary: str | None = typer.Option(
        None, "--dictionary", "-d", help="Probe a dictionary's features: a shipped name (clt, plt) or a folder."
    ),
    text_column: str = typer.Option("text", help="The column of the text."),
    label_column: str = typer.Option("label", help="The column of the label; in .conllu: upos, xpos or deprel."),
    group_column: str | None = typer.Option(None, help="Texts of one group stay on one side of the split."),
    most: int = typer.Option(6000, min=20, help="At most so many examples, drawn at random."),
    quick: bool = typer.Option(False, "--quick", help="Leave the re-randomised model out (and say so)."),
    out: Path | None = OUT,
    seed: int = typer.Option(0, min=0, help="Of sample, split, controls and null."),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Fit linear probes at every layer, beside an untrained model, a control task and the words alone.

    The layer is chosen on validation items and reported on test items. A control task gives each word type a random
    label: what a probe learns of that, it learns by itself.

    Example:  cutaway probe reviews.csv --model ./checkpoint --k 1,4,16
    """
    from cutaway.core import InputError, UnknownName

    sizes = _sizes(k)
    if where not in ("last", "mean"):
        raise UnknownName("place to read a text at", where, ("last", "mean"))
    claim(out, "probe")
    from cutaway.readouts import probe as fit
    from cutaway.readouts import read_labelled

    labelled = read_labelled(data, text=text_column, label=label_column, group=group_column)
    loaded = load_model(model, trust_remote_code)
    encoders = None if dictionary is None else _features(loaded, dictionary, at)
    points = [part.strip() for part in at.split(",") if part.strip()]
    if not points:
        raise InputError("--at names no point.")
    with step("Reading every point and fitting probes"):
        result = fit(
            loaded, labelled, points, k=sizes, where=where, dictionary=encoders, null=not quick, most=most, seed=seed
        )
    finish(result, loaded, "probe", out, as_json, settings=dict(result.settings), tensors=_tensors(result))


def _sizes(k: str | None) -> tuple[int, ...]:
    from cutaway.core import InputError

    if k is None:
        return ()
    try:
        sizes = tuple(int(part) for part in k.split(","))
    except ValueError:
        raise InputError(f"--k takes whole numbers separated by commas, as 1,2,4; given {k!r}.") from None
    if any(size < 1 for size in sizes):
        raise InputError(f"--k takes numbers from 1 on; given {k!r}.")
    return sizes


def _features(model: Model, name: str, at: str) -> dict[str, Any]:
    """Address -> encoder: of transcoders for every layer they read, of any other dictionary at the one point given."""
    import functools

    from cutaway.core import InputError
    from cutaway.core.protocols import Dictionary, TranscoderSet
    from cutaway.graphs.dictionaries import resolve

    found, _ = resolve(model, name)
    if isinstance(found, TranscoderSet):
        points = {
            found.input_point(layer): functools.partial(found.activations, layer) for layer in range(found.n_layers)
        }
        if at != "resid_post.*":
            wanted = {address for part in at.split(",") for address in model.addresses(part.strip())}
            points = {p: f for p, f in points.items() if p in wanted}
            if not points:
                raise InputError(f"{name} reads {found.input_point(0)} and its like; --at {at} names none of them.")
        return points
    if not isinstance(found, Dictionary):
        raise InputError(f"{name} is no dictionary with features.")
    addresses = model.addresses(at)
    if len(addresses) != 1:
        raise InputError(f"{name} is a dictionary of one point: name it with --at.")
    return {addresses[0]: found}


def _tensors(result: Any) -> dict[str, Any]:
    """The chosen probe: its direction in the activations' own units may steer."""
    import torch

    c = result.classifier
    parts = {"mean": c.mean, "scale": c.scale, "weight": c.weight, "bias": c.bias, "direction": c.direction}
    return {name: torch.as_tensor(value).float() for name, value in parts.items()}
