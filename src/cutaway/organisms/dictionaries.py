"""Dictionaries by name: train one for a model, judge one.

What `features/` does with rows of tokens, this does with names and files: it knows the text of the models that ship,
and where a trained dictionary is kept so that `cutaway trace` finds it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core import InputError, UnknownName
from cutaway.core.files import refuse_foreign
from cutaway.core.registry import NULL, trained_folder

if TYPE_CHECKING:
    from torch import Tensor

    from cutaway.features import SAE, Report, SAEReport, Transcoders
    from cutaway.features.parallel import Split
    from cutaway.features.replacement import Task
    from cutaway.features.shards import Shards, Stored
    from cutaway.model import Model

OWN_TEXT = ("almanac", "almanac-1l")  # models whose text this project makes
KINDS = ("clt", "plt")
EXAMPLE_ROWS = 2048  # of text in which each feature's examples are found


@dataclass(frozen=True)
class Recipe:
    """How dictionaries are trained; the words are those of `features.settings`. features: a layer, by kind."""

    features: Mapping[str, int]
    tokens: int
    rows: int  # of the model's own text
    finetune: int
    l0: int = 16
    l0_start: int = 48
    l0_anneal: float = 0.25
    finetune_lr: float = 0.02
    kl: float = 2.0
    decay: float = 0.5


# What ships. A cross-layer feature has more to store, so that there are fewer of them.
RECIPES = {"almanac": Recipe(features={"clt": 1664, "plt": 1920}, tokens=3_100_000, rows=24_576, finetune=200_000)}


def recipe_for(model: Model) -> Recipe:
    """The recipe of a shipped model's dictionaries, or for others one of minutes: 8 features a dimension."""
    own = 8 * model.facts.d_model
    default = Recipe(features=dict.fromkeys(KINDS, own), tokens=2_000_000, rows=16_384, finetune=100_000)
    return RECIPES.get(model.name, default)


