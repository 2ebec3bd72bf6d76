"""Tiny models: a second thread costs more than it gives."""

import pytest
import torch

import cutaway as cw


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def almanac():
    return cw.load("almanac")


@pytest.fixture(scope="session")
def one_layer():
    return cw.load("almanac-1l")
