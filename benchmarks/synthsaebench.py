"""Dictionaries on SynthSAEBench-16k's own subject, beside its published figures.

    python benchmarks/synthsaebench.py --out DIR [--samples 1000000] [--architectures matryoshka,batchtopk]

16,384 known features in 768 dimensions, dictionaries of 4,096 at an L0 of 25, as published (arXiv 2602.14687);
trained on `--samples`, each read once, where the published ones have 200 million. What each architecture scored lies in
DIR and is not trained again. One core: a minute for the features, five to draw a million samples, then minutes a
dictionary.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from cutaway.core import read_json, write_json
from cutaway.features import ARCHITECTURES, DictionarySettings, TrainSettings, fit_rows
from cutaway.features.components import pca, random_dictionary
from cutaway.features.recovery import recovery
from cutaway.toys.synthetic import Synthetic, SyntheticSettings, synthetic

WIDTH, L0, BATCH, HELD_OUT, CHUNK = 4096, 25, 1024, 8192, 4096
# F1, MCC, explained variance at L0 25 in the paper
PUBLISHED = {
    "matryoshka": (0.879, 0.793, 0.779),
    "batchtopk": (0.732, 0.757, 0.792),
    "jumprelu": (0.732, 0.753, 0.795),
    "relu": (0.556, 0.604, 0.765),
    "matching_pursuit": (0.446, 0.693, 0.835),
}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--samples", type=int, default=1_000_000)
    given.add_argument("--architectures", default="matryoshka,batchtopk,jumprelu,relu")
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--threads", type=int, default=1)
    asked = given.parse_args()
    torch.set_num_threads(asked.threads)
    names = asked.architectures.split(",")
    begun = time.time()
    toy = synthetic(SyntheticSettings.published(asked.seed))
    print(f"{toy.settings.features:,} features, {toy.l0:.1f} active a sample ({time.time() - begun:.0f} s)", flush=True)
    held = toy.sample(HELD_OUT, seed=1_000_003 + asked.seed)
    x = samples(toy, asked.samples, asked.seed)
    print(f"{len(x):,} samples ({time.time() - begun:.0f} s)", flush=True)

    print("kind               F1 (published)   MCC (published)    EV (published)     L0  uniqueness  dead", flush=True)
    for name in [*names, "PCA", "random dictionary"]:
        place = asked.out / f"{name}-{asked.samples}-{asked.seed}.json"
        if not place.is_file():
            if name in ARCHITECTURES:
                made = trained(x, name, asked.seed)
            else:
                made = (
                    pca(x[:65_536], L0, leading=False) if name == "PCA" else random_dictionary(x, L0, WIDTH, asked.seed)
                )
            write_json(place, recovery(made, toy.directions, held.x, held.a).to_json())
        one = read_json(place)
        beside = [f"({p:.3f})" for p in PUBLISHED[name]] if name in PUBLISHED else [""] * 3
        scores = "   ".join(f"{one[m]:.3f} {p:>9}" for m, p in zip(("f1", "mcc", "explained_variance"), beside))
        told = f"{name:17s} {scores}   {one['l0']:5.1f}  {one['uniqueness']:10.2f}  {one['dead']:4.0%}"
        print(f"{told}   ({time.time() - begun:.0f} s)", flush=True)


def samples(toy: Synthetic, n: int, seed: int) -> torch.Tensor:
    """[n, d], drawn a chunk at a time."""
    x = torch.empty(n, toy.settings.d)
    for i, at in enumerate(range(0, n, CHUNK)):
        part = x[at : at + CHUNK]
        part.copy_(toy.sample(len(part), seed=2_000_003 + seed * 10_000_019 + i).x)
    return x


def trained(x: torch.Tensor, name: str, seed: int):
    one = {
        "name": name, "kind": "sae", "at": "resid_post.0", "features": WIDTH, "l0": L0, "activation": name,
        "floor": None, "dead_after": 100_000, "seed": seed, **dict(ARCHITECTURES[name].recipe),
    }  # fmt: skip
    run = TrainSettings(dictionaries=(DictionarySettings.read(one),), tokens=len(x), batch=BATCH, seed=seed)
    return fit_rows(x, run)[name]


if __name__ == "__main__":
    main()
