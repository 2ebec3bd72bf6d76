"""Readouts of a task are taken where its answer is said."""

import cutaway as cw
from cutaway.readouts import direct_effects, lens
from cutaway.readouts.asked import up_to_the_end


class _Longer:
    """A task whose prompts go on after the answer's position."""

    def __init__(self, task, model):
        rows = [ids[mask].tolist() for ids, mask in zip(task.clean.ids, task.clean.mask)]
        self.ends = task.columns("end")
        self.clean = model.batch([[*row, 7, 8, 9] for row in rows])
        self.answers, self.wrong = task.answers, task.wrong

    def columns(self, name):
        assert name == "end"
        return self.ends


def test_what_follows_the_end_is_not_read():
    model = cw.load("almanac")
    task = cw.task("ioi", model, n=3)
    longer = _Longer(task, model)
    cut = up_to_the_end(model, longer)
    assert (cut.ids == task.clean.ids).all()
    assert cut.layout == task.clean.layout
    assert str(lens(model, longer, null_seeds=())) == str(lens(model, task, null_seeds=()))
    given = {"ablate": 0, "null_seeds": ()}
    assert str(direct_effects(model, longer, **given)) == str(direct_effects(model, task, **given))
