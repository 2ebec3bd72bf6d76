"""What holds of every task, in both worlds and for every tokenizer: aligned, answerable, repeatable."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tasks.tokenizers import NAMES, tokenizer

import cutaway as cw
from cutaway.core import InputError
from cutaway.core.protocols import Task as TaskProtocol
from cutaway.tasks.catalogue import ENTRIES

KINDS = [(entry.name, kind) for entry in ENTRIES for kind in entry.counterfactuals]
SMALL = [(e.name, kind) for e in ENTRIES if e.small is not None for kind in e.counterfactuals]
FEW = ("ioi", "pronouns", "agreement", "docstring", "facts", "two-hop", "antonyms", "colours", "choice", "refusal")
# What each make of tokenizer cannot ask, with a part of the reason that it must give.
REFUSED = {
    "gpt2": {},
    "clip": {},
    "stories260k": dict.fromkeys(FEW, "as one token"),
    "digits": {"docstring": "cannot be used", "choice": "letters", "refusal": "cannot be used"},
    "words": {
        "docstring": "cannot be used",
        "choice": "letters",
        "refusal": "cannot be used",
        "greater-than": "17|32",
        "addition": "two-digit numbers",
    },
    "threes": {"docstring": "cannot be used", "choice": "letters", "refusal": "cannot be used"},
}  # fmt: skip
ALWAYS = {
    "antonyms-french": "small world alone",
    "antonyms-spanish": "small world alone",
    "known-people": "taught to say",
}


def assert_lawful(task: cw.Task) -> None:
    n = len(task)
    assert isinstance(task, TaskProtocol)
    assert task.clean.ids.shape == task.counterfactual.ids.shape
    assert torch.equal(task.clean.mask, task.counterfactual.mask)
    assert task.differs.any(-1).all()
    # The two differ at named positions only; a shuffled first copy differs all through that copy.
    named = torch.zeros_like(task.clean.mask)
    for name in task.positions:
        assert (task.positions[name] < task.lengths).all()
        named[torch.arange(n), task.columns(name)] = True
    if task.counterfactual_kind == "shuffle":
        length = task.positions["end"] - task.positions["previous"]
        named |= torch.arange(named.shape[1]) <= length[:, None]
    assert not (task.differs & ~named).any()
    assert torch.equal(task.positions["end"], task.lengths - 1)
    assert not task.differs[torch.arange(n), task.columns("end")].any()
    assert task.wrong is not None
    assert (task.wrong != task.answers).all()
    if task.counterfactual_answers is not None:
        assert (task.counterfactual_answers != task.answers).all()
    rows = [tuple(r[m].tolist()) for r, m in zip(task.clean.ids, task.clean.mask)]
    assert len(set(rows)) == n
    assert len(task.items) == len(task.template) == n


@pytest.mark.parametrize("split", ["train", "test", "any"])
@pytest.mark.parametrize(("name", "kind"), SMALL)
def test_small_world(name: str, kind: str, split: str, almanac: cw.Model) -> None:
    task = cw.task(name, almanac, n=40, counterfactual=kind, split=split)
    assert_lawful(task)
    # The text of each prompt is what a user would type: the model's tokenizer reads it as the same ids.
    for i, item in enumerate(task.items):
        mask = task.clean.mask[i]
        assert almanac.tokens(item.clean)[0].tolist() == task.clean.ids[i][mask].tolist()
        assert almanac.tokens(item.counterfactual)[0].tolist() == task.counterfactual.ids[i][mask].tolist()
        whole = almanac.tokens(f"{item.clean} {item.answer}")[0].tolist()
        assert whole == [*task.clean.ids[i][mask].tolist(), int(task.answers[i])]


@pytest.mark.parametrize("make", NAMES)
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_english(name: str, kind: str, make: str) -> None:
    words = tokenizer(make)
    reason = {**REFUSED[make], **ALWAYS}.get(name)
    if reason is not None:
        with pytest.raises(InputError, match=reason.replace("|", r"\|")):
            cw.task(name, words, counterfactual=kind)
        return
    task = cw.task(name, words, counterfactual=kind)
    assert_lawful(task)
    if name == "induction":
        return
    _assert_text(task, words)


def _assert_text(task: cw.Task, words: Any) -> None:
    """Each row is its text's tokens, but for special ones after it and for a space that belongs to the answer."""
    special = set(words.all_special_ids)
    for i, item in enumerate(task.items[:20]):
        ids = task.clean.ids[i][task.clean.mask[i]].tolist()
        typed = [t for t in words(item.clean)["input_ids"] if t not in special]
        mine = [t for t in ids if t not in special]
        assert mine[: len(typed)] == typed
        assert words.decode(mine[len(typed) :]).strip(" ▁Ġ") == ""


