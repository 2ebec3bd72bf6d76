"""A case of one's own: `cutaway align examples/abstraction/both_spec.py`.

The network says whether (a and b) or c. It is written by hand, so the answer is known: its first hidden unit is "a and
b". The rival says that the unit holds a alone.
"""

import torch
from torch import nn

from cutaway.abstraction import CausalModel, neurons

model = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
with torch.no_grad():
    model[0].weight.copy_(torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 0]]))  # relu(a + b - 1), c
    model[0].bias.copy_(torch.tensor([-1.0, 0.0]))
    model[2].weight.copy_(torch.tensor([[-1.0, -1], [1, 1]]))
    model[2].bias.copy_(torch.tensor([0.5, -0.5]))

inputs = {"a": (0, 1), "b": (0, 1), "c": (0, 1), "noise": range(100)}
how = {"prompt": lambda v: torch.tensor([v["a"], v["b"], v["c"], v["noise"] / 100]), "answer": int}

causal_model = CausalModel(
    inputs, {"both": lambda a, b: a and b, "out": lambda both, c: both or c}, name="(a and b) or c", **how
)
alone = CausalModel(
    inputs, {"first": lambda a: a, "out": lambda first, b, c: (first and b) or c}, name="a alone", **how
)
places = {"both": neurons("path.1", which=[0])}
rivals = {"a alone": (alone, "first")}
n, n_test = 200, 200
