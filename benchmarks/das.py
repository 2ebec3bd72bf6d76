"""Distributed alignment search: training steps a second, ours beside pyvene (PyPI), on the same pairs.

    python benchmarks/das.py
    python benchmarks/das.py --pyvene PYVENE/bin/python --rounds 2      # about six minutes of one quiet core

Cases: an MLP of 64 x 2 that learned hierarchical equality; almanac's two hops (the state, at the city's token after the
first block); GPT-2 small's shape with random weights (16 tokens, block 6 of 12, position 8 and the last).
Both learn one rotation of k dimensions with Adam at one rate on batches of one size, from the same pairs, places and
labels. pyvene runs as its tutorials do it: LowRankRotatedSpaceIntervention, source and base run in each step.
Ours is `cutaway.abstraction.train` with one cell. `iia` is on held-out pairs; `setup` is what ours computes once (base
and source runs), in seconds, not counted in steps a second. The two alternate, in processes of their own, on
`--threads` threads; each figure is the median of the rounds. With one thread seconds are those of the processor, which
others on the machine change less than those of the clock.
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
from collections.abc import Callable
from pathlib import Path

RATE, SEED = 5e-3, 0

OURS = r"""
import json, sys, time, warnings
clock = time.process_time if sys.argv[2] == "1" else time.perf_counter
warnings.filterwarnings("ignore")
import torch
folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
import cutaway as cw
from torch import nn
from cutaway.abstraction import CausalModel, Training, subspace
from cutaway.abstraction.counterfactuals import Counterfactuals
from cutaway.abstraction.data import Data
from cutaway.abstraction.measure import Cell, measure
from cutaway.abstraction.train import train
d = torch.load(folder + "/data.pt", weights_only=True)
if d["kind"] == "mlp":
    w = d["weights"]
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    net.load_state_dict(w)
    model = cw.load(net)
else:
    model = cw.load(d["model"] if d["model"] == "almanac" else folder + "/model")
base, source, labels = d["base"], d["source"], d["labels"].tolist()
n = len(labels)
lengths = d["lengths"]
rows = torch.cat([base, source])
position = torch.cat([d["at"], d["at_source"]]).tolist()
def prompt(v):
    x = rows[v["row"]]
    return x if d["kind"] == "mlp" else x[: lengths[v["row"]]].tolist()
causal = CausalModel({"row": range(2 * n)}, {"v": lambda row: row, "out": lambda v, row: labels[row % n]},
    prompt=prompt, answer=int, positions={"place": lambda v: position[v["row"]]})
pairs = Counterfactuals(tuple({"row": i} for i in range(n)), (tuple({"row": n + i} for i in range(n)),),
    torch.ones(n, 1, dtype=torch.bool), 0.5, "pairs")
begun = clock()
data = Data(model, causal, ("v",), pairs, [d["point"]])
setup = clock() - begun
place = subspace(d["point"], "place" if d["kind"] == "lm" else "answer", dims=d["k"])
cell = Cell((data.spot(place, 0),), data.wanted, 0)
fit = torch.arange(d["train"])
train(data, [place], [cell], fit, Training(min(3, d["steps"]), d["batch"], d["rate"]), False)
begun = clock()
found = train(data, [place], [cell], fit, Training(d["steps"], d["batch"], d["rate"]), False)
seconds = clock() - begun
test = torch.arange(d["train"], n)
iia = float(measure(data, [cell], found, test).hits.float().mean())
print(json.dumps({"steps": d["steps"] / seconds, "iia": iia, "setup": setup}))
"""

PEER = r"""
import json, sys, time, warnings
clock = time.process_time if sys.argv[2] == "1" else time.perf_counter
warnings.filterwarnings("ignore")
import torch
folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
import pyvene as pv
d = torch.load(folder + "/data.pt", weights_only=True)
torch.manual_seed(0)
if d["kind"] == "mlp":
    from pyvene.models.mlp.modelings_mlp import MLPConfig, MLPForClassification
    config = MLPConfig(h_dim=64, n_layer=2, num_classes=2, activation_function="relu", pdrop=0.0,
        problem_type="single_label_classification")
    model = MLPForClassification(config)
    w, own = d["weights"], model.state_dict()
    for mine, theirs in (("0", "mlp.h.0.ff1"), ("2", "mlp.h.1.ff1"), ("4", "score")):
        for part in ("weight", "bias"):
            if theirs + "." + part in own:
                own[theirs + "." + part] = w[mine + "." + part]
    model.load_state_dict(own)
