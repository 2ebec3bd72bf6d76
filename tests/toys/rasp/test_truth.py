"""Where a variable is whole, exchanging its subspace is exchanging the variable; where it is not, nothing changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.rasp.random_programs import random_program

import cutaway as cw
from cutaway.core import UnknownName
from cutaway.toys.rasp import Ambiguous, compile_program, program, program_names
from cutaway.toys.rasp.language import ordered

PAIRS = 10


def _pairs(p, n=PAIRS):
    return p.pairs(n, length=min(p.longest, max(p.shortest, 4)), differ=False)


def _outputs(compiled, model, pairs, point, variable, positions=None):
    base, source = compiled.ids([b for b, _ in pairs]), compiled.ids([s for _, s in pairs])
    run = model.run(source, read=[point])
    where = {} if positions is None else {"positions": positions}
    at = run[point] if positions is None else run[point][:, [positions]]
    change = cw.interchange(point, variable.basis, at, **where)
    best = model.run(base, interventions=[change]).logits[:, 1:].argmax(-1)
    return [[compiled.vocabulary.decode(token) for token in row] for row in best.tolist()]


@pytest.mark.parametrize("name", program_names())
@pytest.mark.parametrize("position", [None, 2])
def test_interchange_where_a_variable_is_whole_is_the_programs_intervention(name, position):
    """IIA is 1: at every position at once, and at one (the second token)."""
    compiled = compile_program(program(name), rotate=7)
    model, p = compiled.load(), compiled.program
    pairs, tried = _pairs(p), 0
    for variable in compiled.truth.variables.values():
        points = variable.points("whole")
        for point in {points[0], points[-1]} if points else ():
            found = _outputs(compiled, model, pairs, point, variable, position)
            for (base, source), got in zip(pairs, found):
                mine, theirs = compiled.interpret(base)[variable.name], compiled.interpret(source)[variable.name]
                swapped = theirs if position is None else [*mine[:1], theirs[1], *mine[2:]]
                try:
                    expected = compiled.interpret(base, set_to={variable.name: swapped})
                except Ambiguous:
                    continue  # the exchange leaves the program no meaning
                tried += 1
                assert got == expected[compiled.truth.output], (variable.name, point, base, source)
    assert tried > 2 * PAIRS


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_so_it_is_in_random_programs(seed):
    p = random_program(seed)
    compiled = compile_program(p)
    model, pairs = compiled.load(), [(("a", "b", "c"), ("b", "b", "a")), (("c", "c", "a"), ("a", "c", "c"))]
    for variable in compiled.truth.variables.values():
        points = variable.points("whole") if variable.values else ()
        for point in points[:1]:
            found = _outputs(compiled, model, pairs, point, variable)
            for (base, source), got in zip(pairs, found):
                try:
                    values = {variable.name: compiled.interpret(source)[variable.name]}
                    expected = compiled.interpret(base, set_to=values)[compiled.truth.output]
                except Ambiguous:
                    continue
                assert got == expected, (p.name, variable.name, point)


@pytest.mark.parametrize("name", ["reverse", "hist", "pointer", "dyck1"])
def test_nothing_changes_where_it_is_absent_or_spent(name):
    compiled = compile_program(program(name), rotate=7)
    model, pairs = compiled.load(), _pairs(compiled.program)
    plain = compiled.outputs([base for base, _ in pairs])
    tried = 0
    for variable in compiled.truth.variables.values():
        for point in (*variable.points("absent")[:1], *variable.points("spent")[:1]):
            assert _outputs(compiled, model, pairs, point, variable) == plain
            tried += 1
    assert tried


@pytest.mark.parametrize("name", program_names())
def test_variables_are_the_programs_in_orthogonal_subspaces(name):
    compiled = compile_program(program(name), rotate=1)
    truth = compiled.truth
    assert len(truth.variables) == len(ordered(compiled.program.output))
    rows = torch.cat([variable.basis for variable in truth.variables.values()])
    assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-5)
    seen: set[str] = set()
    for variable in truth.variables.values():
        assert set(variable.parents) <= seen
        seen.add(variable.name)
        assert variable.readers, variable.name
    assert truth[truth.output].readers[-1] == "logits"


def test_unrotated_variables_lie_along_their_coordinates():
    truth = compile_program(program("reverse")).truth
    for variable in truth.variables.values():
        first, last = variable.coordinates
        assert torch.equal(variable.basis, torch.eye(variable.basis.shape[1])[first : last + 1])
    assert "mirrored" in str(truth)


def test_an_unknown_variable_names_the_nearest():
    with pytest.raises(UnknownName, match="mirrored"):
        compile_program(program("reverse")).truth["mirored"]
