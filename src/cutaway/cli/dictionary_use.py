"""`cutaway dictionary excursions`, `attribute`, `crosscoder`, `neuronpedia`: what dictionaries are used for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cutaway.cli.dictionary_options import ARCHITECTURE, MODEL, TEXT
from cutaway.cli.findings import load_model
from cutaway.cli.output import JSON, print_json, say, step


def excursions(
    dictionaries: list[str] = typer.Argument(..., metavar="FOLDER…", help="Dictionaries of one point each."),
    model: str = MODEL,
    task: str = typer.Option("ioi", "--task", "-t", help="Paired prompts: a task's name (cutaway tasks), or a file."),
    position: str = typer.Option("end", help="Where features are read, as the task names it."),
    feature: int | None = typer.Option(
        None,
        help="Of the first dictionary: set to multiples of its strongest. Default: the first that fires.",
    ),
    top: int = typer.Option(5, min=1, help="Features shown of each dictionary."),
    n: int = typer.Option(64, "--n", min=4, help="Pairs of prompts."),
    seed: int = typer.Option(0, min=0, help="Of the items, the sign flips and the random directions."),
    as_json: bool = JSON,
) -> None:
    """Which features tell a task's prompts from their counterfactuals, and how far one of them steers the answer.

    Beside the first: as many random directions at the same L0. Beside the second: a random direction as long.

    Example:  cutaway dictionary excursions ./resid_post.2-topk --model almanac --task ioi
    """
    import cutaway as cw
    from cutaway.features.excursions import controllability, latent_differences
    from cutaway.organisms.dictionary_studies import find_sae

    loaded = load_model(model)
    saes = [find_sae(loaded, one) for one in dictionaries]
    made = cw.task(task, loaded, n=n, seed=seed)
    with step(f"Comparing {n} pairs"):
        differ = latent_differences(loaded, saes, made, position, top, seed)
        firing = [row.feature for row in differ.rows if row.point == differ.rows[0].point and row.clean > 0]
        own = feature if feature is not None else firing[0] if firing else None
        steered = None if own is None else controllability(loaded, saes[0], made, own, position=position, seed=seed)
    if as_json:
        told = None if steered is None else steered.to_json()
        print_json("cutaway.excursions/1", {"differences": differ.to_json(), "controllability": told})
    else:
        print(differ)
        print(
            f"\n{steered}" if steered else "\nnone of these fires on the clean prompts: name one to steer by, --feature"
        )


def attribute(
    dictionary: str = typer.Argument(..., metavar="FOLDER", help="A dictionary of one point."),
    model: str = MODEL,
    task: str = typer.Option("ioi", "--task", "-t", help="Whose metric: a task's name (cutaway tasks), or a file."),
    top: int = typer.Option(20, min=2, help="Features taken out: so many of the largest, and as many at random."),
    n: int = typer.Option(32, "--n", min=4, help="Items of the task."),
    seed: int = typer.Option(0, min=0, help="Of the items, the features at random and the random gradients."),
    as_json: bool = JSON,
) -> None:
    """What each feature gives to a task's metric: activation times gradient for all of them, beside what happens when
    one is taken out; and how well the one tells the other, beside how much a feature writes and random gradients.

    Example:  cutaway dictionary attribute ./resid_post.2-topk --model almanac --task ioi
    """
    import cutaway as cw
    from cutaway.features.attribution import attribute_features
    from cutaway.organisms.dictionary_studies import find_sae, studied

    loaded = load_model(model)
    sae = find_sae(loaded, dictionary)
    with step(f"Taking out {2 * top} features"):
        found = attribute_features(loaded, sae, cw.task(task, loaded, n=n, seed=seed), top=top, seed=seed)
    if as_json:
        print_json("cutaway.feature_attribution/1", studied(found))
    else:
        print(found)


def crosscoder(
    model: str = MODEL,
    at: list[str] = typer.Option(..., "--at", metavar="POINT", help="Two points or more; with --with, one."),
    beside: str | None = typer.Option(None, "--with", metavar="MODEL", help="Another model that reads the same ids."),
    text: list[Path] = TEXT,
    architecture: str = ARCHITECTURE,
    features: int | None = typer.Option(None, min=1, help="Default: 8 a dimension."),
    l0: int = typer.Option(16, min=1, help="Active features a token."),
    tokens: int = typer.Option(200_000, min=1000, help="Tokens to train on; the null is trained on as many."),
    seed: int = typer.Option(0, min=0, help="Of weights, order and the null."),
    out: Path | None = typer.Option(None, "--out", "-o", metavar="DIR", help="Write the crosscoder there."),
    as_json: bool = JSON,
) -> None:
    """One dictionary of several layers of a model, or of the same point of two models: what they share.

    Beside layers: the same with tokens that do not go together. Beside two models: the first one with itself.

    Example:  cutaway dictionary crosscoder --model almanac --at resid_post.0 --at resid_post.2 --tokens 50000
    """
    from cutaway.core.files import refuse_foreign
    from cutaway.organisms.dictionary_studies import crosscode, studied

    if out is not None:
        refuse_foreign(out, "sae.safetensors")
    with step("Training a crosscoder and its null"):
        made, found = crosscode(
            model, at=at, beside=beside, text=text or (), architecture=architecture, features=features, l0=l0,
            tokens=tokens, seed=seed,
        )  # fmt: skip
    if out is not None:
        made.as_sae().save(out)
        say(f"wrote {out}; read it with cutaway.features.crosscoder.Crosscoder.of(cutaway.features.load(DIR))")
    if as_json:
        print_json(found.to_json()["schema"], studied(found))
    else:
        print(found)


def neuronpedia(
    path: Path = typer.Argument(..., metavar="PATH", help="What `dictionary describe` wrote, or a feature's .json."),
    out: Path | None = typer.Option(None, "--out", "-o", metavar="DIR", help="Write a file a feature there."),
    model_id: str | None = typer.Option(None, help="Neuronpedia's name of the model. Default: ours."),
    source: str | None = typer.Option(None, help='Its source set, as "2-res-mine". Default: from the point.'),
    as_json: bool = JSON,
) -> None:
    """Feature descriptions as Neuronpedia's feature JSON, a file a feature; or one of its features as a card.

    Example:  cutaway dictionary neuronpedia ./described --out ./for-neuronpedia
    """
    import json

    from cutaway.core import InputError, atomic_folder, read_json, write_json
    from cutaway.features import load_descriptions
    from cutaway.features.card_text import card_text
    from cutaway.features.exchange.neuronpedia import from_neuronpedia, to_neuronpedia

    if path.is_file():
        try:
            held = read_json(path)
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is no JSON: {error}.") from error
        found = from_neuronpedia(held if isinstance(held, dict) else {})
        if as_json:
            print_json("cutaway.feature_card/1", {k: v for k, v in found.items() if k != "schema"})
        else:
            print(card_text(found))
        return
    if out is None:
        raise InputError("name the folder to write to with --out DIR.")
    described = load_descriptions(path)
    about: dict[str, Any] = described.about
    name, source = model_id or str(about["model"]), source or _source(str(about["point"]))
    with atomic_folder(out, ("about.json",)) as folder:
        for feature in range(len(described)):
            write_json(folder / f"{feature}.json", to_neuronpedia(described.card(feature), name, source))
        write_json(folder / "about.json", {"modelId": name, "layer": source, "features": len(described)})
    if as_json:
        print_json("cutaway.neuronpedia/1", {"folder": str(out), "features": len(described)})
    else:
        print(f"wrote {len(described)} features to {out} (model {name}, source {source})")


def _source(point: str) -> str:
    """resid_post.2 -> 2-res-cutaway, as Neuronpedia names source sets: layer, site, whose."""
    site, _, layer = point.partition(".")
    short = {"resid_post": "res", "resid_pre": "res_pre", "mlp_out": "mlp", "mlp_act": "mlp_act", "z": "att"}
    return f"{layer or '0'}-{short.get(site, site)}-cutaway"
