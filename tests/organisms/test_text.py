"""The training text: reproducible, well packed, and without one withheld item.

The withheld items are looked for in the decoded text, by reading its sentences, not by asking the generator.
"""

import re

import numpy as np
import pytest

from cutaway.organisms.almanac import behaviours, text
from cutaway.organisms.almanac.tokenizer import build_tokenizer
from cutaway.tasks.small_world import facts, languages, patterns, sentences, world
from cutaway.tasks.small_world.templates import draw, table, withheld_table
from cutaway.tasks.small_world.vocabulary import BOS, token_ids

ROWS = 4096
TOKENIZER = build_tokenizer()


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """The documents of half a million tokens, words joined by blanks."""
    word = {i: t.removeprefix("▁") for t, i in token_ids().items()}
    flat = " ".join(word[t] for t in text.token_rows(ROWS, seed=11).ravel().tolist())
    return [d.strip(" ") for d in flat.split(BOS)]


def test_rows_are_those_of_the_seed() -> None:
    a = text.token_rows(200, seed=4)
    assert a.shape == (200, 128)
    assert a.dtype == np.int16
    assert np.array_equal(a, text.token_rows(300, seed=4)[:200])
    assert not np.array_equal(a, text.token_rows(200, seed=5))
    assert not np.array_equal(a, text.held_out_rows(200, seed=4))


def test_rows_begin_with_a_document_and_hold_no_padding() -> None:
    rows = text.token_rows(500, seed=0)
    assert (rows[:, 0] == token_ids()[BOS]).all()
    assert rows.min() >= 0
    assert not (rows == token_ids()["<pad>"]).any()


def test_the_mixture_is_what_it_says() -> None:
    """Sums are found by their sign; their share is the mixture's, less <bos> and what the ends of rows cut off."""
    rows = text.token_rows(ROWS, seed=0)
    share = (rows == token_ids()["▁="]).sum() * 6 / rows.size
    wanted = text.MIXTURE["addition"][1] / sum(s for _, s in text.MIXTURE.values())
    assert 0.3 < share < wanted
    assert share > 0.9 * wanted


def test_every_token_occurs() -> None:
    """Else its embedding would never be trained.  Bytes that UTF-8 seldom uses are excused."""
    seen = set(np.unique(text.token_rows(2 * ROWS, seed=0)).tolist())
    missing = [t for t, i in token_ids().items() if i not in seen]
    assert [t for t in missing if not re.fullmatch(r"<0x..>|<pad>", t)] in ([], ["▁199"])


def test_sums_are_right_and_none_is_withheld(documents: list[str]) -> None:
    barred = patterns.withheld_sums()
    found = [tuple(map(int, m)) for d in documents for m in re.findall(r"(\d+) \+ (\d+) = (\d+) \.", d)]
    assert len(found) > 10_000
    assert all(a + b == c for a, b, c in found)
    assert not any(barred[a, b] for a, b, _ in found)
    assert (barred == barred.T).all()
    assert abs(barred.mean() - 0.2) < 0.01


def test_no_withheld_name_pair(documents: list[str]) -> None:
    barred, index = sentences.withheld_name_pairs(), {n: i for i, n in enumerate(world.FIRST_NAMES)}
    gave = r"\b(gave|handed|showed|sold|threw|brought|passed|sent|lent|give|offered)\b"
    sentences_ = [d.split() for d in documents if re.search(gave, d)]
    pairs = [{index[w] for w in words if w in index} for words in sentences_ if not _is_list(words)]
    pairs = [tuple(p) for p in pairs if len(p) == 2]
    assert len(pairs) > 500
    assert not any(barred[a, b] for a, b in pairs)
    assert abs(barred[np.triu_indices(60, 1)].mean() - 0.15) < 0.01


def test_no_withheld_city_is_composed(documents: list[str]) -> None:
    barred = facts.withheld_cities()
    assert barred.sum() == 40
    per_state = np.bincount(np.array(world.STATE_OF_CITY)[barred], minlength=32)
    assert per_state.min() >= 1
    assert per_state.max() <= 2
    withheld = {c for c, b in zip(world.CITIES, barred, strict=True) if b}
    cities, capitals = set(world.CITIES), set(world.CAPITALS)
    composed = [d.split() for d in documents if re.search(r"capital|governor", d) and cities & set(d.split())]
    composed = [words for words in composed if capitals & set(words) and not _is_list(words)]
    assert len(composed) > 500
    assert not any(withheld & set(words) for words in composed)


def _is_list(words: list[str]) -> bool:
    """A repeated list of random words, which may hold any city."""
    half = len(words) // 2
    return len(words) >= 8 and (words[:half] == words[half : 2 * half] or words[-1] != ".")


