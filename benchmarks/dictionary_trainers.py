"""Trainers of sparse autoencoders behind one interface, each in a process of its own, for dictionary_training.py.

A maker takes what is asked (architecture, d, features, k, batch, rate, total steps) and gives (step, reconstruct):

    step(x)          forward, backward and one step of its optimiser on rows x [batch, d]
    reconstruct(x)   x [n, d] -> (x_hat [n, d], active features a row)

The packages are used as their own trainers use them, without their buffers, logging and schedulers of the stream. A
process reads a line of JSON and answers one: {"make": …}, {"steps": n}, {"judge": true}.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Trainer = tuple[Callable[[Tensor], None], Callable[[Tensor], tuple[Tensor, float]]]
Asked = dict[str, Any]


def ours(a: Asked, *, bf16: bool = True) -> Trainer:
    from cutaway.features import ARCHITECTURES, DictionarySettings
    from cutaway.features.learner import Learner
    from cutaway.features.normalise import Normalisation

    sample = rows(a)[:8192][None]
    settings = DictionarySettings.read({
        "kind": "sae", "at": "resid_post.0", "features": a["features"], "l0": a["k"], "activation": a["architecture"],
        "floor": None, "dead_after": 100 * a["batch"], **ARCHITECTURES[a["architecture"]].recipe,
        **({} if a["train"] else {"l0_start": a["k"]}),
    })  # fmt: skip
    made = Learner(settings, 1, a["d"], a["d"], Normalisation.of(sample, sample), bf16=bf16).begin(sample)
    done = 0

    def step(x: Tensor) -> None:
        nonlocal done
        made.anneal(done / a["total"])
        left = min(1.0, (done + 1) / (0.02 * a["total"]), 2 * (1 - done / a["total"]))  # as `train` schedules it
        made.step(x[None], x[None], made.lr * a["rate"] * left)
        done += 1

    def reconstruct(x: Tensor) -> tuple[Tensor, float]:
        made.calibrate(sample)
        found, active = made.sae().reconstruct(x)
        return found, len(active) / len(x)

    return step, reconstruct


def ours_float32(a: Asked) -> Trainer:
    return ours(a, bf16=False)


def dense(a: Asked) -> Trainer:
    """TopK with dense products and autograd, as most trainers do it."""
    g = torch.Generator().manual_seed(1)
    W = torch.nn.Parameter(torch.randn(a["features"], a["d"], generator=g) / a["d"] ** 0.5)
    D = torch.nn.Parameter(0.1 * W.detach().clone())
    b, c = (torch.nn.Parameter(torch.zeros(n)) for n in (a["features"], a["d"]))
    adam = torch.optim.Adam((W, D, b, c), lr=1e-3 * a["rate"], fused=True)

    def forward(x: Tensor) -> Tensor:
        h = x @ W.T + b
        top = h.topk(a["k"], dim=1)
        return torch.zeros_like(h).scatter(1, top.indices, top.values.relu()) @ D + c

    def step(x: Tensor) -> None:
        (forward(x) - x).square().sum(-1).mean().backward()
        adam.step()
        adam.zero_grad(set_to_none=True)

    return step, lambda x: (forward(x), float(a["k"]))


def floor(a: Asked) -> Trainer:
    """The encoder's product alone, in float32, which no exact dense encoder can beat: by the faster of torch's two
    libraries (MKL leaves half of an AMD processor's vector units idle)."""
    W, bias = torch.randn(a["features"], a["d"]), torch.zeros(a["features"])
    x = torch.randn(a["batch"], a["d"])
    ways: list[Callable[[Tensor], Any]] = [lambda x: torch.addmm(bias, x, W.T)]
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        ways.append(lambda x: torch.ops.mkldnn._linear_pointwise(x, W, bias, "none", [], ""))

    def taken(way: Callable[[Tensor], Any]) -> float:
        way(x)
        begun = time.perf_counter()
        way(x)
        return time.perf_counter() - begun

    with torch.no_grad():
        best = min(ways, key=taken)

    @torch.no_grad()
    def step(x: Tensor) -> None:
        best(x)

    return step, lambda x: (x, 0.0)


def saelens(a: Asked, *, sparse: bool = False) -> Trainer:
    import sae_lens
    from sae_lens.saes.sae import TrainStepInput

    names = {
        "topk": "TopK", "batchtopk": "BatchTopK", "matryoshka": "MatryoshkaBatchTopK", "jumprelu": "JumpReLU",
        "relu": "Standard", "gated": "Gated", "matching_pursuit": "MatchingPursuit",
    }  # fmt: skip
    name = names[a["architecture"]]
    make, config = (getattr(sae_lens, f"{name}TrainingSAE{end}") for end in ("", "Config"))
    more: Asked = {"k": a["k"]} if "TopK" in name else {}
    if a["architecture"] == "topk":  # with both, 6.54 fails on the CPU
        more |= {"use_sparse_activations": sparse, "rescale_acts_by_decoder_norm": not sparse}
    if a["architecture"] == "matryoshka":
        more["matryoshka_widths"] = [a["features"] // n for n in (16, 8, 4, 2)]
    if a["architecture"] == "matching_pursuit":
        more["max_iterations"] = a["k"]
    sae = make(config(d_in=a["d"], d_sae=a["features"], device="cpu", dtype="float32", **more))
    logging = {"is_logging_step": False} if "is_logging_step" in inspect.signature(TrainStepInput).parameters else {}
    adam = torch.optim.Adam(sae.parameters(), lr=3e-4 * a["rate"])
    weights = {
        name: value if isinstance(value, float) else value.value for name, value in sae.get_coefficients().items()
    }
    done = 0

    def step(x: Tensor) -> None:
        nonlocal done
        given = TrainStepInput(
            sae_in=x, coefficients=weights, dead_neuron_mask=None, n_training_steps=done, **logging
        )  # fmt: skip
        sae.training_forward_pass(given).loss.backward()
        adam.step()
        adam.zero_grad()
        done += 1

    def reconstruct(x: Tensor) -> tuple[Tensor, float]:
        encoded = sae.encode(x)
        active = encoded.to_dense() if encoded.is_sparse else encoded
        return sae.decode(encoded), float((active != 0).sum()) / len(x)

    return step, reconstruct


def saelens_sparse(a: Asked) -> Trainer:
    return saelens(a, sparse=True)


def dictionary_learning(a: Asked) -> Trainer:
    from dictionary_learning.trainers import (
        batch_top_k,
        gdm,
        jumprelu,
        matryoshka_batch_top_k,
        p_anneal,
        standard,
        top_k,
    )

    fractions = [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
    kinds: dict[str, tuple[Any, Asked, float]] = {  # with its usual rate: None in its signature is this
        "topk": (top_k.TopKTrainer, {"k": a["k"]}, 2e-4 / (a["features"] / 2**14) ** 0.5),
        "batchtopk": (batch_top_k.BatchTopKTrainer, {"k": a["k"]}, 2e-4 / (a["features"] / 2**14) ** 0.5),
        "matryoshka": (
            matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer, {"k": a["k"], "group_fractions": fractions},
            2e-4 / (a["features"] / 2**14) ** 0.5,
        ),
        "jumprelu": (jumprelu.JumpReluTrainer, {"target_l0": float(a["k"])}, 7e-5),
        "relu": (standard.StandardTrainerAprilUpdate, {}, 1e-3),
        "gated": (gdm.GatedSAETrainer, {}, 5e-5),
        "p_anneal": (p_anneal.PAnnealTrainer, {"anneal_start": a["total"] // 5}, 1e-3),
    }  # fmt: skip
    make, more, rate = kinds[a["architecture"]]
    takes = inspect.signature(make.__init__).parameters
    usual: Asked = {
        "steps": a["total"], "activation_dim": a["d"], "dict_size": a["features"], "layer": 0, "lm_name": "none",
        "lr": rate * a["rate"], "warmup_steps": a["total"] // 20, "decay_start": int(0.8 * a["total"]), "seed": 0,
        "device": "cpu", "sparsity_warmup_steps": a["total"] // 10,
    }  # fmt: skip
    trainer = make(**{name: value for name, value in usual.items() if name in takes}, **more)
    done = 0

    def step(x: Tensor) -> None:
        nonlocal done
        trainer.update(done, x)
        done += 1

    def reconstruct(x: Tensor) -> tuple[Tensor, float]:
        encode = trainer.ae.encode
        chosen = {"use_threshold": False} if "use_threshold" in inspect.signature(encode).parameters else {}
        f = encode(x, **chosen)
        return trainer.ae.decode(f), float((f != 0).sum()) / len(x)

    return step, reconstruct


def sparsify(a: Asked) -> Trainer:
    from schedulefree import ScheduleFreeWrapper
    from sparsify.config import SparseCoderConfig
    from sparsify.sign_sgd import SignSGD
    from sparsify.sparse_coder import SparseCoder

    sae = SparseCoder(a["d"], SparseCoderConfig(num_latents=a["features"], k=a["k"]), device="cpu", dtype=torch.float32)
    sae.b_dec.data = rows(a)[:8192].mean(0)
    rate = 5e-3 / (a["features"] / 2**14) ** 0.5 * a["rate"]
    optimiser = ScheduleFreeWrapper(SignSGD(sae.parameters(), lr=rate), momentum=0.95)

    def step(x: Tensor) -> None:
        optimiser.train()
        sae.set_decoder_norm_to_unit_norm()
        sae(x).fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()

    def reconstruct(x: Tensor) -> tuple[Tensor, float]:
        optimiser.eval()
        return sae(x).sae_out, float(a["k"])

    return step, reconstruct


MAKERS = {
    "ours": ours, "ours, float32": ours_float32, "dense": dense, "floor": floor, "SAELens": saelens,
    "SAELens, sparse": saelens_sparse, "dictionary_learning": dictionary_learning, "sparsify": sparsify,
}  # fmt: skip
PACKAGES = {
    "ours": "cutaway.features.learner", "SAELens": "sae_lens", "dictionary_learning": "dictionary_learning",
    "sparsify": "sparsify",
}  # fmt: skip
SCALED = {"dictionary_learning": 1.0}  # the mean |x|^2 that its trainer brings rows to; the others': d


def rows(a: Asked) -> Tensor:
    """The stream [n, d], centred, at the scale that the package expects."""
    x = torch.from_numpy(np.load(a["rows"])).float()
    x = x - x.mean(0)
    return x * (SCALED.get(a["what"], float(a["d"])) / x.square().sum(-1).mean()) ** 0.5


def peak() -> float:
    """MiB, since it was last set back."""
    try:
        told = Path("/proc/self/status").read_text()
        return int(told.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps({"ready": True}), flush=True)
    step: Any = None
    for line in sys.stdin:
        asked = json.loads(line)
        answer: Asked = {"ok": True}
        if "make" in asked:
            a, at = asked["make"], 0
            step = reconstruct = x = held = None
            importlib.import_module(PACKAGES.get(a["what"].partition(",")[0], "torch"))
            torch.manual_seed(0)
            x = rows(a)
            held, x = x[-a["held"] :], x[: -a["held"]]
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
            before = peak()
            step, reconstruct = MAKERS[a["what"]](a)
        elif "steps" in asked:
            begun = time.perf_counter()
            for _ in range(asked["steps"]):
                step(x[at : at + a["batch"]])
                at = (at + a["batch"]) % (len(x) - a["batch"] + 1)
            answer = {"seconds": time.perf_counter() - begun, "memory": peak() - before}
        else:
            with torch.no_grad():
                found, l0 = reconstruct(held)
            left = (held - found).square().sum() / (held - held.mean(0)).square().sum()
            answer = {"explained_variance": 1 - float(left), "l0": l0}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
