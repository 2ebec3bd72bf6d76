"""A study as a trace would leave it on disk, drawn from a seed, for the viewer's tests and screenshots.

Its numbers obey the laws of a real one: a node's inputs and its pruned remainder sum to its pre-activation, and the
cumulative influences follow the definition in the attribution-graph papers. What they say about any model is nothing.

    python tests/viewer/sample_study.py DIR [--tokens 15 --layers 4 --features 240 --links 3000]
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.core import Comparison, Estimate, Evidence, Interval, NotDone, TailItem, content_hash, write_json

WORDS = "capital of the state that has Dallas in it is the city of"
PROMPT = ["<bos>", "The", *(f" {word}" for word in WORDS.split())]
LOGITS = [(" Austin", 0.81), (" Houston", 0.06), (" Texas", 0.04), (" Sacramento", 0.02), (" the", 0.015)]

SPEARMAN = "Spearman, predicted against measured"

# a label (none for some), the token it fires on, what it promotes
CONCEPTS = [
    ("Dallas and its surroundings", " Dallas", [" Texas", " Austin", " Houston", " Dallas"]),
    ("the state of Texas", " Texas", [" Austin", " Texas", " Dallas", " cattle"]),
    ("capital, the word", " capital", [" city", " of", " Capitol", " seat"]),
    ("say a capital city", " is", [" Austin", " Sacramento", " Albany", " Boston"]),
    ("a fact is about to be said", " is", [" the", " a", " in", " not"]),
    ("", " is", [" the", " a", " in", " not"]),
    ("of, after a kind of town", " of", [" Austin", " London", " York"]),
    ("say Austin", " of", [" Austin", " Texas", " Austinites", " Travis"]),
    ("state, as territory", " state", [" of", " Texas", " California", " border"]),
    ("of, after a kind of place", " of", [" the", " London", " Austin", " York"]),
    ("a place is coming", " in", [" Paris", " Dallas", " the", " Rome"]),
    ("has, of belongings", " has", [" a", " many", " been", " the"]),
    ("the before a noun", " the", [" city", " state", " king", " river"]),
    ("", " city", [" of", " centre", " hall", " limits"]),
    ("", " it", [" is", " was", " has", "."]),
    ("", " that", [" has", " is", " was", " the"]),
]
_FILLER = (
    *(" a walk from", " beside the river", " in the year", " of the county", " which lies in", " and then went to"),
    *(" near the old", " was born in", " they met in", " a letter came from", " on the road to", " said that"),
)


@dataclass(frozen=True)
class Sizes:
    tokens: int = 15
    layers: int = 4
    features: int = 230
    links: int = 3000


def write_sample(folder: str | Path, sizes: Sizes = Sizes(), *, seed: int = 0, hostile: str | None = None) -> Path:
    """Write a study into `folder` and return it. `hostile` replaces a prompt token, a label and a claim."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tokens = _tokens(sizes.tokens)
    if hostile is not None:
        tokens[2] = hostile
    graph, keys = _graph(rng, tokens, sizes)
    features = {key: _feature(rng, key, concept) for key, concept in keys.items()}
    if hostile is not None and features:
        features[next(iter(features))]["label"] = hostile
    evidence = _evidence(rng, graph, hostile)
    write_json(folder / "graph.json", graph)
    write_json(folder / "features.json", features)
    write_json(folder / "evidence.json", evidence)
    manifest = {
        "schema": "cutaway.study/1",
        "kind": "trace",
        "created": "2026-01-15T10:30:00Z",
        "command": "cutaway trace …",
        "model": {"name": "almanac", "fingerprint": "0" * 16},
        "settings": {"dictionary": "almanac-clt"},
        "prompt": "".join(tokens[1:]),
        "files": {name: content_hash(folder / name) for name in ("graph.json", "features.json", "evidence.json")},
    }
    write_json(folder / "manifest.json", manifest, indent=1)
    return folder


def _tokens(count: int) -> list[str]:
    words = list(PROMPT)
    while len(words) < count:
        words.append(PROMPT[1 + len(words) % (len(PROMPT) - 1)])
    return words[:count]


