"""Vision towers by their points, convolutional networks by module path, and modules of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from model.families import PIXELS, close, ids, images, model, module
from torch import nn

import cutaway.model as cw
from cutaway.core import InputError, UnknownName


@pytest.mark.parametrize("family", PIXELS)
def test_an_image_in_a_batch_is_that_image_alone(family: str) -> None:
    m, pixels = model(family), images(3)
    reads = ["resid_post.*", "attn_probs.1", "mlp_act.2"]
    together = m.run(pixels, read=reads)
    for row in range(3):
        alone = m.run(pixels[row], read=reads)  # [channel, height, width] is one image
        assert close(together.logits[row], alone.logits[0])
        for name in alone.reads:
            assert close(together[name][row], alone[name][0])


@pytest.mark.parametrize("family", PIXELS)
def test_patches_are_positions(family: str) -> None:
    """The stream of one patch alone moves, and in the last layer only what that patch itself becomes."""
    m, pixels = model(family), images()
    clean = m.run(pixels, read=["resid_post.2"])["resid_post.2"]
    vector = torch.randn(48, generator=torch.Generator().manual_seed(0))
    moved = m.run(pixels, read=["resid_post.2"], interventions=[cw.add("mlp_out_post.2", vector, positions=4)])
    difference = moved["resid_post.2"] - clean
    assert close(difference[:, 4], vector.expand(2, -1))
    assert difference[:, torch.arange(difference.shape[1]) != 4].abs().max() == 0


def test_gradients_reach_the_embedded_patches() -> None:
    m, pixels = model("vit"), images(1)
    run = m.run(pixels, grad=["embeddings", "resid_post.1"], of=lambda logits: logits[0, 1])
    step = torch.randn(run.grad["resid_post.1"].shape, generator=torch.Generator().manual_seed(1)) * 1e-3
    up, down = (m.run(pixels, interventions=[cw.add("resid_post.1", s * step)]).logits[0, 1].double() for s in (1, -1))
    assert float((up - down) / 2) == pytest.approx(float((run.grad["resid_post.1"] * step).sum()), rel=2e-2)
    assert run.grad["embeddings"].abs().sum() > 0


def test_a_larger_image_has_more_positions_where_the_tower_takes_it() -> None:
    run = model("dinov2").run(torch.randn(1, 3, 24, 24), read=["resid_post.1"])
    assert run["resid_post.1"].shape[1] == 37
    with pytest.raises(InputError, match=r"takes no image of \[3, 24, 24\]"):
        model("vit").run(torch.randn(1, 3, 24, 24))


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("a cat", "reads pixels.*given str"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "as its image processor makes them; given torch.uint8"),
        (torch.zeros(1, 1, 16, 16), r"\[batch, 3, height, width\]; given \[1, 1, 16, 16\]"),
        (torch.zeros(3, 16), r"given \[3, 16\]"),
        (torch.full((1, 3, 16, 16), float("nan")), "NaN"),
        (torch.zeros(0, 3, 16, 16), "given"),
    ],
)
def test_what_is_no_image_is_refused(prompt: object, why: str) -> None:
    with pytest.raises(InputError, match="(?s)" + why):
        model("vit").run(prompt)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["vit", "clip_vision"])
def test_the_planner_gives_what_one_run_at_a_time_gives(family: str) -> None:
    m, pixels = model(family), images(3)
    cells = [[cw.zero(f"z.{layer}", head=head)] for layer in range(3) for head in (0, 4)]

    def metric(output: torch.Tensor) -> torch.Tensor:  # [row, class], or [row, d_model] of the last patch
        return output[:, 1]

    found = cw.plan(m, m.batch(pixels), cells=cells, metric=metric).run()
    for cell, values in zip(cells, torch.as_tensor(found)):
        output = m.run(pixels, interventions=cell).logits
        assert close(values, metric(output if output.ndim == 2 else output[:, -1]))


# ---- by module path


def _convolutional() -> list[tuple[nn.Module, str]]:
    torch.manual_seed(0)
    resnet = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
    convnext = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=3)
    return [
        (transformers.ResNetForImageClassification(resnet), "path.resnet.encoder.stages.0"),
        (transformers.ConvNextForImageClassification(convnext), "path.convnext.encoder.stages.0"),
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_stages_of_convolutional_networks_are_read_and_changed(which: int) -> None:
    net, stage = _convolutional()[which]
    m, pixels = cw.load(net), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    clean = m.run(pixels, read=[stage])
    with torch.no_grad():
        assert torch.equal(clean.logits, net(pixels).logits)
    assert clean[stage].shape[:2] == (2, 8)
    for change, wanted in [
        (cw.zero(stage, neuron=3), torch.cat([clean[stage][:, :3], clean[stage][:, 3:4] * 0, clean[stage][:, 4:]], 1)),
        (cw.zero(stage, rows=1), torch.stack([clean[stage][0], clean[stage][1] * 0])),
        (cw.patch(stage, clean[stage].flip(0)), clean[stage].flip(0)),
    ]:
        run = m.run(pixels, read=[stage], interventions=[change])
        assert close(run[stage], wanted)
        assert not close(run.logits, clean.logits, 1e-6)
    swapped = m.run(pixels, interventions=[cw.patch(stage, clean[stage].flip(0))])
    assert close(swapped.logits, clean.logits.flip(0))  # what comes after sees nothing but the stage


def test_a_plain_network_on_vectors() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2))
    m, x = cw.load(net), torch.randn(4, 5)
    run = m.run(x, read=["path.1"], interventions=[cw.zero("path.1", neuron=2)])
    hidden = net[1](net[0](x)).detach()
    hidden[:, 2] = 0
    assert close(run.logits, net[2](hidden).detach())
    grad = m.run(x, grad=["path.0"], of=lambda y: y[0, 0]).grad["path.0"]
    assert close(grad[0], (net[2].weight[0] * (net[0](x[0]) > 0)).detach())
    with pytest.raises(InputError, match="its points are module paths"):
        m.run(x, read=["resid_post.0"])
    with pytest.raises(UnknownName, match=r"path\.1"):
        m.run(x, read=["path.one"])


# ---- file.py:factory

FILE = """
import torch
from beside import WIDTH

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(WIDTH, 2)
    def forward(self, x):
        return self.inner(x)

