"""The compiled model is the interpreter: on every input, at every position, for every variable."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.rasp.random_programs import random_program

import cutaway as cw
from cutaway.core import InputError, UnknownName
from cutaway.toys.rasp import Program, check, compile_program, indices, program, program_names, save, tokens
from cutaway.toys.rasp.interpreter import Ambiguous, interpret

LARGE = {"dyck2": 4, "balance": 5, "dyck1": 7}  # longest input tried here; the command tries all


@pytest.mark.parametrize("name", program_names())
def test_every_input_gives_the_interpreters_output_and_variables(name):
    p = program(name)
    longest = LARGE.get(name, p.longest)
    found = check(compile_program(p), longest=longest)
    assert found.inputs == sum(1 for _ in p.inputs(longest)) > 0
    assert (found.wrong, found.wrong_variables) == (0, 0), str(found)


@pytest.mark.parametrize("options", [{"rotate": 3}, {"dtype": "float64"}, {"coldness": 30.0}])
@pytest.mark.parametrize("name", ["reverse", "hist", "balance", "dyck1", "pointer"])
def test_so_they_do_turned_in_double_precision_and_less_sharp(name, options):
    found = check(compile_program(program(name), **options), most=60)
    assert found.wrong == 0, str(found)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_random_programs_compile_to_what_they_mean(seed):
    p = random_program(seed)
    compiled = compile_program(p)
    by_length: dict[int, list] = {}
    for given_ in p.inputs(3):
        try:
            trace = compiled.interpret(given_)
        except Ambiguous:
            continue
        by_length.setdefault(len(given_), []).append((given_, trace))
    for rows in by_length.values():
        inputs = [given_ for given_, _ in rows]
        outputs, decoded = compiled.outputs(inputs), compiled.decoded(inputs)
        for row, (given_, trace) in enumerate(rows):
            assert outputs[row] == trace[compiled.truth.output], (given_, p.name)
            for name, values in trace.items():
                assert decoded[name][row] == values, (given_, name)


@pytest.mark.parametrize("name", program_names())
def test_every_model_opens_with_all_its_points(name):
    model = cw.load(compile_program(program(name)).model)
    assert not any(one.failed for one in model.contract.checks)
    assert not model.contract.unfreezable
    for point in ("resid_mid", "attn_scores", "attn_probs", "q", "k", "value", "z", "mlp_act", "mlp_out", "attn_out"):
        assert model.refuses(f"{point}.0") is None


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("name", ["reverse", "induction"])
def test_prompts_of_different_lengths_in_one_batch(name, padding):
    compiled = compile_program(program(name))
    model = compiled.load()
    prompts = ["abcab", "ab", "c"]
    logits = model.run([" ".join(prompt) for prompt in prompts], padding=padding).logits
    for row, prompt in enumerate(prompts):
        part = logits[row, -len(prompt) :] if padding == "left" else logits[row, 1 : len(prompt) + 1]
        assert [compiled.vocabulary.decode(i) for i in part.argmax(-1).tolist()] == compiled.expected(prompt)


def test_a_check_that_finds_something_says_what():
    compiled = compile_program(program("hist"))
    with torch.no_grad():
        compiled.model.lm_head.bias[-1] += 100
    found = check(compiled, most=5)
    assert found.wrong == 5
    assert not found.passed
    assert "the program" in str(found)


def test_a_saved_program_loads_with_its_tokenizer_and_truth(tmp_path):
    from safetensors.torch import load_file

    compiled = compile_program(program("reverse"), rotate=0)
    folder = save(compiled, tmp_path / "reverse")
    model = cw.load(folder)
    best = model.run("a b c").logits[0, 1:].argmax(-1)
    assert [text.strip() for text in model.token_strings(best)] == ["c", "b", "a"]
    truth = load_file(folder / "truth.safetensors")
    for name, variable in compiled.truth.variables.items():
        assert torch.equal(truth[f"basis/{name}"], variable.basis)
    with pytest.raises(InputError, match="does not know"):
        model.run("a q")


@pytest.mark.parametrize("name", ["hist", "pointer", "dyck1"])
def test_drawn_pairs_are_inputs_of_one_length_with_different_outputs(name):
    p = program(name)
    pairs = p.pairs(20, seed=3)
    assert pairs == p.pairs(20, seed=3) != p.pairs(20, seed=4)
    for one, other in pairs:
        assert p.admits(one)
        assert p.admits(other)
        assert len(one) == len(other) == p.longest
        outputs = [interpret(p.output, given_, causal=p.causal)[p.output] for given_ in (one, other)]
        assert outputs[0] != outputs[1]
    with pytest.raises(InputError, match="no two inputs of 4 tokens whose outputs differ"):
        program("length").pairs(1, length=4)
    with pytest.raises(InputError, match="at all"):
        p.pairs(1, length=40)


def test_bad_input_is_refused():
    with pytest.raises(UnknownName, match="reverse"):
        program("revers")
    with pytest.raises(InputError, match="float16"):
        compile_program(program("hist"), dtype="float16")
    with pytest.raises(InputError, match="coldness"):
        compile_program(program("hist"), coldness=0)
    with pytest.raises(InputError, match="different values"):
        compile_program(Program("x", "", "", tokens, ("a", "a"), 3))
    with pytest.raises(InputError, match="at least 1"):
        compile_program(Program("x", "", "", indices, ("a",), 0))
    compiled = compile_program(program("hist"))
    with pytest.raises(InputError, match="one length"):
        compiled.outputs(["ab", "abc"])
    with pytest.raises(InputError, match="at most 6"):
        compiled.outputs(["a" * 7])
    with pytest.raises(UnknownName, match="hist_inverse"):
        compiled.interpret("ab", set_to={"hist_invers": [1, 1]})
