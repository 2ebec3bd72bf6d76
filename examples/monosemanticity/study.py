"""Dictionaries of a one-layer model, end to end: python examples/monosemanticity/study.py --out DIR.

After "Towards Monosemanticity" (Bricken et al. 2023), on the one-layer sibling of the model that ships, whose text
was made with known topics. Dictionaries of the MLP's neurons in several widths and seeds, and of a re-randomised twin;

    1 what they reconstruct, beside PCA, ICA, neurons, random directions and the twin
    2 planted topics: the best feature of each against the best neuron, on held-out stories
    3 universality: correlation of activations between seeds, features against neurons of another model
    4 splitting over widths
    5 finite-state assemblies: features that make likely the tokens that other features fire on
    6 pinning: a topic's feature set high makes the topic's words likelier

Each prints its null beside it. DIR gets study.json, the descriptions, and the dictionaries, which a run that is started
again does not train again. Five minutes on one quiet core; --quick, one.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cutaway as cw
from cutaway.core import write_json
from cutaway.evidence import bootstrap, bootstrap_difference, rerandomise
from cutaway.features import (
    SAE,
    DictionarySettings,
    TrainSettings,
    describe,
    evaluate_sae,
    fit_rows,
    knowledge,
    load,
    save_descriptions,
    splitting,
)
from cutaway.features.detectors import COVERED
from cutaway.features.places import Places
from cutaway.features.stream import as_rows, harvest_all
from cutaway.organisms.almanac.recipe import ONE_LAYER
from cutaway.organisms.almanac.train import train
from cutaway.organisms.dictionaries import text_rows
from cutaway.organisms.planted import planted_concepts
from cutaway.tasks.small_world.stories import TOPICS
from cutaway.tasks.small_world.vocabulary import token_ids

POINT = "mlp_act.0"
L0 = 16  # asked of the features; a quarter of the neurons where those are few
LIFT = 3


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--quick", action="store_true")
    given.add_argument("--neurons", type=int, help="train a sibling with so many MLP neurons first (five minutes)")
    given.add_argument("--seed", type=int, default=0)
    asked = given.parse_args()
    tokens, widths, seeds = (30_000, (256, 512), (0, 1)) if asked.quick else (150_000, (256, 512, 1024), (0, 1, 2))

    shipped = cw.load("almanac-1l")
    model = shipped if asked.neurons is None else cw.load(sibling(asked.out / "model", asked.neurons))
    l0 = min(L0, model.facts.d_mlp // 4)
    twin = rerandomise(model, seed=asked.seed)
    found_rows = text_rows(shipped, (), rows=2 + tokens // 100, seed=asked.seed, held_out_tokens=6_000)
    rows, held_out = (as_rows(part, model.facts.vocab_size) for part in found_rows)
    x, theirs = activations(model, rows), activations(twin, rows)
    made = {(w, s): kept(asked.out, f"{w}-{s}", x, w, l0, s, tokens) for w in widths for s in seeds}
    null = kept(asked.out, "twin", theirs, widths[-1], l0, 0, tokens)
    main_one = made[widths[-1], 0]
    found: dict[str, Any] = {"model": model.name, "point": POINT, "tokens": tokens, "widths": list(widths), "l0": l0,
                             "neurons": model.facts.d_mlp}  # fmt: skip

    print("1. reconstruction\n")
    report = evaluate_sae(model, main_one, held_out, fit_rows=rows[:200], null=(twin, null), seed=asked.seed)
    print(report)
    found["reconstruction"] = report.to_json()

    print("\n2. planted topics\n")
    concepts = planted_concepts(600 if asked.quick else 1200, seed=asked.seed)
    known = knowledge(model, main_one, concepts, seed=asked.seed)
    print(known.documents or known.coverage)
    found["topics"] = known.to_json()
    found["topics of each"] = topics_of_each(model, made, known, concepts, asked.seed)

    print("\n3. universality\n")
    found["universality"] = universality(model, twin, made, null, widths[-1], seeds, held_out)

    print("\n4. splitting\n")
    tree = splitting([made[w, seeds[0]].W_dec for w in widths])
    print(tree)
    found["splitting"] = tree.to_json()

    print("\n5. assemblies\n")
    described = describe(model, main_one, held_out, seeds=[made[widths[-1], s] for s in seeds[1:]],
                         narrower=made[widths[-2], 0], seed=asked.seed)  # fmt: skip
    save_descriptions(described, asked.out / "described")
    found["assemblies"] = assemblies(model, main_one, held_out, asked.seed)

    print("\n6. pinning\n")
    found["pinning"] = pinning(model, main_one, known, held_out, asked.seed)
    write_json(asked.out / "study.json", {"schema": "cutaway.monosemanticity/1", **json.loads(json.dumps(found))})
    print(f"\nwrote {asked.out}; look at features with: cutaway dictionary search {asked.out / 'described'} WORD")


def sibling(folder: Path, neurons: int) -> Path:
    """The same recipe with so many MLP neurons, and fewer steps: its loss is flat by then."""
    if not (folder / "config.json").is_file():
        train(replace(ONE_LAYER, d_mlp=neurons, steps=800, checkpoints=2), folder, exam_every=0)
    return folder


def activations(model: Any, rows: torch.Tensor) -> torch.Tensor:
    return harvest_all(Places.of(model, [POINT], mlps=False), rows, first_position=False).at[POINT]


def kept(folder: Path, name: str, *asked: Any) -> SAE:
    """Trained, or what lies in the folder already."""
    place = folder / "dictionaries" / name
    if not (place / "config.json").exists():
        trained(*asked).save(place)
        print(f"trained {name}", file=sys.stderr)
    found = load(place)
    assert isinstance(found, SAE)
    return found


def trained(x: torch.Tensor, width: int, l0: int, seed: int, tokens: int) -> SAE:
    one = DictionarySettings(name="d", kind="sae", at=POINT, features=width, l0=l0, seed=seed, dead_after=tokens // 8)
    return fit_rows(x, TrainSettings(dictionaries=(one,), tokens=tokens, batch=512, seed=seed))["d"]


def topics_of_each(model: Any, made: dict[Any, SAE], known: Any, concepts: Any, seed: int) -> Any:
    """Planted concepts that each width and seed tells from whole stories, and the least of the topics' AUROCs."""
    out, first = {}, known.documents or known.coverage
    for (width, one), sae in made.items():
        if (width, one) == max(made, key=lambda at: (at[0], -at[1])):
            found = first
        else:
            again = knowledge(model, sae, concepts, seed=seed)
            found = again.documents or again.coverage
        topics = [d.auroc.value for d in found.found if d.name.startswith("topic: ")]
        out[f"{width}, seed {one}"] = {"covered": found.covered(), "topics": topics}
        print(f"  {width} features, seed {one}: {found.covered()} of {len(found.found)} concepts; topics "
              f"{sum(v >= COVERED for v in topics)} of {len(topics)}, least {min(topics):.3f}")  # fmt: skip
    return out