@pytest.mark.parametrize("make", ["almanac", "digits"])
@pytest.mark.parametrize("name", ["ioi", "greater-than", "two-hop", "addition", "colours", "induction"])
def test_the_same_seed_gives_the_same_items(name: str, make: str, almanac: cw.Model) -> None:
    subject = almanac if make == "almanac" else tokenizer(make)
    task, again, other = (cw.task(name, subject, n=20, seed=seed) for seed in (3, 3, 4))
    assert task.fingerprint == again.fingerprint
    assert task.fingerprint != other.fingerprint
    assert task.to_json() == again.to_json()


@pytest.mark.parametrize("name", ["ioi", "pronouns", "antonyms", "facts"])
def test_english_splits_share_no_item(name: str) -> None:
    words = tokenizer("digits")
    train, test = (cw.task(name, words, split=split) for split in ("train", "test"))
    assert not {i.clean for i in train.items} & {i.clean for i in test.items}


def test_positions_hold_in_a_batch_and_alone(almanac: cw.Model, untrained: cw.Model) -> None:
    """The logits at the end of padded rows are those of each row run by itself."""
    for model, name in ((almanac, "ioi"), (almanac, "antonyms"), (untrained, "ioi"), (untrained, "addition")):
        task = cw.task(name, model, n=12)
        assert task.clean.layout.padded
        together = task.at_end(model.run(task.clean))
        for i in range(len(task)):
            alone = task.take([i])
            assert not alone.clean.layout.padded
            assert torch.allclose(alone.at_end(model.run(alone.clean))[0], together[i], atol=1e-4)
            for position in task.positions:
                token = task.clean.ids[i, task.columns(position)[i]]
                assert alone.clean.ids[0, alone.columns(position)[0]] == token


def test_groups_are_not_padded_and_lose_no_item(almanac: cw.Model) -> None:
    task = cw.task("ioi", almanac, n=30)
    groups = task.groups()
    assert all(not part.clean.layout.padded for part in groups)
    assert sorted(i.clean for part in groups for i in part.items) == sorted(i.clean for i in task.items)


def test_named_positions_hold_the_words_that_they_name(almanac: cw.Model) -> None:
    task = cw.task("ioi", almanac, n=30)
    for i, item in enumerate(task.items):
        at = {name: task.clean.ids[i, task.columns(name)[i]].item() for name in task.positions}
        assert at["IO"] == task.answers[i] == almanac.tokens(item.values["IO"])[0, -1]
        assert at["S1"] == at["S2"] == task.wrong[i] == almanac.tokens(item.values["S"])[0, -1]
        assert task.positions["S1+1"][i] == task.positions["S1"][i] + 1
        assert task.positions["S2"][i] > max(task.positions["S1"][i], task.positions["IO"][i])


def test_both_orders_of_the_names_occur(almanac: cw.Model) -> None:
    for subject in (almanac, tokenizer("digits")):
        task = cw.task("ioi", subject)
        first = task.positions["IO"] < task.positions["S1"]
        assert 10 < int(first.sum()) < 54


def test_abc_names_are_three_others(almanac: cw.Model) -> None:
    for subject in (almanac, tokenizer("digits")):
        task = cw.task("ioi", subject, counterfactual="abc")
        rows = torch.arange(len(task))
        names = torch.stack([task.counterfactual.ids[rows, task.columns(p)] for p in ("IO", "S1", "S2")], 1)
        old = torch.stack([task.answers, task.wrong], 1)
        for new, before in zip(names.tolist(), old.tolist()):
            assert len({*new, *before}) == 5


