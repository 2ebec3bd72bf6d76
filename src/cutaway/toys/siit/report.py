"""A trained network with its scores beside an untrained network's and one trained on the answers alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cutaway.core import Comparison, Evidence, NotDone, atomic_folder, write_json
from cutaway.core.drawing import Drawn
from cutaway.toys.rasp import CompiledProgram
from cutaway.toys.rasp.save import save_model
from cutaway.toys.siit.lessons import lessons
from cutaway.toys.siit.network import fresh
from cutaway.toys.siit.score import Score, score
from cutaway.toys.siit.train import Settings, Trained, train

PASS = 0.99  # behaviour, IIA and strictness that a trained network must have to count as the program
UNTRAINED, ANSWERS = "untrained network", "trained on the answers alone"


@dataclass(frozen=True, eq=False)
class Report(Drawn):
    """One network trained to be a program. Passes when behaviour, IIA (also where the answer changes) and strictness
    are all at least .99 on fresh pairs."""

    compiled: CompiledProgram
    trained: Trained
    score: Score
    untrained: Score
    answers: Score | None

    @property
    def passed(self) -> bool:
        values = [self.score.behaviour.value, self.score.pooled("iia").value]
        for which in ("changed", "strict"):
            pooled = self.score.pooled(which)
            values += [pooled.value] if pooled.n else []
        return all(value >= PASS for value in values)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """One claim each for behaviour, IIA, IIA where the answer changes, and strictness."""
        made = [self._evidence("The network answers as the program does", "behaviour", lambda s: s.behaviour)]
        for which, claim in (
            ("iia", "Exchanging a circuit node is exchanging the program's component"),
            ("changed", "The same, over exchanges that change the program's answer"),
            ("strict", "Exchanging any other node changes nothing"),
        ):
            made.append(self._evidence(claim, which, lambda s, which=which: s.pooled(which)))  # type: ignore[misc]
        return tuple(made)

    def _evidence(self, claim: str, which: str, of: Callable[[Score], Any]) -> Evidence:
        beside = () if self.answers is None else (_beside(of(self.answers), ANSWERS),)
        missing = () if beside else (NotDone(what=ANSWERS, why="not asked for (baseline=1 trains it)"),)
        return Evidence(
            claim=claim,
            effect=of(self.score),
            nulls=(_beside(of(self.untrained), UNTRAINED),),
            baselines=beside,
            seeds=(self.trained.settings.seed,),
            how="Pairs of inputs of one length, drawn afresh; a node's output exchanged at all positions. Wilson.",
            settings={"program": self.compiled.name, "which": which, "steps": self.trained.steps},
            not_done=(*missing, NotDone(what="other seeds", why="one training is one network; give --set seed=…")),
        )

    def __str__(self) -> str:
        config, s = self.trained.network.model.config, self.score
        head = (
            f"{self.compiled.name}, trained: {config.num_hidden_layers} layers, {config.num_attention_heads} heads, "
            f"d_model {config.hidden_size}; {self.trained.steps:,} steps; {'passed' if self.passed else 'NOT passed'}"
        )
        lines = [head, f"{'node':8} {'exchanged, answers as it should':34} where the program's answer changes"]
        for node in s.nodes:
            kind = str(node.changed) if node.changed is not None else "off the circuit"
            lines.append(f"{node.node:8} {node.accuracy!s:34} {kind}")
        return "\n".join([*lines, "", *(str(one) for one in self.evidence)])

    __repr__ = __str__

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.siit/1",
            "program": self.compiled.name,
            "passed": self.passed,
            "steps": self.trained.steps,
            "settings": asdict(self.trained.settings),
            "circuit": list(self.trained.network.circuit),
            "score": self.score.to_json(),
            "evidence": [one.to_json() for one in self.evidence],
        }

    def save(self, folder: str | Path) -> Path:
        """A Hugging Face folder that `cutaway.load` opens, with the report beside it."""
        with atomic_folder(folder, ("siit.json",)) as made:
            save_model(self.trained.network.model, self.compiled.tokenizer, made)
            write_json(made / "siit.json", self.to_json(), indent=1)
        return Path(folder)


def _beside(estimate: Any, name: str) -> Comparison:
    return Comparison(estimate=estimate.model_copy(update={"name": name}))


def make(
    compiled: CompiledProgram,
    settings: Settings | None = None,
    *,
    baseline: bool = True,
    n: int = 500,
    on: Callable[[str], None] | None = None,
) -> Report:
    """Train, and score on `n` fresh pairs a node beside an untrained network and, with `baseline`, one trained for as
    many steps on the answers alone. Half a minute to several minutes on one core."""
    s = settings or Settings()
    known, after = lessons(compiled), 10_000 + s.seed
    trained = train(compiled, s, on=on)
    answers = None
    if baseline:
        alone = replace(s, iit=0.0, strict=0.0, steps=trained.steps, every=trained.steps)
        answers = score(
            train(compiled, alone, label=f"{compiled.name}, answers alone", on=on).network, known, n=n, seed=after
        )
    network = fresh(compiled, d_model=s.d_model, heads=s.heads, seed=s.seed)
    return Report(
        compiled,
        trained,
        score(trained.network, known, n=n, seed=after),
        score(network, known, n=n, seed=after),
        answers,
    )