else:
    import transformers
    model = transformers.AutoModelForCausalLM.from_pretrained(d["path"] or folder + "/model", dtype=torch.float32)
model.eval()
config = pv.IntervenableConfig(model_type=type(model), representations=[pv.RepresentationConfig(
    d["layer"], "block_output", "pos", 1, low_rank_dimension=d["k"])],
    intervention_types=pv.LowRankRotatedSpaceIntervention)
tool = pv.IntervenableModel(config, model)
tool.set_device("cpu")
tool.disable_model_gradients()
optimiser = torch.optim.Adam([{"params": v.rotate_layer.parameters()} for v in
    (x[0] if isinstance(x, (tuple, list)) else x for x in tool.interventions.values())], lr=d["rate"])
schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: min(1.0, 2 * (1 - s / d["steps"])))
n, fit = len(d["labels"]), d["train"]
lengths = torch.tensor(d["lengths"])

def logits(items):
    if d["kind"] == "mlp":
        give = [{"inputs_embeds": d[x][items][:, None]} for x in ("base", "source")]
        at = [[0]] * len(items)
        where = {"sources->base": ([at], [at])}
    else:
        give = []
        for x, offset in (("base", 0), ("source", n)):
            ids = d[x][items]
            mask = torch.arange(ids.shape[1])[None] < lengths[items + offset][:, None]
            give.append({"input_ids": ids, "attention_mask": mask.long()})
        there, here = ([[int(p)] for p in d[name][items]] for name in ("at_source", "at"))
        where = {"sources->base": ([there], [here])}
    _, out = tool(give[0], [give[1]], where)
    if d["kind"] == "mlp":
        return out[0] if out[0].ndim == 2 else out[0][:, 0]
    return out.logits[torch.arange(len(items)), lengths[items] - 1]

def step(items):
    loss = torch.nn.functional.cross_entropy(logits(items), d["labels"][items])
    optimiser.zero_grad(); loss.backward(); optimiser.step(); schedule.step()

generator = torch.Generator().manual_seed(7)
order, at = torch.randperm(fit, generator=generator), 0
def batch():
    global order, at
    if at + d["batch"] > fit:
        order, at = torch.randperm(fit, generator=generator), 0
    items = order[at : at + d["batch"]]
    at += d["batch"]
    return items
begun = clock()
for _ in range(d["steps"]):
    step(batch())
seconds = clock() - begun
hits = []
with torch.no_grad():
    for items in torch.arange(fit, n).split(256):
        hits.append((logits(items).argmax(-1) == d["labels"][items]).float())
