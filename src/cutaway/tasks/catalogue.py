"""The tasks by name: what each studies, its source, its counterfactuals, and which of the two worlds can ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cutaway.core import UnknownName
from cutaway.tasks.in_english import facts as english_facts
from cutaway.tasks.in_english import patterns as english_patterns
from cutaway.tasks.in_english import sentences as english_sentences
from cutaway.tasks.in_english.drafts import Drawer
from cutaway.tasks.in_english.greater_than import greater_than
from cutaway.tasks.in_small_world import facts as small_facts
from cutaway.tasks.in_small_world import patterns as small_patterns
from cutaway.tasks.in_small_world import sentences as small_sentences
from cutaway.tasks.in_small_world.drawing import Maker
from cutaway.tasks.reading import Reader
from cutaway.tasks.small_world import facts, languages, patterns, sentences, strange


@dataclass(frozen=True)
class Small:
    """A task in the small world: who draws it, its templates, and what of it the training text never holds."""

    make: Maker
    templates: tuple[str, ...]
    withheld: str


@dataclass(frozen=True)
class Entry:
    """One task. `small` and `english` are None where the world cannot ask it; `why` then says so.

    counterfactuals: kind -> what changes; the first is the default.
    """

    name: str
    about: str
    source: str
    counterfactuals: Mapping[str, str]
    small: Small | None = None
    english: Callable[[Reader, str], Drawer] | None = None
    why: str = ""
    also: tuple[str, ...] = field(default=())  # other names that are taken
    any_tokens: bool = False  # outside the small world it is asked of random tokens, in no language

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "about": self.about,
            "source": self.source,
            "counterfactuals": dict(self.counterfactuals),
            "small_world": self.small is not None,
            "withheld": None if self.small is None else self.small.withheld,
            "english": self.english is not None or self.any_tokens,
            "why_not": self.why or None,
        }


_FRESH = "nothing: every item is a fresh draw"
_QUESTION = "both question frames for a fifth of (pair, direction)"


def _antonyms(language: str) -> Small:
    return Small(small_facts.antonyms(language), languages.QUESTION[language] + languages.OTHER[language], _QUESTION)


ENTRIES = (
    Entry(
        "ioi",
        "who receives: the name that occurs once, not the one that occurs twice",
        "Wang et al. 2022, Interpretability in the wild",
        {
            "flip": "the second mention of the subject becomes the other name, so that the answer does too",
            "abc": "the three names become three new ones, so that nothing tells the answer",
            "names": "both people become two others, in the same places",
        },
        Small(
            small_sentences.indirect_objects,
            sentences.INDIRECT_OBJECT,
            "15 % of the name pairs, in every template and order",
        ),
        english_sentences.indirect_objects,
        also=("indirect-object", "indirect-objects"),
    ),
    Entry(
        "greater-than",
        "the year in which something ends is after the year in which it began",
        "Hanna et al. 2023, How does GPT-2 compute greater-than?",
        {"01": "the start year becomes 01, after which all years are right", "year": "the start year becomes another"},
        Small(small_sentences.greater_than, sentences.GREATER_THAN, "a fifth of (event, century, year)"),
        greater_than,
    ),
    Entry(
        "pronouns",
        "a pronoun has the gender of the name that it stands for",
        "Mathwin et al. 2023, Identifying a preliminary circuit for predicting gendered pronouns in GPT-2 small",
        {"flip": "a name of the other gender"},
        Small(small_sentences.pronouns, sentences.PRONOUN, "a fifth of (name, template)"),
        english_sentences.pronouns,
        also=("pronoun", "gender"),
    ),
    Entry(
        "agreement",
        "the verb agrees with its subject, not with the noun between (the attractor)",
        "Linzen et al. 2016, Assessing the ability of LSTMs to learn syntax-sensitive dependencies",
        {"flip": "the subject in the other number; the attractor stays"},
        Small(small_sentences.agreement, sentences.AGREEMENT, "a fifth of the ordered noun pairs, in every number"),
        english_sentences.agreement,
        also=("subject-verb",),
    ),
    Entry(
        "docstring",
        "the parameter to describe next is the next one of the definition",
        "Heimersheim and Janiak 2023, A circuit for Python docstrings",
        {
            "flip": "the asked parameter has another name in the definition",
            "abc": "all parameters have other names, in the definition and below",
        },
        Small(small_patterns.docstring, patterns.DOCSTRING, _FRESH),
        english_patterns.docstring,
    ),
    Entry(
        "induction",
        "what followed a token before follows it again",
        "Olsson et al. 2022, In-context learning and induction heads",
        {
            "flip": "the answer's first occurrence becomes another token, which then is right",
            "shuffle": "the whole first copy is of other tokens, so that nothing repeats",
        },
        Small(small_patterns.induction, (), _FRESH),
        any_tokens=True,
    ),
    Entry(
        "facts",
        "recall of one fact about the subject",
        "Meng et al. 2022, Locating and editing factual associations; Geva et al. 2023",
        {"subject": "another subject, with another answer"},
        Small(small_facts.one_hop, facts.ONE_HOP, "nothing: these are the facts that two-hop composes"),
        english_facts.one_hop,
        also=("one-hop", "recall", "factual-recall"),
    ),
    Entry(
        "two-hop",
        "two facts composed: the second is about the answer of the first",
        "Yang et al. 2024, Do large language models latently perform multi-hop reasoning?",
        {"subject": "another subject, with another answer"},
        Small(small_facts.two_hop, facts.TWO_HOP, "40 of the 160 cities, in every two-hop frame (both hops are shown)"),
        english_facts.two_hop,
    ),
    Entry(
        "addition",
        "the sum of two numbers of two digits",
        "Stolfo et al. 2023; Nikankin et al. 2024, Arithmetic without algorithms",
        {
            "first": "the first number becomes another",
            "second": "the second number becomes another",
            "both": "both numbers become others",
        },
        Small(small_patterns.addition, patterns.SUM, "a fifth of the operand pairs, both orders"),
        english_patterns.addition,
        also=("sums", "arithmetic"),
    ),
    Entry(
        "antonyms",
        "the opposite of a word",
        "Todd et al. 2023, Function vectors in large language models; Lindsey et al. 2025 (three languages)",
        {"word": "the question about another word"},
        _antonyms("english"),
        english_facts.antonyms,
        also=("antonym-english", "antonyms-english", "antonym"),
    ),
    Entry(
        "antonyms-french",
        "the opposite of a word, in French",
        "Lindsey et al. 2025, On the biology of a large language model",
        {"word": "the question about another word"},
        _antonyms("french"),
        why="our French and Spanish questions exist in the small world alone; the English ones are `antonyms`",
        also=("antonym-french",),
    ),
    Entry(
        "antonyms-spanish",
        "the opposite of a word, in Spanish",
        "Lindsey et al. 2025, On the biology of a large language model",
        {"word": "the question about another word"},
        _antonyms("spanish"),
        why="our French and Spanish questions exist in the small world alone; the English ones are `antonyms`",
        also=("antonym-spanish",),
    ),
    Entry(
        "colours",
        "which colour belongs to the object that is asked about",
        "BIG-bench, reasoning about colored objects; Feng and Steinhardt 2023 (binding)",
        {"object": "another of the objects is asked about", "swap": "the two objects change colours"},
        Small(small_patterns.colours, patterns.COLOURED, _FRESH),
        english_patterns.colours,
        also=("coloured-objects", "colors", "colored-objects"),
    ),
    Entry(
        "choice",
        "a pointer: the letter of the choice that holds the colour",
        "Wiegreffe et al. 2024, Answer, assemble, ace; Mueller et al. 2025 (MIB)",
        {
            "colour": "the object has another of the four colours",
            "order": "the right colour changes place with another choice",
        },
        english=english_patterns.multiple_choice,
        why="the small world has no letters A to D to point with; its pointer is `colours`",
        also=("mcq", "mcqa", "multiple-choice"),
    ),
    Entry(
        "refusal",
        "a request to do harm is refused: Sorry, not Sure",
        "Arditi et al. 2024, Refusal in language models is mediated by a single direction",
        {"verb": "a harmless request for a harmful one, and the reverse"},
        Small(
            small_patterns.refusal,
            strange.REQUEST,
            "nothing (some 200 requests, told apart by the verb alone: `known-people` asks more of the model)",
        ),
        english_patterns.refusal,
    ),
    Entry(
        "known-people",
        "whether a name is known: its field is told, or 'unknown' said",
        "Ferrando et al. 2024, Do I know this entity?",
        {
            "unknown": "a name of which nothing is stated, so that 'unknown' is right",
            "person": "a known person of another field",
        },
        Small(small_facts.known_people, facts.QUESTION, "a fifth of (person, question form)"),
        why="it needs a model that was taught to say that it does not know, in known words; `refusal` is nearest",
        also=("known-person", "unknown-person", "known-persons"),
    ),
)
NAMES = {name: entry for entry in ENTRIES for name in (entry.name, *entry.also)}


def entry(name: str) -> Entry:
    """The task of that name; underscores serve as hyphens. Raises UnknownName."""
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    if key not in NAMES:
        raise UnknownName("task", name, [e.name for e in ENTRIES], "`cutaway tasks` lists them.")
    return NAMES[key]
