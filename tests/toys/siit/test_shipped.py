"""The trained programs that ship."""

import pytest
import torch

from cutaway.core import InputError, UnknownName
from cutaway.toys.siit.lessons import lessons
from cutaway.toys.siit.score import score
from cutaway.toys.siit.shipped import FOLDER, names, pack, records, shipped


def test_at_least_ten_ship_in_less_than_two_megabytes():
    assert len(names()) >= 10
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 2e6
    for record in records().values():
        assert all(value >= 0.99 for value, n in record["score"].values() if n)


@pytest.mark.parametrize("name", ["mod_sum", "shift"])
def test_they_answer_as_their_program_does_for_its_reasons(name):
    compiled, network = shipped(name)
    known = lessons(compiled)
    found = score(network, known, n=60, seed=5)
    assert found.behaviour.value >= 0.99
    assert found.pooled("iia").value >= 0.95
    assert found.pooled("strict").value >= 0.95
    given = known[-1].ids[:4]
    with torch.no_grad():
        wanted = compiled.model(given).logits.argmax(-1)[:, 1:]
        assert torch.equal(network.forward(given).argmax(-1)[:, 1:], wanted)


def test_what_does_not_ship_is_said(tmp_path):
    with pytest.raises(UnknownName, match="shift"):
        shipped("shfit")
    with pytest.raises(InputError, match="holds no network"):
        pack(tmp_path, tmp_path / "out")
