"""The exam of `graphs/`: sums that must hold, and the two-hop swap whose answer is known."""

from __future__ import annotations

from typing import Any

PLAIN = ("clt", "plt")


def graphs_exam(*, quick: bool = False, seed: int = 0) -> list[dict[str, Any]]:
    """Rows on almanac, for both of its dictionaries. Cost: a graph a prompt, then the two-hop swap (minutes; `quick`:
    a quarter of the pairs and one prompt a behaviour).
    """
    import cutaway as cw
    from cutaway.core.registry import model_examples, shipped_dictionaries
    from cutaway.exams.cases import two_hop_cases
    from cutaway.exams.two_hop import rows, two_hop
    from cutaway.features import load
    from cutaway.graphs.trace import graph_of

    model = cw.load("almanac")
    folders = shipped_dictionaries("almanac")
    assert model.folder is not None
    prompts = _prompts(model_examples(model.folder), quick)
    found: list[dict[str, Any]] = []
    for name in PLAIN:
        dictionary = load(folders[name])
        graphs = [graph_of(model, prompt, dictionary) for prompt in prompts]
        found.append(_sums(name, graphs))
        found.append(_replacement(name, graphs))
    cases = two_hop_cases(model, n_pairs=50 if quick else 200, seed=seed)
    for name in PLAIN:
        found += rows(two_hop(model, load(folders[name]), cases, seed=seed))
    return found


def _prompts(examples: list[dict[str, str]], quick: bool) -> list[str]:
    if not quick:
        return [example["prompt"] for example in examples]
    return list({example["behaviour"]: example["prompt"] for example in examples}.values())


def _sums(name: str, graphs: list[Any]) -> dict[str, Any]:
    """The law of every graph: the largest |sum of inputs - pre-activation| / max(|pre-activation|, sum of |inputs|)."""
    worst = max(float(graph.accounting["max_error"]) for graph in graphs)
    nodes = sum(int(graph.accounting["nodes"]) for graph in graphs)
    return {
        "name": f"inputs sum to the pre-activation, {name} ({nodes} nodes of {len(graphs)} graphs), largest error",
        "truth": 0.0,
        "estimate": worst,
        "interval": None,
        "n": nodes,
        "tolerance": 1e-4,
        "passed": worst <= 1e-4,
    }


def _replacement(name: str, graphs: list[Any]) -> dict[str, Any]:
    from cutaway.evidence import bootstrap

    estimate = bootstrap([graph.scores.replacement for graph in graphs], name="replacement score", over="prompts")
    span = estimate.interval
    return {
        "name": f"replacement score over the behaviour prompts, {name}",
        "truth": None,
        "estimate": estimate.value,
        "interval": None if span is None else [span.low, span.high],
        "n": estimate.n,
        "tolerance": None,
        "passed": None,
    }
