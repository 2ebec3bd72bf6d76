"""Circuits: which edges between a model's components carry a task, and how far to believe it.

`discover` gives a `Circuit` with its evidence; `score_edges` the scores alone, by any of `METHODS`. `measure` runs any
sets of edges with the rest ablated; `path_patching` goes from some senders to some receivers. `faithfulness`, `curve`,
`random_circuits`, `stability` and `audit` judge a circuit, `against_truth` where the truth is known.
"""
