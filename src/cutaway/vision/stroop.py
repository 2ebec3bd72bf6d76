"""The Stroop test: colour words in another colour's ink, and whether a tower says the word or the ink.

Goh et al. 2021: the word "red" in another ink is classified red at 98.9 %.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cutaway.core import Comparison, Evidence, InputError, NotDone
from cutaway.evidence import proportion
from cutaway.evidence.statistics import bootstrap_difference
from cutaway.vision.lettering import Label, alike, fitting_size, put, word_mask
from cutaway.vision.tower import Tower

INKS = {
    "red": (0.86, 0.12, 0.12),
    "yellow": (0.95, 0.82, 0.10),
    "green": (0.12, 0.62, 0.20),
    "blue": (0.13, 0.30, 0.85),
    "purple": (0.56, 0.16, 0.66),
    "orange": (0.95, 0.50, 0.05),
    "pink": (0.95, 0.55, 0.70),
    "brown": (0.45, 0.28, 0.12),
    "black": (0.08, 0.08, 0.08),
    "white": (0.96, 0.96, 0.96),
}


def stroop(
    tower: Tower, colours: Sequence[str], twins: Sequence[Tower] = (), *, each: int = 12, seed: int = 0
) -> Evidence:
    """Colour words in the ink of another colour: how often the word is said, beside how often the ink is (the
    baseline). The null: gibberish in that ink said to be the word; and the twins on the same pictures.

    `each` pictures for each pair of word and ink. Raises InputError for colours without a known ink.
    """
    unknown = [c for c in colours if c not in INKS]
    if unknown or len(colours) < 2:
        raise InputError(f"Stroop needs two colours or more of {', '.join(INKS)}; given {', '.join(colours)}.")
    rng = np.random.default_rng(seed)
    side = tower.side
    images, control, words, inks = [], [], [], []
    for w, word in enumerate(colours):
        for i, ink in enumerate(colours):
            for _ in range(each if i != w else 0):
                largest = fitting_size(word, side - 2, side - 2, side // 3)
                size = int(rng.integers(max(6, round(0.7 * largest)), largest + 1))
                mask = word_mask(word, size)
                ground = torch.full((3, side, side), float(rng.uniform(0.85, 1.0)))
                top, left = int(rng.integers(1, side - mask.shape[0])), int(rng.integers(1, side - mask.shape[1]))
                text = alike(word, size, rng, frozenset(colours))
                images.append(put(ground, Label(word, size, top, left, INKS[ink], None)))
                control.append(put(ground, Label(text, size, top, left, INKS[ink], None)))
                words.append(w)
                inks.append(i)
    target, ink_of = np.array(words), np.array(inks)
    said = tower.scores(torch.stack(images), colours).argmax(1).numpy()
    noise = tower.scores(torch.stack(control), colours).argmax(1).numpy()
    n = len(target)
    hits, misses = (said == target).astype(float), (noise == target).astype(float)
    apart = bootstrap_difference(hits, misses, paired=True, over="pictures", seed=seed)
    in_ink = proportion(int(misses.sum()), n, name="gibberish in that ink")
    nulls = [Comparison(estimate=in_ink, difference=apart)]
    for twin in twins:
        theirs = twin.scores(torch.stack(images), colours).argmax(1).numpy()
        nulls.append(
            Comparison(estimate=proportion(int((theirs == target).sum()), n, name=f"{twin.name}, the same pictures"))
        )
    return Evidence(
        claim=f"Stroop: {tower.name} says the word and not the colour of its ink",
        effect=proportion(int((said == target).sum()), n, name="says the word"),
        nulls=tuple(nulls),
        baselines=(Comparison(estimate=proportion(int((said == ink_of).sum()), n, name="says the ink")),),
        seeds=(seed,),
        how=f"{len(colours)} colour words, each in the ink of each other colour, {each} times; Wilson's interval.",
        settings={"colours": list(colours), "gibberish_says_ink": float((noise == ink_of).mean())},
        not_done=() if twins else (NotDone(what="a twin trained without text", why="none was given"),),
    )
