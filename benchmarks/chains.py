"""Chain-steps a second against devinterp: the same network, weights, data, batch size, sampler (SGLD) and settings.

    python benchmarks/chains.py --peer-python PEER/bin/python [--rounds 3] [--only small] [--threads 2]

PEER: an environment with torch and devinterp (1.3.2 was run; 2.x serves language models only). Each round runs ours,
then theirs, in processes of their own with as many threads (one); times exclude imports, and include everything that a
call does (for ours the recording of the graph). The two estimates stand beside each other: they must agree within their
spread. About five minutes of one quiet core.

At ten million weights most of a chain-step is arithmetic that both must do: on the core this was written on, 25 ms of
normal numbers and 25 ms of forward and backward by torch's own products (11 ms by oneDNN's, which ours takes on x86).
torch draws normal numbers by one thread; with several, ours draws them while the others work.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# name -> widths of a ReLU network (linear without), items, batch, chains, steps, eps, n beta, gamma
CASES = {
    "small: deep linear 10-10-10": {
        "dims": [10, 10, 10], "relu": False, "n": 1000, "batch": 100, "chains": 32, "steps": 600,
        "eps": 2e-6, "n_beta": 5000.0, "gamma": 1.0, "peer_chains": 4,
    },
    "small: ReLU 20-32-32-1": {
        "dims": [20, 32, 32, 1], "relu": True, "n": 1000, "batch": 100, "chains": 32, "steps": 600,
        "eps": 1e-6, "n_beta": 500.0, "gamma": 1.0, "peer_chains": 4,
    },
    "10M: ReLU 1024-2200-2200-1024": {
        "dims": [1024, 2200, 2200, 1024], "relu": True, "n": 256, "batch": 32, "chains": 2, "steps": 40,
        "eps": 1e-8, "n_beta": 50.0, "gamma": 1.0, "peer_chains": 2,
    },
}  # fmt: skip

NETWORK = """
import json, sys, time, torch
from torch import nn
case = json.loads(sys.argv[1])
torch.set_num_threads(case["threads"])
torch.manual_seed(0)
layers = []
for i, (a, b) in enumerate(zip(case["dims"], case["dims"][1:])):
    layers += [nn.Linear(a, b, bias=False)] + ([nn.ReLU()] if case["relu"] and i < len(case["dims"]) - 2 else [])
module = nn.Sequential(*layers)
x = torch.randn(case["n"], case["dims"][0])
with torch.no_grad():
    y = module(x)
"""

OURS = (
    NETWORK
    + """
import arviz_stats.base
from cutaway.development import Loss, Setting, llc, squared_error
loss = Loss(module, (x, y), squared_error)
setting = Setting(n_beta=case["n_beta"], localisation=case["gamma"], eps=case["eps"], chains=case["chains"],
                  draws=case["steps"] // 2, burn_in=case["steps"] // 2, batch=case["batch"], seed=1)
begun = time.perf_counter()
found = llc(loss, setting)
seconds = time.perf_counter() - begun
print(json.dumps({"seconds": seconds, "steps": case["chains"] * case["steps"], "llc": found.per_chain.tolist(),
                  "how": found.how}))
"""
)

THEIRS = (
    NETWORK
    + """
import warnings
warnings.filterwarnings("ignore")
from devinterp.optim.sgld import SGLD
from devinterp.slt.sampler import estimate_learning_coeff_with_summary
from torch.utils.data import DataLoader, TensorDataset
def evaluate(model, data):
    inputs, targets = data
    return 0.5 * (model(inputs) - targets).square().sum(-1).mean()
loader = DataLoader(TensorDataset(x, y), batch_size=case["batch"], shuffle=True)
begun = time.perf_counter()
found = estimate_learning_coeff_with_summary(
    module, loader, evaluate=evaluate, sampling_method=SGLD,
    optimizer_kwargs={"lr": case["eps"], "nbeta": case["n_beta"], "localization": case["gamma"]},
    num_chains=case["peer_chains"], num_draws=case["steps"] // 2, num_burnin_steps=case["steps"] // 2,
    init_loss=0.0 + 1e-30, verbose=False, seed=1)
seconds = time.perf_counter() - begun
means = found["loss/trace"].mean(1) * case["n_beta"]
print(json.dumps({"seconds": seconds, "steps": case["peer_chains"] * case["steps"], "llc": means.tolist()}))
"""
)


def run(python: str, code: str, case: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "job.py"
        script.write_text(code)
        done = subprocess.run([python, str(script), json.dumps(case)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    for name, case in CASES.items():
        if not name.startswith(asked.only):
            continue
        ours, theirs, case = [], [], {**case, "threads": asked.threads}
        for _ in range(asked.rounds):
            ours.append(run(sys.executable, OURS, case))
            theirs.append(run(asked.peer_python, THEIRS, case))
        rate = [statistics.median(r["steps"] / r["seconds"] for r in runs) for runs in (ours, theirs)]
        mean = [statistics.mean(r[0]["llc"]) for r in (ours, theirs)]
        sd = [statistics.stdev(r[0]["llc"]) / len(r[0]["llc"]) ** 0.5 for r in (ours, theirs)]
        print(
            f"{name}: ours {rate[0]:,.0f} chain-steps/s ({ours[0]['how']}), devinterp {rate[1]:,.0f}: "
            f"{rate[0] / rate[1]:.1f} times; lambda hat {mean[0]:.2f} ± {sd[0]:.2f} and {mean[1]:.2f} ± {sd[1]:.2f}; "
            f"median of {asked.rounds} alternating rounds, threads {asked.threads}",
            flush=True,
        )


if __name__ == "__main__":
    main()
