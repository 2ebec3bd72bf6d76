"""The plan: everything after what it reads, as early as that allows."""

from __future__ import annotations

import pytest
from toys.rasp.random_programs import random_program

from cutaway.toys.rasp import program, program_names
from cutaway.toys.rasp.language import Aggregate, Indices, InverseWidth, Tokens
from cutaway.toys.rasp.plan import plan_of

CASES = [program(name) for name in program_names()] + [random_program(seed) for seed in range(30)]


@pytest.mark.parametrize("p", CASES, ids=lambda p: p.name)
def test_parents_run_before_and_no_room_is_wasted(p):
    plan = plan_of(p.output)
    for sop, at in plan.at.items():
        if isinstance(sop, Tokens | Indices):
            continue
        ready = max(plan.at[parent].time for parent in sop.parents)
        assert ready < at.time <= ready + 2
        assert (at.kind == "head") == isinstance(sop, Aggregate | InverseWidth)
    heads = [at for at in plan.at.values() if at.kind == "head"]
    assert len(set(heads)) == len(heads)
    assert plan.n_layers == max(at.layer for at in plan.at.values()) + 1
    times = [component.time for component in plan.components]
    assert times == sorted(times)
