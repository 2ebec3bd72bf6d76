"""Every exercise: its solution passes, its mistakes and other wrong answers are rejected and named."""

from __future__ import annotations

import json

import pytest
import torch

import cutaway as cw
from cutaway.cli import run
from cutaway.core import InputError
from cutaway.exercises import EXERCISES, read_answer
from cutaway.exercises.superposition import _regular

LONG = {"pentagon"}  # its solution takes nine seconds; the arrangement that it finds is marked below
MISTAKES = [(name, says) for name, exercise in EXERCISES.items() for says in exercise.mistakes]


@pytest.mark.parametrize("name", [name for name in EXERCISES if name not in LONG])
def test_the_solution_passes(name):
    marked = EXERCISES[name].mark(EXERCISES[name].solution)
    assert marked.passed, marked


@pytest.mark.parametrize(("name", "says"), MISTAKES)
def test_a_mistake_is_rejected_and_named(name, says):
    exercise = EXERCISES[name]
    marked = exercise.mark(exercise.mistakes[says])
    assert not marked.passed
    assert says in [found.why for found in marked.findings]


@pytest.mark.parametrize("name", list(EXERCISES))
def test_the_starter_is_a_file_that_runs_and_is_not_yet_an_answer(name, tmp_path):
    exercise = EXERCISES[name]
    (tmp_path / "answer.py").write_text(exercise.starter)
    marked = exercise.mark(read_answer(exercise, tmp_path / "answer.py"))
    assert not marked.passed
    assert "NotImplementedError" in marked.findings[-1].why


@pytest.mark.parametrize("name", ["encode", "p-value", "most-restoring-head"])
def test_the_printed_solution_is_an_answer(name, tmp_path):
    exercise = EXERCISES[name]
    (tmp_path / "answer.py").write_text(exercise.solved)
    assert exercise.mark(read_answer(exercise, tmp_path / "answer.py")).passed


def test_every_exercise_by_value_names_its_mistakes():
    assert all(len(e.mistakes) >= 2 for e in EXERCISES.values() if e.laws is None)
    assert len(EXERCISES) >= 20


def _star(sides: int, length: float = 1.0) -> torch.Tensor:
    angle = 2 * torch.pi * torch.arange(sides) / sides
    return length * torch.stack([angle.cos(), angle.sin()])


@pytest.mark.parametrize(
    ("weights", "bias", "says"),
    [
        (torch.eye(5)[:2], torch.zeros(5), "2 of 5 features"),
        (torch.cat([_star(4), _star(4)[:, :1]], dim=1), torch.zeros(5), "not a regular pentagon"),
        (_star(5, 0.7), torch.zeros(5), "lengths or biases"),
        (_star(5), torch.full((5,), 0.3), "lengths or biases"),
        (_star(5).T, torch.zeros(5), "[[5, 2], [5]]"),
    ],
)
def test_no_other_shape_passes_for_a_pentagon(weights, bias, says):
    marked = EXERCISES["pentagon"].mark(lambda seed: (weights, bias))
    assert not marked.passed
    assert says in str(marked)


def test_the_best_pentagon_passes():
    marked = EXERCISES["pentagon"].mark(lambda seed: _regular())
    assert marked.passed, marked


def test_directions_that_are_not_the_planted_ones_are_rejected():
    find = EXERCISES["train-dictionary"]
    assert not find.mark(lambda x, n, seed: x[:n]).passed
    assert not find.mark(lambda x, n, seed: torch.linalg.svd(x, full_matrices=False).Vh).passed