def train_dictionaries(
    model: str,
    *,
    text: Sequence[str | Path] = (),
    kinds: Sequence[str] = ("clt",),
    at: Sequence[str] = (),
    architectures: Sequence[str] = ("batchtopk",),
    features: int | None = None,
    l0: int | None = None,
    tokens: int | None = None,
    twin: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    threads: int = 0,
    shards: str | Path | None = None,
    shards_dtype: Stored = "bfloat16",
    ray: str | None = None,
    split: Split = "batch",
) -> dict[str, Any]:
    """Train transcoders for every MLP of `model`, or SAEs at the points `at`, and judge them on rows kept apart.

    at, architectures: each architecture at each point, all on one pass of the model; transcoders take one architecture.
    text: .txt or .jsonl files; a shipped model has text of its own. A twentieth of the rows is held out. features, l0,
    tokens: the recipe's where None; a shipped model's recipe makes what ships. twin: on the re-randomised model, the
    null. out: one dictionary's folder, or with several kinds their parent; by default the user's cache, where
    `cutaway trace` looks. shards: a folder of activations at `at`, written there first unless they are, and trained on
    instead of the model; ray: the cluster that writes them. Under torchrun every process calls this (`split`:
    features/parallel.py); all but the first get an empty report. Raises InputError for wrong kinds, text or folders.
    """
    import torch

    import cutaway as cw
    from cutaway.features import ARCHITECTURES, DictionarySettings, TrainSettings, Transcoders, package, train
    from cutaway.features.processes import launched

    if unknown := [name for name in architectures if name not in ARCHITECTURES]:
        raise UnknownName("architecture of a dictionary", unknown[0], ARCHITECTURES)
    if not at and len(architectures) != 1:
        raise InputError("transcoders are trained with one architecture; give --at POINT to train several SAEs.")
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"a dictionary of kind {kind!r} is unknown; there are: {', '.join(KINDS)}.")
    if l0 is not None and features is not None and l0 > features:
        raise InputError(f"{l0} active features a token were asked for, of {features} in all.")
    if out is not None and os.environ.get("RANK", "0") == "0":  # torchrun's others may come when it is being written
        refuse_foreign(out, "training")
    if threads:
        torch.set_num_threads(threads)
    ending = NULL if twin else ""
    loaded = cw.load(model)
    fingerprint, recipe = loaded.fingerprint, recipe_for(loaded)
    rows, held_out = text_rows(loaded, text, rows=recipe.rows, seed=seed)
    ships, tasks = loaded.name in RECIPES, None if twin else behaviour_tasks(loaded)
    if twin:
        from cutaway.evidence import rerandomise

        loaded = rerandomise(loaded, seed=seed)
    active, budget = l0 or recipe.l0, tokens or recipe.tokens

    def dictionary_settings(kind: str) -> DictionarySettings:
        wide = features or recipe.features[kind]
        other = {} if architectures[0] == "batchtopk" else {"activation": architectures[0], **_suited(architectures[0])}
        return DictionarySettings.read(
            {
                "name": f"{kind}{ending}",
                "kind": kind,
                "features": wide,
                "l0": active,
                "l0_start": min(wide, active * recipe.l0_start // recipe.l0),
                "l0_anneal": recipe.l0_anneal,
                "finetune": min(recipe.finetune, budget // 10),
                "finetune_lr": recipe.finetune_lr,
                "kl": recipe.kl,
                "seed": seed,
                **other,
            }
        )

    def sae_settings(point: str, architecture: str) -> DictionarySettings:
        wide = features or 8 * loaded.facts.d_model
        return DictionarySettings.read(
            {
                "name": f"{sae_name(point, architecture)}{ending}", "kind": "sae", "at": point, "features": wide,
                "l0": min(active, wide), "activation": architecture, "seed": seed, **_suited(architecture),
            }
        )  # fmt: skip

    wanted = [(point, architecture) for point in at for architecture in architectures]
    settings = TrainSettings(
        dictionaries=tuple(sae_settings(*one) for one in wanted) or tuple(map(dictionary_settings, kinds)),
        tokens=budget, decay=recipe.decay, seed=seed,
    )  # fmt: skip
    if at:
        if ray is not None and shards is None:
            raise InputError("--ray makes the shards of --shards DIR: give both.")
        if out is None and len(wanted) > 1:
            raise InputError("several SAEs are written to a folder of their run: name it with --out DIR.")
        folder = Path(out) if out is not None else sae_folder(fingerprint) / settings.dictionaries[0].name
        with launched() as main:
            data = rows if shards is None else _kept(loaded, rows, at, budget, shards, shards_dtype, seed, ray)
            made = train(loaded, data, settings, out=folder, split=split)
        entries = _judged_saes(loaded, made, rows, held_out) if main else []
        return {"model": model, "twin": twin, "tokens": budget, "dictionaries": entries}
    if shards is not None:
        raise InputError("shards hold activations at points: name them with --at POINT (transcoders take no shards).")
    if ray is not None:
        raise InputError("--ray makes the shards of --shards DIR: give both, with --at POINT.")
    if out is None:
        # One dictionary is written to the folder itself, several each to a folder of its name.
        out = trained_folder(fingerprint) if len(kinds) > 1 else trained_folder(fingerprint) / f"{kinds[0]}{ending}"
    with launched() as main:
        sets = train(loaded, rows, settings, out=out, split=split)
    entries = []
    for name, dictionary in sets.items() if main else ():
        assert isinstance(dictionary, Transcoders)
        folder = str(dictionary.folder)
        _, report = package(
            loaded, dictionary, folder, held_out, tasks, example_rows=rows[:EXAMPLE_ROWS], half=ships, seed=seed
        )
        entries.append({"name": name, "folder": folder, "report": report.to_json(), "text": str(report)})
    return {"model": model, "twin": twin, "tokens": budget, "dictionaries": entries}


def _suited(architecture: str) -> dict[str, Any]:
    """Settings that suit an architecture."""
    from cutaway.features import ARCHITECTURES

    return dict(ARCHITECTURES[architecture].recipe)


def sae_folder(fingerprint: str) -> Path:
    """Where SAEs are kept by default: apart from the transcoders, which `cutaway trace` looks for."""
    return trained_folder(fingerprint) / "sae"


def sae_name(point: str, architecture: str) -> str:
    return f"{point.replace('/', '-')}-{architecture}"


def _kept(
    model: Model, rows: Tensor, points: Sequence[str], tokens: int, folder: str | Path, dtype: Stored, seed: int,
    ray: str | None,
) -> Shards:  # fmt: skip
    """The shards of a folder, written first (by one process, of as much text as has so many tokens) where they are not
    all there."""
    from cutaway.core import read_json
    from cutaway.features.processes import on_main
    from cutaway.features.shards import INDEX, open_shards, write_shards

    index = Path(folder) / INDEX
    if not (index.is_file() and read_json(index).get("finished")):
        each = int((rows >= 0).sum()) / len(rows)
        rows = rows[: max(1, -(-tokens // int(each)))]
        on_main(lambda: len(write_shards(model, rows, points, folder, dtype=dtype, seed=seed, ray=ray)))
    return open_shards(folder)


def _judged_saes(
    model: Model, made: Mapping[str, Transcoders | SAE], rows: Tensor, held_out: Tensor
) -> list[dict[str, Any]]:  # fmt: skip
    from cutaway.features import SAE, evaluate_sae

    entries = []
    for name, dictionary in made.items():
        if isinstance(dictionary, SAE) and dictionary.folder is not None:
            report = evaluate_sae(model, dictionary, held_out, fit_rows=rows[:200])
            dictionary.with_(metrics=report.to_json()).save(dictionary.folder)
            told = {"report": report.to_json(), "text": str(report)}
            entries.append({"name": name, "folder": str(dictionary.folder), **told})
    return entries


def _evaluate_sae(model: Model, sae: SAE, held_out: Any, seed: int) -> SAEReport:
    """Beside the dictionary of the re-randomised twin where that lies next to it (FOLDER-null)."""
    from cutaway.evidence import rerandomise
    from cutaway.features import SAE, check_fit, evaluate_sae, load

    null = None
    beside = sae.folder.with_name(sae.folder.name + NULL) if sae.folder is not None else None
    if beside is not None and beside.is_dir():
        found = load(beside)
        if isinstance(found, SAE):
            null = (rerandomise(model, seed=int(found.training.get("settings", {}).get("seed", 0))), found)
    return evaluate_sae(model, check_fit(model, sae), held_out, null=null, seed=seed)


def convert_dictionary(folder: str | Path, to: str, out: str | Path) -> list[Path]:
    """A dictionary in any known format, written in another: the folders. Raises InputError where it does not fit."""
    from cutaway.features import convert, load

    return convert(load(folder), to, out)


def evaluate_dictionary(
    model: str, dictionary: str, *, text: Sequence[str | Path] = (), tokens: int = 20_000, seed: int = 1
) -> dict[str, Any]:
    """Judge a dictionary on held-out text: errors, PCA beside them, the replacement model, behaviours where known.

    text: files that it was not trained on; of them, about `tokens`. A shipped model makes held-out text of its own.
    """
    import torch

    import cutaway as cw
    from cutaway.features import SAE, Transcoders, evaluate, load
    from cutaway.graphs.dictionaries import resolve

    loaded = cw.load(model)
    kept = sae_folder(loaded.fingerprint) / dictionary
    folder = kept if kept.is_dir() else Path(dictionary)
    single = load(folder) if folder.is_dir() else None
    found = single if isinstance(single, SAE) else resolve(loaded, dictionary)[0]
    if not isinstance(found, Transcoders | SAE):
        raise InputError(f"{dictionary} is no trained dictionary; there is nothing to judge.")
    if text:
        rows = file_rows(loaded, text)
        order = torch.randperm(rows.shape[0], generator=torch.Generator().manual_seed(seed))
        held_out = rows[order[: max(1, tokens // rows.shape[1])]]
    else:
        _, held_out = text_rows(loaded, text, rows=0, seed=seed, held_out_tokens=tokens)
    report: Report | SAEReport
    if isinstance(found, SAE):
        report = _evaluate_sae(loaded, found, held_out, seed)
    else:
        report = evaluate(loaded, found, held_out, behaviour_tasks(loaded), seed=seed)
    return {"model": model, "dictionary": dictionary, "report": report.to_json(), "text": str(report)}


def text_rows(
    model: Model, text: Sequence[str | Path], *, rows: int, seed: int, held_out_tokens: int = 20_000
) -> tuple[Any, Any]:
    """Rows of ids to train on and rows kept apart: of the files, or of the shipped model's own text."""
    if text:
        return _split(file_rows(model, text), seed)
    if model.name in OWN_TEXT:
        from cutaway.organisms.almanac.text import CONTEXT, held_out_rows, token_rows

        return token_rows(rows, seed), held_out_rows(-(-held_out_tokens // CONTEXT), seed + 1)
    raise InputError(f"{model.name} has no text of its own: give some with --text FILE (.txt or .jsonl), repeatable.")


def file_rows(model: Model, text: Sequence[str | Path]) -> Tensor:
    """Text files as rows of ids, as many positions as the model takes but at most 128. Raises InputError."""
    from cutaway.features import rows_from_text

    if model.tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer, so no text can be read for it.")
    return rows_from_text(model.tokenizer, list(text), context=min(model.facts.max_positions or 128, 128))


def _split(rows: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Nineteen twentieths to train on, one (at least a row) held out."""
    import torch

    if rows.shape[0] < 2:
        raise InputError("the text fills a single row; some must be held out, so give more text.")
    order = torch.randperm(rows.shape[0], generator=torch.Generator().manual_seed(seed))
    cut = max(1, min(rows.shape[0] // 20, 200))
    return rows[order[cut:]], rows[order[:cut]]


def behaviour_tasks(model: Model, n: int = 200, seed: int = 1) -> dict[str, list[Task]] | None:
    """Held-out items of each behaviour, as ids, for the models whose behaviours are known; None for others."""
    if model.name not in OWN_TEXT:
        return None
    from cutaway.features.replacement import Task
    from cutaway.organisms.almanac.behaviours import CATALOGUE, exam

    tasks = {}
    for name in CATALOGUE:
        made = exam(name, n, seed)
        tasks[name] = [
            Task(tuple(int(t) for t in row[: last + 1]), tuple(right))
            for row, last, right in zip(made.prompts, made.last.tolist(), made.right)
        ]
    return tasks
