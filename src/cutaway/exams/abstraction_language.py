"""Cases on almanac: addition's carry, greater-than's threshold, indirect objects, the middle of two hops."""

from __future__ import annotations

from typing import Any

import numpy as np

from cutaway.exams.abstraction_cases import Case


def carry_case() -> Case:
    """Addition of two numbers below 100. The carry, beside rivals in which no digit is carried: the sum of the units (0
    to 18) is one variable; the sum of the two numbers is, and they are never taken apart into digits."""
    from cutaway.abstraction import CausalModel, subspace

    how: dict[str, Any] = {
        "prompt": lambda v: f"{v['a']} + {v['b']} =",
        "answer": str,
        "positions": {"a": 1, "b": 3},
        "domains": {"sum": range(199)},
    }
    inputs = {"a": range(100), "b": range(100)}
    school: dict[str, Any] = {
        "units": lambda a, b: (a + b) % 10,
        "carry": lambda a, b: (a % 10 + b % 10) >= 10,
        "tens": lambda a, b, carry: a // 10 + b // 10 + carry,
        "sum": lambda tens, units: 10 * tens + units,
    }
    parallel: dict[str, Any] = {
        "units": lambda a, b: a % 10 + b % 10,
        "tens": lambda a, b: a // 10 + b // 10,
        "sum": lambda tens, units: 10 * tens + units,
    }
    whole_numbers: dict[str, Any] = {"held": lambda a, b: a + b, "sum": lambda held: held}
    return Case(
        "carry", "almanac's addition: is there a carry?", CausalModel(inputs, school, name="addition by digits", **how),
        {"carry": subspace("resid_post.0", "answer", dims=32)},
        rivals={
            "units and tens, added once": (CausalModel(inputs, parallel, name="units and tens", **how), "units"),
            "the sum at once": (CausalModel(inputs, whole_numbers, name="the sum at once", **how), "held"),
        },
        n=1200, n_test=300, steps=300, batch=48, sweep=("carry", ("resid_mid.0", "resid_post.0", "resid_post.2"), 32),
        expect="no carry anywhere: below .5, the network left alone; after block 0 the sum is there at once",
    )  # fmt: skip


def _years(rng: np.random.Generator) -> dict[str, Any]:
    from cutaway.tasks.small_world import sentences

    events: Any = sentences.EVENTS
    return {
        "event": str(rng.choice(events)), "century": int(rng.integers(11, 18)), "year": int(rng.integers(5, 90)),
        "form": int(rng.integers(2)),
    }  # fmt: skip


def _later_year(rng: np.random.Generator, base: Any) -> dict[str, Any]:
    """Half of the sources have the base's year (nothing is to change), half one at least 15 later: only then does the
    old answer mostly become wrong."""
    found = _years(rng)
    low = base["year"] + 15
    found["year"] = base["year"] if rng.random() < 0.5 or low > 95 else int(rng.integers(low, 97))
    return found


