from __future__ import annotations

import pytest
import torch
from features.tiny import tiny_llama


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model():
    return tiny_llama()


@pytest.fixture(scope="session")
def rows():
    return torch.randint(1, 37, (60, 12), generator=torch.Generator().manual_seed(3), dtype=torch.int32)
