"""The one trainer: dictionaries that share a stream of activations, exact resume, a live frontier.

Cost a token: one forward of the model (shared), and for each dictionary one dense encoder product of 2 layers d F
operations plus the sparse path (sparse.py). See docs/dictionaries.md for how the shipped ones are made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cutaway.core import InputError
from cutaway.features import checkpoint, processes
from cutaway.features.finetune import finetune_step, truth
from cutaway.features.formats import load
from cutaway.features.learner import Learner, Step
from cutaway.features.normalise import MLPS, Normalisation
from cutaway.features.parallel import Split, check_split, learner_class, share_of_batch
from cutaway.features.places import Places
from cutaway.features.progress import Frontier
from cutaway.features.random_encoder import fit_decoders
from cutaway.features.sae import SAE
from cutaway.features.settings import DictionarySettings, TrainSettings
from cutaway.features.shards import Shards, ShardStream
from cutaway.features.sites import Sites
from cutaway.features.stream import Batch, RowStream, Stream, as_rows
from cutaway.features.transcoders import ModelFacts, Transcoders

if TYPE_CHECKING:
    from cutaway.model import Model

LOG_STEPS = 20
CALIBRATION_TOKENS = 50_000


def train(
    model: Model, token_rows: ArrayLike | Tensor | Shards, settings: TrainSettings, out: str | Path | None = None, *,
    split: Split = "batch", resume: bool = True, checkpoint_seconds: float = 60.0, checkpoint_steps: int | None = None,
    quiet: bool = False,
) -> dict[str, Transcoders | SAE]:  # fmt: skip
    """Train `settings.dictionaries` on rows of token ids [rows, position] (-1 pads on the right), all of them on one
    pass of the model and one shuffled stream; or on the model's activations kept in shards, without running it.

    out: one dictionary is written there, several each in a folder of its name; the run itself in `out`/training.
    Without it nothing is written and nothing can be resumed. A run that was killed goes on from its last checkpoint
    (`checkpoint_seconds`, or every `checkpoint_steps`) and ends with the same bytes, on the same machine and threads.
    Under torchrun (in a process group) each process runs the model on its part of the text and takes its share of every
    batch or of the features (`split`, parallel.py); the first writes, all get what was made.
    Raises `InputError` for rows, shards or models that do not fit, or where `out` holds a run with other settings.
    """
    data = token_rows if isinstance(token_rows, Shards) else as_rows(token_rows, model.facts.vocab_size)
    run = _Run(model, data, settings, Path(out) if out is not None else None, split, resume, quiet)
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
    stream = RowStream(sites, rows, batch=1, block=16_384, seed=settings.seed, first_position=False)
    sample = stream.block(0)
    return fit_decoders(settings, sample.x, sample.y, model=facts_of(model), **points(sites))


def untrained_sae(model: Model, token_rows: ArrayLike | Tensor, settings: DictionarySettings) -> SAE:
    """As `untrained`, of one point."""
    rows = as_rows(token_rows, model.facts.vocab_size)
    wanted = [point for point in (settings.at, settings.to) if point is not None]
    places = Places.of(model, wanted, mlps=False)
    addresses = [places.address(point) for point in wanted]
    sample = RowStream(places, rows, batch=1, block=16_384, seed=settings.seed, first_position=False).block(0)
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
        self, model: Model, data: Tensor | Shards, settings: TrainSettings, out: Path | None, split: Split,
        resume: bool, quiet: bool,
    ) -> None:  # fmt: skip
        self.model, self.settings, self.out, self.split, self.quiet = model, settings, out, split, quiet
        check_split(split, settings.batch)
        sets = any(dictionary.kind != "sae" for dictionary in settings.dictionaries)
        points = [p for d in settings.dictionaries for p in (d.at, d.to) if p is not None]
        self.places = Places.of(model, points, mlps=sets)
        self.stream = self._stream(data)
        settings.check_rows(self.stream.tokens_an_epoch)
        self.training = out / "training" if out is not None else None
        self.step = 0
        going_on = False
        if self.training is not None:
            held = (
                json.dumps(data.index, sort_keys=True).encode() if isinstance(data, Shards) else data.numpy().tobytes()
            )
            who, training = checkpoint.identity(settings, model.hf, held), self.training
            going_on = processes.on_main(lambda: checkpoint.claim(training, who, resume))
        self.learners = self._restored() if going_on else self._fresh()
        self.steps = settings.steps + max((self._finetune_steps(learner) for learner in self.learners), default=0)
        log = self.training / "log.jsonl" if self.training is not None else None
        if log is not None and processes.is_main():
            checkpoint.trim_log(log, self.step)
        silent = (quiet and log is None) or not processes.is_main()
        self.frontier = None if silent else Frontier(self.steps, settings.batch, log, start=self.step)
        if self.frontier is not None and quiet:
            self.frontier.live, self.frontier.every = False, float("inf")

    # ------------------------------------------------------------------------------------------------- beginning

    def _stream(self, data: Tensor | Shards) -> Stream:
        s = self.settings
        if not isinstance(data, Shards):
            return RowStream(
                self.places, data, batch=s.batch, block=s.block, seed=s.seed, first_position=s.first_position
            )
        if self.places.sites is not None:
            raise InputError("shards hold activations at points: dictionaries of kind sae are trained from them.")
        told = data.index["model"]
        if told["fingerprint"] != self.model.fingerprint:
            raise InputError(f"{data.folder} holds activations of {told['name']}, not of this {self.model.name}.")
        if bool(data.index["first_position"]) != s.first_position:
            raise InputError(f"{data.folder} was written with first_position={data.index['first_position']}; train so.")
        points = [site.address for site in self.places.points]
        return ShardStream(data, points, batch=s.batch, block=s.block, seed=s.seed, device=self.places.device)

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
        made = learner_class(self.split)
        return [
            made(
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
                due = self.step - saved_at >= every if every else self._agreed(time.monotonic() - saved > seconds)
                if due and self.step < self.steps:
                    self._save()
                    saved, saved_at = time.monotonic(), self.step
        finally:
            self.model.hf.train(was_training)
        return self._export()

    def _agreed(self, due: bool) -> bool:
        """The first process's clock, since what is saved may be gathered from all."""
        return due if self.training is None else processes.on_main(lambda: due)

    def _one_step(self) -> tuple[dict[str, Step], str]:
        if self.step < self.settings.steps:
            batch = next(self.stream)
            batch = batch.take(share_of_batch(self.split, batch.n))
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
        """As many rows as make a batch; in another order than before. Several processes all take them all."""
        stream = self.stream
        assert isinstance(stream, RowStream)
        count = max(1, round(self.settings.batch * stream.rows.shape[0] / stream.tokens_an_epoch))
        return stream.rows[stream.row_numbers(step, rows=count, order=2)]

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
        if processes.is_main():
            checkpoint.save(self.training, tensors, {"step": self.step, "cursor": list(self.stream.cursor)})

    def _export(self) -> dict[str, Transcoders | SAE]:
        made: dict[str, Transcoders | SAE] = {}
        sample = self.stream.sample(CALIBRATION_TOKENS)  # without position 0: L0 is counted without it too
        for part in self.learners:
            learner = part.whole()
            learner.calibrate(self._taken(learner.settings, sample)[0])
            about = {
                "settings": learner.settings.to_json(),
                "run": self.settings.model_dump(mode="json", exclude={"dictionaries"}),
                "tokens": self.settings.tokens + learner.settings.finetune,
                "rows": self.stream.about,
                "dead_in_training": float((learner.since_fired > learner.settings.dead_after).float().mean()),
            }
            dictionary = self._finished(learner, about)
            if self.out is not None:
                dictionary = dictionary.with_(folder=self._folder(learner.settings.name))
                if processes.is_main():
                    dictionary.save(self._folder(learner.settings.name))
            made[learner.settings.name] = dictionary
        if self.training is not None:
            training = self.training
            processes.on_main(lambda: checkpoint.finish(training))
        return made

    def _finished(self, learner: Learner, about: dict[str, Any]) -> Transcoders | SAE:
        model = facts_of(self.model)
        at, to, _ = self._points(learner.settings)
        if at is None or to is None:
            return learner.transcoders(model=model, training=about, **points(self.sites))
        return learner.sae(model=model, training=about, **where(self.model, at, to))
