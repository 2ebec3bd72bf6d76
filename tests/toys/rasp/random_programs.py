"""Random RASP programs: compositions of the language's operations with random tables for functions and predicates."""

from __future__ import annotations

import random
from fractions import Fraction
from zlib import crc32

from cutaway.toys.rasp import Map, aggregate, indices, numerical, select, selector_width, sequence_map, tokens
from cutaway.toys.rasp.language import linear, ordered
from cutaway.toys.rasp.program import Program


def _table(seed: int, size: int):
    return lambda *values: crc32(f"{seed}{values}".encode()) % size


def random_program(seed: int, steps: int = 6) -> Program:
    """A program of at most `steps` operations over three tokens, of up to four tokens."""
    rng = random.Random(seed)
    pool = [tokens, indices]
    for _ in range(steps):
        pool.append(_step(rng, pool))
    output = max(pool, key=lambda sop: len(ordered(sop)))
    return Program(f"random-{seed}", "", "", output, ("a", "b", "c"), 4, causal=rng.random() < 0.5)


def _step(rng: random.Random, pool: list):
    seed, kind = rng.randrange(10**6), rng.choice(("map", "pair", "width", "pick", "mean", "number", "shift"))
    one, two, three = (rng.choice(pool) for _ in range(3))
    mapped, chosen = _table(seed, 3), _table(seed, 2)
    selector = select(one, two, lambda k, q: bool(chosen(k, q)))
    if kind == "map":
        return Map(mapped, one)
    if kind == "pair":
        return sequence_map(mapped, one, two)
    if kind == "width":
        return selector_width(selector)
    if kind == "pick":
        return aggregate(selector, three, rng.choice((None, 1)))
    if kind == "shift":
        return aggregate(select(indices, indices, lambda k, q: k == q - 1), three, rng.choice((None, 2)))
    number = numerical(Map(mapped, one))
    if kind == "mean":
        return Map(lambda x: 7 * Fraction(x) // 2, aggregate(selector, number))
    return Map(lambda x: int(x > 1), linear(number, numerical(Map(lambda v: mapped(v, 1), two)), 2, Fraction(-1, 3)))
