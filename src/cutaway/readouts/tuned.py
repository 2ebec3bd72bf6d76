"""The tuned lens: an affine translator for each point, from the stream there to the stream at the end.

    TunedLens_l(h) = LogitLens(h + A_l h + b_l)          A = 0, b = 0 is the logit lens

Source: Belrose et al., "Eliciting latent predictions from transformers with the tuned lens" (2023). Beside the
translators stand the two baselines trained on the same text: a bias alone (h + c_l), and the unigram, one distribution
that reads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError, read_json, write_json
from cutaway.core.files import atomic_folder
from cutaway.model import Model

SCHEMA = "cutaway.tuned-lens/1"
TENSORS = "translators.safetensors"
RUNNING = ("training.safetensors", "twin.training.safetensors")  # what a training that goes on leaves


@dataclass(frozen=True, eq=False, repr=False)
class TunedLens:
    """Translators by address. A: [d_model, d_model], b and c: [d_model]; `unigram` [vocab], log-probabilities.

    `twin` is the same trained on the re-randomised model, the null. `settings` says how it was trained, `report` how
    well it does on held-out text.
    """

    A: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    c: Mapping[str, Tensor]
    unigram: Tensor
    model: str
    fingerprint: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    twin: TunedLens | None = None

    @classmethod
    def identity(cls, model: Model, at: str = "resid_post.*") -> TunedLens:
        """Translators that change nothing: the logit lens."""
        d, names = model.facts.d_model, lens_points(model, at)
        return cls(
            A={name: torch.zeros(d, d) for name in names},
            b={name: torch.zeros(d) for name in names},
            c={name: torch.zeros(d) for name in names},
            unigram=torch.full((model.facts.vocab_size,), -float(torch.tensor(model.facts.vocab_size).log())),
            model=model.name,
            fingerprint=model.fingerprint,
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self.A)

    def translate(self, address: str, x: Tensor) -> Tensor:
        """h + A h + b of x [..., d_model]; x itself at the last point, which needs no translator."""
        if address not in self.A:
            return x
        h = x.float()
        return h + h @ self.A[address].to(h).T + self.b[address].to(h)

    def shift(self, address: str, x: Tensor) -> Tensor:
        """The bias-only baseline, h + c."""
        return x if address not in self.c else x.float() + self.c[address].to(x.device)

    def fits(self, model: Model) -> None:
        """Raises InputError where the lens was trained on another model, or on other weights of it."""
        d = next(iter(self.A.values())).shape[0]
        if (d, len(self.unigram)) != (model.facts.d_model, model.facts.vocab_size):
            raise InputError(
                f"the tuned lens is of {self.model} (width {d}, vocabulary {len(self.unigram)}), "
                f"not of {model.name} (width {model.facts.d_model}, vocabulary {model.facts.vocab_size})."
            )
        if self.fingerprint != model.fingerprint:
            raise InputError(
                f"the tuned lens was trained on other weights of {self.model} than {model.name} has now; "
                "train it again: cutaway lens --train-tuned TEXT --out FOLDER"
            )

    # ---- on disk

    def save(self, folder: str | Path) -> None:
        """Write `config.json` and `translators.safetensors` (the twin's beside them), whole or not at all."""
        from safetensors.torch import save_file

        with atomic_folder(folder, (TENSORS, *RUNNING), stale=RUNNING) as temporary:
            tensors = self._tensors()
            if self.twin is not None:
                tensors |= {f"twin.{name}": x for name, x in self.twin._tensors().items()}
            save_file(tensors, temporary / TENSORS)
            write_json(temporary / "config.json", self.to_json(), indent=1)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "addresses": list(self.A),
            "d_model": int(next(iter(self.A.values())).shape[0]),
            "settings": dict(self.settings),
            "report": dict(self.report),
            "twin": None if self.twin is None else {"model": self.twin.model, "report": dict(self.twin.report)},
        }

    def _tensors(self) -> dict[str, Tensor]:
        parts = {"A": self.A, "b": self.b, "c": self.c}
        found = {f"{part}.{name}": x for part, group in parts.items() for name, x in group.items()}
        return {name: x.detach().cpu().contiguous() for name, x in {**found, "unigram": self.unigram}.items()}

    @classmethod
    def load(cls, folder: str | Path) -> TunedLens:
        """Read what `save` wrote. Raises InputError for a folder that holds no tuned lens, or a damaged one."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        if not (folder / "config.json").is_file() or not (folder / TENSORS).is_file():
            unfinished = (folder / "training.safetensors").is_file()
            hint = "its training was not finished: run the same command again" if unfinished else "train one first"
            raise InputError(f"{folder} holds no tuned lens (config.json and {TENSORS}); {hint}.")
        config = read_json(folder / "config.json")
        if not isinstance(config, dict) or config.get("schema") != SCHEMA:
            raise InputError(f"{folder}/config.json is not of schema {SCHEMA!r}.")
        try:
            tensors = load_file(folder / TENSORS)
            names = config["addresses"]

            def part(prefix: str) -> TunedLens:
                return cls(
                    A={name: tensors[f"{prefix}A.{name}"] for name in names},
                    b={name: tensors[f"{prefix}b.{name}"] for name in names},
                    c={name: tensors[f"{prefix}c.{name}"] for name in names},
                    unigram=tensors[f"{prefix}unigram"],
                    model=config["model"],
                    fingerprint=config["fingerprint"],
                    settings=config["settings"],
                    report=config["report"],
                )

            main = part("")
            if config["twin"] is None:
                return main
            return replace(main, twin=replace(part("twin."), **config["twin"]))
        except (KeyError, SafetensorError) as error:
            raise InputError(f"{folder} holds a damaged tuned lens: {error}.") from error

    def __str__(self) -> str:
        lines = [f"tuned lens of {self.model}: {len(self.A)} translators ({', '.join(self.A)})"]
        lines += [str(line) for line in self.report.get("text", [])]
        return "\n".join(lines)

    __repr__ = __str__


def lens_points(model: Model, at: str = "resid_post.*") -> tuple[str, ...]:
    """The addresses that a lens reads, in forward order: the stream entering the first block, and `at`'s points.

    Raises InputError for points that are no [batch, position, d_model] stream, and for unknown ones.
    """
    names = list(model.addresses(at))
    for name in names:
        if model.site(name).axes[-1] != "d_model" or name in ("final_norm", "final_normalized"):
            axes = ", ".join(model.site(name).axes)
            raise InputError(
                f"a lens reads the residual stream (resid_pre, resid_mid, resid_post) or what a sublayer adds to it "
                f"(attn_out_post, mlp_out_post); {name} is [{axes}]."
            )
    if names[0].startswith("resid_post.") and model.refuses("resid_pre.0") is None:
        names = ["resid_pre.0", *names]
    return tuple(names)