print(json.dumps({"steps": d["steps"] / seconds, "iia": float(torch.cat(hits).mean())}))
"""


def equality(folder: Path, quick: bool) -> None:
    """4 objects of 16 numbers, so that the first layer is 64 x 64 as pyvene's MLP has it."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def drawn(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = torch.empty(n, 4, 16).uniform_(-1, 1, generator=generator)
        left, right = (torch.rand(2, n, generator=generator) < 0.5).unbind()
        x[left, 1], x[right, 3] = x[left, 0], x[right, 2]
        return x.flatten(1), left, right

    steps = 1500 if quick else 6000
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, steps)
    for _ in range(steps):
        x, left, right = drawn(512)
        loss = nn.functional.cross_entropy(net(x), (left == right).long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    n, fit = (3000, 2500) if quick else (9000, 8000)
    (base, _, right), (source, left, _) = drawn(n), drawn(n)
    zeros = torch.zeros(n, dtype=torch.long)
    body = {
        "kind": "mlp", "weights": net.state_dict(), "base": base, "source": source, "labels": (left == right).long(),
        "lengths": [1] * (2 * n), "at": zeros, "at_source": zeros, "point": "path.1", "layer": 0, "k": 16,
        "batch": 1024,        "train": fit, "steps": 100 if quick else 800, "rate": RATE,
    }  # fmt: skip
    torch.save(body, folder / "data.pt")


def two_hops(batch: int, steps: int) -> Callable[[Path, bool], None]:
    return lambda folder, quick: _two_hops(folder, quick, batch, steps)


def _two_hops(folder: Path, quick: bool, batch: int, steps: int) -> None:
    import torch

    import cutaway as cw
    from cutaway.abstraction import counterfactuals
    from cutaway.abstraction.written import columns, tokens, written
    from cutaway.core.registry import shipped_models
    from cutaway.exams.abstraction_cases import case

    found = case("two-hop").causal
    model = cw.load("almanac")
    first = counterfactuals(found, "state", 400 if quick else 1500, part="train")
    pairs = first.plus(counterfactuals(found, "state", 200, part="test"))
    both = [written(model, found, inputs) for inputs in (pairs.base, pairs.sources[0])]
    width = max(rows.batch.ids.shape[1] for rows in both)
    ids = [torch.nn.functional.pad(rows.batch.ids, (0, width - rows.batch.ids.shape[1])) for rows in both]
    at = [columns(model, found, rows, "city", "city")[:, 0] for rows in both]
    labels = tokens(model, found, pairs.expected(found, ["state"]))[:, 0]
    body = {
        "kind": "lm", "model": "almanac", "path": str(shipped_models()["almanac"]), "base": ids[0], "source": ids[1],
        "labels": labels, "lengths": [n for rows in both for n in rows.batch.layout.lengths], "at": at[0],
        "at_source": at[1], "point": "resid_post.0", "layer": 0, "k": 32, "batch": batch, "train": len(first),
        "steps": 20 if quick else steps, "rate": RATE,
    }  # fmt: skip
    torch.save(body, folder / "data.pt")


def gpt2(position: int, steps: int) -> Callable[[Path, bool], None]:
    def make(folder: Path, quick: bool) -> None:
        import torch
        import transformers

        torch.manual_seed(SEED)
        if not (folder / "model").exists():
            transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(folder / "model")
        n = 48
        ids, other = torch.randint(0, 50257, (2, n, 16))
        body = {
            "kind": "lm", "model": "folder", "path": "", "base": ids, "source": other,
            "labels": torch.randint(0, 50257, (n,)), "lengths": [16] * (2 * n), "at": torch.full((n,), position),
            "at_source": torch.full((n,), position), "point": "resid_post.6", "layer": 6, "k": 32, "batch": 16,
            "train": 32, "steps": 2 if quick else steps, "rate": RATE,
        }  # fmt: skip
        torch.save(body, folder / "data.pt")

    return make


CASES = {
    "equality MLP 64 x 2, k 16, batch 1024": equality,
    "almanac, two hops, k 32, batch 32": two_hops(32, 150),
    "almanac, two hops, k 32, batch 128": two_hops(128, 60),
    "GPT-2 small's shape, position 8 of 16, k 32, batch 16": gpt2(8, 4),
    "GPT-2 small's shape, last position, k 32, batch 16": gpt2(15, 4),
}


def run(python: str, code: str, folder: Path, threads: int) -> dict[str, float]:
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    command = [python, "-c", code, str(folder), str(threads)]
    out = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if out.returncode:
        raise SystemExit(out.stderr[-3000:])
    return json.loads(out.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pyvene", help="a Python that has pyvene")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--case", help="only cases whose name holds this")
    asked = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {asked.threads} thread(s), median of {asked.rounds} rounds")
    print(f"{'':55} {'steps/s':>9} {'setup s':>8} {'IIA':>6}")
    for name, make in CASES.items():
        if asked.case and asked.case not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), asked.quick)
            found: dict[str, list[dict[str, float]]] = {"ours": [], "pyvene": []}
            for _ in range(asked.rounds):
                found["ours"].append(run(sys.executable, OURS, Path(folder), asked.threads))
                if asked.pyvene:
                    found["pyvene"].append(run(asked.pyvene, PEER, Path(folder), asked.threads))
        medians = {who: statistics.median(r["steps"] for r in rounds) for who, rounds in found.items() if rounds}
        print(name)
        for who, rounds in found.items():
            if rounds:
                setup = statistics.median(r.get("setup", 0.0) for r in rounds)
                print(f"  {who:53} {medians[who]:9.2f} {setup:8.2f} {rounds[-1]['iia']:6.3f}")
        if "pyvene" in medians:
            print(f"  {'ours / pyvene':53} {medians['ours'] / medians['pyvene']:9.1f}", flush=True)


if __name__ == "__main__":
    main()
