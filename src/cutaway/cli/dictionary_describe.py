"""`cutaway dictionary describe` and `search`: what each feature is, found once, then looked up."""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli.dictionary_options import MODEL, TEXT
from cutaway.cli.output import JSON, print_json, say


def describe(
    dictionary: str = typer.Argument(..., help="A dictionary of one point: a folder in any format that is read."),
    model: str = MODEL,
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="Where the descriptions are written."),
    text: list[Path] = TEXT,
    tokens: int = typer.Option(30_000, min=100, help="Tokens to look at."),
    seed_of: list[Path] = typer.Option(
        None, "--other-seed", metavar="DIR", help="The same dictionary of another seed, for seed partners; repeatable."
    ),
    narrower: Path | None = typer.Option(None, metavar="DIR", help="One of fewer features: where parents are."),
    wider: Path | None = typer.Option(None, metavar="DIR", help="One of more features: where children are."),
    quick: bool = typer.Option(False, "--quick", help="Leave out effects and context spans."),
    labels: str | None = typer.Option(
        None,
        "--labels",
        metavar="URL",
        help="Ask an OpenAI-compatible endpoint (up to /v1) for labels, and score them.",
    ),
    labels_model: str = typer.Option("default", help="The endpoint's model. A key is read from OPENAI_API_KEY."),
    labels_for: int = typer.Option(20, min=2, help="So many features are asked about: those of the largest effect."),
    seed: int = typer.Option(1, min=0, help="Of the sample and the random directions."),
    as_json: bool = JSON,
) -> None:
    """Describe every feature: examples from all strengths, rules from tokens with held-out scores, context span,
    logits, neighbours, and what taking it out does, beside a random direction. No language model is asked, unless
    --labels names one: its labels are then scored beside the same questions with another feature's label.

    Example:  cutaway dictionary describe ./resid_post.2-topk --model almanac --out ./described
    """
    from cutaway.core.files import refuse_foreign

    refuse_foreign(out, "features.parquet")
    import os

    from cutaway.features.ask import Endpoint
    from cutaway.organisms.dictionary_studies import describe_dictionary

    found, asked = describe_dictionary(
        model, dictionary, out, text=text or (), tokens=tokens, seeds=seed_of or (), narrower=narrower, wider=wider,
        effects=not quick, seed=seed, on=lambda message: say(f"{message} …"),
        ask=None if labels is None else Endpoint(labels, labels_model, os.environ.get("OPENAI_API_KEY")),
        ask_for=labels_for,
    )  # fmt: skip
    say(f"wrote {out}; look into it with: cutaway dictionary search {out} WORD")
    if as_json:
        told = {} if asked is None else {"labels": asked.to_json()}
        print_json("cutaway.descriptions/1", {**found.about, "folder": str(out), "text": str(found), **told})
    else:
        print(found if asked is None else f"{found}\n\n{asked}")


def search(
    folder: Path = typer.Argument(..., metavar="DIR", help="What `cutaway dictionary describe --out DIR` wrote."),
    text: str | None = typer.Argument(None, help="Text to look for in labels, rules, logits and examples."),
    like: int | None = typer.Option(None, "--like", metavar="FEATURE", help="Features close to this one."),
    by: str = typer.Option("effect", "--by", help="Order: effect, frequency, context, stable, feature."),
    card: int | None = typer.Option(None, "--card", metavar="FEATURE", help="All that is known of one feature."),
    limit: int = typer.Option(20, min=1, help="How many to show."),
    as_json: bool = JSON,
) -> None:
    """Find features by text, by similarity or by effect; or show one feature's card.

    Example:  cutaway dictionary search ./described wave --by effect
    """
    from cutaway.features import load_descriptions, search_features
    from cutaway.features.card_text import card_text

    if card is not None:
        found = load_descriptions(folder).card(card)
        if as_json:
            print_json("cutaway.feature_card/1", {k: v for k, v in found.items() if k != "schema"})
        else:
            print(card_text(found))
        return
    result = search_features(folder, text, like=like, by=by, limit=limit)
    if as_json:
        print_json("cutaway.feature_search/1", {k: v for k, v in result.to_json().items() if k != "schema"})
    else:
        print(result)