def test_wrong_nulls_are_rejected():
    null = EXERCISES["rerandomised"]

    def shuffled(weights, seed):
        g = torch.Generator().manual_seed(seed)
        return {k: w.flatten()[torch.randperm(w.numel(), generator=g)].view_as(w) for k, w in weights.items()}

    def in_place(weights, seed):
        for name, w in weights.items():
            if w.ndim > 1 and "embed" not in name:
                w.copy_(w.mean() + w.std() * torch.randn(w.shape, generator=torch.Generator().manual_seed(seed)))
        return weights

    def unit(weights, seed):
        g = torch.Generator().manual_seed(seed)
        return {
            k: torch.randn(w.shape, generator=g) if w.ndim > 1 and "embed" not in k else w for k, w in weights.items()
        }

    assert "another order" in str(null.mark(shuffled))
    assert "WRONG  the weights given are not changed" in str(null.mark(in_place))
    assert "they were" in str(null.mark(unit))
    assert not null.mark(lambda weights, seed: weights).passed


def test_wrong_intervals_are_rejected():
    mark = EXERCISES["interval"].mark
    spread = mark(lambda v, draws, seed: tuple(torch.quantile(v, torch.tensor([0.025, 0.975])).tolist()))
    assert "where the values lie" in str(spread)
    half = mark(
        lambda v, draws, seed: (float(v.mean() - v.std() / len(v) ** 0.5), float(v.mean() + v.std() / len(v) ** 0.5))
    )
    assert "times as wide" in str(half)


def test_another_head_is_rejected():
    marked = EXERCISES["most-restoring-head"].mark(lambda model, task: (0, 0))
    assert "another restores" in str(marked)
    assert not EXERCISES["most-restoring-head"].mark(lambda model, task: "z.1").passed


def test_what_each_part_adds_sums_to_the_models_own_difference():
    (case,) = EXERCISES["direct-effects"].cases()
    model = cw.load("almanac")
    task = cw.task("ioi", model, n=16, seed=0)
    logits = model.run(task.clean.ids[:1]).logits[0, -1]
    difference = float(logits[task.answers[0]] - logits[task.wrong[0]])
    assert float(EXERCISES["direct-effects"].solution(*case.arguments).sum()) == pytest.approx(difference, abs=1e-3)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, w, b, d: (x - d) @ w[:, :4] + b[:4], "it has shape [13, 4]; expected [13, 9]."),
        (lambda x, w, b, d: "features", "it gives a str"),
        (lambda x, w, b, d: torch.full((13, 9), torch.nan), "not finite"),
        (lambda x, w, b, d: x.sub_(d), "in place"),
        (lambda x: x, "TypeError"),
        (lambda x, w, b, d: x @ d @ w, "RuntimeError"),
        (lambda x, w, b, d: torch.zeros(13, 9), "the largest difference is at"),
    ],
)
def test_other_wrong_answers_say_what_is_wrong(answer, says):
    marked = EXERCISES["encode"].mark(answer)
    assert not marked.passed
    assert says in str(marked)


def test_from_the_shell(tmp_path, capsys):
    file = tmp_path / "answer.py"
    assert run(["exercise"]) == 0
    assert "induction-scores" in capsys.readouterr().out
    assert run(["exercise", "encode", "--out", str(file)]) == 0
    assert run(["exercise", "encode", str(file)]) == 1
    assert "not yet" in capsys.readouterr().out
    assert run(["exercise", "encode", "--out", str(file)]) == 2
    assert "exists" in capsys.readouterr().err
    assert run(["exercise", "encode", "--solution"]) == 0
    file.write_text(capsys.readouterr().out)
    assert run(["exercise", "encode", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


def test_files_that_are_no_answers(tmp_path, capsys):
    (tmp_path / "other.py").write_text("def decode(x):\n    return x\n")
    (tmp_path / "broken.py").write_text("def encode(:\n")
    for arguments, says in (
        (["encod"], "the nearest: encode"),
        (["encode", str(tmp_path / "no.py")], "no file"),
        (["encode", str(tmp_path / "other.py")], "no function in other.py 'encode'"),
        (["encode", str(tmp_path / "broken.py")], "SyntaxError"),
    ):
        assert run(["exercise", *arguments]) == 2
        assert says in capsys.readouterr().err
    with pytest.raises(InputError):
        read_answer(EXERCISES["encode"], tmp_path)
