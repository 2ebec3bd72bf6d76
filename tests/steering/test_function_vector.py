"""Function vectors: their pieces against plain runs, and what they say of a task."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from model.families import model as family

import cutaway as cw
from cutaway.cli import run
from cutaway.core import InputError
from cutaway.steering import function_vector
from cutaway.steering.function_vector import BARE, ICL, RANDOM, SHUFFLED, _effects, _means, _written
from cutaway.toys.rasp import Program, aggregate, compile_program, indices, select, sequence_map, tokens

PROMPTS = [[5, 9, 12, 3], [7, 7, 2], [11, 4, 4, 8, 6], [30, 20, 10]]
PAIRS = [
    ("high", "low"), ("hot", "cold"), ("late", "early"), ("fast", "slow"), ("hard", "soft"), ("big", "small"),
    ("old", "new"), ("long", "short"), ("light", "dark"), ("full", "empty"), ("open", "closed"), ("rich", "poor"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_all_heads_of_a_block_write_what_it_writes(name):
    m = family(name)
    means = _means(m, PROMPTS, list(range(m.facts.n_layers)))
    run_ = m.run(PROMPTS, ["z.1", "attn_out.1"])
    torch.testing.assert_close(means[1], run_.at("z.1").mean(0))
    total = _written(m, means, [(1, head) for head in range(m.facts.n_heads)])
    zero = m.run(PROMPTS, ["attn_out.1"], interventions=[cw.zero("z.1")])  # the bias, where there is one
    expected = (run_.at("attn_out.1") - zero.at("attn_out.1")).mean(0)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_a_heads_effect_is_that_of_a_run_with_its_mean(name):
    m = family(name)
    means = _means(m, PROMPTS, list(range(m.facts.n_layers)))
    items = [(prompt, 7 + i) for i, prompt in enumerate(PROMPTS)]
    places, effects = _effects(m, items, means)
    answers = torch.tensor([answer for _, answer in items])

    def probability(changes):
        logits = m.run(PROMPTS, interventions=changes).at("logits")
        return logits.softmax(-1)[torch.arange(len(items)), answers].double()

    for i, (layer, head) in enumerate(places):
        value = means[layer][head]
        change = [cw.rewrite(f"z.{layer}", lambda x, v=value: v.expand_as(x), head=head, positions=-1)]
        expected = float((probability(change) - probability([])).mean())
        np.testing.assert_allclose(effects[i], expected, rtol=1e-2, atol=1e-6)


def test_it_stands_beside_its_nulls(almanac):
    result = function_vector(
        almanac, PAIRS, shots=2, heads=3, prompts=6, template="the opposite of the word {x} is the word", separator=". "
    )
    assert len(result.heads) == 3
    assert result.vector.positions == (-1,)
    assert set(result.accuracy) >= {SHUFFLED, RANDOM, ICL}
    assert {c.estimate.name for c in result.evidence[0].nulls} == {SHUFFLED, RANDOM}
    text = str(result)
    assert "4 test pairs" in text
    assert ICL in text


def learner():
    """A compiled program that does in context what each answer shows: the shift, modulo 13, from its question."""
    words = tuple(f"n{i}" for i in range(13))
    value = {word: i for i, word in enumerate(words)}
    back = select(indices, indices, lambda key, query: key == query - 1)

    def shift(word, before):
        return None if before is None else (value[word] - value[before]) % 13

    def answer(word, by):
        return None if by is None else words[(value[word] + by) % 13]

    task = aggregate(back, sequence_map(shift, tokens, aggregate(back, tokens), name="shift"), name="task")
    program = Program("shift", "", "", sequence_map(answer, tokens, task, name="answer"), vocabulary=words, longest=7)
    return compile_program(program), words


def test_of_a_model_that_learns_in_context_it_is_the_variable_that_holds_the_task():
    compiled, words = learner()
    pairs = [(word, words[(i + 5) % 13]) for i, word in enumerate(words)]
    found = function_vector(compiled.load(), pairs, shots=3, heads=1, prompts=24, template="{x}", separator=" ", seed=0)
    assert found.heads == ((1, 0),)  # which brings the shift of the answer before
    means = {name: values.mean() for name, values in found.accuracy.items()}
    assert means[ICL] == means["with the function vector"] == 1
    assert means[BARE] == means[RANDOM] == means[SHUFFLED] == 0
    vector = found.vector.vector.tensor
    torch.testing.assert_close((compiled.truth["task"].basis @ vector).norm(), vector.norm())
    assert found.evidence[0].verdict == "distinguishable from null"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"template": "no input"}, "{x}"),
        ({"shots": 4}, "shots"),
        ({"pairs": PAIRS[:5]}, "at least 12"),
        ({"pairs": [(x, "low") for x, _ in PAIRS]}, "the same answer"),
        ({"pairs": [*PAIRS[:11], (PAIRS[0][0], "deep")]}, "given 11"),
        ({"heads": 0}, "heads="),
        ({"prompts": 0}, "prompts="),
        ({"strength": math.nan}, "strength="),
    ],
)
def test_wrong_use_is_named(almanac, more, message):
    given = {"pairs": PAIRS, "shots": 2, **more}
    with pytest.raises(InputError, match=message):
        function_vector(almanac, given.pop("pairs"), **given)


def test_the_command_reads_pairs_of_several_formats(tmp_path, capsys):
    table, lines, relation = tmp_path / "p.csv", tmp_path / "p.jsonl", tmp_path / "p.json"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("x", "y"), *PAIRS])
    lines.write_text("\n".join(json.dumps({"input": x, "output": y}) for x, y in PAIRS))
    relation.write_text(json.dumps({"samples": [{"subject": x, "object": y} for x, y in PAIRS]}))
    found = []
    for path in (table, lines, relation):
        assert run(["function-vector", str(path), "--shots", "2", "--prompts", "4", "--heads", "2", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] == found[2]
    assert found[0]["schema"] == "cutaway.function_vector/1"
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    assert run(["function-vector", str(tmp_path / "bad.csv")]) == 2
    assert "holds no pairs" in capsys.readouterr().err
