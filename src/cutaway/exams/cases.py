"""The published cases on the shipped model's world, as values that the exams take."""

from __future__ import annotations

import numpy as np

from cutaway.exams.swapper import Question
from cutaway.exams.two_hop import Cases
from cutaway.model import Model
from cutaway.organisms.almanac.behaviours import Item, two_hop_swaps
from cutaway.tasks.small_world import facts, world
from cutaway.tasks.small_world.templates import PAD


def two_hop_cases(model: Model, n_pairs: int = 200, seed: int = 0) -> Cases:
    """Training questions (cities that two-hop sentences show), questions for the state, and withheld pairs."""
    training = _questions(model, "capital", seed)
    pairs = [(_asked(model, a), _asked(model, b)) for a, b in two_hop_swaps(n_pairs, seed)]
    return Cases(training, _questions(model, "state", seed), pairs)


def _asked(model: Model, item: Item) -> Question:
    ids = model.tokens(item.prompt)[0].tolist()
    city = item.extra["city"]
    return Question(
        ids=tuple(ids),
        position=_find(model, ids, city),
        subject=city,
        middle=item.extra["state"],
        answer=_token(model, item.answer),
        frame=item.prompt.replace(city, "{C}"),
        text=item.prompt,
    )


def _questions(model: Model, asked: str, seed: int, draws: int = 4000) -> list[Question]:
    """Distinct prompts of the training text's kinds: two hops to the capital, or one hop from a city to its state."""
    rng = np.random.default_rng(seed)
    drawn = facts.two_hop(rng, draws, "train") if asked == "capital" else facts.one_hop(rng, draws, "train")
    begin = model.tokens("a")[0, :1].tolist() if model.tokenizer.bos_token_id is not None else []
    found: dict[tuple[int, ...], Question] = {}
    for i in range(draws):
        row, end = drawn.tokens[i], drawn.answer[i]
        city, state = world.CITIES[drawn.facts["city"][i]], world.STATES[drawn.facts["state"][i]]
        answer = int(row[end])
        words = [int(t) for t in row[:end] if t != PAD]
        subject = int(drawn.facts["C"][i])
        if subject not in words or (asked == "state" and answer != int(drawn.facts["S"][i])):
            continue
        ids = (*begin, *words)
        found[ids] = Question(
            ids=ids,
            position=ids.index(subject),
            subject=city,
            middle=state,
            answer=answer,
            frame=",".join("C" if token == subject else str(token) for token in ids),
        )
    return list(found.values())


def _find(model: Model, ids: list[int], word: str) -> int:
    return ids.index(_token(model, word))


def _token(model: Model, word: str) -> int:
    (token,) = model.tokenizer(word, add_special_tokens=False)["input_ids"]
    return int(token)
