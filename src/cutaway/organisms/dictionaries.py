"""Dictionaries by name: train one for a model, judge one.

What `features/` does with rows of tokens, this does with names and files: it knows the text of the models that ship,
and where a trained dictionary is kept so that `cutaway trace` finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core import InputError
from cutaway.core.registry import NULL, trained_folder

if TYPE_CHECKING:
    from torch import Tensor

    from cutaway.features.replacement import Task
    from cutaway.model import Model

OWN_TEXT = ("almanac", "almanac-1l")  # models whose text this project makes
KINDS = ("clt", "plt")


def train_dictionaries(
    model: str,
    *,
    text: Sequence[str | Path] = (),
    kinds: Sequence[str] = ("clt",),
    features: int = 2048,
    l0: int = 16,
    tokens: int = 4_000_000,
    finetune: int = 0,
    twin: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    threads: int = 0,
) -> dict[str, Any]:
    """Train transcoders for every MLP of `model` and judge them on rows that were kept apart.

    text: .txt or .jsonl files; a shipped model has text of its own. A twentieth of the rows is held out.
    twin: on the re-randomised model, the null. out: one dictionary's folder, or with several kinds their parent; by
    default the user's cache, where `cutaway trace` looks. Raises InputError for wrong kinds, text or folders.
    """
    import torch

    import cutaway as cw
    from cutaway.features import DictionarySettings, TrainSettings, evaluate, train
    from cutaway.features.examples import find_examples

    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"a dictionary of kind {kind!r} is unknown; there are: {', '.join(KINDS)}.")
    if threads:
        torch.set_num_threads(threads)
    ending = NULL if twin else ""
    loaded = cw.load(model)
    fingerprint = loaded.fingerprint
    rows, held_out = text_rows(loaded, text, tokens=tokens, seed=seed)
    if twin:
        from cutaway.evidence import rerandomise

        loaded = rerandomise(loaded, seed=seed)
    settings = TrainSettings(
        dictionaries=tuple(
            DictionarySettings.read(
                {
                    "name": f"{kind}{ending}",
                    "kind": kind,
                    "features": features,
                    "l0": l0,
                    "finetune": finetune,
                    "seed": seed,
                }
            )
            for kind in kinds
        ),
        tokens=tokens,
        seed=seed,
    )
    if out is None:
        # One dictionary is written to the folder itself, several each to a folder of its name.
        out = trained_folder(fingerprint) if len(kinds) > 1 else trained_folder(fingerprint) / f"{kinds[0]}{ending}"
    made = train(loaded, rows, settings, out=out)
    entries = []
    for name, dictionary in made.items():
        report = evaluate(loaded, dictionary, held_out, None if twin else behaviour_tasks(loaded))
        folder = str(dictionary.folder)
        find_examples(loaded, dictionary, held_out).save(folder)
        entries.append({"name": name, "folder": folder, "report": report.to_json(), "text": str(report)})
    return {"model": model, "twin": twin, "tokens": tokens, "dictionaries": entries}


def evaluate_dictionary(
    model: str, dictionary: str, *, text: Sequence[str | Path] = (), tokens: int = 20_000, seed: int = 1
) -> dict[str, Any]:
    """Judge a dictionary on held-out text: errors, PCA beside them, the replacement model, behaviours where known."""
    import cutaway as cw
    from cutaway.features import Transcoders, evaluate
    from cutaway.graphs.dictionaries import resolve

    loaded = cw.load(model)
    found, _ = resolve(loaded, dictionary)
    if not isinstance(found, Transcoders):
        raise InputError(f"{dictionary} is no trained dictionary; there is nothing to judge.")
    _, held_out = text_rows(loaded, text, tokens=0, seed=seed, held_out_tokens=tokens)
    report = evaluate(loaded, found, held_out, behaviour_tasks(loaded), seed=seed)
    return {"model": model, "dictionary": dictionary, "report": report.to_json(), "text": str(report)}


def text_rows(
    model: Model, text: Sequence[str | Path], *, tokens: int, seed: int, held_out_tokens: int = 20_000
) -> tuple[Any, Any]:
    """Rows of ids to train on and rows kept apart: of the files, or of the shipped model's own text."""
    if text:
        from cutaway.features import rows_from_text

        if model.tokenizer is None:
            raise InputError(f"{model.name} has no tokenizer, so no text can be read for it.")
        rows = rows_from_text(model.tokenizer, list(text), context=min(model.facts.max_positions or 128, 128))
        return _split(rows, seed)
    if model.name in OWN_TEXT:
        from cutaway.organisms.almanac.text import CONTEXT, held_out_rows, token_rows

        return token_rows(-(-tokens // CONTEXT), seed), held_out_rows(-(-held_out_tokens // CONTEXT), seed)
    raise InputError(f"{model.name} has no text of its own: give some with --text FILE (.txt or .jsonl), repeatable.")


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
