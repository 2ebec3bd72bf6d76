"""Graph yield: of prompts that nobody chose, the share whose trace passes every test that a trace is put to.

python -m cutaway.exams.graph_yield [--model almanac] [--dictionary clt] [--text FILE] [--prompts 100] [--json]

"Tracing the thoughts of a language model" says that its graphs gave insight on about a quarter of the prompts tried;
which prompts were tried is not said. Here they are pieces of held-out text of 8 to 24 tokens, cut at random places. A
trace passes where its completeness is at least .80 and its replacement score .61 (what the paper's own graphs reach),
its signed effects correlate with the measured ones at .7 or more (Spearman; with attention and norms held, and with
nothing held, apart), and its ten features of most influence, taken out together, change the target's probability by
more than random directions of the same norm do (bootstrap, 95 %). Beside it stands the same yield on the re-randomised
twin with the dictionary that was trained on it. Cost: two quick traces a prompt (2 CPU-seconds each on almanac).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cutaway.core import Estimate, Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.evidence import proportion
from cutaway.graphs import AttributionGraph
from cutaway.model import Model

SHORTEST, LONGEST = 8, 24
COMPLETENESS, REPLACEMENT, CORRELATION = 0.80, 0.61, 0.7
TESTS = {
    "completeness": f"completeness at least {COMPLETENESS}",
    "replacement": f"replacement score at least {REPLACEMENT}",
    "held": f"signed effects, attention and norms held: Spearman at least {CORRELATION}",
    "free": f"signed effects, nothing held: Spearman at least {CORRELATION}",
    "removed": "ten top features out move the answer more than random directions",
}
# What each test asks of is found by the words of its claim.
_CLAIMS = {
    "held": "With attention and norms held",
    "free": "A feature's signed effect over all paths",
    "removed": "Taking out the",
}
# A yield: the tests of the graph and of what the graph says it holds. "free" is reported, and is not part of it.
YIELD = ("completeness", "replacement", "held", "removed")


@dataclass(frozen=True)
class Outcome:
    """One prompt: which tests its trace passed; none where it could not be traced, and `why` says why."""

    prompt: str
    passed: dict[str, bool]
    why: str = ""

    @property
    def yields(self) -> bool:
        return bool(self.passed) and all(self.passed[name] for name in YIELD)


@dataclass(frozen=True)
class GraphYield(Drawn):
    """The outcomes on the model, and on its twin (empty where it has none), by prompt."""

    model: str
    dictionary: str
    outcomes: tuple[Outcome, ...]
    twin: tuple[Outcome, ...]

    def rates(self, outcomes: Sequence[Outcome]) -> dict[str, Estimate]:
        """The share of prompts that pass each test, and all of `YIELD`; a prompt that can't be traced passes none."""
        n = len(outcomes)
        found = {
            name: proportion(sum(o.passed.get(name, False) for o in outcomes), n, name=words)
            for name, words in TESTS.items()
        }
        return {
            **found,
            "yield": proportion(sum(o.yields for o in outcomes), n, name="graph yield: all but nothing held"),
        }

    def __str__(self) -> str:
        own, twin = self.rates(self.outcomes), self.rates(self.twin) if self.twin else {}
        lines = [f"| share of prompts, {self.model}, {self.dictionary} | model | re-randomised twin |", "|---|---|---|"]
        lines += [f"| {e.name} | {e} | {twin.get(name, 'not run: it has no dictionary')} |" for name, e in own.items()]
        untraced = [o for o in self.outcomes if o.why]
        return "\n".join(lines + [f"not traced, {o.prompt!r}: {o.why}" for o in untraced[:5]])

    __repr__ = __str__

    def to_json(self) -> dict[str, Any]:
        def body(outcomes: Sequence[Outcome]) -> dict[str, Any]:
            rates = {name: e.model_dump(mode="json") for name, e in self.rates(outcomes).items()}
            return {"rates": rates, "prompts": [vars(o) | {"yields": o.yields} for o in outcomes]}

        return {
            "schema": "cutaway.graph-yield/1",
            "model": self.model,
            "dictionary": self.dictionary,
            **body(self.outcomes),
            "twin": body(self.twin) if self.twin else None,
        }


