"""No room beside the model layer registers hooks or runs a model's forward by itself."""

import ast
from pathlib import Path

import pytest

import cutaway

ROOT = Path(cutaway.__file__).parent
HOOKS = {
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_module_forward_hook", "register_module_forward_pre_hook",
}  # fmt: skip


def _breaches(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in HOOKS:
            found.append(f"line {node.lineno}: {node.attr}")
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in ("forward", "generate"):
                called = called.value  # model.hf.forward(…), model.hf.generate(…)
            if isinstance(called, ast.Attribute) and called.attr == "hf":
                found.append(f"line {node.lineno}: a forward of .hf")
    return found


@pytest.mark.parametrize("room", sorted(p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "model"))
def test_a_room_uses_the_model_layer_and_nothing_beside_it(room):
    wrong = {
        str(file.relative_to(ROOT)): breaches
        for file in (ROOT / room).rglob("*.py")
        if (breaches := _breaches(file.read_text(encoding="utf-8")))
    }
    assert not wrong, f"use model.run, an intervention (cw.rewrite) or cutaway.model.taps: {wrong}"


@pytest.mark.parametrize(
    "source",
    [
        "m.register_forward_hook(f)",
        "self.model.hf(ids)",
        "model.hf.generate(ids)",
        "block.mlp.register_forward_pre_hook",
    ],
)
def test_the_rule_sees_what_it_forbids(source):
    assert _breaches(source)


def test_the_rule_allows_looking_at_weights():
    assert not _breaches("model.hf.parameters(); model.run(ids); copy.deepcopy(model.hf); model.generate('a', 3)")
