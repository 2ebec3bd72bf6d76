"""`cutaway lens`: what each layer would say next, and what each component adds to the answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cutaway.cli.findings import (
    MODEL,
    OUT,
    TRUST,
    claim,
    finish,
    load_model,
    make_task,
    null_seeds,
    reads_text,
    text_rows,
    warn_outside_vocabulary,
)
from cutaway.cli.output import JSON, print_result, say, step

if TYPE_CHECKING:
    from cutaway.model import Model


def lens(
    prompt: list[str] = typer.Argument(None, help="The text after which each layer is read; several may be given."),
    model: str = MODEL,
    at: str = typer.Option("resid_post.*", help="Points to read: resid_pre.*, resid_mid.*, mlp_out_post.*, …"),
    answer: str | None = typer.Option(None, help="The next token that is followed. Default: the model's own."),
    against: str | None = typer.Option(None, help="With --dla: the other token of the logit difference."),
    dla: bool = typer.Option(False, "--dla", help="Direct logit attribution: what each head and MLP adds."),
    task: str | None = typer.Option(
        None, help="A task's prompts and answers (cutaway tasks), or a .csv or .jsonl file's."
    ),
    n: int = typer.Option(32, min=1, help="With --task: how many items."),
    tuned: Path | None = typer.Option(None, "--tuned", help="Read through a tuned lens: the folder of a trained one."),
    train_tuned: str | None = typer.Option(
        None,
        "--train-tuned",
        metavar="TEXT",
        help="Train a tuned lens on this file (.txt, .jsonl; 'own' for a shipped "
        "model's text) into --out. A killed run goes on from there.",
    ),
    steps: int = typer.Option(200, min=1, help="With --train-tuned: updates of about 1,000 tokens."),
    top: int = typer.Option(5, min=1, help="Tokens kept a cell."),
    quick: bool = typer.Option(
        False, "--quick", help="Leave the null (re-randomised models) and ablations out; says so."
    ),
    out: Path | None = OUT,
    seed: int = typer.Option(0, min=0, help="Of the task's items, of training and of the null."),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Read what each layer would say next through the model's own final norm and unembedding (the logit lens).

    Shows each layer's top tokens, the rank of the answer and the distance to the model's output, beside the same on the
    re-randomised model and what could be said without reading any layer.

    Example:  cutaway lens "the capital of the state containing Dallas is"
    """
    from cutaway.core import InputError

    prompts = list(prompt or [])
    if train_tuned is None and bool(prompts) == (task is not None):
        raise InputError('give a prompt or --task NAME (one of the two), as in: cutaway lens "36 + 59 ="')
    if dla and tuned is not None:
        raise InputError("--dla takes the logits apart; a tuned lens has no part in it. Leave one of the two out.")
    if against is not None and not dla:
        raise InputError("--against names the other token of a logit difference: add --dla.")
    if train_tuned is not None:
        _train(load_model(model, trust_remote_code), train_tuned, at, steps, seed, out, quick, as_json and not prompts)
        if not prompts:
            return
        tuned, out = out, None
    kind = "dla" if dla else "lens"
    claim(out, kind)
    loaded = load_model(model, trust_remote_code, text=bool(prompts) or reads_text(task))
    warn_outside_vocabulary(loaded, prompts)
    given, answers, wrong = _asked(loaded, prompts, task, n, seed, answer, against)
    seeds = () if quick else null_seeds(loaded, seed, 3 if dla else 5)
    from cutaway.readouts import TunedLens, direct_effects
    from cutaway.readouts import lens as read

    result: Any
    if dla:
        with step("Taking the logits apart"):
            result = direct_effects(loaded, given, answers, wrong, ablate=0 if quick else 8, null_seeds=seeds)
    else:
        trained = None if tuned is None else TunedLens.load(tuned)
        with step("Reading every layer"):
            result = read(loaded, given, at=at, tuned=trained, answer=answers, top=top, null_seeds=seeds)
    finish(result, loaded, kind, out, as_json, prompt=prompts[0] if len(prompts) == 1 else None)
    if not as_json and not dla and not quick and tuned is None:
        say("\n(--dla shows what each head and MLP adds; --train-tuned TEXT --out DIR trains a translator a layer)")


def _asked(
    model: Model, prompts: list[str], task: str | None, n: int, seed: int, answer: str | None, against: str | None
) -> tuple[Any, Any, Any]:
    if task is None:
        return (prompts[0] if len(prompts) == 1 else prompts), answer, against
    return make_task(task, model, n=n, seed=seed), None, None


def _train(
    model: Model, text: str, at: str, steps: int, seed: int, out: Path | None, quick: bool, as_json: bool
) -> None:
    from cutaway.core import InputError
    from cutaway.core.files import refuse_foreign
    from cutaway.readouts import TunedSettings, train_tuned_lens

    if out is None:
        raise InputError("--train-tuned needs --out DIR, where the lens is kept.")
    refuse_foreign(out, "translators.safetensors", "training.safetensors")
    settings = TunedSettings(steps=steps, seed=seed)
    rows = text_rows(model, text, tokens=max(40_000, steps * settings.tokens // 2), seed=seed)
    arms = "its bias-only baseline" + ("" if quick else " and its null")
    say(f"Training a tuned lens of {model.name} on {sum(map(len, rows)):,} tokens, with {arms} …")

    def progress(done: int, total: int) -> None:
        if done % max(1, total // 20) == 0 or done == total:
            say(f"  {done} of {total} updates")

    made = train_tuned_lens(model, rows, at, settings=settings, twin=not quick, out=out, progress=progress)
    print_result(made, out, as_json)
    if not as_json:
        say(f'Wrote {out}/   read through it: cutaway lens "…" --model {model.name} --tuned {out}')