def greater_than_case() -> Case:
    """The year that the answer must exceed; right are all later years of the century."""
    from cutaway.abstraction import CausalModel, subspace

    frames = ("The {event} began in {century} {year:02} and ended in {century}",
              "The {event} lasted from the year {century} {year:02} to the year {century}")  # fmt: skip
    how: dict[str, Any] = {
        "prompt": lambda v: frames[v["form"]].format(**v),
        "answer": lambda after: [f"{year:02}" for year in range(after + 1, 100)],
        "draw": _years,
        "draw_source": _later_year,
        "positions": {"year": lambda v: (6, 8)[v["form"]]},
        "domains": {"after": range(99)},
    }
    inputs = dict.fromkeys(("event", "century", "year", "form"))
    right = CausalModel(
        inputs, {"threshold": lambda year: year, "after": lambda threshold: threshold}, name="greater-than", **how
    )
    wrong = CausalModel(
        inputs,
        {"tens": lambda year: year // 10, "after": lambda tens, year: 10 * tens + year % 10},
        name="the tens of the year",
        **how,
    )
    return Case(
        "greater-than", "the year that the answer must exceed", right,
        {"threshold": subspace("resid_post.1", "answer", dims=8)},
        rivals={"the tens alone": (wrong, "tens")}, n=800, n_test=200, steps=200, batch=48,
        sweep=("threshold", ("resid_pre.0", "resid_post.*"), None),
    )  # fmt: skip


def _names(rng: np.random.Generator) -> dict[str, Any]:
    from cutaway.tasks.small_world import world

    a, b = (str(x) for x in rng.choice(world.FIRST_NAMES, 2, replace=False))
    return {
        "a": a, "b": b, "repeated": ("first", "second")[int(rng.integers(2))], "place": str(rng.choice(world.PLACES)),
        "object": str(rng.choice(world.OBJECTS)), "form": int(rng.integers(3)),
    }  # fmt: skip


def _same_names(rng: np.random.Generator, base: Any) -> dict[str, Any]:
    """Half of the sources have the base's two names, in either order: there the name and its place part company."""
    found = _names(rng)
    if rng.random() < 0.5:
        found["a"], found["b"] = (base["a"], base["b"]) if rng.random() < 0.5 else (base["b"], base["a"])
    return found


def ioi_case() -> Case:
    """Which of the two names stands twice: known by its place (first or second), or by the name itself."""
    from cutaway.abstraction import CausalModel, NoMeaning, subspace

    frames = ("When {a} and {b} went to the {place}, {s} gave a {object} to",
              "Then {a} and {b} met at the {place} and {s} handed a {object} to",
              "After {a} and {b} came home from the {place}, {s} showed a {object} to")  # fmt: skip

    def subject(v: Any) -> str:
        return str(v["a"] if v["repeated"] == "first" else v["b"])

    def other(name: str, a: str, b: str) -> str:
        if name not in (a, b):
            raise NoMeaning(f"{name} is neither {a} nor {b}")
        return b if name == a else a

    how: dict[str, Any] = {
        "prompt": lambda v: frames[v["form"]].format(**v, s=subject(v)),
        "answer": lambda name: name,
        "draw": _names,
        "draw_source": _same_names,
        "positions": {"S2": subject},  # the last place where the name stands
    }
    inputs = dict.fromkeys(("a", "b", "repeated", "place", "object", "form"))
    place: dict[str, Any] = {
        "position": lambda repeated: repeated,
        "receiver": lambda position, a, b: b if position == "first" else a,
    }
    name: dict[str, Any] = {
        "subject": lambda repeated, a, b: a if repeated == "first" else b,
        "receiver": (("subject", "a", "b"), other),
    }
    return Case(
        "ioi", "which name is repeated", CausalModel(inputs, place, name="indirect objects, by place", **how),
        {"position": subspace("resid_post.1", "answer", dims=8)},
        rivals={"by the name": (CausalModel(inputs, name, name="indirect objects, by name", **how), "subject")},
        n=800, n_test=200, steps=200, batch=48, sweep=("position", ("resid_pre.0", "resid_post.*"), None),
    )  # fmt: skip


def two_hop_case() -> Case:
    """City -> state -> capital, asked for the state or the capital. In the chain, the capital is computed from the
    state; in the rival, both from the city: there an exchanged state leaves the capital as it was.

    At the city's own token, before the first block, the whole vector is the city, and exchanging it proves nothing; the
    place to look is the answer's, once it has been told of the city.
    """
    from cutaway.abstraction import CausalModel, subspace
    from cutaway.tasks.small_world import world

    state_of = {c: world.STATES[s] for c, s in zip(world.CITIES, world.STATE_OF_CITY)}
    capital_of = dict(zip(world.STATES, world.CAPITALS))
    frames = {
        "state": ("the state containing {city} is", "the city of {city} lies in the state of"),
        "capital": ("the capital of the state containing {city} is", "the state that holds {city} has its capital in"),
    }
    how: dict[str, Any] = {
        "prompt": lambda v: frames[v["question"]][v["form"]].format(city=v["city"]),
        "answer": lambda word: word,
        "positions": {"city": lambda v: v["city"]},
    }
    inputs = {"city": world.CITIES, "question": ("state", "capital"), "form": (0, 1)}

    def asked(question: str, state: str, capital: str) -> str:
        return state if question == "state" else capital

    chain: dict[str, Any] = {
        "state": lambda city: state_of[city],
        "capital": lambda state: capital_of[state],
        "said": asked,
    }
    direct: dict[str, Any] = {
        "state": lambda city: state_of[city],
        "capital": lambda city: capital_of[state_of[city]],
        "said": asked,
    }
    return Case(
        "two-hop", "the state between the city and its capital", CausalModel(inputs, chain, name="two hops", **how),
        {"state": subspace("resid_post.1", "answer", dims=32)},
        rivals={"both from the city": (CausalModel(inputs, direct, name="both from the city", **how), "state")},
        n=800, n_test=200, steps=200, batch=48, sweep=("state", ("resid_pre.0", "resid_post.*"), None),
    )  # fmt: skip


def attributes_case() -> Case:
    """RAVEL's question (Huang et al. 2024) in almanac: an English word has an opposite, a French and a Spanish word,
    and a question asks for one of them. Is each in a subspace of its own, so that exchanging it changes one answer and
    keeps the others? All are learned jointly (their MDAS): orthogonal subspaces at the word, after the first block.
    """
    from cutaway.abstraction import CausalModel, subspace
    from cutaway.tasks.small_world import languages

    rows = {c[side]: (c[1 - side], c[2 + side], c[4 + side]) for c in languages.CONCEPTS for side in (0, 1)}
    frames = {
        "opposite": "the opposite of the word {word} is the word",
        "french": languages.TRANSLATION["english", "french"].split(" *")[0].replace("{a}", "{word}"),
        "spanish": languages.TRANSLATION["english", "spanish"].split(" *")[0].replace("{a}", "{word}"),
    }
    attributes: dict[str, Any] = {
        name: (("word",), lambda word, number=number: rows[word][number]) for number, name in enumerate(frames)
    }

    return Case(
        "attributes", "an opposite, a French and a Spanish word",
        CausalModel(
            {"word": tuple(rows), "question": tuple(frames)},
            {**attributes, "said": (("question", *frames), lambda question, *of: dict(zip(frames, of))[question])},
            name="three attributes of a word",
            prompt=lambda v: frames[v["question"]].format(word=v["word"]),
            answer=lambda word: word,
            positions={"word": lambda v: v["word"]},
        ),
        {name: subspace("resid_post.0", "word", dims=24) for name in frames},
        n=1200, n_test=400, steps=300, batch=48,
        expect="no attribute by itself: exchanged alone, it changes no answer",
    )  # fmt: skip
