"""One's own tasks: what is sound is built as given, and what is not is refused with the items named."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tasks.tokenizers import tokenizer

import cutaway as cw
from cutaway.core import InputError
from cutaway.tasks import TaskWarning
from cutaway.tasks.corruptions import gaussian_noise, random_token, resample, shuffle, swap_words

CLEAN = ["When Mary and John went to the shop, John gave a book to", "The opposite of hot is"]
OTHER = ["When Mary and John went to the shop, Mary gave a book to", "The opposite of big is"]
ANSWERS, WRONG = ["Mary", "cold"], ["John", "small"]
WORDS = ["big", "small", "hot", "cold", "cat", "dog", "red", "blue", "John", "Mary"]


def test_pairs_are_built_as_given(almanac: cw.Model) -> None:
    task = cw.Task.from_pairs(almanac, CLEAN, OTHER, ANSWERS, WRONG, positions={"place": [4, 1], "last": -1})
    assert [almanac.token_strings([i])[0].strip() for i in task.answers.tolist()] == ANSWERS
    assert [almanac.token_strings([i])[0].strip() for i in task.wrong.tolist()] == WRONG
    assert task.metric.name == "logit_difference"
    for i, (a, b) in enumerate(zip(CLEAN, OTHER)):
        assert task.clean.ids[i][task.clean.mask[i]].tolist() == almanac.tokens(a)[0].tolist()
        assert task.counterfactual.ids[i][task.clean.mask[i]].tolist() == almanac.tokens(b)[0].tolist()
    assert task.positions["place"].tolist() == [4, 1]
    assert task.positions["last"].tolist() == task.positions["end"].tolist()
    assert task.differs[torch.arange(2), task.columns("changed")].all()  # one token differs in each
    assert task.template.tolist() == [1, 0]  # by length


def test_words_spelled_in_bytes_are_noted(almanac: cw.Model) -> None:
    task = cw.Task.from_pairs(almanac, [*CLEAN, "The opposite of kawaii is"], [*OTHER, "The opposite of abacus is"],
                              [*ANSWERS, "sad"])  # fmt: skip
    assert task.notes == ("1 of 3 items hold words that are spelled in bytes: kawaii",)
    assert cw.Task.from_pairs(almanac, CLEAN, OTHER, ANSWERS).notes == ()


def test_positions_by_word_are_the_last_token_of_the_word() -> None:
    words = tokenizer("gpt2")
    task = cw.Task.from_pairs(
        words, ["The city of Zagreb is in"], ["The city of Krakow is in"], ["Croatia"], ["Poland"],
        positions={"city": "Zagreb"},
    )  # fmt: skip
    at = int(task.positions["city"][0])
    assert words.decode(task.clean.ids[0, 3 : at + 1]).strip() == "Zagreb"
    with pytest.raises(InputError, match="1 of 1 items have no word for the position 'city'"):
        cw.Task.from_pairs(words, ["A man"], ["A dog"], ["is"], positions={"city": "Paris"})


@pytest.mark.parametrize(("end", "answer"), [(': "', "Paris"), (" (", "not"), (" [", "1"), ("\n", "The"), (" $", "5")])
def test_no_space_is_put_after_an_opening_mark(end: str, answer: str) -> None:
    words = tokenizer("gpt2")
    task = cw.Task.from_pairs(words, ["It was" + end], ["It is" + end], [answer])
    assert words.decode(task.answers) == answer


def test_answers_may_carry_their_space_or_be_ids() -> None:
    words = tokenizer("gpt2")
    made = [cw.Task.from_pairs(words, ["The opposite of hot is"], ["The opposite of big is"], [a])
            for a in ("cold", " cold", words(" cold")["input_ids"][0])]  # fmt: skip
    assert len({int(t.answers[0]) for t in made}) == 1


def test_clip_puts_its_end_after_the_prompt_and_it_is_left_off() -> None:
    words = tokenizer("clip")
    task = cw.Task.from_pairs(words, ["The opposite of hot is"], ["The opposite of big is"], ["cold"], ["small"])
    assert words.eos_token_id not in task.clean.ids[0].tolist()
    assert task.clean.ids[0, 0] == words.bos_token_id


BAD: list[tuple[dict[str, Any], str]] = [
    ({"counterfactual": ["When Mary went to", OTHER[1]]}, r"1 of 2 items are misaligned.*row 0: 15 tokens against 5"),
    ({"counterfactual": [OTHER[0], CLEAN[1]]}, r"1 of 2 items have a counterfactual identical.*row 1: 'The opposite"),
    (
        {"answers": ["Mary", "zzyzx"]},
        r"1 of 2 items have an answer that is not one token.*row 1: 'zzyzx' is ",
    ),
    ({"wrong": ["John", "cold"]}, r"1 of 2 items have the same token as answer and as wrong.*row 1"),
    ({"wrong": ["John"]}, r"wrong has 1 entries and clean 2"),
    ({"counterfactual": OTHER[:1]}, r"counterfactual has 1 entries and clean 2"),
    ({"counterfactual_answers": ANSWERS}, r"2 of 2 items have the same answer on clean and counterfactual"),
    ({"clean": []}, "clean is empty"),
    ({"clean": CLEAN[0]}, "clean is a column"),
    ({"clean": [CLEAN[0], ""]}, "1 of 2 items of clean are no text. row 1"),
    ({"bad": "skip"}, "'error' or 'drop'"),
    ({"positions": {"x": [1]}}, "position 'x' has 1 entries and there are 2"),
    ({"positions": {"x": 99}}, "position x is 99, and the row has"),
    ({"metric": "logitdiff"}, "no metric 'logitdiff'"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_names_its_items(change: dict[str, Any], message: str, almanac: cw.Model) -> None:
    call = {"clean": CLEAN, "counterfactual": OTHER, "answers": ANSWERS, "wrong": WRONG, **change}
    with pytest.raises(InputError, match=message):
        cw.Task.from_pairs(almanac, **call)


def test_bad_items_can_be_dropped_and_are_named(almanac: cw.Model) -> None:
    clean = [*CLEAN, "The opposite of old is", "The opposite of far is", "The opposite of rich is"]
    other = [*OTHER, "The opposite is", "The opposite of far is", "The opposite of new is"]
    answers = [*ANSWERS, "young", "near", "qqqq"]
    with pytest.warns(TaskWarning) as caught:
        task = cw.Task.from_pairs(almanac, clean, other, answers, bad="drop")
    assert [i.clean for i in task.items] == CLEAN
    said = " ".join(str(w.message) for w in caught)
    assert "1 of 5 items have an answer that is not one token. row 4" in said
    assert "1 of 4 items are misaligned" in said
    assert "row 2" in said
    assert "1 of 3 items have a counterfactual identical" in said
    with pytest.raises(InputError, match="None is left"):
        cw.Task.from_pairs(almanac, CLEAN[:1], CLEAN[:1], ANSWERS[:1], bad="drop")


def test_repeats_and_spaces_at_the_end_are_warnings(almanac: cw.Model) -> None:
    with pytest.warns(TaskWarning, match="1 of 2 items repeat an earlier one.*row 1: as row 0"):
        cw.Task.from_pairs(almanac, CLEAN[:1] * 2, OTHER[:1] * 2, ANSWERS[:1] * 2)
    with pytest.warns(TaskWarning, match="1 of 1 items end with a space"):
        cw.Task.from_pairs(tokenizer("words"), ["The opposite of hot is "], ["The opposite of big is "], ["cold"])
    with pytest.warns(TaskWarning), pytest.raises(InputError, match=r"'cold' joins .*the prompt ends with a space"):
        cw.Task.from_pairs(tokenizer("gpt2"), ["The opposite of hot is "], ["The opposite of big is "], ["cold"])


def test_words_unknown_to_the_tokenizer_are_named() -> None:
    with pytest.raises(InputError, match="1 of 1 items hold words that the tokenizer does not know"):
        cw.Task.from_pairs(tokenizer("words"), ["The flibber is"], ["The cat is"], ["red"])


def test_first_token_of_longer_answers() -> None:
    words = tokenizer("gpt2")
    call = [words, ["The capital is"], ["The district is"], ["Ouagadougou"]]
    with pytest.raises(InputError, match="not one token"):
        cw.Task.from_pairs(*call)
    task = cw.Task.from_pairs(*call, first_token=True)
    assert words(" Ouagadougou")["input_ids"][0] == task.answers[0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), make=st.sampled_from(["gpt2", "clip", "stories260k", "digits", "words", "threes"]))
def test_whatever_is_built_is_aligned(data: st.DataObject, make: str) -> None:
    """Random sentences of any tokenizer: either a task whose rows are their texts' tokens, or an InputError."""
    words = tokenizer(make)
    sentence = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
    n = data.draw(st.integers(1, 4))
    clean, other = (data.draw(st.lists(sentence, min_size=n, max_size=n)) for _ in range(2))
    answers = data.draw(st.lists(st.sampled_from(WORDS), min_size=n, max_size=n))
    special = set(words.all_special_ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TaskWarning)
        lengths = [[len(words(t)["input_ids"]) for t in column] for column in (clean, other)]
        try:
            task = cw.Task.from_pairs(words, clean, other, answers)
        except InputError:
            sound = lengths[0] == lengths[1] and all(a != b for a, b in zip(clean, other))
            assume(not sound)  # a sound pair that is refused is a failure
            return
    assert lengths[0] == lengths[1]
    assert task.differs.any(-1).all()
    for i, text in enumerate(clean):
        ids = [t for t in task.clean.ids[i][task.clean.mask[i]].tolist() if t not in special]
        assert ids == [t for t in words(text)["input_ids"] if t not in special]
        assert words.decode([int(task.answers[i])]).strip(" ▁").lower() == answers[i].lower()