def _graph(rng: np.random.Generator, tokens: list[str], sizes: Sizes) -> tuple[dict[str, Any], dict[str, int]]:
    nodes, keys = _nodes(rng, tokens, sizes)
    layer = np.array([_rank(node, sizes.layers) for node in nodes])
    position = np.array([-1 if node["kind"] == "bias" else node["ctx_idx"] for node in nodes])
    targets = [i for i, node in enumerate(nodes) if node["kind"] in ("feature", "logit")]
    importance = rng.pareto(3.0, len(nodes)) + 0.05
    per_target = max(3, sizes.links // max(1, len(targets)))

    links: list[tuple[int, int, float]] = []
    for target in targets:
        allowed = np.flatnonzero((layer < layer[target]) & (position <= position[target]))
        chance = importance[allowed] * np.exp(-0.15 * (position[target] - position[allowed]))
        count = min(len(allowed), max(2, int(rng.poisson(per_target))))
        sources = rng.choice(allowed, size=count, replace=False, p=chance / chance.sum())
        weights = rng.normal(0.25, 1.0, count) * importance[sources] ** 0.7 * rng.lognormal(-1.2, 0.5, count)
        if weights.sum() < 0.1:
            weights += (0.1 - weights.sum()) / count + 0.02
        links += [(int(s), target, round(float(w), 6)) for s, w in zip(sources, weights)]
    total = dict.fromkeys(targets, 0.0)
    for _, target, weight in links:
        total[target] += weight
    for target in targets:
        node = nodes[target]
        node["remainder"] = round(float(rng.normal(0, 0.04)), 6)
        node["pre_activation"] = round(total[target] + node["remainder"], 6)
        if node["kind"] == "feature":
            node["activation"] = node["pre_activation"]
    influence = _influence(nodes, links)
    return _document(tokens, sizes, nodes, links, influence), keys


def _nodes(rng: np.random.Generator, tokens: list[str], sizes: Sizes) -> tuple[list[dict[str, Any]], dict[str, int]]:
    last = len(tokens) - 1
    nodes = [_node(f"E_{100 + i}_{i}", "embedding", "E", i, clerp=f'Emb: "{token}"') for i, token in enumerate(tokens)]
    keys: dict[str, int] = {}
    crowd = rng.dirichlet(np.full(len(tokens), 3.0)) + 0.02
    for _ in range(sizes.features):
        layer = int(rng.integers(sizes.layers))
        place = int(rng.choice(len(tokens), p=crowd / crowd.sum()))
        index = int(rng.integers(4096))
        fitting = [i for i, (_, word, _) in enumerate(CONCEPTS) if word == tokens[place]] or [3, 6]
        concept = int(rng.choice(fitting))
        keys[f"{layer}_{index}"] = concept
        nodes.append(_node(f"{layer}_{index}_{place}", "feature", str(layer), place, feature=_cantor(layer, index)))
    for layer in range(sizes.layers):
        nodes += [
            _node(f"{layer}_-1_{i}", "error", str(layer), i) for i in range(1, len(tokens)) if rng.random() < 0.75
        ]
        nodes += [_node(f"B_{layer}_{what}_*", "bias", str(layer), last) for what in ("attn", "mlp")]
    nodes.append(_node(f"B_{sizes.layers}_norm_*", "bias", str(sizes.layers), last))
    for index, (token, probability) in enumerate(LOGITS):
        clerp = f'Output "{token}" (p={probability:.3f})'
        logit = _node(f"{sizes.layers + 1}_{900 + index}_{last}", "logit", str(sizes.layers + 1), last, clerp=clerp)
        nodes.append({**logit, "token_prob": probability, "is_target_logit": index == 0})
    return list({node["node_id"]: node for node in nodes}.values()), keys


def _node(name: str, kind: str, layer: str, place: int, *, clerp: str = "", feature: int = -1) -> dict[str, Any]:
    types = {
        "feature": "cross layer transcoder", "error": "mlp reconstruction error", "embedding": "embedding",
        "logit": "logit", "bias": "bias",
    }  # fmt: skip
    return {
        "node_id": name, "feature": feature, "layer": layer, "ctx_idx": place, "feature_type": types[kind],
        "token_prob": 0.0, "is_target_logit": False, "run_idx": 0, "reverse_ctx_idx": 0, "jsNodeId": f"{name}-0",
        "clerp": clerp, "activation": None, "kind": kind, "pre_activation": None, "remainder": 0.0,
    }  # fmt: skip


def _rank(node: dict[str, Any], layers: int) -> float:
    if node["kind"] == "embedding":
        return -1.0
    if node["kind"] == "logit":
        return layers + 1.0
    return float(node["layer"]) + (0.5 if node["kind"] in ("error", "bias") else 0.0)


def _cantor(x: int, y: int) -> int:
    return (x + y) * (x + y + 1) // 2 + y


def _influence(nodes: list[dict[str, Any]], links: list[tuple[int, int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Of nodes and of links on the logits: p (A + A^2 + …), A the |weights| with each target's inputs summing to 1."""
    incoming = np.array([abs(node["remainder"]) for node in nodes])
    for _, target, weight in links:
        incoming[target] += abs(weight)
    own = np.array([node["token_prob"] for node in nodes])
    reach = own.copy()
    order = sorted(range(len(links)), key=lambda i: -_rank(nodes[links[i][1]], 99))
    share = np.zeros(len(links))
    for i in order:  # targets from the top down, so that a target's reach is whole before it is passed on
        source, target, weight = links[i]
        share[i] = abs(weight) / incoming[target] * reach[target]
        reach[source] += share[i]
    return reach - own, share


def _document(
    tokens: list[str], sizes: Sizes, nodes: list[dict[str, Any]], links: list[tuple[int, int, float]],
    influence: tuple[np.ndarray, np.ndarray],
) -> dict[str, Any]:  # fmt: skip
    of_nodes, of_links = (_cumulative(values) for values in influence)
    for node, value, share in zip(nodes, of_nodes, influence[0]):
        node["influence"] = 1.0 if node["kind"] == "bias" else round(float(value), 6)
        node["influence_share"] = round(float(share), 6)
        node["effect"] = round(float(share) * (1 if share % 0.01 > 0.002 else -1) * 6, 4)
    return {
        "metadata": {
            "slug": "sample", "scan": "almanac-clt", "transcoder_list": [], "prompt_tokens": tokens,
            "prompt": "".join(tokens[1:]), "node_threshold": 0.98, "schema_version": 1,
            "cutaway": {
                "schema": "cutaway.graph/1",
                "dictionary": "almanac-clt",
                "accounting": {"nodes": sum(node["pre_activation"] is not None for node in nodes), "max_error": 3.1e-7},
                "scores": {"replacement": 0.79, "completeness": 0.91, "replacement_with_biases": 0.83},
                "logits": [[token, probability] for token, probability in LOGITS],
                "target": {"kind": "likely", "position": len(tokens) - 1, "tokens": [], "words": []},
                "controls": {"attention": "frozen", "norms": "frozen"},
            },
        },
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": nodes,
        "links": [
            {"source": nodes[s]["node_id"], "target": nodes[t]["node_id"], "weight": w, "influence": round(float(i), 6)}
            for (s, t, w), i in zip(links, of_links)
        ],
    }  # fmt: skip


def _cumulative(values: np.ndarray) -> np.ndarray:
    order = np.argsort(-values, kind="stable")
    result = np.empty(len(values))
    result[order] = np.cumsum(values[order]) / values.sum() * 0.985
    return result


def _feature(rng: np.random.Generator, key: str, concept: int) -> dict[str, Any]:
    label, word, promoted = CONCEPTS[concept]
    top = float(rng.uniform(2, 9))
    quantiles = [
        {"quantile_name": name, "examples": [_example(rng, word, top * rng.uniform(low, high)) for _ in range(count)]}
        for name, low, high, count in [("Top", 0.85, 1.0, 5), ("0.9–0.99", 0.5, 0.8, 4), ("0.5–0.9", 0.15, 0.45, 3)]
    ]
    counts = np.maximum(0, rng.normal(0, 6, 30) + 400 * np.exp(-np.arange(30) / rng.uniform(3, 9))).astype(int)
    lowered = [" and", ",", " sang", " blue", " seven"]
    return {
        "transcoder_id": "almanac-clt",
        "index": int(key.split("_")[1]),
        "examples_quantiles": quantiles,
        "top_logits": [[t, round(1.9 * 0.8**i, 3)] for i, t in enumerate([*promoted, " Houston", " west"])],
        "bottom_logits": [[t, round(-1.1 * 0.8**i, 3)] for i, t in enumerate(lowered)],
        "act_min": 0.0,
        "act_max": round(top, 3),
        "histogram": counts.tolist(),
        "activation_frequency": round(float(rng.uniform(0.0004, 0.03)), 5),
        **({"label": label} if label else {}),
    }


def _example(rng: np.random.Generator, word: str, activation: float) -> dict[str, Any]:
    def words() -> list[str]:
        return [" " + part for part in str(rng.choice(_FILLER)).split()]

    before, after = [*words(), *words()], [*words(), "."]
    acts = [0.0] * len(before) + [activation] + [0.0] * len(after)
    if rng.random() < 0.5:
        acts[len(before) + 1] = activation * 0.4
    if rng.random() < 0.3:
        acts[len(before) - 1] = activation * 0.2
    return {
        "tokens": [*before, word, *after], "tokens_acts_list": [round(a, 3) for a in acts],
        "train_token_ind": len(before), "is_repeated_datapoint": False,
    }  # fmt: skip


def _evidence(rng: np.random.Generator, graph: dict[str, Any], hostile: str | None) -> dict[str, Any]:
    rows = _measurements(rng, graph)
    worst = sorted(rows[:48], key=lambda row: -abs(row["predicted"] - row["measured"]))[:4]
    records = [
        Evidence(
            claim=hostile or "Turning a feature off changes the answer as the graph predicts",
            effect=_estimate(SPEARMAN, 0.91, 0.07, 24),
            nulls=(
                _beside("random features of equal norm", 0.12, 0.3),
                _beside("re-randomised model, its own dictionary", 0.48, 0.2),
                _beside("untrained dictionary", 0.31, 0.25),
            ),
            baselines=(_beside("raw neurons", 0.62, 0.16),),
            seeds=(0, 1, 2),
            how="Each of the 24 most influential features was taken out of the real model, nothing frozen, and the "
            "change of the logit difference read.",
            settings={"top": 24, "frozen": "nothing"},
            second_data=_estimate("six other prompts of the behaviour", 0.87, 0.09, 144),
            paraphrase=_estimate("the prompt rephrased", 0.84, 0.12, 24),
            residual_tail=tuple(
                TailItem(item=row["id"], predicted=row["predicted"], measured=row["measured"]) for row in worst
            ),
        ),
        Evidence(
            claim="An edge's weight predicts what its target does when its source is removed",
            effect=_estimate(SPEARMAN, 0.74, 0.15, 24),
            nulls=(_beside("the same links, shuffled", 0.02, 0.35),),
            baselines=(
                Comparison(
                    estimate=_estimate("raw neurons", 0.78, 0.14, 24),
                    difference=Interval(low=-0.2, high=0.11, method="paired bootstrap"),
                ),
            ),
            seeds=(0,),
            how="The source was taken out of the real model with attention patterns free; the target's pre-activation "
            "was read.",
            not_done=(NotDone(what="untrained dictionary", why="--quick leaves it out"),),
        ),
        Evidence(
            claim="The graph's features carry the answer: tokens explain more of it than errors do",
            effect=_estimate("replacement score", 0.79, 0.05, 40),
            nulls=(_beside("re-randomised model, its own dictionary", 0.77, 0.06, 40),),
            seeds=(0, 1, 2),
            how="Influence that reaches tokens, over influence that reaches tokens or errors, on 40 prompts.",
        ),
        Evidence(
            claim="Swapping the middle-hop features flips the answer to the other state's capital",
            effect=Estimate(name="flip rate", value=math.nan, n=0),
            how="Not measured on this prompt.",
            not_done=(NotDone(what="middle-hop swap", why="the prompt is not one of the two-hop cases"),),
        ),
    ]
    return {"schema": "cutaway.evidence/1", "evidence": [record.to_json() for record in records], "measurements": rows}


def _estimate(name: str, value: float, half: float, n: int) -> Estimate:
    interval = Interval(
        low=max(-1.0, value - half), high=min(1.0, value + 0.8 * half), method="bootstrap over features"
    )
    return Estimate(name=name, value=value, interval=interval, n=n)


def _beside(name: str, value: float, half: float, n: int = 24) -> Comparison:
    return Comparison(estimate=_estimate(name, value, half, n))


def _measurements(rng: np.random.Generator, graph: dict[str, Any]) -> list[dict[str, Any]]:
    features = [node["node_id"] for node in graph["nodes"] if node["kind"] == "feature"]
    features.sort(key={node["node_id"]: node["influence"] for node in graph["nodes"]}.__getitem__)
    links = sorted(graph["links"], key=lambda link: link["influence"])
    logit = next(node["node_id"] for node in graph["nodes"] if node["is_target_logit"])
    rows: list[dict[str, Any]] = []

    def measure(kind: str, name: str, target: str, predicted: float, noise: float) -> None:
        measured = predicted * 0.92 + float(rng.normal(0, noise))
        row = {"predicted": round(predicted, 5), "measured": round(measured, 5)}
        rows.append({"kind": kind, "id": name, "target": target, **row})

    effect = {node["node_id"]: node["effect"] for node in graph["nodes"]}
    for name in features[:24]:
        measure("feature", name, logit, effect[name], 0.12)
    for link in links[:24]:
        measure("edge", f"{link['source']}->{link['target']}", link["target"], link["weight"], 0.2)
    for link in links[200:216]:
        measure("edge sample", f"{link['source']}->{link['target']}", link["target"], link["weight"], 0.1)
    for name in features[24:40]:
        measure("sample", name, logit, effect[name], 0.06)
    for name in features[:24]:
        measure("random", name, logit, effect[name], 0.9)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    for name, default in vars(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    write_sample(given.folder, Sizes(given.tokens, given.layers, given.features, given.links))
    print(given.folder)
