"""What several tests of verbs start from, made once."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def small_sae(tmp_path_factory):
    """A folder: 48 features of almanac at resid_post.1."""
    import cutaway as cw
    from cutaway.features import DictionarySettings, TrainSettings, train
    from cutaway.organisms.dictionaries import text_rows

    model = cw.load("almanac")
    rows, _ = text_rows(model, (), rows=24, seed=0)
    one = DictionarySettings(name="x", kind="sae", at="resid_post.1", features=48, l0=6, dead_after=1000)
    out = tmp_path_factory.mktemp("sae") / "made"
    train(model, rows, TrainSettings(dictionaries=(one,), tokens=6_000, batch=256), out=out, quiet=True)
    return out


@pytest.fixture(scope="session")
def described(small_sae, tmp_path_factory):
    """What `cutaway dictionary describe --quick` wrote of it."""
    from cutaway.cli import run

    out = tmp_path_factory.mktemp("described") / "d"
    told = ["dictionary", "describe", small_sae, "-m", "almanac", "--out", out, "--tokens", 1500, "--quick"]
    assert run(list(map(str, told))) == 0
    return out
