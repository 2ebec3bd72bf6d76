"""Concepts that the shipped models' text was made with: the kind of each document, the topic and mood of each story."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cutaway.features.concepts import Concepts


def planted_concepts(documents: int = 1200, seed: int = 1) -> Concepts:
    """One document a row (with <bos>, at most 128 tokens), of each kind about as often as in the training text; a
    third more are stories, so that topics are frequent enough to be looked for."""
    from cutaway.features.concepts import document_concepts, padded_rows
    from cutaway.organisms.almanac.text import CONTEXT, MIXTURE, mean_lengths
    from cutaway.tasks.small_world.stories import TOPICS, story
    from cutaway.tasks.small_world.templates import PAD
    from cutaway.tasks.small_world.vocabulary import BOS, token_ids

    rng = np.random.default_rng(np.random.SeedSequence([20265, seed]))
    begin = token_ids()[BOS]
    each = {name: share / mean_lengths()[name] for name, (_, share) in MIXTURE.items()}
    total = sum(each.values())
    ids, labels = [], []
    for name, (make, _) in MIXTURE.items():
        if name == "story":
            continue
        drawn = make(rng, max(12, round(documents * each[name] / total)), "any")
        for row in drawn.tokens:
            ids.append([begin, *(int(t) for t in row if t != PAD)])
            labels.append({f"kind: {name}": True})
    topics = list(TOPICS)
    drawn = story(rng, documents // 3, "any")
    for row, topic, bad in zip(drawn.tokens, drawn.facts["topic"], drawn.facts["bad"]):
        ids.append([begin, *(int(t) for t in row if t != PAD)])
        labels.append({"kind: story": True, f"topic: {topics[int(topic)]}": True, "mood: bad": bool(bad)})
    order = rng.permutation(len(ids))
    rows = padded_rows([ids[i] for i in order], CONTEXT)
    return document_concepts(rows, [labels[i] for i in order], "what its text was made with")
