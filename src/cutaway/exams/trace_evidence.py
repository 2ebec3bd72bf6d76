"""What the evidence of a trace says over many prompts: each claim's effect, nulls and baselines, averaged.

python -m cutaway.exams.trace_evidence [--dictionary clt] [--prompts 12] [--model almanac] [--contrast]

One prompt a behaviour, from the model's own examples. Prints a table in Markdown; intervals are bootstraps over
prompts. Cost: one full trace a prompt (about 10 s for almanac on two cores). `--contrast` puts the top token against
the runner-up in place of the likely tokens.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.core import Estimate, Evidence, InputError
from cutaway.evidence import bootstrap


@dataclass(frozen=True)
class Row:
    """One quantity of one claim over prompts: its mean, and on how many prompts the effect's interval lay above it."""

    claim: str
    what: str  # "effect", or the name of a null or a baseline
    mean: Estimate
    exceeded: int | None  # None for the effect itself


def pooled(records: Sequence[Sequence[Evidence]]) -> list[Row]:
    """The evidence of several traces, [prompt][claim], as rows. Claims are matched by their place: all traces make the
    same ones in the same order. Values that a prompt could not give are left out, and n says so."""
    if not records or any(len(record) != len(records[0]) for record in records):
        raise InputError("every trace must carry the same claims.")
    rows = []
    for same in zip(*records):
        claim = same[0].claim
        rows.append(Row(claim, "effect", _mean("effect", [one.effect.value for one in same]), None))
        names = list(dict.fromkeys(c.estimate.name for one in same for c in (*one.nulls, *one.baselines)))
        for name in names:
            found = [c for one in same for c in (*one.nulls, *one.baselines) if c.estimate.name == name]
            above = sum(c.difference is not None and c.difference.low > 0 for c in found)
            rows.append(Row(claim, name, _mean(name, [c.estimate.value for c in found]), above))
    return rows


def _mean(name: str, values: list[float]) -> Estimate:
    return bootstrap([value for value in values if math.isfinite(value)], name=name, over="prompts")


def table(rows: Sequence[Row]) -> str:
    lines = ["| claim | what | mean over prompts | prompts where the effect is above it |", "|---|---|---|---|"]
    last = ""
    for row in rows:
        claim, last = ("" if row.claim == last else row.claim), row.claim
        above = "" if row.exceeded is None else f"{row.exceeded} of {row.mean.n}"
        lines.append(f"| {claim} | {row.what} | {row.mean} | {above} |")
    return "\n".join(lines)


def evidence_over_prompts(
    model_name: str, dictionary: str, n_prompts: int, *, contrast: bool = False, seed: int = 0
) -> list[Row]:
    """Full traces of one prompt a behaviour, their evidence pooled."""
    import cutaway as cw
    from cutaway.core.registry import model_examples

    model = cw.load(model_name)
    examples = [] if model.folder is None else model_examples(model.folder)
    prompts = list({example["behaviour"]: example["prompt"] for example in reversed(examples)}.values())[::-1]
    if not prompts:
        raise InputError(f"{model_name} has no examples (examples.json) to take prompts from.")
    records = []
    for prompt in prompts[:n_prompts]:
        print(prompt, file=sys.stderr)
        pair = None
        if contrast:
            best = model.run(prompt).at("logits")[0].topk(2).indices.tolist()
            pair = (best[0], best[1])
        records.append(cw.trace(model, prompt, dictionary=dictionary, contrast=pair, seed=seed).evidence)
    return pooled(records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="almanac")
    parser.add_argument("--dictionary", default="clt")
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--contrast", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(
        table(evidence_over_prompts(args.model, args.dictionary, args.prompts, contrast=args.contrast, seed=args.seed))
    )


if __name__ == "__main__":
    main()
