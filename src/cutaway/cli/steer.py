"""`cutaway steer`: push a model along a direction, and measure what that does, to the target and elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cutaway.cli.findings import MODEL, OUT, TRUST, claim, finish, load_model, read_prompts, text_rows
from cutaway.cli.output import JSON, say, step

if TYPE_CHECKING:
    from cutaway.model import Model
    from cutaway.steering import DoseResponse


def steer(
    from_: Path = typer.Option(
        ..., "--from", metavar="FILE", help="Prompts to steer, one a line (.txt, .csv, .jsonl)."
    ),
    to: Path | None = typer.Option(None, "--to", metavar="FILE", help="Prompts to steer towards."),
    model: str = MODEL,
    how: str = typer.Option(
        "add", help="add (difference in means), project (take it out everywhere), or with --plus and --minus: pair."
    ),
    at: str = typer.Option("resid_post.*", help="Points to try; one is chosen. For a pair or a clamp: one point."),
    where: str = typer.Option("last", help="Prompts are read at their 'last' token, or as the 'mean' over tokens."),
    plus: str | None = typer.Option(None, help="Activation addition: add the stream of this text …"),
    minus: str | None = typer.Option(None, help="… less that of this one (as many tokens), at the first positions."),
    target: str | None = typer.Option(
        None,
        metavar="WORDS",
        help="Next tokens to raise, separated by blanks. Default: those that tell the lists apart.",
    ),
    against: str | None = typer.Option(
        None, metavar="WORDS", help="Next tokens to lower. Default with --target: all others."
    ),
    dictionary: str | None = typer.Option(
        None, "--dictionary", "-d", help="With --feature: a shipped name (clt, plt) or a folder."
    ),
    feature: str | None = typer.Option(
        None,
        metavar="LAYER:NUMBER",
        help="Steer along what this feature writes (of a dictionary of one point: NUMBER, clamped to each strength).",
    ),
    strengths: str = typer.Option("0.25,0.5,1,2,4", help="Doses, in units of the direction (a clamp: values)."),
    neutral: str | None = typer.Option(
        None, metavar="FILE", help="Text that should stay as it is. A shipped model knows its own."
    ),
    budget: float = typer.Option(
        0.5, min=0, help="The most KL a token on neutral text for the choice of strength, nats."
    ),
    instruction: str | None = typer.Option(None, help="Baseline: put this text in front of the prompts instead."),
    randoms: int = typer.Option(39, min=0, help="Random directions of equal norm."),
    generate: int = typer.Option(
        0, min=0, metavar="TOKENS", help="Also continue three prompts, unsteered and steered."
    ),
    quick: bool = typer.Option(False, "--quick", help="Leave the re-randomised model out, and most random directions."),
    out: Path | None = OUT,
    seed: int = typer.Option(0, min=0, help="Of the split, the random directions and the null."),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Learn a direction from two lists of prompts, push the model along it, and measure the dose and the damage.

    Strength and place are chosen on some prompts and reported on others, beside random directions of equal norm, the
    re-randomised model, and simply adding the output matrix's rows.

    Example:  cutaway steer --from sad.txt --to glad.txt --generate 12 --out out/glad
    """
    from cutaway.core import InputError, UnknownName

    pair = plus is not None or minus is not None or how == "pair"
    if how not in ("add", "project", "pair"):
        raise UnknownName("way of steering", how, ("add", "project", "pair"))
    if pair and (plus is None or minus is None):
        raise InputError("activation addition needs both texts: --plus TEXT --minus TEXT.")
    if (dictionary is None) != (feature is None):
        raise InputError("--dictionary and --feature go together: which dictionary, and which of its features.")
    given = pair or feature is not None
    if not given and to is None:
        raise InputError("name the prompts to steer towards: --to FILE (or a pair of texts: --plus and --minus).")
    if given and target is None and to is None:
        raise InputError("say what should change: --target WORDS, or --to FILE whose next tokens it is taken from.")
    if against is not None and target is None:
        raise InputError("--against needs --target: the words to raise.")
    doses = _numbers(strengths)
    prompts = read_prompts(from_)
    towards = read_prompts(to) if to is not None else []
    claim(out, "steering")
    loaded = load_model(model, trust_remote_code)
    from cutaway.steering import contrast_of, contrast_tokens, dose_response
    from cutaway.steering import steer as learn

    texts: list[Any] = text_rows(loaded, neutral, tokens=2000, seed=seed + 7)
    if not texts:
        say(f"(no neutral text for {loaded.name}: side effects are not measured; --neutral FILE names some)")
    contrast = None if target is None else contrast_of(loaded, target.split(), (against or "").split())
    many = min(randoms, 9) if quick else randoms
    with step("Learning, choosing and testing"):
        if given:
            made, again = _given(loaded, plus, minus, dictionary, feature, at)
            aim = contrast or contrast_tokens(loaded, prompts, towards)
            asked = None if instruction is None else [f"{instruction} {prompt}" for prompt in prompts]
            result = dose_response(
                loaded, made, prompts, aim, strengths=doses, neutral=texts, budget=budget, randoms=many,
                prompted=asked, ceiling=towards, seed=seed, relearn=None if quick else again,
            )  # fmt: skip
        else:
            result = learn(
                loaded, prompts, towards, at=at, how=how, where=where, contrast=contrast, strengths=doses,
                neutral=texts, budget=budget, randoms=many, null=not quick, instruction=instruction, seed=seed,
            )  # fmt: skip
    if generate:
        with step("Continuing prompts"):
            result = _continued(loaded, result, generate)
    finish(result, loaded, "steering", out, as_json, settings=dict(result.settings))


