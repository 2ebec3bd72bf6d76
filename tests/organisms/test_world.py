"""The world's facts and words."""

from collections import Counter

from cutaway.tasks.small_world import facts, languages, sentences, verse, world
from cutaway.tasks.small_world.vocabulary import token_ids, world_words


def test_every_entry_is_one_word_and_belongs_to_one_thing() -> None:
    groups = (world.FIRST_NAMES, world.CITIES, world.CAPITALS, world.KNOWN_PEOPLE, world.UNDESCRIBED_PEOPLE)
    counted = Counter(word for group in groups for word in group)
    assert [w for w, n in counted.items() if n > 1] == []
    # "Washington", a state, is no city here; no state is a person.
    assert not set(world.STATES) & set(counted)
    assert all(" " not in w for w in counted)


def test_sizes_of_the_world() -> None:
    assert (len(world.STATES), len(world.CITIES), len(world.FIRST_NAMES)) == (32, 160, 60)
    assert len(world.KNOWN_PEOPLE) >= 80
    assert len(world.UNDESCRIBED_PEOPLE) == 80
    assert len(languages.CONCEPTS) == 40
    assert len(verse.RHYMES) >= 60


def test_a_rhyme_has_one_answer() -> None:
    assert len(set(verse.WORDS)) == len(verse.WORDS)


def test_an_antonym_has_one_answer_in_its_language() -> None:
    for language in range(3):
        words = [w for concept in languages.CONCEPTS for w in concept[2 * language : 2 * language + 2]]
        assert [w for w, n in Counter(words).items() if n > 1] == []


def test_ids_are_dense_and_distinct() -> None:
    assert sorted(token_ids().values()) == list(range(len(token_ids())))
    assert len(set(world_words())) == len(world_words())
    assert len(token_ids()) < 2000


def test_a_prompt_has_one_continuation() -> None:
    """No sentence asks for its word where another, the same so far, goes on differently ("Dallas is in" a …)."""
    frames = [w for group in (*languages.QUESTION.values(), *languages.OTHER.values()) for w in group]
    frames += languages.TRANSLATION.values()
    frames += facts.ONE_HOP + facts.TWO_HOP + facts.STATEMENT + facts.QUESTION
    frames += sentences.PRONOUN + sentences.AGREEMENT + sentences.INDIRECT_OBJECT + sentences.GREATER_THAN
    split = [[w.lstrip("*") for w in f.split()] for f in frames]
    answers = [next((i for i, w in enumerate(f.split()) if w.startswith("*")), None) for f in frames]
    for i, at in enumerate(answers):
        if at is None:
            continue
        for j, other in enumerate(split):
            same_so_far = split[i][:at] == other[:at] and len(other) > at
            assert not (same_so_far and other[at] != split[i][at]), (frames[i], frames[j])
