"""The Task: clean and counterfactual prompts aligned token by token, their answers, named positions, a metric."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.model.tokens import Batch
from cutaway.tasks.items import Item
from cutaway.tasks.metrics import Metric, Target, bind

if TYPE_CHECKING:
    from cutaway.model import Model, Run
    from cutaway.tasks.competence import Competence


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """n pairs of prompts. Made by `cw.task(name, model)`, `Task.from_pairs`, `Task.from_csv`, ….

    clean, counterfactual: batches [n, position] of one shape, aligned position by position, padded on the right.
    answers: [n] ids of the right token after the clean prompt; wrong: [n] of the token it is compared with, or None.
    counterfactual_answers: [n] of the right token after the counterfactual, or None where it determines none.
    positions: name -> [n], counted in a row's own tokens; at "end", by default the last, the answer is read.
    template: [n], the number of each item's template in `templates`; means are taken per template.
    metric: logits at the end [n, vocab] -> [n].
    counterfactual_kind, split, seed, notes: how it was made; what had to be left out is said in `notes`.
    """

    name: str
    clean: Batch
    counterfactual: Batch
    answers: Tensor
    wrong: Tensor | None
    positions: Mapping[str, Tensor]
    template: Tensor
    items: tuple[Item, ...]
    metric: Metric
    counterfactual_answers: Tensor | None = None
    templates: tuple[str, ...] = ()
    about: str = ""
    counterfactual_kind: str = ""
    split: str = ""
    seed: int | None = None
    notes: tuple[str, ...] = ()
    tokenizer: Any = field(default=None)

    # ---- making one's own (see cutaway.tasks.builder for what each checks)

    @staticmethod
    def from_pairs(
        model: Any,
        clean: Iterable[str],
        counterfactual: Any,
        answers: Iterable[str],
        wrong: Iterable[str] | None = None,
        **more: Any,
    ) -> Task:
        """From columns of text; the counterfactual may be a corruption. See `cutaway.tasks.builder.from_pairs`."""
        from cutaway.tasks.builder import from_pairs

        return from_pairs(model, clean, counterfactual, answers, wrong, **more)

    @staticmethod
    def from_tokens(
        clean: Tensor, counterfactual: Tensor, answers: Tensor, wrong: Tensor | None = None, **more: Any
    ) -> Task:
        """From token ids [n, position], for a model without a tokenizer. See `cutaway.tasks.builder.from_tokens`."""
        from cutaway.tasks.builder import from_tokens

        return from_tokens(clean, counterfactual, answers, wrong, **more)

    @staticmethod
    def from_csv(model: Any, path: str | Path, **more: Any) -> Task:
        """From a CSV. See `cutaway.tasks.files.from_csv` for its columns."""
        from cutaway.tasks.files import from_csv

        return from_csv(model, path, **more)

    @staticmethod
    def from_jsonl(model: Any, path: str | Path, **more: Any) -> Task:
        """From a file of one JSON object a line. See `cutaway.tasks.files.from_jsonl`."""
        from cutaway.tasks.files import from_jsonl

        return from_jsonl(model, path, **more)

    @staticmethod
    def from_relations(model: Any, path: str | Path, relations: Any = None, **more: Any) -> Task:
        """From relations as LRE keeps them, a file or a folder. See `cutaway.tasks.relations.from_relations`."""
        from cutaway.tasks.relations import from_relations

        return from_relations(model, path, relations, **more)

    @staticmethod
    def from_ravel(model: Any, path: str | Path, entity: str, attribute: str, **more: Any) -> Task:
        """From RAVEL's entities and attributes. See `cutaway.tasks.ravel.from_ravel`."""
        from cutaway.tasks.ravel import from_ravel

        return from_ravel(model, path, entity, attribute, **more)

    def save(self, path: str | Path) -> None:
        """Write the pairs as .csv or .jsonl, which `from_csv` and `from_jsonl` read back."""
        from cutaway.tasks.files import save

        save(self, path)

    # ---- use

    def __len__(self) -> int:
        return len(self.answers)

    def take(self, rows: Any) -> Task:
        """The task on some of its items, by index (a list, a range, a tensor of ids or of truth values)."""
        index = torch.as_tensor(list(rows) if isinstance(rows, range) else rows)
        if index.dtype == torch.bool:
            if index.shape != (len(self),):
                raise InputError(f"a mask of items has {len(self)} entries; given {list(index.shape)}.")
            index = index.nonzero()[:, 0]
        index = index.long().reshape(-1)
        if not len(index):
            raise InputError(f"no item of {self.name} was asked for; it has {len(self)}.")
        if int(index.min()) < -len(self) or int(index.max()) >= len(self):
            raise InputError(f"{self.name} has {len(self)} items (0 … {len(self) - 1}); given {index.tolist()[:8]}.")
        index = index % len(self)
        width = int(self.clean.mask[index].sum(-1).max())
        return replace(
            self,
            clean=Batch(self.clean.ids[index, :width], self.clean.mask[index, :width]),
            counterfactual=Batch(self.counterfactual.ids[index, :width], self.counterfactual.mask[index, :width]),
            answers=self.answers[index],
            wrong=None if self.wrong is None else self.wrong[index],
            counterfactual_answers=None if self.counterfactual_answers is None else self.counterfactual_answers[index],
            positions={name: where[index] for name, where in self.positions.items()},
            template=self.template[index],
            items=tuple(self.items[i] for i in index.tolist()),
            metric=self.metric.take(index),
        )

    def with_metric(
        self, metric: str | Callable[..., Tensor], *, reference: Run | Tensor | None = None, name: str | None = None
    ) -> Task:
        """The same items under another metric: a name, or a function of the logits at the end (see `metrics.bind`).

        reference: for "kl", the run of the clean prompts to compare with, or its logits at the end [n, vocab].
        """
        target = self.metric.target
        if reference is not None:
            logits = reference if isinstance(reference, Tensor) else self.at_end(reference)
            if logits.ndim != 2 or len(logits) != len(self):
                raise InputError(f"the reference has logits [{len(self)}, vocab]; given {list(logits.shape)}.")
            target = replace(target, reference=logits.detach().float().log_softmax(-1))
        elif metric == "kl" and target.reference is None:
            raise InputError("kl compares with another run: task.with_metric('kl', reference=model.run(task.clean)).")
        return replace(self, metric=bind(metric, target, name))

    def at_end(self, run: Run | Tensor) -> Tensor:
        """The logits [n, vocab] at the answer position, of a run of these prompts or of logits [n, position, vocab]."""
        logits = run if isinstance(run, Tensor) else run.logits
        if logits.ndim != 3 or logits.shape[:2] != self.clean.ids.shape:
            raise InputError(
                f"the logits of {self.name} are {[*self.clean.ids.shape]} by vocab; given {list(logits.shape)}."
            )
        rows = torch.arange(len(self), device=logits.device)
        return logits[rows, self.columns("end").to(logits.device)]

    def measure(self, run: Run | Tensor, metric: str | None = None) -> Tensor:
        """The metric of each item [n], of a run of these prompts (clean or counterfactual) or of its logits."""
        chosen = self.metric if metric is None else bind(metric, self.metric.target)
        logits = run if isinstance(run, Tensor) and run.ndim == 2 else self.at_end(run)
        return chosen(logits)

    def columns(self, position: str) -> Tensor:
        """[n] the columns of a named position in the padded batch. Raises UnknownName."""
        if position not in self.positions:
            raise UnknownName(f"position of {self.name}", position, self.positions)
        starts = torch.tensor(self.clean.layout.starts)
        return starts + self.positions[position]

    @property
    def differs(self) -> Tensor:
        """[n, position] where clean and counterfactual hold different tokens."""
        return (self.clean.ids != self.counterfactual.ids) & self.clean.mask

    @property
    def lengths(self) -> Tensor:
        """[n] tokens of each row."""
        return self.clean.mask.sum(-1)

    def groups(self) -> tuple[Task, ...]:
        """The task cut by length, so that no row of a part is padded; shorter first."""
        return tuple(self.take(self.lengths == length) for length in sorted(set(self.lengths.tolist())))

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of a SHA-256 over the tokens and answers: which data a result was made on."""
        digest = hashlib.sha256()
        for batch in (self.clean, self.counterfactual):
            for row, mask in zip(batch.ids, batch.mask):
                digest.update(repr(row[mask].tolist()).encode())
        for ids in (self.answers, self.wrong, self.counterfactual_answers):
            digest.update(repr(None if ids is None else ids.tolist()).encode())
        return digest.hexdigest()[:16]

    def check(self, model: Model, **more: Any) -> Competence:
        """How well the model does the task, on clean and counterfactual, beside a re-randomised one.

        See `cutaway.tasks.competence.check`.
        """
        from cutaway.tasks.competence import check

        return check(self, model, **more)

    # ---- shown

    def to_json(self) -> dict[str, Any]:
        """A JSON object: how it was made, every item with its texts, token ids and positions."""
        rows = []
        for i, item in enumerate(self.items):
            mask = self.clean.mask[i]
            rows.append(
                {
                    **item.to_json(),
                    "clean_ids": self.clean.ids[i][mask].tolist(),
                    "counterfactual_ids": self.counterfactual.ids[i][mask].tolist(),
                    "answer_id": int(self.answers[i]),
                    "wrong_id": None if self.wrong is None else int(self.wrong[i]),
                    "positions": {name: int(where[i]) for name, where in self.positions.items()},
                }
            )
        return {"schema": "cutaway.task/1", **self.summary(), "items": rows}

    def summary(self) -> dict[str, Any]:
        """How it was made, without the items: for the file of a result made on it."""
        return {
            "name": self.name,
            "about": self.about,
            "n": len(self),
            "counterfactual": self.counterfactual_kind,
            "split": self.split,
            "seed": self.seed,
            "metric": self.metric.name,
            "templates": list(self.templates),
            "positions": list(self.positions),
            "notes": list(self.notes),
            "fingerprint": self.fingerprint,
        }

    def __str__(self) -> str:
        from cutaway.tasks.show import render

        return render(self, rows=3)

    __repr__ = __str__

    @property
    def target(self) -> Target:
        return self.metric.target
