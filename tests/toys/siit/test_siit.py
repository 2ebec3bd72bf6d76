"""Training a network to be a program: targets are the program's, scores are exact on the compiled model itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import cutaway as cw
from cutaway.core import InputError, UnknownName
from cutaway.toys import Asked, find
from cutaway.toys.rasp import Ambiguous, compile_program, program
from cutaway.toys.siit import Network, Settings, fresh, make, score, train
from cutaway.toys.siit.lessons import lessons

QUICK = Settings(steps=3, batch=16, n=16, every=3, d_model=32)


def _itself(name: str) -> Network:
    """A compiled program as the network that stands for it."""
    compiled = compile_program(program(name))
    made = fresh(compiled)
    config = compiled.model.config
    nodes = [
        f"a{layer}.h{head}" for layer in range(config.num_hidden_layers) for head in range(config.num_attention_heads)
    ]
    nodes += [f"m{layer}" for layer in range(config.num_hidden_layers)]
    return Network(compiled.model, made.circuit, tuple(node for node in nodes if node not in made.circuit))


@pytest.mark.parametrize("name", ["hist", "reverse", "equal_pairs", "pointer", "dyck1", "sort_unique"])
def test_the_compiled_model_scores_one_everywhere(name):
    found = score(_itself(name), lessons(compile_program(program(name))), n=64)
    assert found.perfect, found.to_json()


def test_a_broken_node_is_found():
    network = _itself("equal_pairs")
    weight = network.model.model.layers[0].self_attn.o_proj.weight.data
    weight.mul_(-1)
    found = score(network, lessons(compile_program(program("equal_pairs"))), n=64)
    assert not found.perfect
    assert found.behaviour.value < 1


@pytest.mark.parametrize("name", ["reverse", "hist", "sort_unique", "pointer"])
def test_targets_of_exchanges_are_the_programs_interventions(name):
    """What a component writes is its variables, so the exchange sets them in the interpreter."""
    compiled = compile_program(program(name))
    lesson = lessons(compiled)[-1]
    inputs = [given for given in compiled.program.inputs() if len(given) == compiled.program.longest]
    generator = torch.Generator().manual_seed(0)
    base, source = torch.randint(len(lesson), (2, 20), generator=generator)
    at = {compiled.compiled.names[sop]: c.name for sop, c in compiled.compiled.plan.at.items()}
    checked = 0
    for component in {node for node in at.values() if node not in ("tokens", "positions")}:
        target, defined = lesson.exchanged(component, base, source)
        for row, (b, s) in enumerate(zip(base.tolist(), source.tolist())):
            theirs = compiled.interpret(inputs[s])
            values = {variable: theirs[variable] for variable, node in at.items() if node == component}
            try:
                expected = compiled.interpret(inputs[b], set_to=values)[compiled.truth.output]
            except Ambiguous:
                assert not defined[row].all()
                continue
            assert defined[row].all()
            assert [compiled.vocabulary.decode(token) for token in target[row].tolist()] == expected
            checked += 1
    assert checked


def test_a_fresh_network_has_room_and_exchanging_with_itself_changes_nothing():
    compiled = compile_program(program("reverse"))
    network = fresh(compiled, seed=1)
    assert set(network.circuit) == {"a0.h0", "m0", "m1", "a2.h0"}
    assert "a0.h1" in network.others
    assert "m2" in network.others
    ids = compiled.ids(["abc", "cab"])
    own = network.outputs(ids)
    assert set(own) == {*network.circuit, *network.others}
    plain = network.forward(ids)
    assert torch.equal(network.forward(ids, lambda node, x: own[node]), plain)
    assert not torch.allclose(network.forward(ids, lambda node, x: own[node] * (node != "m1")), plain)
    assert torch.equal(fresh(compiled, seed=1).forward(ids), plain)
    assert not torch.equal(fresh(compiled, seed=2).forward(ids), plain)


def test_training_is_the_same_again_from_a_seed_and_leaves_norms_alone():
    compiled = compile_program(program("shift"))
    one, two, other = (train(compiled, replace(QUICK, seed=seed)) for seed in (0, 0, 1))
    ids = compiled.ids(["abc"])
    assert torch.equal(one.network.forward(ids), two.network.forward(ids))
    assert not torch.equal(one.network.forward(ids), other.network.forward(ids))
    for name, parameter in one.network.model.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, 2.0**50))


def test_training_makes_a_short_program_and_answers_alone_do_not():
    """Shift on three tokens: exchanges are learned when they are trained, and not when only the answers are."""
    compiled = compile_program(replace(program("shift"), longest=3))
    settings = Settings(steps=100, batch=48, n=50, every=100, d_model=32)
    made = make(compiled, settings, n=100)
    assert made.answers is not None
    assert made.score.pooled("iia").value > 0.9
    mine, alone = made.score.pooled("iia").interval, made.answers.pooled("iia").interval
    assert mine is not None
    assert alone is not None
    assert mine.low > alone.high
    assert made.untrained.behaviour.value < 0.2
    assert [one.nulls for one in made.evidence]
    assert "untrained network" in str(made)


def test_an_untrained_network_does_not_pass_and_says_so(tmp_path):
    made = make(compile_program(program("shift")), QUICK, baseline=False, n=20)
    assert not made.passed
    assert "NOT passed" in str(made)
    assert any(item.what == "trained on the answers alone" for item in made.evidence[0].not_done)
    model = cw.load(made.save(tmp_path / "shift"))
    assert torch.equal(model.run("a b").logits, made.trained.network.forward(model.tokens("a b")))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(("shift",), given="a"), "no input"),
        (Asked(("shift",), options={"stepz": "3"}), "steps"),
        (Asked(("shift",), options={"steps": "few"}), "few"),
        (Asked(("shift",), options={"steps": "0"}), "at least 1"),
        (Asked(("shift",), options={"pairs": "0"}), "pairs"),
    ],
)
def test_wrong_use_is_named(asked, message):
    with pytest.raises(InputError, match=message):
        find("siit")[0].open().run(asked)


def test_without_a_name_the_quickest_program_is_trained():
    said: list[str] = []
    options = {"steps": "2", "batch": "8", "n": "8", "pairs": "8", "d_model": "32", "baseline": "0"}
    made = find("siit")[0].open().run(Asked((), options=options, on=said.append))
    assert [one["program"] for one in made.to_json()["programs"]] == ["mod_sum"]
    assert any("no program was named" in line for line in said)


def test_an_unknown_program_is_named_before_anything_is_trained():
    with pytest.raises(UnknownName, match="shift"):
        find("siit")[0].open().run(Asked(("hist", "shfit")))
