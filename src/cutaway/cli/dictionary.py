"""`cutaway dictionary`: train, judge and convert dictionaries."""

from __future__ import annotations

from pathlib import Path

import typer

from cutaway.cli import dictionary_arms, dictionary_describe, dictionary_use
from cutaway.cli.dictionary_options import MODEL, TEXT
from cutaway.cli.output import JSON, print_json, say, step

app = typer.Typer(help="Sparse dictionaries: train, judge, describe, use, exchange.", no_args_is_help=True)


@app.command("train", short_help="Train transcoders for every MLP of a model, or SAEs at points.")
def train(
    model: str = MODEL,
    text: list[Path] = TEXT,
    kind: str = typer.Option("clt", help="clt (cross-layer), plt (per layer), or both in one pass: clt,plt."),
    at: list[str] = typer.Option(
        None,
        "--at",
        metavar="POINT",
        help="Train SAEs instead, at this point (resid_post.2, mlp_act.0, z.1); repeatable.",
    ),
    architecture: str = typer.Option(
        "batchtopk",
        "--architecture",
        "-a",
        help="relu, gated, topk, batchtopk, jumprelu, matryoshka, p_anneal, matching_pursuit; with --at several, "
        "with commas, in one pass.",
    ),
    features: int | None = typer.Option(
        None, min=1, help="Features per layer. Default: 8 a dimension, or what ships with the model."
    ),
    l0: int | None = typer.Option(None, min=1, help="Active features per token and layer. Default: 16."),
    tokens: int | None = typer.Option(
        None, min=1, help="Tokens to train on; short text is read several times. Default: two million."
    ),
    twin: bool = typer.Option(
        False,
        "--twin",
        help="Train on the re-randomised twin of the model: the null. With --out, name the folder DIR-null.",
    ),
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Folder; a killed run goes on from there. Default: where `cutaway trace` finds it."
    ),
    seed: int = typer.Option(0, min=0, help="Seed of weights, order and (with --twin) of the twin."),
    threads: int = typer.Option(0, min=0, help="CPU threads; 0 takes all."),
    shards: Path | None = typer.Option(
        None,
        "--shards",
        metavar="DIR",
        help="With --at: keep the activations there and train from them; where they are already, the model is not run.",
    ),
    shards_dtype: str = typer.Option("bfloat16", help="How they are kept: float32, bfloat16 or int8."),
    ray: str | None = typer.Option(
        None, "--ray", help="With --shards: make them on a Ray cluster: auto, an address, or local (this machine)."
    ),
    split: str = typer.Option("batch", help="Under torchrun, what each process takes a share of: batch or features."),
    as_json: bool = JSON,
) -> None:
    """Train transcoders for every MLP of a model, or SAEs at points, then report how well they stand in for it.

    Example:  cutaway dictionary train --model ./checkpoint --text stories.jsonl

    Example:  cutaway dictionary train --model almanac --at resid_post.2 --architecture topk --l0 16

    Example:  torchrun --nproc-per-node 2 -m cutaway dictionary train --model almanac --at resid_post.2 --out sae
    """
    from cutaway.organisms.dictionaries import train_dictionaries

    report = train_dictionaries(
        model,
        text=text or [],
        kinds=tuple(part.strip() for part in kind.split(",")),
        at=tuple(at or ()),
        architectures=tuple(part.strip() for part in architecture.split(",")),
        features=features,
        l0=l0,
        tokens=tokens,
        twin=twin,
        out=out,
        seed=seed,
        threads=threads,
        shards=shards,
        ray=ray,
        shards_dtype=shards_dtype,  # type: ignore[arg-type]  # both are checked where they are used
        split=split,  # type: ignore[arg-type]
    )
    if not report["dictionaries"]:  # not the first process of torchrun
        return
    if as_json:
        print_json("cutaway.dictionaries/1", report)
        return
    for entry in report["dictionaries"]:
        print(entry["text"])
        say(f"wrote {entry['folder']}")


