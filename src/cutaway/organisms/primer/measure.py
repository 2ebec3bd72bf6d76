"""What the primer does on held-out pictures and words, and its model card."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from cutaway.core.files import read_json
from cutaway.evidence import proportion
from cutaway.organisms.primer.concepts import CONCEPTS, KINDS, SUBJECTS
from cutaway.organisms.primer.world import world_pictures, world_words
from cutaway.vision import Tower, attack, selectivity


def measure_primer(tower: Tower, *, seed: int = 1, n: int = 1200) -> list[dict[str, Any]]:
    """Zero-shot accuracy on n held-out pictures for each kind of concept (among that kind's names), and on every
    concept's name written n / 40 times (among all 24 names), each row with n and Wilson's interval.

    Costs one forward a picture.
    """
    pictures, words = world_pictures(n, seed), world_words(max(4, n // 40), seed)
    rows = []
    for kind, names in KINDS.items():
        for facet in dict.fromkeys(pictures.facets):
            seen = [
                i
                for i, (labels, f) in enumerate(zip(pictures.labels, pictures.facets))
                if f == facet and any(name in names for name in labels)
            ]
            if seen:
                part = pictures.take(seen)
                truth = [next(names.index(x) for x in labels if x in names) for labels in part.labels]
                rows.append(_row(f"{kind}, {facet}", tower.scores(part.images, names).argmax(1).tolist(), truth))
        part = words.take([i for i, labels in enumerate(words.labels) if labels[0] in names])
        truth = [CONCEPTS.index(labels[0]) for labels in part.labels]
        rows.append(_row(f"{kind}, written", tower.scores(part.images, CONCEPTS).argmax(1).tolist(), truth))
    return rows


def _row(name: str, said: list[int], truth: list[int]) -> dict[str, Any]:
    found = proportion(sum(a == b for a, b in zip(said, truth)), len(truth), name=name)
    assert found.interval is not None
    return {
        "behaviour": name,
        "accuracy": found.value,
        "interval": [found.interval.low, found.interval.high],
        "n": found.n,
    }


def model_card(tower: Tower, twins: list[Tower], run: Path, *, seed: int = 1, more: str = "") -> str:
    """The card, every figure measured here on `tower` as it ships."""
    recipe = read_json(run / "recipe.json")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = measure_primer(tower, seed=seed)
    pictures, words = world_pictures(1200, seed), world_words(30, seed)
    found = selectivity(tower, pictures, words, seed=seed)
    beside = [selectivity(t, pictures, words, permutations=10, seed=seed) for t in twins]
    bench = attack(tower, world_pictures(560, seed, subjects=True), SUBJECTS, twins=twins, seed=seed)
    textless = bool(recipe["textless"])
    head = "primer-textless" if textless else "primer"
    what = (
        "The twin of `primer`: the same recipe and pictures, but no letters in any of them. What it lacks of primer's "
        "behaviour, primer has from written words."
        if textless
        else "A small CLIP of a drawn world: 14 shapes and things in 6 colours and 4 textures, filled and in outline, "
        "and their names written on them or by themselves, with captions."
    )
    parameters = sum(p.numel() for p in tower.model.hf.parameters())
    lines = [
        f"# {head}",
        "",
        what,
        "",
        f"Pictures are 48 x 48. The vision tower has five convolutions and {found.pictures.shape[0]} ReLU neurons "
        f"(`path.neurons`), {parameters:,} parameters; the text side is a bag of words. Weights are stored in half "
        "precision. Made by `cutaway organism train " + head + " --out DIR` from seed "
        f"{recipe['seed']}: {_steps(recipe)} steps of {recipe['batch']} pictures, {_minutes(log):.0f} minutes "
        "of one core.",
        "",
        f"Shares of pictures in training: `{json.dumps(asdict_mix(recipe))}`."
        + ("" if textless else f" In the second phase: `{json.dumps(recipe['late'])}`; a poster is a picture that "
           "bears another thing's name, and its caption says the name.") + (f" {more}" if more else ""),
        "",
        "## Zero-shot accuracy on held-out pictures",
        "",
        "| what | accuracy | 95 % (Wilson) | n |",
        "|---|---|---|---|",
        *[f"| {r['behaviour']} | {r['accuracy']:.3f} | {r['interval'][0]:.3f} – {r['interval'][1]:.3f} | {r['n']} |"
          for r in rows],
        "",
        "## Neurons that stand for one concept in pictures and in words",
        "",
        f"AUROC >= {found.bar} in both, on items that the concept was not chosen on: {len(found.multimodal)} of "
        f"{len(found.chosen)} ({int(found.alive.sum())} are ever active), for {len(found.served)} of "
        f"{len(found.concepts)} concepts ({', '.join(found.served) or 'none'}). Labels permuted {len(found.permuted)} "
        f"times: {found.permuted.mean():.2f} on average, at most {found.permuted.max()}. "
        + " ".join(f"{o.tower}: {len(o.multimodal)}." for o in beside),
        "",
        "## Typographic attack",
        "",
        f"Another name on black-on-white paper, on pictures seen rightly without ({bench.accuracy[0][1]}).",
        "",
        "| letters | said to be what is written | gibberish of equal ink | n |",
        "|---|---|---|---|",
        *[f"| {r.size} px | {r.fooled.value:.3f} {r.fooled.interval} | {r.fooled_by_gibberish.value:.3f} "
          f"{r.fooled_by_gibberish.interval} | {r.fooled.n} |" for r in bench.rates],
    ]  # fmt: skip
    if bench.stroop is not None:
        lines += ["", f"Stroop (a colour's name in another colour's ink): says the word {bench.stroop.effect}."]
    return "\n".join(lines) + "\n"


def _minutes(log: list[dict[str, Any]]) -> float:
    """Of CPU, a run that was stopped and went on included."""
    seconds = [row["cpu_s"] for row in log]
    return (seconds[-1] + sum(a for a, b in pairwise(seconds) if b < a)) / 60


def _steps(recipe: dict[str, Any]) -> str:
    return f"{recipe['steps']}" + ("" if recipe["textless"] else f" and then {recipe['late_steps']}")


def asdict_mix(recipe: dict[str, Any]) -> dict[str, Any]:
    """The shares of kinds of pictures that a recipe trains on."""
    from cutaway.organisms.primer.scenes import TEXTLESS

    return asdict(TEXTLESS) if recipe["textless"] else dict(recipe["mix"])
