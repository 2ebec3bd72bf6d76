"""`cutaway patchscope`: a hidden state read by the model itself, inside another prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cutaway.cli.findings import (
    MODEL,
    OUT,
    TRUST,
    claim,
    finish,
    load_model,
    make_task,
    read_prompts,
    warn_outside_vocabulary,
)
from cutaway.cli.output import JSON, step


def patchscope(
    prompt: list[str] = typer.Argument(
        None, help="Sources: the state at the end of each is read. Four or more to test."
    ),
    model: str = MODEL,
    task: str | None = typer.Option(
        None, help="Sources: a task's prompts (cutaway tasks), or a .csv or .jsonl file's."
    ),
    sources: Path | None = typer.Option(
        None, "--from", metavar="FILE", help="Sources, one a line (.txt, .csv, .jsonl)."
    ),
    n: int = typer.Option(32, "--n", min=1, help="With --task: how many items."),
    target: str | None = typer.Option(
        None,
        help="The prompt that asks what the state is; its last token's state is replaced. Default: token identity.",
    ),
    at: str = typer.Option("resid_post.*", help="Where the state is taken: resid_pre.*, resid_mid.1, …"),
    into: str | None = typer.Option(None, help="Where it is put, one point. Default: where it was taken."),
    position: int = typer.Option(-1, help="Which of the target's tokens; negative numbers count from its end."),
    tokens: int = typer.Option(0, min=0, help="Also go on with the target for so many tokens."),
    out: Path | None = OUT,
    seed: int = typer.Option(0, min=0, help="Of the task's items and of the null."),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Put the state at the end of a source into another prompt, and see what the model then says.

    Beside it: the logit lens at the same point, and the same with the state of another source.

    Example:  cutaway patchscope --task two-hop --target "the capital of Texas is Austin . the capital of"
    """
    from cutaway.core import InputError

    if sum((bool(prompt), task is not None, sources is not None)) != 1:
        raise InputError("give sources in one way: prompts, --task NAME or --from FILE.")
    claim(out, "patchscope")
    given: Any = list(prompt) if prompt else read_prompts(sources) if sources is not None else None
    loaded = load_model(model, trust_remote_code)
    warn_outside_vocabulary(loaded, list(prompt or []))
    if task is not None:
        given = make_task(task, loaded, n=n, seed=seed)
    from cutaway.readouts import patchscope as read
    from cutaway.readouts.patchscope import IDENTITY

    with step("Reading states"):
        result = read(
            loaded, given, at=at, into=into, target=target or IDENTITY, position=position, tokens=tokens, seed=seed
        )
    finish(result, loaded, "patchscope", out, as_json)
