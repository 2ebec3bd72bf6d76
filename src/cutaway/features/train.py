"""The one trainer: dictionaries that share a stream of activations, exact resume, a live frontier.

Cost a token: one forward of the model (shared), and for each dictionary one dense encoder product of 2 layers d F
operations plus the sparse path (sparse.py). See docs/dictionaries.md for how the shipped ones are made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cutaway.core import InputError
from cutaway.features import checkpoint
from cutaway.features.finetune import finetune_step, truth
from cutaway.features.formats import load
from cutaway.features.learner import Learner, Step
from cutaway.features.normalise import MLPS, Normalisation
from cutaway.features.places import Places
from cutaway.features.progress import Frontier
from cutaway.features.random_encoder import fit_decoders
from cutaway.features.sae import SAE
from cutaway.features.settings import DictionarySettings, TrainSettings
from cutaway.features.sites import Sites
from cutaway.features.stream import Batch, Stream, as_rows, harvest_all
from cutaway.features.transcoders import ModelFacts, Transcoders

if TYPE_CHECKING:
    from cutaway.model import Model

LOG_STEPS = 20
CALIBRATION_TOKENS = 50_000


def train(
    model: Model, token_rows: ArrayLike | Tensor, settings: TrainSettings, out: str | Path | None = None, *,
    resume: bool = True, checkpoint_seconds: float = 60.0, checkpoint_steps: int | None = None, quiet: bool = False,
) -> dict[str, Transcoders | SAE]:  # fmt: skip
    """Train `settings.dictionaries` on rows of token ids [rows, position] (-1 pads on the right), all of them on one
    pass of the model and one shuffled stream.

    out: one dictionary is written there, several each in a folder of its name; the run itself in `out`/training.
    Without it nothing is written and nothing can be resumed. A run that was killed goes on from its last checkpoint
    (`checkpoint_seconds`, or every `checkpoint_steps`) and ends with the same bytes, on the same machine and threads.
    Raises `InputError` for rows or models that do not fit, or where `out` holds a run with other settings.
    """
    rows = as_rows(token_rows, model.facts.vocab_size)
    run = _Run(model, rows, settings, Path(out) if out is not None else None, resume, quiet)
    return run.made() or run.finish(checkpoint_seconds, checkpoint_steps)


def untrained(model: Model, token_rows: ArrayLike | Tensor, settings: DictionarySettings) -> Transcoders:
    """The null: a dictionary of the same shape whose encoder was never trained, at the same L0: random unit encoder
    rows, thresholds set on the rows given, decoders fitted to the true outputs, so that all it lacks is features.

    Frozen-encoder baseline (arXiv 2602.14111). Cost: one pass over the rows and a solve of [F, F] a layer.
    """
    if settings.at is not None:
        raise InputError(f"{settings.name} is of the point {settings.at}: untrained_sae makes its null.")
    rows = as_rows(token_rows, model.facts.vocab_size)
    sites = Sites.of(model)
    stream = Stream(sites, rows, batch=1, block=16_384, seed=settings.seed, first_position=False)
    sample = stream.block(0)
    return fit_decoders(settings, sample.x, sample.y, model=facts_of(model), **points(sites))


def untrained_sae(model: Model, token_rows: ArrayLike | Tensor, settings: DictionarySettings) -> SAE:
    """As `untrained`, of one point."""
    rows = as_rows(token_rows, model.facts.vocab_size)
    wanted = [point for point in (settings.at, settings.to) if point is not None]
    places = Places.of(model, wanted, mlps=False)
    addresses = [places.address(point) for point in wanted]
    sample = Stream(places, rows, batch=1, block=16_384, seed=settings.seed, first_position=False).block(0)
    held = fit_decoders(settings, sample.at[addresses[0]][None], sample.at[addresses[-1]][None])
    return SAE.from_tensors(
        {**held.layers[0].tensors(), "W_dec": held.layers[0].W_dec[:, 0]},
        rule="jumprelu", training=held.training, model=facts_of(model), **where(model, *addresses),
    )  # fmt: skip


def where(model: Model, at: str, to: str | None = None) -> dict[str, Any]:
    """The points of an SAE, and the heads of an attention point that it reads and writes."""
    heads = model.site(at).heads
    same = to in (None, at)
    return {
        "point": at,
        "output_point": None if same else to,
        "heads": heads[0] if heads is not None and same else None,
    }


def facts_of(model: Model) -> ModelFacts:
    return ModelFacts(model.name, model.fingerprint, model.facts.n_layers, model.facts.d_model)


def points(sites: Sites) -> dict[str, Any]:
    return {"input_name": sites.input_name, "output_name": sites.output_name}


class _Run:
    """A training run between its checkpoints."""

    def __init__(
        self, model: Model, rows: Tensor, settings: TrainSettings, out: Path | None, resume: bool, quiet: bool
    ) -> None:
        self.model, self.rows, self.settings, self.out, self.quiet = model, rows, settings, out, quiet
        sets = any(dictionary.kind != "sae" for dictionary in settings.dictionaries)
        points = [p for d in settings.dictionaries for p in (d.at, d.to) if p is not None]
        self.places = Places.of(model, points, mlps=sets)
        self.stream = Stream(
            self.places, rows, batch=settings.batch, block=settings.block, seed=settings.seed,
            first_position=settings.first_position,
        )  # fmt: skip
        self.training = out / "training" if out is not None else None
        self.step = 0
        going_on = False
        if self.training is not None:
            who = checkpoint.identity(settings, model.hf, rows)
            going_on = checkpoint.claim(self.training, who, resume)
        self.learners = self._restored() if going_on else self._fresh()
        self.steps = settings.steps + max((self._finetune_steps(learner) for learner in self.learners), default=0)
        log = self.training / "log.jsonl" if self.training is not None else None
        if log is not None:
            checkpoint.trim_log(log, self.step)
        self.frontier = None if quiet and log is None else Frontier(self.steps, settings.batch, log, start=self.step)
        if self.frontier is not None and quiet:
            self.frontier.live, self.frontier.every = False, float("inf")

    # ------------------------------------------------------------------------------------------------- beginning

    @property
    def sites(self) -> Sites:
        """The MLPs, which some dictionary here is of."""
        assert self.places.sites is not None
        return self.places.sites

    def _fresh(self) -> list[Learner]:
        sample = self.stream.block(0)
        normals: dict[tuple[str | None, str | None, str], Normalisation] = {}
        for dictionary in self.settings.dictionaries:
            points = self._points(dictionary)
            if points not in normals:
                what = MLPS if dictionary.at is None else (f"activations at {points[0]}", f"activations at {points[1]}")
                normals[points] = Normalisation.of(*self._taken(dictionary, sample), dictionary.normalise, what)
        learners = self._learners([normals[self._points(d)] for d in self.settings.dictionaries])
        return [learner.begin(self._taken(learner.settings, sample)[0]) for learner in learners]

    def _points(self, dictionary: DictionarySettings) -> tuple[str | None, str | None, str]:
        """The points that a dictionary reads and writes (None: the MLPs'), and how they are normalised."""
        if dictionary.at is None:
            return None, None, dictionary.normalise
        at = self.places.address(dictionary.at)
        return at, self.places.address(dictionary.to) if dictionary.to else at, dictionary.normalise

    def _taken(self, dictionary: DictionarySettings, batch: Batch) -> tuple[Tensor, Tensor]:
        """x and y of a dictionary, [layers, n, d]; of an SAE one layer."""
        at, to, _ = self._points(dictionary)
        if at is None or to is None:
            return batch.x, batch.y
        return batch.at[at][None], batch.at[to][None]

    def _learners(self, normals: Sequence[Normalisation]) -> list[Learner]:
        bf16 = self.settings.bf16
        if bf16 is None:
            supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
            bf16 = self.places.device.type == "cpu" and supported is not None and supported()
        return [
            Learner(
                dictionary, normal.x_mean.shape[0], normal.x_mean.shape[1], normal.y_mean.shape[1], normal,
                bf16=bool(bf16), device=self.places.device,
            )
            for dictionary, normal in zip(self.settings.dictionaries, normals)
        ]  # fmt: skip

    def _restored(self) -> list[Learner]:
        assert self.training is not None
        tensors, state = checkpoint.load(self.training)
        self.step = int(state["step"])
        self.stream.cursor = tuple(state["cursor"])
        held = [
            {k.removeprefix(f"{d.name}/"): v for k, v in tensors.items() if k.startswith(f"{d.name}/")}
            for d in self.settings.dictionaries
        ]
        # Runs begun before SAEs were trained here keep the MLPs' units once, without a name.
        old = {name: value for name, value in tensors.items() if name.startswith("normal.")}
        normals = []
        for state in held:
            state |= old
            names = Normalisation.__dataclass_fields__
            normals.append(Normalisation(**{name: state.pop(f"normal.{name}") for name in names}))
        learners = self._learners(normals)
        for learner, values in zip(learners, held):
            learner.restore(values)
        return learners

    # --------------------------------------------------------------------------------------------------- running

    def made(self) -> dict[str, Transcoders | SAE] | None:
        """What this very run made before, if it had ended and all of it is still there."""
        if self.out is None or self.training is None or not checkpoint.finished(self.training):
            return None
        folders = {d.name: self._folder(d.name) for d in self.settings.dictionaries}
        if not all((folder / "config.json").exists() for folder in folders.values()):
            return None
        return {name: load(folder) for name, folder in folders.items()}

    def _folder(self, name: str) -> Path:
        assert self.out is not None
        return self.out if len(self.settings.dictionaries) == 1 else self.out / name

    def finish(self, seconds: float, every: int | None) -> dict[str, Transcoders | SAE]:
        saved, saved_at = time.monotonic(), self.step
        was_training = self.model.hf.training
        self.model.hf.eval()
        try:
            while self.step < self.steps:
                reports, note = self._one_step()
                self.step += 1
                logged = self.step % LOG_STEPS == 0 or self.step == self.steps
                if logged and self.frontier is not None:
                    self.frontier.update(self.step, self.step * self.settings.batch, reports, note)
                due = time.monotonic() - saved > seconds if every is None else self.step - saved_at >= every
                if due and self.step < self.steps:
                    self._save()
                    saved, saved_at = time.monotonic(), self.step
        finally:
            self.model.hf.train(was_training)
        return self._export()

    def _one_step(self) -> tuple[dict[str, Step], str]:
        if self.step < self.settings.steps:
            batch = next(self.stream)
            rate = self._schedule(self.step, self.settings.steps)
            for learner in self.learners:
                learner.anneal(self.step / self.settings.steps)
            return {x.settings.name: x.step(*self._taken(x.settings, batch), x.lr * rate) for x in self.learners}, ""
        done = self.step - self.settings.steps
        rows = self._finetune_rows(done)
        true = truth(self.sites, rows, self.settings.first_position)
        reports, losses = {}, []
        for learner in self.learners:
            steps = self._finetune_steps(learner)
            if done < steps:
                # Up over a twentieth, so that Adam's moments fit the new loss; then down to zero.
                rate = (
                    learner.lr * learner.settings.finetune_lr * min(1, (done + 1) / (0.05 * steps)) * (1 - done / steps)
                )
                reports[learner.settings.name], kl = finetune_step(learner, self.sites, rows, true, rate)
                losses.append(kl)
        return reports, "through the replacement model, KL " + " ".join(f"{kl:.4f}" for kl in losses)

    def _finetune_steps(self, learner: Learner) -> int:
        return -(-learner.settings.finetune // self.settings.batch)

    def _finetune_rows(self, step: int) -> Tensor:
        """As many rows as make a batch; in another order than before."""
        count = max(1, round(self.settings.batch * self.rows.shape[0] / self.stream.tokens_an_epoch))
        return self.rows[self.stream.row_numbers(step, rows=count, order=2)]

    def _schedule(self, step: int, steps: int) -> float:
        """The factor of the learning rate: up, flat, down to zero."""
        up = (step + 1) / max(1.0, self.settings.warmup * steps)
        down = (steps - step) / max(1.0, self.settings.decay * steps)
        return min(1.0, up, down)

    # ----------------------------------------------------------------------------------------------------- ending

    def _save(self) -> None:
        if self.training is None:
            return
        tensors: dict[str, Tensor] = {}
        for learner in self.learners:
            normal = {f"normal.{name}": value.clone() for name, value in learner.normal.state().items()}
            held = {**learner.state(), **normal}
            tensors |= {f"{learner.settings.name}/{name}": value for name, value in held.items()}
        checkpoint.save(self.training, tensors, {"step": self.step, "cursor": list(self.stream.cursor)})

    def _calibration_sample(self) -> Batch:
        """Activations of training rows without position 0: L0 is counted without it too."""
        count = max(1, round(CALIBRATION_TOKENS * self.rows.shape[0] / self.stream.tokens_an_epoch))
        numbers = self.stream.row_numbers(0, rows=min(count, self.rows.shape[0]), order=3)
        return harvest_all(self.places, self.rows[numbers], first_position=self.rows.shape[1] == 1)

    def _export(self) -> dict[str, Transcoders | SAE]:
        made: dict[str, Transcoders | SAE] = {}
        sample = self._calibration_sample()
        for learner in self.learners:
            learner.calibrate(self._taken(learner.settings, sample)[0])
            about = {
                "settings": learner.settings.to_json(),
                "run": self.settings.model_dump(mode="json", exclude={"dictionaries"}),
                "tokens": self.settings.tokens + learner.settings.finetune,
                "rows": {"n": self.rows.shape[0], "tokens": self.stream.tokens_an_epoch},
                "dead_in_training": float((learner.since_fired > learner.settings.dead_after).float().mean()),
            }
            dictionary = self._finished(learner, about)
            if self.out is not None:
                dictionary = dictionary.with_(folder=self._folder(learner.settings.name))
                dictionary.save(self._folder(learner.settings.name))
            made[learner.settings.name] = dictionary
        if self.training is not None:
            checkpoint.finish(self.training)
        return made

    def _finished(self, learner: Learner, about: dict[str, Any]) -> Transcoders | SAE:
        model = facts_of(self.model)
        at, to, _ = self._points(learner.settings)
        if at is None or to is None:
            return learner.transcoders(model=model, training=about, **points(self.sites))
        return learner.sae(model=model, training=about, **where(self.model, at, to))
