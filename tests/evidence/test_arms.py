"""Every model has its five arms, and none of them is the model itself but the first."""

from __future__ import annotations

import pytest
import torch

from cutaway.core import UnknownName
from cutaway.evidence import ARMS, arm

IDS = torch.tensor([[5, 9, 9, 3, 5, 60], [1, 2, 3, 4, 5, 6]])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_five_arms_of_any_model(request, name):
    model = request.getfixturevalue(name)
    logits = {key: arm(model, key, seed=1).run(IDS).logits for key in ARMS}
    assert len(logits) == 5
    assert torch.equal(logits["trained"], model.run(IDS).logits)
    for key, value in logits.items():
        assert torch.isfinite(value).all()
        for other, theirs in logits.items():
            assert key == other or not torch.allclose(value, theirs, atol=1e-3)
    assert torch.equal(arm(model, "step0", seed=1).run(IDS).logits, logits["step0"])
    assert not torch.allclose(arm(model, "control", seed=2).run(IDS).logits, logits["control"], atol=1e-3)


def test_another_name_is_refused_with_the_names_there_are(llama):
    with pytest.raises(UnknownName, match="control"):
        arm(llama, "contrl")
