"""Training a tuned lens: KL to the model's own final distribution, on text, by Adam with a linearly falling rate.

Belrose et al. (2023) use SGD with momentum on the same loss; Adam needs no tuning by the model's scale. Each step's
rows follow from (seed, step) alone, and weights, moments and step are written as it goes, so that a killed run goes on
from there and ends bit-equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError, atomic_path
from cutaway.evidence import bootstrap, rerandomise
from cutaway.model import Model
from cutaway.readouts.tuned import TENSORS, TunedLens, lens_points
from cutaway.readouts.unembed import Unembedding, divergence, log_probabilities, unembedding

STATE = "training.safetensors"
Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class TunedSettings:
    """tokens: a step. lr: Adam's, of the translators, falling linearly to zero. A twentieth of the rows is held out."""

    steps: int = 200
    tokens: int = 1024
    lr: float = 5e-3
    seed: int = 0
    save_every: int = 50

    def __post_init__(self) -> None:
        if self.steps < 1 or self.tokens < 1 or not self.lr > 0:
            raise InputError(f"steps and tokens are at least 1 and lr above 0; given {self}.")


def train_tuned_lens(
    model: Model,
    rows: Rows,
    at: str = "resid_post.*",
    *,
    settings: TunedSettings | None = None,
    twin: bool = True,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TunedLens:
    """A tuned lens of `model` on `rows` of token ids, with its baselines and (unless twin=False) its null.

    out: the folder that it is saved to; a run that was killed goes on from there. progress: (step, of all).
    Cost a step: one forward, and a forward and backward through the unembedding twice for each point (translator and
    bias alone); the twin as much again. Memory: `tokens` x vocabulary x 4 numbers.
    Raises InputError: fewer than two rows of two tokens, points that are no stream, another run's folder.
    """
    settings = settings or TunedSettings()
    kept = [list(row) for row in rows if len(row) >= 2]
    if len(kept) < 2:
        raise InputError(
            "a tuned lens needs at least two rows of text of two tokens each, to train on and to hold out."
        )
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    cut = max(1, min(len(kept) // 20, 100))
    held_out, training = [kept[i] for i in order[:cut]], [kept[i] for i in order[cut:]]
    arms = [("", model)] + ([("twin.", rerandomise(model, seed=settings.seed))] if twin else [])
    folder = None if out is None else _free(Path(out))
    total = settings.steps * len(arms)
    lenses = []
    for number, (prefix, arm) in enumerate(arms):
        trainer = _Trainer(arm, lens_points(arm, at), settings)
        state = None if folder is None else folder / f"{prefix}{STATE}"
        trainer.resume(state)
        while trainer.step < settings.steps:
            trainer.advance(training)
            if progress is not None:
                progress(number * settings.steps + trainer.step, total)
            if state is not None and (trainer.step % settings.save_every == 0 or trainer.step == settings.steps):
                trainer.save(state)
        lens = trainer.lens(training)
        lenses.append(replace(lens, report=_report(arm, lens, held_out)))
    made = replace(lenses[0], twin=lenses[1] if twin else None)
    if folder is not None:
        made.save(folder)
    return made


def _free(folder: Path) -> Path:
    """A new or empty folder, or one of an earlier training: saving replaces it as a whole."""
    own = {f"{prefix}{STATE}" for prefix in ("", "twin.")} | {"config.json", TENSORS}
    if folder.is_file() or (folder.is_dir() and {path.name for path in folder.iterdir()} - own):
        raise InputError(f"{folder} holds something else than a tuned lens; name a new folder.")
    return folder


class _Trainer:
    """Translators A, b and the bias-only c of each point under one Adam; `step` counts updates done."""

    def __init__(self, model: Model, points: Sequence[str], settings: TunedSettings) -> None:
        self.model, self.settings = model, settings
        last = f"resid_post.{model.facts.n_layers - 1}"
        self.points = [point for point in points if point != last]  # there the translator is the identity
        if not self.points:
            raise InputError(f"{last} needs no translator: it is what the logits are made of.")
        self.unembed: Unembedding = unembedding(model)
        d = model.facts.d_model
        shapes = {"A": (d, d), "b": (d,), "c": (d,)}
        self.weights = {
            f"{part}.{point}": torch.zeros(shape, device=model.device, requires_grad=True)
            for point in self.points
            for part, shape in shapes.items()
        }
        self.adam = torch.optim.Adam(self.weights.values(), lr=settings.lr, betas=(0.9, 0.98), eps=1e-8)
        self.step = 0
        self.unigram = torch.zeros(model.facts.vocab_size, dtype=torch.float64)

    def advance(self, rows: Rows) -> None:
        """One update. Loss a point: mean over tokens of KL(final || lens)."""
        settings = self.settings
        h, final = _activations(self.model, self._drawn(rows), self.points)
        self.unigram += final.double().exp().mean(0).cpu()
        for group in self.adam.param_groups:
            group["lr"] = settings.lr * (1 - self.step / settings.steps)
        self.adam.zero_grad()
        for point in self.points:
            A, b, c = (self.weights[f"{part}.{point}"] for part in "Abc")
            x = h[point]
            few = max(1, len(x) // 4)  # the bias alone has fewer numbers to learn
            for translated, target in ((x + x @ A.T + b, final), (x[:few] + c, final[:few])):
                loss = divergence(target, self.unembed.log_probabilities(translated)).mean()
                torch.autograd.backward(loss)
        self.adam.step()
        self.step += 1

    def _drawn(self, rows: Rows) -> list[list[int]]:
        """Whole rows, drawn anew for this step, of about `tokens` tokens."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        chosen: list[list[int]] = []
        count = 0
        for i in torch.randperm(len(rows), generator=generator).tolist():
            chosen.append(list(rows[i]))
            count += len(rows[i])
            if count >= self.settings.tokens:
                break
        return chosen

    def lens(self, rows: Rows) -> TunedLens:
        A, b, c = ({p: self.weights[f"{part}.{p}"].detach().cpu() for p in self.points} for part in "Abc")
        return TunedLens(
            A,
            b,
            c,
            unigram=(self.unigram / self.step).clamp(min=1e-30).log().float(),
            model=self.model.name,
            fingerprint=self.model.fingerprint,
            settings={**asdict(self.settings), "rows": len(rows), "loss": "KL(final || lens), nats"},
        )

    # ---- resuming

    def save(self, path: Path) -> None:
        from safetensors.torch import save_file

        tensors = {"unigram": self.unigram}
        for name, weight in self.weights.items():
            moments = self.adam.state[weight]
            tensors[f"weight.{name}"] = weight.detach()
            tensors[f"first.{name}"], tensors[f"second.{name}"] = moments["exp_avg"], moments["exp_avg_sq"]
        with atomic_path(path) as temporary:
            save_file({k: x.contiguous() for k, x in tensors.items()}, temporary, self._header())

    def _header(self) -> dict[str, str]:
        return {"step": str(self.step), "fingerprint": self.model.fingerprint, "settings": repr(self.settings)}

    def resume(self, path: Path | None) -> None:
        """Take up what `save` wrote. Raises InputError where that is of other weights or settings."""
        if path is None or not path.is_file():
            return
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        for name in ("fingerprint", "settings"):
            if header[name] != self._header()[name]:
                raise InputError(
                    f"{path.parent} holds the training of another tuned lens ({name} {header[name]}, "
                    f"now {self._header()[name]}); name another folder."
                )
        self.step = int(header["step"])
        self.unigram = tensors["unigram"]
        for name, weight in self.weights.items():
            with torch.no_grad():
                weight.copy_(tensors[f"weight.{name}"])
            self.adam.state[weight] = {
                "step": torch.tensor(float(self.step)),
                "exp_avg": tensors[f"first.{name}"].to(weight.device),
                "exp_avg_sq": tensors[f"second.{name}"].to(weight.device),
            }


def _activations(model: Model, rows: Rows, points: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
    """One forward: ({address: [tokens, d_model]}, final log-probabilities [tokens, vocab]), float32."""
    with torch.no_grad():
        run = model.run([list(row) for row in rows], read=points)
        keep = run.mask.to(run.logits.device)
        return {point: run[point][keep].float() for point in points}, log_probabilities(run.logits[keep])


def _report(model: Model, lens: TunedLens, rows: Rows) -> dict[str, Any]:
    """Mean KL to the final distribution on held-out rows, a point and an arm, with intervals over rows."""
    unembed = unembedding(model)
    arms = ("tuned lens", "logit lens", "bias only", "unigram")
    means: dict[tuple[str, str], list[float]] = {(point, arm): [] for point in lens.addresses for arm in arms}
    for row in rows:
        h, final = _activations(model, [row], lens.addresses)
        for point in lens.addresses:
            x = h[point]
            with torch.no_grad():
                others = (lens.translate(point, x), x, lens.shift(point, x))
                read = [unembed.log_probabilities(other) for other in others]
            for arm, lp in zip(arms, [*read, lens.unigram.to(final).expand_as(final)]):
                means[point, arm].append(float(divergence(final, lp).mean()))
    table = {
        point: {
            arm: bootstrap(means[point, arm], name=arm, over="rows", unit=" nats").model_dump(mode="json")
            for arm in arms
        }
        for point in lens.addresses
    }
    text = [f"KL to the final distribution on {len(rows)} held-out rows, nats (95 % interval of the tuned lens)"]
    text.append(f"  {'point':14}" + "".join(f"{arm:>12}" for arm in arms))
    for point, cells in table.items():
        span = cells[arms[0]]["interval"]
        ends = f"   [{span['low']:.3f}, {span['high']:.3f}]" if span else ""
        text.append(f"  {point:14}" + "".join(f"{cells[arm]['value']:12.3f}" for arm in arms) + ends)
    return {"kl": table, "rows": len(rows), "text": text}
