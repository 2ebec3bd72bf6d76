"""Studies of dictionaries by name: what needs a model's text found, and folders resolved, before `features/` begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core import InputError, UnknownName
from cutaway.organisms.dictionaries import _suited, text_rows

if TYPE_CHECKING:
    from torch import Tensor

    from cutaway.features import SAE, ArmStudy, Concepts, Described
    from cutaway.features.ask import Ask, Asked
    from cutaway.features.crosscoder import Crosscoder, Diff, Spans
    from cutaway.model import Model

Say = Callable[[str], None]
ARM_ROWS = 16_384


def study_arms(
    model: str, *, at: Sequence[str] = (), text: Sequence[str | Path] = (), architecture: str = "batchtopk",
    features: int | None = None, l0: int = 8, tokens: int = 100_000, seeds: int = 3, held_out: int = 16_000,
    seed: int = 0, on: Say = lambda message: None,
) -> ArmStudy:  # fmt: skip
    """The five arms of Heap et al. of a model, by name. at: by default the first layer's output and the last but one's.

    features: 2 a dimension by default, at least 256. Raises InputError for points that hold no vector a position.
    """
    import torch

    import cutaway as cw
    from cutaway.features import ARCHITECTURES, DictionarySettings, TrainSettings, arm_study

    if architecture not in ARCHITECTURES:
        raise UnknownName("architecture of a dictionary", architecture, ARCHITECTURES)
    loaded = cw.load(model)
    points = list(at) or _first_and_last(loaded.facts.n_layers)
    learn, score = text_rows(loaded, text, rows=min(ARM_ROWS, 2 + tokens // 100), seed=seed, held_out_tokens=held_out)
    if text:
        order = torch.randperm(learn.shape[0], generator=torch.Generator().manual_seed(seed))
        learn = learn[order[: max(2, tokens // max(1, int((learn[:, 1:] >= 0).sum()) // learn.shape[0]))]]
    wide = features or max(256, 2 * loaded.facts.d_model)
    if wide < l0:
        raise InputError(f"l0 {l0} is more than the {wide} features.")
    settings = TrainSettings(
        dictionaries=tuple(
            DictionarySettings.read(
                {"name": point, "kind": "sae", "at": point, "features": wide, "l0": l0, "activation": architecture,
                 "dead_after": max(5_000, tokens // 8), **_suited(architecture)}
            )
            for point in points
        ),
        tokens=tokens, batch=512,
    )  # fmt: skip
    return arm_study(loaded, learn, score, settings, seeds=tuple(range(seed, seed + seeds)), on=on)


def _first_and_last(n_layers: int) -> list[str]:
    """The first layer's output and the last but one's: after the last, the next token is all that matters."""
    return list(dict.fromkeys(f"resid_post.{layer}" for layer in (0, max(0, n_layers - 2))))


def judge_dictionary(
    model: str, dictionary: str, *, text: Sequence[str | Path] = (), tokens: int = 12_000, seed: int = 1,
    control_tokens: int = 60_000, widths: Sequence[str | Path] = (), concepts: str | Path | None = None,
    known: bool = True, on: Say = lambda message: None,
) -> dict[str, Any]:  # fmt: skip
    """A dictionary of one point beside everything: reconstruction, splicing, controls trained alike, known concepts,
    other widths. control_tokens: 0 trains none. widths: folders of dictionaries of the same point. concepts: a .jsonl
    of texts with labels; a shipped model's text has concepts of its own, and spelling gives some for every model.

    Raises InputError for a dictionary that is of no one point, or does not fit.
    """
    import torch

    import cutaway as cw
    from cutaway.features import SAE, check_fit, evaluate_sae, knowledge, load, splitting
    from cutaway.features.scaling import WIDTHS, scaling

    loaded = cw.load(model)
    sae = find_sae(loaded, dictionary)
    learn, held_out = text_rows(
        loaded, text, rows=min(ARM_ROWS, 2 + max(control_tokens, 20_000) // 100), seed=seed, held_out_tokens=tokens
    )
    order = torch.randperm(held_out.shape[0], generator=torch.Generator().manual_seed(seed))
    held_out = held_out[order[: max(2, tokens // held_out.shape[1])]]
    sae = check_fit(loaded, sae)
    on("judging reconstruction, and training controls" if control_tokens else "judging reconstruction")
    report = evaluate_sae(
        loaded, sae, held_out, fit_rows=learn[:4000], null=_twin_of(loaded, sae), seed=seed,
        control_tokens=control_tokens,
    )  # fmt: skip
    parts: list[Any] = [report]
    body: dict[str, Any] = {"report": report.to_json()}
    labelled = concepts_of(loaded, concepts, learn, seed) if known else None
    if labelled is not None:
        on("looking for known concepts")
        found = knowledge(loaded, sae, labelled, seed=seed)
        parts.append(found)
        body["knowledge"] = found.to_json()
    if widths:
        others = [load(folder) for folder in widths]
        if any(not isinstance(other, SAE) or other.d_out != sae.d_out for other in others):
            raise InputError("--width takes dictionaries of the same point, of other widths.")
        every = [sae, *(other for other in others if isinstance(other, SAE))]
        tree = splitting([one.W_dec for one in every])
        parts.append(tree)
        body["splitting"] = tree.to_json()
        if len({one.n_features for one in every}) >= WIDTHS:
            law = scaling(loaded, every, held_out, seed)
            parts.append(law)
            body["scaling"] = law.to_json()
    return {"model": model, "dictionary": dictionary, **body, "text": "\n\n".join(map(str, parts))}


def describe_dictionary(
    model: str, dictionary: str, out: str | Path, *, text: Sequence[str | Path] = (), tokens: int = 30_000,
    seeds: Sequence[str | Path] = (), narrower: str | Path | None = None, wider: str | Path | None = None,
    effects: bool = True, seed: int = 1, on: Say = lambda message: None, ask: Ask | None = None, ask_for: int = 20,
) -> tuple[Described, Asked | None]:  # fmt: skip
    """Describe every feature of a dictionary of one point, and write the descriptions to `out`.

    ask: a language model (features/ask.py), asked to label the `ask_for` features of the largest effect (or that fire
    most); its labels take the place of those by rule, its scores and both labels are written to asked.json.

    seeds, narrower, wider: folders of dictionaries of the same point. Raises InputError where one is of another.
    """
    import torch

    import cutaway as cw
    from cutaway.core import write_json
    from cutaway.features import SAE, Described, check_fit, describe, load, save_descriptions
    from cutaway.features.ask import ask_labels

    loaded = cw.load(model)
    sae = check_fit(loaded, find_sae(loaded, dictionary))
    if text:
        from cutaway.organisms.dictionaries import file_rows

        rows = file_rows(loaded, text)
        order = torch.randperm(rows.shape[0], generator=torch.Generator().manual_seed(seed))
        rows = rows[order[: max(2, tokens // rows.shape[1])]]
    else:
        _, rows = text_rows(loaded, text, rows=0, seed=seed, held_out_tokens=tokens)

    def other(folder: str | Path | None) -> SAE | None:
        if folder is None:
            return None
        found = load(folder)
        if not isinstance(found, SAE) or found.d_out != sae.d_out:
            raise InputError(f"{folder} is no dictionary of the same point.")
        return found

    described = describe(
        loaded, sae, rows, seeds=[one for one in map(other, seeds) if one is not None], narrower=other(narrower),
        wider=other(wider), effects=effects, seed=seed, on=on,
    )  # fmt: skip
    save_descriptions(described, out)  # whatever becomes of the endpoint
    asked = None
    if ask is not None:
        on(f"asking for labels of {ask_for} features")
        asked, by_rule = ask_labels(described, ask, _foremost(described, ask_for), seed), described.features["label"]
        labels = [asked.labels.get(f, rule) for f, rule in enumerate(by_rule)]
        described = Described({**described.features, "label": labels}, described.examples, described.about)
        save_descriptions(described, out)
        told = {str(f): by_rule[f] for f in asked.labels}
        write_json(Path(out) / "asked.json", {**asked.to_json(), "labels_by_rule": told})
    return described, asked


def _foremost(described: Described, n: int) -> list[int]:
    """Features with examples, those of the largest effect first (without effects, those that fire most)."""
    held = described.features
    size = [e if e is not None else f for e, f in zip(held["effect"], held["frequency"])]
    enough = {f for f in range(len(size)) if sum(one["feature"] == f for one in described.examples) >= 4}
    return sorted(enough, key=lambda f: -size[f])[:n]


def crosscode(
    model: str, *, at: Sequence[str], beside: str | None = None, text: Sequence[str | Path] = (),
    architecture: str = "batchtopk", features: int | None = None, l0: int = 16, tokens: int = 200_000, seed: int = 0,
) -> tuple[Crosscoder, Spans | Diff]:  # fmt: skip
    """One dictionary of several points of a model, or of one point of two (`beside`). Raises InputError."""
    import torch

    import cutaway as cw
    from cutaway.features import DictionarySettings, TrainSettings
    from cutaway.features.crosscoder import diff_models, span_layers

    if (beside is None and len(at) < 2) or (beside is not None and len(at) != 1):
        raise InputError("a crosscoder is of two points or more (--at twice), or of one point of two models (--with).")
    loaded = cw.load(model)
    learn, _ = text_rows(loaded, text, rows=min(ARM_ROWS, 2 + tokens // 100), seed=seed)
    if text:
        learn = learn[torch.randperm(learn.shape[0], generator=torch.Generator().manual_seed(seed))]
    learn = learn[: max(2, tokens // max(1, int((learn[:, 1:] >= 0).sum()) // learn.shape[0]))]
    one = DictionarySettings.read(
        {"name": "crosscoder", "kind": "sae", "at": at[0], "features": features or 8 * loaded.facts.d_model, "l0": l0,
         "activation": architecture, "dead_after": max(5_000, tokens // 8), "seed": seed, **_suited(architecture)}
    )  # fmt: skip
    settings = TrainSettings(dictionaries=(one,), tokens=tokens, batch=1024, seed=seed)
    if beside is None:
        return span_layers(loaded, learn, at, settings)
    return diff_models(loaded, cw.load(beside), learn, at[0], settings)


def is_sae(model: str, dictionary: str) -> bool:
    """Whether a name or folder is a dictionary of one point; False for what is none, which its reader will name."""
    import cutaway as cw
    from cutaway.features import SAE, load
    from cutaway.organisms.dictionaries import sae_folder

    folder = Path(dictionary)
    if not folder.is_dir():
        folder = sae_folder(cw.load(model).fingerprint) / dictionary
    return folder.is_dir() and isinstance(load(folder), SAE)


def find_sae(model: Model, dictionary: str) -> SAE:
    """A dictionary of one point by name or folder. Raises InputError."""
    from cutaway.features import SAE, load
    from cutaway.organisms.dictionaries import sae_folder

    kept = sae_folder(model.fingerprint) / dictionary
    folder = kept if kept.is_dir() else Path(dictionary)
    if not folder.is_dir():
        raise InputError(
            f"there is no dictionary {dictionary}: give the folder of one "
            "(cutaway dictionary train --at POINT --out DIR)."
        )
    found = load(folder)
    if not isinstance(found, SAE):
        raise InputError(f"{dictionary} is a set of transcoders; this is for a dictionary of one point (--at POINT).")
    return found


def _twin_of(model: Model, sae: SAE) -> tuple[Model, SAE] | None:
    """The re-randomised twin and its own dictionary, where that lies at FOLDER-null."""
    from cutaway.core.registry import NULL
    from cutaway.evidence import rerandomise
    from cutaway.features import SAE, load

    beside = sae.folder.with_name(sae.folder.name + NULL) if sae.folder is not None else None
    if beside is None or not beside.is_dir():
        return None
    found = load(beside)
    if not isinstance(found, SAE):
        return None
    return rerandomise(model, seed=int(found.training.get("settings", {}).get("seed", 0))), found


def concepts_of(model: Model, given: str | Path | None, rows: Tensor, seed: int) -> Concepts | None:
    """Known concepts: of labelled texts, of the shipped models' generator, and of spelling where tokens have any."""
    from cutaway.features import spelled_concepts
    from cutaway.features.concepts import document_concepts, labelled_texts, padded_rows
    from cutaway.organisms.dictionaries import OWN_TEXT

    if given is not None and model.tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer, so no labelled text can be read for it.")
    planted: Concepts | None = None
    if given is not None:
        texts, labels = labelled_texts(given)
        width = min(model.facts.max_positions or 128, 128)
        ids = [list(model.tokenizer(text)["input_ids"]) for text in texts]
        rows = padded_rows(ids, min(width, max(map(len, ids))))
        planted = document_concepts(rows, [{f"label: {label}": True} for label in labels], str(given))
    elif model.name in OWN_TEXT:
        from cutaway.organisms.planted import planted_concepts

        planted = planted_concepts(seed=seed)
    if model.tokenizer is None:
        return planted
    tokenizer = model.tokenizer
    spelled = spelled_concepts(rows[:400] if planted is None else planted.rows, lambda t: str(tokenizer.decode([t])))
    return spelled if planted is None else planted.joined(spelled)


def studied(result: Any) -> dict[str, Any]:
    """A result as the command line prints it."""
    body: dict[str, Any] = result.to_json()
    body.pop("schema", None)
    return body