def make():
    torch.manual_seed(0)
    return Net()

def broken():
    raise RuntimeError("out of clay")

def number():
    return 3

ready = Net()
size = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("WIDTH = 3\n")
    path = tmp_path / "net.py"
    path.write_text(FILE)
    return path


def test_a_module_is_made_by_a_function_in_a_file(file: Path) -> None:
    net = cw.load_module(f"{file}:make")
    m, x = cw.load(net), torch.randn(2, 3)
    assert close(m.run(x, read=["path.inner"])["path.inner"], net(x).detach())
    assert isinstance(cw.load_module(f"{file}:ready"), nn.Module)


def test_files_that_make_no_module_say_why(file: Path) -> None:
    (file.parent / "bad.py").write_text("import torch\nx = 1 / 0\n")
    (file.parent / "worse.py").write_text("def (\n")
    for spec, why in [
        ("net.py", "file.py:factory"),
        (f"{file}:not a name", "file.py:factory"),
        (f"{file.parent}/nte.py:make", "no file.*net.py"),
        (f"{file}:mkae", "no name in net.py 'mkae'; the nearest: make"),
        (f"{file}:broken", "RuntimeError: out of clay .line 17 of net.py"),
        (f"{file}:number", "gives int; it must give an nn.Module"),
        (f"{file}:size", "is int; give a function"),
        (f"{file.parent}/bad.py:make", "ZeroDivisionError.*line 2 of bad.py"),
        (f"{file.parent}/worse.py:make", "SyntaxError"),
    ]:
        with pytest.raises(InputError, match=why):
            cw.load_module(spec)


def test_a_known_family_from_a_file_has_its_points(tmp_path: Path) -> None:
    path = tmp_path / "make_llama.py"
    path.write_text("from cutaway.model.families import tiny\n\ndef make():\n    return tiny('llama')\n")
    m = cw.load(cw.load_module(f"{path}:make"))
    assert m.points() == model("llama").points()
    assert close(m.run(ids()).logits, model("llama").run(ids()).logits)
    assert type(m.hf) is type(module("llama"))
