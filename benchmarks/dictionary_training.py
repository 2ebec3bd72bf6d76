"""Dictionary training beside SAELens, dictionary_learning and sparsify: tokens a second, memory, explained variance.

    python benchmarks/dictionary_training.py                                     # ours alone: sparse, float32, dense
    python benchmarks/dictionary_training.py --peer-python PEER/bin/python       # and the peers installed there
    python benchmarks/dictionary_training.py --peer-python … --architecture all  # every architecture that two have
    python benchmarks/dictionary_training.py --peer-python … --quality           # explained variance after training

PEER: an environment with sae-lens, dictionary-learning and eai-sparsify, or any of them. Each contestant is a process
(dictionary_trainers.py) that reads the same rows in the same order.

Speed: each timed step is forward, backward and optimiser on one batch, without model pass, buffer or logging on any
side. Repeats alternate between the contestants, so that what else the machine does falls on all; figures are medians,
ratios those of each repeat's own pair. Memory: the peak above the rows. The floor is the encoder's product alone.
Where a penalty chooses the features (relu, gated, jumprelu, p_anneal), how many are active in these first steps differs
between contestants, and with it the cost of a sparse step.

Quality: a width of 1,024 on resid_post.2 of the model that ships, 409,600 tokens, by each package's own recipe at its
usual rate and at ten times that (which short runs may need); the better one counts, on rows held out. For the
architectures that choose k: there the L0 is the same.
Defaults take about 3 minutes of two cores, `--architecture all` 10, `--quality` 5.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from contestant import Contestant, table

OURS = "ours"
PEERS = {"SAELens": "sae_lens", "dictionary_learning": "dictionary_learning", "sparsify": "sparsify"}
HAVE = {
    "topk": (OURS, "ours, float32", "dense", "SAELens", "SAELens, sparse", "dictionary_learning", "sparsify", "floor"),
    "batchtopk": (OURS, "SAELens", "dictionary_learning"), "matryoshka": (OURS, "SAELens", "dictionary_learning"),
    "jumprelu": (OURS, "SAELens", "dictionary_learning"), "relu": (OURS, "SAELens", "dictionary_learning"),
    "gated": (OURS, "SAELens", "dictionary_learning"), "p_anneal": (OURS, "dictionary_learning"),
    "matching_pursuit": (OURS, "SAELens"),
}  # fmt: skip
CHOOSE_K = ("topk", "batchtopk", "matryoshka")
QUALITY = {"d": 128, "features": 1024, "k": 16, "batch": 512, "total": 800}
RATES = (1, 10)


def installed(python: str | None) -> list[str]:
    """The peers that can be imported there."""
    found = []
    for name, module in PEERS.items() if python else ():
        done = subprocess.run([str(python), "-c", f"import {module}"], capture_output=True, check=False)
        found += [name] if done.returncode == 0 else []
    if python and not found:
        sys.exit(f"{python} has none of {', '.join(PEERS)}.")
    return found


def synthetic_rows(path: Path, d: int, n: int) -> None:
    from cutaway.toys.synthetic import synthetic

    np.save(path, synthetic(features=2 * d, d=d, roots=0, push=0, seed=1).sample(n, seed=1).x.numpy())


def model_rows(path: Path) -> None:
    import cutaway as cw
    from cutaway.features.places import Places
    from cutaway.features.stream import as_rows, harvest_all
    from cutaway.organisms.dictionaries import text_rows

    model = cw.load("almanac")
    text, _ = text_rows(model, (), rows=900, seed=0)
    places = Places.of(model, ["resid_post.2"], mlps=False)
    np.save(path, harvest_all(places, as_rows(text, model.facts.vocab_size), first_position=False).at["resid_post.2"])


class Ring:
    """The processes, one a contestant, begun when first asked for."""

    def __init__(self, peer: str | None, threads: int) -> None:
        self.peer, self.threads, self.held = peer, threads, {}
        self.there = installed(peer)
        os.environ["OMP_NUM_THREADS"] = str(threads)

    def of(self, architecture: str) -> list[str]:
        return [w for w in HAVE[architecture] if (package := w.partition(",")[0]) not in PEERS or package in self.there]

    def __getitem__(self, what: str) -> Contestant:
        if what not in self.held:
            python = self.peer if what.partition(",")[0] in PEERS else sys.executable
            code = (Path(__file__).parent / "dictionary_trainers.py").read_text()
            self.held[what] = Contestant(str(python), code, str(self.threads))
        return self.held[what]

    def end(self) -> None:
        for one in self.held.values():
            one.end()


def speed(ring: Ring, architecture: str, asked: dict[str, Any], repeats: int, steps: int) -> list[dict[str, Any]]:
    names = ring.of(architecture)
    for what in names:
        ring[what].ask(make={**asked, "what": what, "architecture": architecture})
        ring[what].ask(steps=1)
    taken: dict[str, list[float]] = {what: [] for what in names}
    memory = dict.fromkeys(names, 0.0)
    for repeat in range(repeats):
        for what in names:
            answer = ring[what].ask(steps=steps)
            taken[what].append(answer["seconds"])
            memory[what] = max(memory[what], answer["memory"])
        print(f"{architecture}: repeat {repeat + 1} of {repeats}", file=sys.stderr)
    tokens = steps * asked["batch"]
    return [
        {
            "architecture": architecture, "what": what, "tokens_per_second": round(tokens / statistics.median(mine)),
            "slowest": round(tokens / max(mine)), "fastest": round(tokens / min(mine)),
            "ours_is_faster_by": round(statistics.median(m / o for m, o in zip(mine, taken[OURS])), 2),
            "memory_mib": round(memory[what]),
        }
        for what, mine in taken.items()
    ]  # fmt: skip


def quality(ring: Ring, rows: Path) -> list[dict[str, Any]]:
    out = []
    for architecture in CHOOSE_K:
        for what in ring.of(architecture):
            if what not in (OURS, *PEERS):
                continue
            tried = {}
            for rate in RATES if what != OURS else (1,):
                asked = {**QUALITY, "rate": rate, "rows": str(rows), "held": 8192, "train": True}
                ring[what].ask(make={**asked, "what": what, "architecture": architecture})
                ring[what].ask(steps=QUALITY["total"])
                tried[rate] = ring[what].ask(judge=True)
            best = max(tried, key=lambda rate: tried[rate]["explained_variance"])
            out.append({"architecture": architecture, "what": what, "rate": best, **tried[best],
                        "at_each_rate": {str(r): one["explained_variance"] for r, one in tried.items()}})  # fmt: skip
            print(f"{architecture}, {what}: {tried[best]['explained_variance']:.3f}", file=sys.stderr)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--features", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--architecture", choices=(*HAVE, "all"), default="topk")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="Steps a repeat.")
    parser.add_argument("--peer-python", help="A Python with peers installed.")
    parser.add_argument("--quality", action="store_true", help="Explained variance after training, in place of speed.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    ring = Ring(args.peer_python, args.threads)
    about: dict[str, Any] = {"threads": args.threads, "processor": platform.processor() or platform.machine()}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.npy"
        if args.quality:
            model_rows(rows)
            about |= QUALITY
            found = quality(ring, rows)
            shown = [["", "", "explained variance", "L0", "rate"]]
            shown += [[r["architecture"], r["what"], f"{r['explained_variance']:.3f}", f"{r['l0']:.1f}",
                       f"{r['rate']} x its own"] for r in found]  # fmt: skip
        else:
            held = 2048
            synthetic_rows(rows, args.d, 8 * args.batch + held)
            asked = {key: getattr(args, key) for key in ("d", "features", "k", "batch")}
            about |= {**asked, "repeats": args.repeats, "steps": args.steps}
            asked |= {"rate": 1, "total": 10_000, "rows": str(rows), "held": held, "train": False}
            found = []
            for architecture in HAVE if args.architecture == "all" else (args.architecture,):
                found += speed(ring, architecture, asked, args.repeats, args.steps)
            shown = [["", "", "tokens/s", "slowest to fastest", "ours is faster by", "MiB"]]
            shown += [[r["architecture"], r["what"], f"{r['tokens_per_second']:,}",
                       f"{r['slowest']:,}-{r['fastest']:,}",
                       f"{r['ours_is_faster_by']:.2f}x", f"{r['memory_mib']:,}"] for r in found]  # fmt: skip
        ring.end()
    if args.json:
        print(json.dumps({"schema": "cutaway.benchmark/2", "settings": about, "rows": found}))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()) + "\n\n" + table(shown))


if __name__ == "__main__":
    main()