# ------------------------------------------------------------------------------------------------- without a tokenizer


def test_from_tokens_keeps_what_it_is_given() -> None:
    clean = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]])
    other = torch.tensor([[1, 9, 3, 0], [4, 5, 9, 7]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    task = cw.Task.from_tokens(clean, other, [8, 8], torch.tensor([3, 4]), mask=mask, positions={"x": [0, -1]})
    assert torch.equal(task.clean.ids, clean)
    assert torch.equal(task.counterfactual.ids, other)
    assert task.positions["x"].tolist() == [0, 3]
    assert task.positions["end"].tolist() == [2, 3]
    assert task.positions["changed"].tolist() == [1, 2]
    assert "4 5 6       7" in str(task)
    assert task.to_json()["items"][0]["clean_ids"] == [1, 2, 3]


def test_the_answer_may_be_read_before_the_last_token(untrained: cw.Model) -> None:
    clean, other = torch.tensor([[1, 2, 3, 4]] * 2), torch.tensor([[1, 9, 3, 4], [8, 2, 3, 4]])
    task = cw.Task.from_tokens(clean, other, [5, 6], [6, 5], positions={"end": [1, -1]})
    run = untrained.run(task.clean)
    assert torch.equal(task.at_end(run), run.logits[[0, 1], [1, 3]])
    with pytest.warns(UserWarning, match="DOES NOT DO"):
        found = task.check(untrained, null=False)
    assert torch.allclose(found.clean, task.measure(run), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean": torch.zeros(2, 3)}, "whole numbers; given torch.float32"),
        ({"clean": torch.zeros(2, 4).long()}, r"one shape; given \[2, 4\] and \[2, 3\]"),
        ({"answers": [1]}, "answers holds 2 whole numbers"),
        ({"vocabulary": 4}, "token id 9 is not in the vocabulary"),
        ({"mask": torch.tensor([[0, 1, 1], [1, 1, 1]]).bool()}, "True on each row's tokens from its first"),
        ({"positions": {"x": 7}}, "position x is 7"),
    ],
)
def test_bad_tokens_are_refused(change: dict[str, Any], message: str) -> None:
    call = {
        "clean": torch.tensor([[1, 2, 3], [4, 5, 6]]),
        "counterfactual": torch.tensor([[1, 9, 3], [4, 5, 9]]),
        "answers": [3, 3],
        **change,
    }
    with pytest.raises(InputError, match=message):
        cw.Task.from_tokens(**call)


def test_take_refuses_what_is_not_there(almanac: cw.Model) -> None:
    task = cw.task("ioi", almanac, n=4)
    for rows, message in (([], "no item"), ([4], "has 4 items"), (torch.tensor([True]), "a mask of items has 4")):
        with pytest.raises(InputError, match=message):
            task.take(rows)
    assert task.take(torch.tensor([True, False, True, False])).items == (task.items[0], task.items[2])
    assert task.take([-1]).items == task.items[-1:]


# --------------------------------------------------------------------------------------------------------- corruptions

ASKED = ["The opposite of hot is", "The opposite of big is", "The opposite of old is"]
SAID = ["cold", "small", "young"]


def test_swap_words_exchanges_each_word_for_another_of_its_length(almanac: cw.Model) -> None:
    names = ["Mary", "John", "Anna", "Tom", "Paul"]
    task = cw.Task.from_pairs(almanac, CLEAN[:1], swap_words(names), ["Mary"], ["John"])
    before, after = (t.replace(",", " ,").split() for t in (task.items[0].clean, task.items[0].counterfactual))
    changed = {a: b for a, b in zip(before, after) if a != b}
    assert set(changed) == {"Mary", "John"}
    assert set(changed.values()) <= set(names) - {"Mary", "John"}
    assert [changed.get(w, w) for w in before] == after  # each the same one wherever it stands
    with pytest.raises(InputError, match="2 of 2 items hold none of the words"):
        cw.Task.from_pairs(almanac, ASKED[:2], swap_words(names), SAID[:2])


def test_shuffle_keeps_the_tokens_and_the_last(almanac: cw.Model) -> None:
    task = cw.Task.from_pairs(almanac, CLEAN[:1], shuffle(keep_last=2), ["Mary"])
    a, b = task.clean.ids[0].tolist(), task.counterfactual.ids[0].tolist()
    assert sorted(a) == sorted(b)
    assert (a[0], a[-2:]) == (b[0], b[-2:])
    assert a != b


def test_resample_gives_another_items_prompt_with_another_answer(almanac: cw.Model) -> None:
    task = cw.Task.from_pairs(almanac, ASKED, resample(), SAID)
    for item in task.items:
        assert item.counterfactual in ASKED
        assert item.counterfactual != item.clean
        assert item.counterfactual_answer == item.wrong == SAID[ASKED.index(item.counterfactual)]
    with pytest.raises(InputError, match="1 of 1 items have no other item of their length"):
        cw.Task.from_pairs(almanac, ASKED[:1], resample(), SAID[:1])


def test_random_token_changes_its_positions_alone(almanac: cw.Model) -> None:
    task = cw.Task.from_pairs(almanac, ASKED, random_token([-2, 3]), SAID)
    assert task.differs.nonzero()[:, 1].tolist() == [3, 4] * 3
    with pytest.raises(InputError, match="there is no position 40"):
        cw.Task.from_pairs(almanac, ASKED, random_token(40), SAID)


def test_corruptions_are_the_seeds(almanac: cw.Model) -> None:
    for how in (shuffle(), random_token(2), swap_words(["hot", "big", "old", "new", "rich", "far"])):
        made = [cw.Task.from_pairs(almanac, ASKED, how, SAID, seed=s).fingerprint for s in (1, 1, 2)]
        assert made[0] == made[1] != made[2]


def test_gaussian_noise_changes_the_named_positions_alone(almanac: cw.Model) -> None:
    task = cw.task("ioi", almanac, n=6)
    noise = gaussian_noise(almanac, task, "S2", scale=3.0, seed=1)
    plain = almanac.run(task.clean, read=["embeddings"])
    noisy = almanac.run(task.clean, read=["embeddings"], interventions=[noise])
    moved = (noisy["embeddings"] - plain["embeddings"]).abs().sum(-1) > 0
    expected = torch.zeros_like(task.clean.mask)
    expected[torch.arange(6), task.columns("S2")] = True
    assert torch.equal(moved, expected)
    assert task.measure(noisy).mean() < task.measure(plain).mean()
