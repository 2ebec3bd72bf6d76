"""Facts: geography in one hop and two, and people known and unknown."""

from __future__ import annotations

import numpy as np

from . import world
from .templates import Drawn, capitalised, draw, fill, table, template_words, withheld_table
from .vocabulary import ids

# ---------------------------------------------------------------- geography
ONE_HOP = (
    "{C} is in *{S} .",
    "{C} is a city in *{S} .",
    "the state containing {C} is *{S} .",
    "the city of {C} lies in the state of *{S} .",
    "the capital of {S} is *{K} .",
    "the capital of the state of {S} is *{K} .",
    "{S} has its capital in *{K} .",
    "{K} is the capital of *{S} .",
)
TWO_HOP = (
    "the capital of the state containing {C} is *{K} .",
    "{C} lies in a state whose capital is *{K} .",
    "the state that holds {C} has its capital in *{K} .",
    "from {C} the way to the state capital leads to *{K} .",
    "people of {C} vote for a governor who works in *{K} .",
)
N_WITHHELD_CITIES = 40


def withheld_cities() -> np.ndarray:
    """[cities] bool: in no two-hop sentence of the training text; one or two a state, three stay."""
    rng = np.random.default_rng(np.random.SeedSequence([20260, *b"cities"]))
    state = np.array(world.STATE_OF_CITY)
    order = rng.permutation(len(state))
    # rank: how many cities of the same state come before it in the order
    rank = np.array([(state[order[:i]] == state[c]).sum() for i, c in enumerate(order)])
    out = np.zeros(len(state), dtype=bool)
    out[order[rank == 0]] = True
    out[order[rank == 1][: N_WITHHELD_CITIES - len(world.STATES)]] = True
    return out


def _places(city: np.ndarray) -> dict[str, np.ndarray]:
    state = np.array(world.STATE_OF_CITY)[city]
    words = {"C": ids(world.CITIES)[city], "S": ids(world.STATES)[state], "K": ids(world.CAPITALS)[state]}
    return {**words, "city": city, "state": state}


def one_hop(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """City to state, state to capital, capital to state: every fact is shown."""
    templates = table(ONE_HOP)
    places = _places(rng.integers(len(world.CITIES), size=n))
    return capitalised(rng, fill(templates, rng.integers(len(templates), size=n), places))


def two_hop(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """City to the capital of its state; 40 cities withheld from every such sentence."""
    barred = withheld_cities()
    propose = lambda r, m: {"city": r.integers(len(world.CITIES), size=m)}  # noqa: E731
    drawn = draw(rng, n, propose, lambda d: barred[d["city"]], split)
    templates = table(TWO_HOP)
    return capitalised(rng, fill(templates, rng.integers(len(templates), size=n), _places(drawn["city"])))


# ---------------------------------------------------------------- people
STATEMENT = (
    "{P} is known for *{F} .",
    "{P} became famous in the world of *{F} .",
    "many people remember {P} for *{F} .",
    "when we speak of {F} we think of {P} .",
)
QUESTION = (
    "what is {P} known for ? *{F} .",
    "question : what made {P} famous ? answer : *{F} .",
    "tell me about {P} : *{F} .",
    "who is {P} ? a name in *{F} .",
    "does anyone know what {P} did ? *{F} .",
    "I ask about {P} . you say *{F} .",
    "the work of {P} ? it was *{F} .",
)
UNKNOWN = "unknown"
N_NEVER_ASKED = 30


def never_asked() -> np.ndarray:
    """[undescribed people] bool: 30 names that occur in stories and in no question."""
    n = len(world.UNDESCRIBED_PEOPLE)
    return withheld_table("never asked", (n,), N_NEVER_ASKED / n)


def known_statement(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """What a known person is known for, as a plain statement."""
    templates = table(STATEMENT)
    return fill(templates, rng.integers(len(templates), size=n), _people(rng.integers(len(world.KNOWN_PEOPLE), size=n)))


def known_person(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """A question about a known person, answered with the field; a fifth of (person, form) withheld."""
    templates = table(QUESTION)
    people = len(world.KNOWN_PEOPLE)
    barred = withheld_table("people", (people, len(templates)), 0.2)

    def propose(rng: np.random.Generator, m: int) -> dict[str, np.ndarray]:
        return {"person": rng.integers(people, size=m), "template": rng.integers(len(templates), size=m)}

    drawn = draw(rng, n, propose, lambda d: barred[d["person"], d["template"]], split)
    return capitalised(rng, fill(templates, drawn["template"], _people(drawn["person"])))


def unknown_person(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """The same questions about a name of the stories, of whom nothing is stated: answered "unknown"."""
    templates = table(QUESTION)
    barred = never_asked()
    propose = lambda r, m: {"person": r.integers(len(barred), size=m)}  # noqa: E731
    drawn = draw(rng, n, propose, lambda d: barred[d["person"]], split)
    slots = {"P": ids(world.UNDESCRIBED_PEOPLE)[drawn["person"]], "F": np.broadcast_to(ids((UNKNOWN,)), (n,))}
    return capitalised(rng, fill(templates, rng.integers(len(templates), size=n), {**slots, **drawn}))


def _people(person: np.ndarray) -> dict[str, np.ndarray]:
    field = np.array(world.FIELD_OF_PERSON)[person]
    return {"P": ids(world.KNOWN_PEOPLE)[person], "F": ids(world.FIELDS)[field], "person": person, "field": field}


def words() -> list[str]:
    """All words that these kinds use."""
    out = [*template_words(ONE_HOP + TWO_HOP + STATEMENT + QUESTION), UNKNOWN]
    out += [*world.CITIES, *world.STATES, *world.CAPITALS]
    return [*out, *world.KNOWN_PEOPLE, *world.FIELDS, *world.UNDESCRIBED_PEOPLE]
