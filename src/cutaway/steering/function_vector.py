"""Function vectors: what a few heads write after examples of a task, added where there are no examples.

For pairs x -> y, prompts of `shots` examples and a query (Todd et al. 2024, "Function Vectors in Large Language
Models"):

    zbar_h     mean output of head h at the prompt's last token, over prompts with right examples
    AIE_h      mean of p(y | z_h := zbar_h) - p(y) on prompts whose examples' answers are shuffled
    v          sum of W_O zbar_h over the heads of the highest AIE

v is then added to the stream at the last token of the query alone. Pairs are split in three: heads are found on the
first part, the block after which v is added is chosen on the second, and accuracy is reported on the third, beside a
random direction of equal norm, the same from shuffled examples, and the prompts with examples themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import Comparison, Evidence, InputError
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, bootstrap_difference
from cutaway.model import Model, add, plan, rewrite
from cutaway.model.content import Content
from cutaway.model.observed import linear_map
from cutaway.steering.methods import Direction

SCHEMA = "cutaway.function_vector/1"
TEMPLATE = "Q: {x}\nA:"
SHUFFLED = "the same from examples with shuffled answers"
RANDOM = "a random direction of equal norm"
BARE = "the query alone"
ICL = "with the examples in the prompt"
LEAST = 12  # pairs

Hits = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class FunctionVector:
    """`vector` is a `Direction` at the last token; accuracy[arm] [test pairs] of 0 and 1; effects [heads] the AIE."""

    model: str
    vector: Direction
    heads: tuple[tuple[int, int], ...]
    places: tuple[tuple[int, int], ...]
    effects: Hits
    by_layer: dict[str, float]
    accuracy: dict[str, Hits]
    shots: int
    evidence: tuple[Evidence, ...]

    def table(self) -> str:
        n = len(next(iter(self.accuracy.values())))
        rows = [("prompt", "accuracy")]
        rows += [(name, f"{float(values.mean()):.0%}") for name, values in self.accuracy.items()]
        effect = dict(zip(self.places, self.effects))
        heads = ", ".join(f"{a}.{b} {effect[a, b]:+.4f}" for a, b in self.heads)
        layers = "  ".join(f"{point} {share:.0%}" for point, share in self.by_layer.items())
        return "\n".join(
            [
                f"function vector of {self.model} at {self.vector.at}, from prompts of {self.shots} examples",
                *columns(rows, right=(1,)),
                f"  the top token is the answer's first; {n} test pairs",
                f"  heads, with what each by itself adds to p(answer) after shuffled examples: {heads}",
                f"  accuracy on the pairs that the block was chosen on: {layers}",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "vector": self.vector.to_json(),
            "heads": [f"{a}.{b}" for a, b in self.heads],
            "effects": {f"{a}.{b}": float(v) for (a, b), v in zip(self.places, self.effects)},
            "by_layer": self.by_layer,
            "accuracy": {name: float(values.mean()) for name, values in self.accuracy.items()},
            "n": len(next(iter(self.accuracy.values()))),
            "shots": self.shots,
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


@torch.no_grad()
def function_vector(
    model: Model,
    pairs: Sequence[tuple[str, str]],
    *,
    shots: int = 5,
    heads: int = 10,
    prompts: int = 32,
    template: str = TEMPLATE,
    separator: str = "\n\n",
    strength: float = 1.0,
    seed: int = 0,
) -> FunctionVector:
    """The function vector of pairs (x, y), and what it does on pairs that nothing was chosen on.

    template: the query, `{x}` for its input; an example is the query with a blank and the answer after it. heads: how
    many are summed. prompts: how many the means and effects are taken over. The answer counts by its first token. Of an
    input that stands twice the first pair is taken, so that none is both found and tested on.
    Costs 2 x prompts forwards, prompts x heads rows gone on with from the head's block, and (blocks + 4) x pairs.
    Raises InputError: fewer than 12 pairs, one answer for all, a template without {x}, a model without
    a tokenizer or head outputs.
    """
    given, pairs = len(pairs), list(dict(reversed(pairs)).items())[::-1]
    _refuse(pairs, shots, heads, prompts, template, strength)
    layers = [layer for layer in range(model.facts.n_layers) if model.refuses(f"z.{layer}") is None]
    if not layers:
        raise InputError(f"{model.name} has no head outputs: {model.refuses('z.*')}.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pairs))
    find, choose, test = (([pairs[i] for i in part]) for part in np.array_split(order, 3))
    form = _Form(model, template, separator)
    right = [form.shot(find, shots, rng, shuffled=False) for _ in range(prompts)]
    wrong = [form.shot(find, shots, rng, shuffled=True) for _ in range(prompts)]
    means = _means(model, [text for text, _ in right], layers)
    places, effects = _effects(model, wrong, means)
    best = sorted(np.argsort(-effects, kind="stable")[:heads].tolist())
    chosen = tuple(places[i] for i in best)
    vector = _written(model, means, chosen)
    from_shuffled = _written(model, _means(model, [text for text, _ in wrong], layers), chosen)
    points = [f"resid_post.{layer}" for layer in range(model.facts.n_layers)]
    bare = [(form.query(x), form.answer(y)) for x, y in choose]
    by_layer = {point: float(_hits(model, bare, point, strength * vector).mean()) for point in points}
    at = max(points, key=lambda point: by_layer[point])
    held = [(form.query(x), form.answer(y)) for x, y in test]
    noise = torch.randn(vector.shape, generator=torch.Generator().manual_seed(seed))
    arms = {
        BARE: _hits(model, held, at, None),
        "with the function vector": _hits(model, held, at, strength * vector),
        SHUFFLED: _hits(model, held, at, strength * from_shuffled),
        RANDOM: _hits(model, held, at, strength * noise * (vector.norm() / noise.norm())),
        ICL: _hits(model, [form.shot(find, shots, rng, shuffled=False, query=pair) for pair in test], at, None),
    }
    return FunctionVector(
        model=model.name,
        vector=Direction(at, Content(vector), (-1,)),
        heads=chosen,
        places=places,
        effects=effects,
        by_layer=by_layer,
        accuracy=arms,
        shots=shots,
        evidence=(_evidence(arms, at, seed, given - len(pairs)),),
    )


def _refuse(
    pairs: Sequence[tuple[str, str]], shots: int, heads: int, prompts: int, template: str, strength: float
) -> None:
    if "{x}" not in template:
        raise InputError(f"template= has {{x}} where the input stands; given {template!r}.")
    if len(pairs) < LEAST:
        raise InputError(
            f"at least {LEAST} pairs are needed (a third each to find, choose and test); given {len(pairs)}."
        )
    if len({y for _, y in pairs}) == 1 < len(pairs):
        raise InputError(
            f"every pair has the same answer, {pairs[0][1]!r}: answers that change places stay as they are, and there "
            "is no null."
        )
    if shots < 1 or shots >= len(pairs) // 3:
        raise InputError(
            f"shots= is from 1 to {len(pairs) // 3 - 1}, a third of the pairs less the query; given {shots}."
        )
    for name, given in (("heads", heads), ("prompts", prompts)):
        if given < 1:
            raise InputError(f"{name}= is at least 1; given {given}.")
    if not math.isfinite(strength) or strength == 0:
        raise InputError(f"strength= is a number other than 0; given {strength}.")


@dataclass(frozen=True)
class _Form:
    """Prompts in one template."""

    model: Model
    template: str
    separator: str

    def query(self, x: str) -> str:
        return self.template.replace("{x}", x)

    def answer(self, y: str) -> int:
        """The first token of the answer as it stands after the query."""
        tokenizer = self.model.tokenizer
        if tokenizer is None:
            raise InputError(f"{self.model.name} has no tokenizer, so pairs of words cannot be read.")
        ids = tokenizer(f" {y.strip()}", add_special_tokens=False)["input_ids"]
        if not ids:
            raise InputError(f"the tokenizer makes no token of the answer {y!r}.")
        return int(ids[0])

    def shot(
        self,
        pairs: Sequence[tuple[str, str]],
        shots: int,
        rng: np.random.Generator,
        *,
        shuffled: bool,
        query: tuple[str, str] | None = None,
    ) -> tuple[str, int]:
        """(examples and a query, the answer's first token); shuffled: the examples' answers change places."""
        drawn = [pairs[i] for i in rng.choice(len(pairs), shots + (query is None), replace=False)]
        asked = query or drawn.pop()
        answers = [y for _, y in drawn]
        if shuffled:
            answers = [answers[i] for i in rng.permutation(len(answers))]
        parts = [f"{self.query(x)} {y.strip()}" for (x, _), y in zip(drawn, answers)]
        return self.separator.join([*parts, self.query(asked[0])]), self.answer(asked[1])


def _means(model: Model, prompts: list[str], layers: list[int]) -> dict[int, Tensor]:
    """Layer -> mean of z at the last token, [head, d_head]."""
    run = model.run(prompts, [f"z.{layer}" for layer in layers], logits=False)
    return {layer: run.at(f"z.{layer}").float().mean(0) for layer in layers}


def _effects(
    model: Model, prompts: list[tuple[str, int]], means: dict[int, Tensor]
) -> tuple[tuple[tuple[int, int], ...], Hits]:
    """(heads, what each at its mean adds to p(answer), [heads])."""
    answers = torch.tensor([answer for _, answer in prompts])
    places = [(layer, head) for layer, mean in means.items() for head in range(len(mean))]

    def probability(logits: Tensor, rows: Tensor | None = None) -> Tensor:
        wanted = answers if rows is None else answers[rows.cpu()]
        return logits.float().softmax(-1).gather(1, wanted.to(logits.device)[:, None])[:, 0]

    cells = [
        [rewrite(f"z.{layer}", lambda x, v=means[layer][head]: v.to(x).expand_as(x), head=head, positions=-1)]
        for layer, head in places
    ]
    planned = plan(model, [text for text, _ in prompts], cells, probability)
    return tuple(places), (planned.run() - planned.unchanged).mean(1).double().cpu().numpy()


def _written(model: Model, means: dict[int, Tensor], heads: Sequence[tuple[int, int]]) -> Tensor:
    """Sum over the heads of W_O zbar, [d_model]."""
    total = torch.zeros(model.facts.d_model)
    for layer, head in heads:
        count, width = means[layer].shape
        weight = linear_map(model.site(f"z.{layer}").module, count * width)[0].float()  # [d_model, head * d_head]
        own = weight[:, head * width : (head + 1) * width]
        joins = f"attn_out_post.{layer}" if model.refuses(f"attn_out_post.{layer}") is None else f"attn_out.{layer}"
        total = total + (model.site(joins).factor * own @ means[layer][head]).cpu()
    return total


def _hits(model: Model, items: list[tuple[str, int]], at: str, vector: Tensor | None) -> Hits:
    changes = [] if vector is None else [add(at, vector, positions=-1)]
    top = model.run([text for text, _ in items], interventions=changes).at("logits").argmax(-1).cpu()
    return (top == torch.tensor([answer for _, answer in items])).double().numpy()


def _evidence(arms: dict[str, Hits], at: str, seed: int, twice: int) -> Evidence:
    ours = arms["with the function vector"]

    def beside(name: str) -> Comparison:
        return Comparison(
            estimate=bootstrap(arms[name], name=name, over="pairs", seed=seed),
            difference=bootstrap_difference(ours, arms[name], paired=True, over="pairs", seed=seed),
        )

    return Evidence(
        claim=f"Added at {at}, the function vector does the task where there are no examples",
        effect=bootstrap(ours, name="accuracy with the function vector", over="pairs", seed=seed),
        nulls=(beside(SHUFFLED), beside(RANDOM)),
        baselines=(beside(BARE),),
        seeds=(seed,),
        how=f"Heads found, block chosen and accuracy measured on three parts of the pairs. {ICL}: "
        f"{float(arms[ICL].mean()):.0%}, which a vector of this task can hardly pass.",
        settings={"test pairs": len(ours), "pairs left out, whose input stands twice": twice},
    )
