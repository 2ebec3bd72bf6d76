"""`cutaway heads`: what each attention head looks at, copies, and reads of earlier heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from cutaway.cli.findings import MODEL, OUT, TRUST, claim, finish, load_model, null_seeds
from cutaway.cli.output import JSON, step, warn


def heads(
    model: str = MODEL,
    sequences: int = typer.Option(32, min=4, help="Sequences of random tokens."),
    tokens: int | None = typer.Option(None, min=2, help="Tokens a repeat. Default: 25, or what fits in the context."),
    repeats: int = typer.Option(4, min=2, help="How often each sequence is repeated."),
    no_composition: bool = typer.Option(False, "--no-composition", help="Leave Q-, K- and V-composition out."),
    writes: bool = typer.Option(
        False, "--writes", help="Also what each head writes of the token it attends to: less, again, its successor."
    ),
    circuit: str | None = typer.Option(
        None, metavar="OV:2.1", help="Also a head's OV or QK circuit: what it raises, or looks for, given some tokens."
    ),
    given: str | None = typer.Option(None, "--tokens-of", metavar="TEXT", help="With --circuit: the tokens to show."),
    example: str | None = typer.Option(None, metavar="TEXT", help="With --out: the text that cards show patterns on."),
    quick: bool = typer.Option(False, "--quick", help="Two re-randomised models, no ablations."),
    out: Path | None = OUT,
    seed: int = typer.Option(0, min=0, help="Of the random tokens, rotations and null."),
    trust_remote_code: bool = TRUST,
    as_json: bool = JSON,
) -> None:
    """Score every attention head on random tokens: previous-token, duplicate-token, induction, copying, composition.

    Needs no task. Beside the scores stand the best heads of re-randomised models; a head is named only above them.

    Example:  cutaway heads --model almanac --circuit OV:2.1 --tokens-of "Mary Texas"
    """
    from cutaway.core import InputError

    place = None if circuit is None else _place(circuit)
    if (circuit is None) != (given is None):
        raise InputError("--circuit and --tokens-of go together: which head, and which tokens to show of it.")
    claim(out, "heads")
    loaded = load_model(model, trust_remote_code, text=given is not None or writes)
    from cutaway.readouts import composition, head_circuit, head_scores

    seeds = null_seeds(loaded, seed, 2 if quick else 5)
    shown = None
    if place is not None and given is not None:  # before the long work: a wrong head is refused at once
        shown = head_circuit(loaded, place[0], place[1], place[2])
        ids = loaded.tokens(given)[0].tolist()
    with step("Scoring heads"):
        scores = head_scores(
            loaded, sequences=sequences, tokens=tokens, repeats=repeats, null_seeds=seeds, seed=seed, ablate=not quick
        )
    parts: list[Any] = [scores]
    if not no_composition:
        try:
            with step("Composing heads"):
                parts.append(composition(loaded, null_seeds=seeds, seed=seed))
        except InputError as error:
            warn(f"no composition: {error}")
    written = None
    if writes:
        from cutaway.readouts import token_heads

        with step("Reading what heads write"):
            written = token_heads(loaded, null_seeds=seeds, seed=seed)
    cards = None
    if out is not None:
        from cutaway.readouts import head_cards

        with step("Drawing each head's card"):
            cards = head_cards(loaded, example, ablate=not quick, tokens=tokens, repeats=repeats, seed=seed)
    result = _Heads(
        parts, None if shown is None else shown.table(ids), None if shown is None else shown.to_json(), cards, written
    )
    finish(result, loaded, "heads", out, as_json)


def _place(text: str) -> tuple[Any, int, int]:
    from cutaway.core import InputError

    kind, _, head = text.partition(":")
    layer, _, number = head.partition(".")
    if kind.upper() not in ("OV", "QK") or not layer.isdigit() or not number.isdigit():
        raise InputError(f"--circuit names a circuit and a head, as OV:2.1 or QK:0.3; given {text!r}.")
    return kind.upper(), int(layer), int(number)


@dataclass(frozen=True)
class _Heads:
    """Scores, composition and a circuit, printed and written as one."""

    parts: list[Any]
    circuit: str | None
    circuit_json: Any
    cards: Any = None  # for the viewer: patterns, circuits and ablations of every head
    written: Any = None

    def to_json(self) -> dict[str, Any]:
        body = self.parts[0].to_json()
        composed = self.parts[1].to_json() if len(self.parts) > 1 else None
        written = None if self.written is None else self.written.to_json()
        more = [part.pop("evidence") for part in (composed, written) if part is not None]
        evidence = [*body["evidence"], *(item for items in more for item in items)]
        return {
            **body,
            "composition": composed,
            "writes": written,
            "circuit": self.circuit_json,
            "cards": self.cards,
            "evidence": evidence,
        }

    def __str__(self) -> str:
        parts = [*self.parts, *([self.written] if self.written is not None else [])]
        tables = [part.table() for part in parts] + ([self.circuit] if self.circuit else [])
        return "\n\n".join([*tables, *(str(item) for part in parts for item in part.evidence)])