def test_greater_than_right_years_are_the_later_ones(almanac: cw.Model) -> None:
    task = cw.task("greater-than", almanac)
    sign, ids = task.target.sign, task.target.candidates
    years = [int(almanac.token_strings([i])[0]) for i in ids.tolist()]
    for i, item in enumerate(task.items):
        start = int(item.values["start"])
        assert {y for y, s in zip(years, sign[i].tolist()) if s > 0} == set(range(start + 1, 100))
        assert {y for y, s in zip(years, sign[i].tolist()) if s < 0} == set(range(start + 1))


def test_addition_is_right() -> None:
    for make in ("threes", "digits"):
        words = tokenizer(make)
        task = cw.task("addition", words, counterfactual="both")
        for item, answer, told in zip(task.items, task.answers.tolist(), task.counterfactual_answers.tolist()):
            total = str(int(item.values["a"]) + int(item.values["b"]))
            assert words.decode([answer]).strip(" ▁") == (total if make == "threes" else total[0])
            assert told != answer


def test_induction_needs_no_tokenizer(untrained: cw.Model) -> None:
    bare = cw.load(untrained.hf)
    assert bare.tokenizer is None
    task = cw.task("induction", bare, n=8)
    assert_lawful(task)
    for row, answer, source in zip(task.clean.ids, task.answers, task.positions["source"]):
        assert row[source] == answer
        assert row[source - 1] == row[-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"name": "oii"}, "the nearest: ioi"),
        ({"name": "ioi", "counterfactual": "fli"}, "the nearest: flip"),
        ({"name": "ioi", "split": "tset"}, "the nearest: test"),
        ({"name": "ioi", "metric": "logit_diff"}, "the nearest: logit_difference"),
        ({"name": "ioi", "n": 0}, "at least 1"),
        ({"name": "two-hop", "n": 5000}, "distinct items in the split 'test'"),
        ({"name": "choice"}, "no letters A to D"),
    ],
)
def test_wrong_use_is_named(call: dict[str, Any], message: str, almanac: cw.Model) -> None:
    with pytest.raises(InputError, match=message):
        cw.task(model=almanac, **call)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="given int"):
        cw.task("ioi", 3)


def test_a_tokenizer_without_vocabulary_is_refused() -> None:
    from transformers import GPT2TokenizerFast

    with pytest.raises(InputError, match="its vocabulary is empty"):
        cw.task("ioi", GPT2TokenizerFast())


def test_dropped_words_are_counted() -> None:
    assert "names: 132 of 133 are one token; left out: Irene" in cw.task("ioi", tokenizer("gpt2")).notes


def test_small_splits_say_how_many_they_have() -> None:
    task = cw.task("two-hop", tokenizer("digits"))
    assert len(task) < 64
    assert f"the split 'test' has {len(task)} distinct items" in task.notes
    with pytest.raises(InputError, match="n=64 were asked for"):
        cw.task("two-hop", tokenizer("digits"), n=64)


def test_items_longer_than_the_context_are_drawn_again() -> None:
    from cutaway.tasks.reading import Reader

    short = cw.task("ioi", Reader(tokenizer("digits"), "short", len(tokenizer("digits")), context=17))
    assert int(short.lengths.max()) <= 17
    assert any("longer than the context" in note for note in short.notes)
    with pytest.raises(InputError, match="64 of 64 items are longer than the model's context"):
        cw.task("induction", Reader(tokenizer("digits"), "short", len(tokenizer("digits")), context=17))


def test_a_chat_template_is_used_for_refusal() -> None:
    words = tokenizer("gpt2")
    words.chat_template = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}<|assistant|>\n"
    try:
        task = cw.task("refusal", words)
    finally:
        words.chat_template = None
    assert_lawful(task)
    assert task.items[0].clean.startswith("<|user|>\n")
    assert task.items[0].clean.endswith("<|assistant|>")  # jinja drops the last line break
    assert {words.decode([i]) for i in task.answers.tolist()} == {"Sorry", "Sure"}