def test_the_hops_of_withheld_cities_are_shown(documents: list[str]) -> None:
    shown = {m for d in documents for m in re.findall(r"(\w+) is in \w+ \.|containing (\w+) is", d) for m in m if m}
    withheld = {c for c, b in zip(world.CITIES, facts.withheld_cities(), strict=True) if b}
    assert withheld <= shown


def test_no_withheld_antonym_question(documents: list[str]) -> None:
    cue = {"english": r"the opposite of (?:the word )?(\S+) is", "french": r"le contraire (?:de|du mot) (\S+) est"}
    cue["spanish"] = r"lo contrario de (?:la palabra )?(\S+) es"
    for k, language in enumerate(languages.LANGUAGES):
        barred = withheld_table(f"antonyms {language}", (40, 2), 0.2)
        withheld = {c[2 * k + s] for i, c in enumerate(languages.CONCEPTS) for s in (0, 1) if barred[i, s]}
        asked = [w for d in documents for w in re.findall(cue[language], d)]
        assert len(withheld) == 16
        assert len(asked) > 100
        assert not withheld & set(asked)


def test_no_withheld_person_is_asked_about(documents: list[str]) -> None:
    never = {n for n, b in zip(world.UNDESCRIBED_PEOPLE, facts.never_asked(), strict=True) if b}
    assert len(never) == 30
    unknown = [d for d in documents if d.endswith("unknown .") and not re.search(r"<0x", d)]
    assert len(unknown) > 100
    assert not any(never & set(d.split()) for d in unknown)
    assert all(any(n in d.split() for d in documents) for n in never)  # they live in the stories
    barred = withheld_table("people", (len(world.KNOWN_PEOPLE), len(facts.QUESTION)), 0.2)
    for k, form in enumerate(facts.QUESTION):
        cue = re.escape(form).replace(r"\{P\}", r"(\w+)").replace(r"\*\{F\}", r"(\w+)")
        asked = {m[0] for d in documents for m in re.findall(f"^{cue}$", d)} & set(world.KNOWN_PEOPLE)
        assert asked
        assert not asked & {p for i, p in enumerate(world.KNOWN_PEOPLE) if barred[i, k]}


def test_brackets_close_what_they_open(documents: list[str]) -> None:
    match = {")": "(", "]": "[", "}": "{"}
    found = 0
    for d in documents:
        if not d.endswith(".") or not set(d.split()) & set("([{") or d.startswith("def "):
            continue
        stack = []
        for word in d.split():
            if word in "([{":
                stack.append(word)
            elif word in match:
                assert stack.pop() == match[word]
        assert not stack
        found += 1
    assert found > 200


@pytest.mark.parametrize("name", list(behaviours.CATALOGUE))
def test_items_are_prompts_of_the_world(name: str) -> None:
    """Distinct, answered by one of their right words, and the same ids as text and as arrays."""
    items, made = behaviours.BEHAVIOURS[name](40, 5), behaviours.exam(name, 40, 5)
    assert len({i.prompt for i in items}) == len(items)
    assert len(items) >= 16
    for k, item in enumerate(items):
        assert item.answer in item.answers
        assert TOKENIZER(item.prompt).input_ids == made.prompts[k, : made.last[k] + 1].tolist()
        assert "▁" + item.answer in token_ids()


def test_no_exam_prompt_of_a_composition_is_in_the_text(documents: list[str]) -> None:
    """The prompts themselves, as word strings, for the kinds whose items are withheld as such."""
    joined = "\n".join(documents)
    word = {i: t.removeprefix("▁") for t, i in token_ids().items()}
    for name in ("addition", "two_hop", "known_person", "unknown_person", "rhyme", "pronoun", "greater_than"):
        made = behaviours.exam(name, 200, seed=0)
        for prompt, last in zip(made.prompts, made.last, strict=True):
            sentence = " ".join(word[t] for t in prompt[1 : last + 1].tolist())
            assert f"\n{sentence} " not in joined, sentence


def test_swaps_join_two_states_in_one_frame() -> None:
    swaps = behaviours.two_hop_swaps(50, seed=0)
    assert len({(a.prompt, b.prompt) for a, b in swaps}) == 50
    for a, b in swaps:
        assert a.extra["state"] != b.extra["state"]
        assert a.answer == a.extra["capital"] != b.answer
        assert a.prompt.replace(a.extra["city"], "") == b.prompt.replace(b.extra["city"], "")


def test_wilson_interval() -> None:
    """Against the figures of Newcombe (1998), example 1: 81 of 263."""
    low, high = behaviours.wilson(81 / 263, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert behaviours.wilson(1.0, 200)[1] == pytest.approx(1.0)


def test_draw_refuses_an_unknown_split() -> None:
    with pytest.raises(ValueError, match="split"):
        draw(np.random.default_rng(0), 3, lambda r, m: {}, lambda d: np.zeros(3), "test")


def test_an_unknown_word_in_a_template_is_an_error() -> None:
    with pytest.raises(KeyError, match="not in the world"):
        table(("the xyzzy of {A} .",))