def graph_yield(
    model: Model, dictionary: Any, rows: Any, n_prompts: int = 100, *, seed: int = 0, null: Any = None, name: str = ""
) -> GraphYield:
    """Trace pieces of `rows` (token ids [row, position]) and count which pass. `null` is a dictionary that was
    trained on the twin, which is drawn again by the seed that its training records. Raises InputError: rows shorter
    than a piece.
    """
    from cutaway.evidence import rerandomise

    pieces = _pieces(np.asarray(rows), n_prompts, seed)
    outcomes = tuple(_outcome(model, dictionary, piece, seed) for piece in pieces)
    twin: tuple[Outcome, ...] = ()
    if null is not None:
        other = rerandomise(model, seed=int(null.training.get("settings", {}).get("seed", 0)))
        twin = tuple(_outcome(other, null, piece, seed) for piece in pieces)
    return GraphYield(model.name, name or str(dictionary), outcomes, twin)


def _pieces(rows: Any, n: int, seed: int) -> list[list[int]]:
    """Pieces that begin where a row begins, each of another row and as long as a draw says."""
    if rows.ndim != 2 or rows.shape[1] < LONGEST or rows.shape[0] < n:
        raise InputError(f"graph yield takes {n} rows of at least {LONGEST} tokens; given {list(rows.shape)}.")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(rows.shape[0])[:n]
    return [rows[i, : rng.integers(SHORTEST, LONGEST + 1)].tolist() for i in chosen]


def _outcome(model: Model, dictionary: Any, piece: list[int], seed: int) -> Outcome:
    import cutaway as cw

    text = model.tokenizer.decode(piece) if model.tokenizer is not None else " ".join(map(str, piece))
    print(text, file=sys.stderr)
    try:
        graph = cw.trace(model, piece, dictionary=dictionary, quick=True, seed=seed)
    except InputError as error:
        return Outcome(text, {}, str(error))
    return Outcome(text, judged(graph))


def judged(graph: AttributionGraph) -> dict[str, bool]:
    """Which tests a trace passes. One whose claim could not be measured (too few features) does not pass it."""
    held, free, removed = (_claim(graph.evidence, words) for words in _CLAIMS.values())
    return {
        "completeness": graph.scores.completeness >= COMPLETENESS,
        "replacement": graph.scores.replacement >= REPLACEMENT,
        "held": held is not None and _at_least(held.effect.value, CORRELATION),
        "free": free is not None and _at_least(free.effect.value, CORRELATION),
        "removed": removed is not None and _beats(removed),
    }


def _claim(evidence: Sequence[Evidence], words: str) -> Evidence | None:
    return next((record for record in evidence if record.claim.startswith(words)), None)


def _at_least(value: float, least: float) -> bool:
    return math.isfinite(value) and value >= least


def _beats(record: Evidence) -> bool:
    return any(c.difference is not None and c.difference.low > 0 for c in record.nulls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="almanac")
    parser.add_argument(
        "--dictionary", default="clt", help="one that ships or was trained for it; NAME-null is the twin's"
    )
    parser.add_argument(
        "--text", action="append", help="files to cut prompts from; by default the model's own held-out text"
    )
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    import cutaway as cw
    from cutaway.core.registry import null_dictionary
    from cutaway.features import load
    from cutaway.organisms.dictionaries import text_rows

    model = cw.load(args.model)
    _, rows = text_rows(model, args.text or [], rows=1, seed=args.seed, held_out_tokens=args.prompts * 128)
    null = null_dictionary(args.model, args.dictionary)
    twins = None if null is None else load(null)
    name = args.dictionary
    found = graph_yield(model, name, rows, args.prompts, seed=args.seed, null=twins, name=name)
    print(json.dumps(found.to_json(), ensure_ascii=False) if args.json else found)


if __name__ == "__main__":
    main()