def universality(model: Any, twin: Any, made: dict[Any, SAE], null: SAE, width: int, seeds: Any, rows: Any) -> Any:
    """Of each feature, the largest correlation of activations with a feature of another seed, all pairs of seeds;
    neurons with those features, and features with the twin's, are what the basis and the architecture give."""
    x, theirs = activations(model, rows), activations(twin, rows)
    own = {seed: made[width, seed].encode(x) for seed in seeds}
    others = seeds[1:]
    lines = {
        "features, each two seeds": np.concatenate(
            [best_correlation(own[a], own[b]) for a, b in permutations(seeds, 2)]
        ),
        "neurons with the features of the other seeds": np.concatenate([best_correlation(x, own[b]) for b in others]),
        "features with the twin's features": best_correlation(own[seeds[0]], null.encode(theirs)),
    }
    out = {}
    for name, values in lines.items():
        estimate = bootstrap(values, statistic=_median, name=name, over="features", method="percentile")
        print(f"  {name}: median correlation {estimate}")
        out[name] = estimate.model_dump(mode="json")
    return out


def best_correlation(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    da, db = a - a.mean(0), b - b.mean(0)
    alive = (da.norm(dim=0) > 0).nonzero()[:, 0]
    r = (da[:, alive].T @ db) / (da[:, alive].norm(dim=0)[:, None] * db.norm(dim=0)[None]).clamp_min(1e-12)
    return r.max(1).values.numpy().astype(np.float64)


def _median(values: np.ndarray) -> np.ndarray:
    return np.median(values, axis=-1)


def assemblies(model: Any, sae: SAE, rows: torch.Tensor, seed: int) -> Any:
    """A feature's direct effect on the logits at its strongest, against the tokens on which other features fire: pairs
    f -> g where what f makes likely is what g fires on. Beside it the same with the tokens of the effects shuffled."""
    encoded = sae.encode(activations(model, rows))
    fires, peak = (encoded > 0).float(), encoded.max(0).values
    kept = rows[:, 1:].flatten()
    tokens = kept[kept >= 0].long()
    size = model.facts.vocab_size
    counts = torch.zeros(size, fires.shape[1]).index_add_(0, tokens, fires)
    often = counts / torch.bincount(tokens, minlength=size).clamp_min(1)[:, None]  # P(g fires | token)
    out = model.hf.model.layers[0].mlp.down_proj.weight.detach()
    head = model.hf.get_output_embeddings().weight.detach()
    logits = (peak[:, None] * sae.W_dec) @ out.T @ (model.hf.model.norm.weight.detach() * head).T  # [F, vocab]
    share = torch.softmax(logits, 1) @ often  # expected firing of g after f
    base = fires.mean(0)
    lift = share / base.clamp_min(1e-4)
    strong = (lift > LIFT) & (base > 1e-3)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    random = ((torch.softmax(logits[:, order], 1) @ often) / base.clamp_min(1e-4) > LIFT) & (base > 1e-3)
    loops = int((strong & strong.T).triu(1).sum())
    print(f"  pairs f -> g whose lift is over {LIFT}: {int(strong.sum())}; with the tokens of the effects shuffled "
          f"{int(random.sum())}; loops of two: {loops}")  # fmt: skip
    best = lift.masked_fill(base <= 1e-3, 0).flatten().topk(5).indices
    pairs = [(int(i) // lift.shape[1], int(i) % lift.shape[1]) for i in best]
    print("  strongest: " + ", ".join(f"{f} -> {g} ({float(lift[f, g]):.0f} times)" for f, g in pairs))
    return {"pairs": int(strong.sum()), "shuffled": int(random.sum()), "loops": loops, "strongest": pairs}


def pinning(model: Any, sae: SAE, known: Any, rows: torch.Tensor, seed: int) -> Any:
    """The best feature of each topic set to its strongest everywhere: change of the topic's words' probability, beside
    a random feature set to its own strongest."""
    ids, out = token_ids(), {}
    peak = sae.encode(activations(model, rows)).max(0).values
    part = rows[:16].long().clamp_min(0)
    clean = model.run(part).logits.log_softmax(-1)
    rng = np.random.default_rng(seed)
    coverage = known.documents or known.coverage
    ours, theirs = [], []
    for one in coverage.found:
        if not one.name.startswith("topic: "):
            continue
        spoken = [f"▁{w}" for part in TOPICS[one.name.removeprefix("topic: ")] for w in part.split()]
        words = torch.tensor([int(ids[w]) for w in spoken])
        feature = one.feature
        other = int(rng.choice(np.flatnonzero(peak.numpy() > 0)))
        change = []
        for f in (feature, other):
            pinned = cw.add(POINT, float(peak[f]) * sae.W_dec[f])
            logits = model.run(part, interventions=[pinned]).logits.log_softmax(-1)
            before, after = (v[..., words].logsumexp(-1).mean() for v in (clean, logits))
            change.append(float(after - before))
        ours.append(change[0])
        theirs.append(change[1])
        out[one.name] = {"feature": feature, "change": change[0], "random_feature": change[1]}
        told = f"{change[0]:+.2f} nats; a random feature {change[1]:+.2f}"
        print(f"  {one.name}: feature {feature} raises its words by {told}")
    if ours:
        apart = bootstrap_difference(ours, theirs, paired=True, over="topics")
        print(f"  mean {np.mean(ours):+.2f} against {np.mean(theirs):+.2f}; difference, 95 %: {apart}")
        out["difference"] = apart.model_dump(mode="json")
    return out


if __name__ == "__main__":
    main()