@app.command("evaluate", short_help="Judge a dictionary on held-out text.")
def evaluate(
    dictionary: str = typer.Argument(..., help="A shipped name (clt, plt), or a folder in any format that is read."),
    model: str = MODEL,
    text: list[Path] = TEXT,
    tokens: int = typer.Option(12_000, min=100, help="Held-out tokens to measure on."),
    control_tokens: int = typer.Option(
        60_000, min=1000, help="Of an SAE: tokens that each of its controls is trained on (ten dictionaries)."
    ),
    quick: bool = typer.Option(False, "--quick", help="Train no controls and look for no concepts (and say so)."),
    width: list[Path] = typer.Option(
        None,
        "--width",
        metavar="DIR",
        help="Of the same point, of another width: the splitting tree; with two, a law over widths.",
    ),
    concepts: Path | None = typer.Option(
        None, "--concepts", metavar="FILE", help='Known concepts: .jsonl of {"text", "label"}. almanac has its own.'
    ),
    seed: int = typer.Option(1, min=0, help="Seed of the sample and the controls."),
    as_json: bool = JSON,
) -> None:
    """Judge a dictionary on held-out text, beside everything that should be worse.

    A set of transcoders: beside PCA of as many components. An SAE: put in the point's place, beside PCA, ICA, neurons,
    random directions, an untrained encoder, the same recipe with other seeds, frozen halves and Gaussian rows, and,
    where FOLDER-null lies next to it, the re-randomised model's own; then which known concepts it has a feature for.

    Example:  cutaway dictionary evaluate ./resid_post.2-topk --model almanac
    """
    from cutaway.organisms.dictionaries import evaluate_dictionary
    from cutaway.organisms.dictionary_studies import is_sae, judge_dictionary

    if is_sae(model, dictionary):
        report = judge_dictionary(
            model, dictionary, text=text or [], tokens=tokens, seed=seed, control_tokens=0 if quick else control_tokens,
            widths=width or (), concepts=concepts, known=not quick, on=lambda message: say(f"{message} …"),
        )  # fmt: skip
    else:
        with step(f"Judging {dictionary}"):
            report = evaluate_dictionary(model, dictionary, text=text or [], tokens=tokens, seed=seed)
    if as_json:
        print_json("cutaway.dictionary/1", report)
        return
    print(report["text"])


@app.command("convert", short_help="Write a dictionary in another package's format.")
def convert(
    dictionary: Path = typer.Argument(..., metavar="FOLDER", help="A dictionary in any format that is read."),
    to: str = typer.Option(
        ...,
        "--to",
        metavar="FORMAT",
        help="saelens, sparsify, dictionary_learning, gemma_scope, gemma_scope_2, llamascopium or circuit-tracer.",
    ),
    out: Path = typer.Option(
        ..., "--out", "-o", metavar="DIR", help="Where to write; per-layer sets fill a folder a layer."
    ),
    as_json: bool = JSON,
) -> None:
    """Write a dictionary in another package's format. What the format cannot hold is refused, never approximated.

    Example:  cutaway dictionary convert ./resid_post.2-topk --to saelens --out ./for-saelens
    """
    from cutaway.core.files import refuse_foreign
    from cutaway.features.exchange import WEIGHTS
    from cutaway.organisms.dictionaries import convert_dictionary

    refuse_foreign(out, *WEIGHTS, "config.yaml", "layers.0.mlp")
    written = [str(path) for path in convert_dictionary(dictionary, to, out)]
    if as_json:
        print_json("cutaway.converted/1", {"format": to, "folders": written})
        return
    for folder in written:
        print(f"wrote {folder}")


app.command("arms", short_help="The same dictionary on networks that learned nothing.")(dictionary_arms.arms)
app.command("describe", short_help="What each feature of a dictionary is.")(dictionary_describe.describe)
app.command("search", short_help="Find features by text, similarity or effect.")(dictionary_describe.search)
app.command("excursions", short_help="Features that differ between paired prompts; how far one steers.")(
    dictionary_use.excursions
)
app.command("attribute", short_help="What each feature gives to an answer, by gradient and taken out.")(
    dictionary_use.attribute
)
app.command("crosscoder", short_help="One dictionary of several layers, or of two models.")(dictionary_use.crosscoder)
app.command("neuronpedia", short_help="Descriptions as Neuronpedia's feature JSON, and back.")(
    dictionary_use.neuronpedia
)