def _given(
    model: Model, plus: str | None, minus: str | None, dictionary: str | None, feature: str | None, at: str
) -> tuple[Any, Any]:
    """(a steering that is not learnt from the lists, how to make it again for another model or None)."""
    from cutaway.steering import activation_addition

    if dictionary is not None and feature is not None:
        return _feature(model, dictionary, feature, at), None
    assert plus is not None
    assert minus is not None
    return activation_addition(model, plus, minus, at), lambda arm: [activation_addition(arm, plus, minus, at)]


def _feature(model: Model, name: str, feature: str, at: str) -> Any:
    """What a transcoder's feature writes to its own layer, added; a feature of one point's dictionary, clamped."""
    import torch

    from cutaway.core import InputError
    from cutaway.core.protocols import Dictionary, TranscoderSet
    from cutaway.graphs.dictionaries import resolve
    from cutaway.steering import FeatureClamp, direction

    found, _ = resolve(model, name)
    layer, colon, number = feature.rpartition(":")
    if not number.isdigit() or (colon and not layer.isdigit()):
        raise InputError(f"--feature is LAYER:NUMBER, as 1:33 (or NUMBER alone); given {feature!r}.")
    if isinstance(found, TranscoderSet):
        if not colon or int(layer) >= found.n_layers or int(number) >= found.n_features:
            raise InputError(
                f"--feature is LAYER:NUMBER; {name} has layers 0 … {found.n_layers - 1} of {found.n_features} features."
            )
        own = int(layer)
        row = found.decoder_rows(own, torch.tensor([int(number)]), own)[0]
        return direction(found.output_point(own), row.detach().cpu())
    if not isinstance(found, Dictionary) or len(model.addresses(at)) != 1:
        raise InputError(f"{name} is a dictionary of one point: name that point with --at.")
    return FeatureClamp(model.addresses(at)[0], found, int(number), name)


def _continued(model: Model, result: DoseResponse, n: int) -> DoseResponse:
    samples = []
    for prompt in result.prompts[:3]:  # none that was learnt from or chosen by
        texts = []
        for plan in ([], result.chosen.interventions):
            texts.append(model.generate(prompt, n, plan).text[0])
        samples.append((prompt, *texts))
    return replace(result, samples=tuple(samples))


def _numbers(text: str) -> list[float]:
    from cutaway.core import InputError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"--strengths takes numbers separated by commas; given {text!r}.") from None
