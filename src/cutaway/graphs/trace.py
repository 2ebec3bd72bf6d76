"""`trace`: from a prompt to a graph of what made the model say what it said."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from cutaway.core import InputError, refuse_name
from cutaway.core.protocols import TranscoderSet
from cutaway.features import Transcoders
from cutaway.features.fit import placed
from cutaway.graphs.build import Progress, build
from cutaway.graphs.dictionaries import resolve
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.influence import rated
from cutaway.graphs.targets import LogitTargets, likely, token
from cutaway.graphs.targets import contrast as contrast_target
from cutaway.graphs.workers import one_thread_an_operation
from cutaway.model.frozen import FrozenPath, frozen_path

if TYPE_CHECKING:
    from cutaway.model import Model

Token = str | int


def graph_of(
    model: Model,
    prompt: str | Sequence[int] | Tensor,
    dictionary: TranscoderSet,
    *,
    target: Token | None = None,
    contrast: tuple[Token, Token] | None = None,
    position: int = -1,
    max_features: int | None = 7500,
    dictionary_name: str = "",
    progress: Progress | None = None,
) -> AttributionGraph:
    """The graph alone, without evidence. See `trace`."""
    tokens = _tokens(model, prompt)
    if isinstance(dictionary, Transcoders):
        dictionary = placed(dictionary, model)
    # A forward takes about 2 operations a parameter and token; below this a second thread costs more than it gives.
    small = model.device.type == "cpu" and model.facts.n_parameters * len(tokens) < 5e9
    with one_thread_an_operation() if small else nullcontext():
        path = frozen_path(model, tokens, dictionary.input_point(0), dictionary.output_point(0))
        logits, what = choose(model, path, target, contrast, position)
        built = build(path, dictionary, logits, max_features=max_features, progress=progress)
    strings = tuple(model.token_strings(tokens))
    graph = AttributionGraph(
        nodes=built.nodes,
        edges=built.adjacency,
        prompt=prompt if isinstance(prompt, str) else "".join(strings),
        tokens=tuple(tokens.tolist()),
        token_strings=strings,
        logit_strings=tuple(what.pop("strings")),
        probabilities=logits.probabilities.float().cpu().numpy(),
        weights=logits.weights().float().cpu().numpy(),
        target=what,
        accounting={"nodes": built.accounting.nodes, "max_error": built.accounting.max_error},
        n_layers=path.n_layers,
        n_active=built.n_active,
        n_unexplored=built.n_unexplored,
        model=str(model.name),
        dictionary=dictionary_name,
        dictionary_kind=dictionary.kind,
        dictionary_folder=getattr(dictionary, "folder", None),
    )
    return rated(graph)


def choose(
    model: Model,
    path: FrozenPath,
    target: Token | None,
    contrast: tuple[Token, Token] | None,
    position: int = -1,
) -> tuple[LogitTargets, dict[str, Any]]:
    """The logit nodes asked for, and their description. Raises InputError for a token that is not one token."""
    if target is not None and contrast is not None:
        raise InputError("Give a target or a contrast, not both.")
    if contrast is not None:
        a, b = (_token(model, item) for item in contrast)
        found, kind = contrast_target(path, a, b, position), "contrast"
        words = model.token_strings([a, b])
        return found, _described(kind, found, [a, b], [f"{words[0]} - {words[1]}"], words)
    found, kind = (
        (likely(path, position), "likely")
        if target is None
        else (
            token(path, _token(model, target), position),
            "token",
        )
    )
    ids = found.tokens.tolist()
    words = model.token_strings(ids)
    return found, _described(kind, found, ids, words, words)


def _described(kind: str, found: LogitTargets, ids: list[int], strings: list[str], words: list[str]) -> dict[str, Any]:
    return {"kind": kind, "position": found.position, "tokens": ids, "words": words, "strings": strings}


def _tokens(model: Model, prompt: str | Sequence[int] | Tensor) -> Tensor:
    tokens = model.tokens(list(prompt) if isinstance(prompt, Sequence) and not isinstance(prompt, str) else prompt)
    if tokens.shape[0] != 1:
        raise InputError(f"A graph is of one prompt; {tokens.shape[0]} were given.")
    return tokens[0]


def _token(model: Model, given: Token) -> int:
    """A token id, or the id of a text that is one token (with or without a leading space)."""
    if isinstance(given, (int, np.integer)):
        return int(given)
    if model.tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer; give the target as a token id, not {given!r}.")
    spellings = [given, given.strip(), " " + given.strip()]
    for text in dict.fromkeys(spellings):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and ids[0] != getattr(model.tokenizer, "unk_token_id", None):
            return int(ids[0])
    ids = model.tokenizer(given, add_special_tokens=False)["input_ids"]
    raise InputError(
        f"{given!r} is {len(ids)} tokens for {model.name} ({model.token_strings(ids)}); a target is one token."
    )


def trace(
    model: Model,
    prompt: str | Sequence[int] | Tensor,
    dictionary: TranscoderSet | str | Path | None = None,
    target: Token | None = None,
    contrast: tuple[Token, Token] | None = None,
    quick: bool = False,
    *,
    position: int = -1,
    max_features: int | None = 7500,
    evidence: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> AttributionGraph:
    """The attribution graph of one prompt over a dictionary of the model's MLPs, with the evidence for it.

    `dictionary`: a value, a name ("clt", "plt", "neurons"), a folder, or None for the one that ships with the model or
    was trained for it. The graph explains the likely next tokens, or `target` (a
    token, as text or id), or `contrast` (one token's logit less another's), at `position`. Past `max_features` active
    features the most influential become nodes and the rest counts as error. `quick` leaves the costly controls out and
    says so in the evidence. Raises InputError: no dictionary for this model, one that does not fit it, a prompt that is
    empty or too long, a target that is not one token.
    """
    refuse_name("trace", model=model)
    dictionary, name = resolve(model, dictionary)
    graph = graph_of(
        model,
        prompt,
        dictionary,
        target=target,
        contrast=contrast,
        position=position,
        max_features=max_features,
        dictionary_name=name,
        progress=progress,
    )
    if not evidence:
        return graph
    from cutaway.graphs.evidence import measure

    measured: AttributionGraph = measure(model, graph, dictionary, quick=quick, **options)
    return measured
