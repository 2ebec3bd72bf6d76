"""The verbs, by what one wants to do, in the order in which one meets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from cutaway import __version__
from cutaway.cli import (
    align,
    attack,
    circuit,
    classify,
    develop,
    dictionary,
    exam,
    exercise,
    function_vector,
    heads,
    lens,
    models,
    neurons,
    organism,
    patchscope,
    probe,
    repair,
    state,
    steer,
    sweep,
    tasks,
    toy,
    trace,
    view,
    visualise,
)

# Heading -> verb -> (what runs, one line of help).
VERBS: dict[str, dict[str, tuple[Callable[..., None] | typer.Typer, str]]] = {
    "Begin": {
        "models": (models.models, "Models that ship; which points a model of yours has."),
        "tasks": (tasks.tasks, "Tasks, their items, how well a model does them."),
        "trace": (trace.trace, "What a model did on one prompt, tested."),
        "view": (view.view, "Open what any verb wrote, in the browser."),
    },
    "Read": {
        "lens": (lens.lens, "What each layer would say next."),
        "heads": (heads.heads, "What each attention head looks at."),
        "probe": (probe.probe, "What can be read from each layer."),
        "state": (state.state, "Does it keep the state of a world, and use it?"),
        "patchscope": (patchscope.patchscope, "What a state says, put into another prompt."),
    },
    "Change": {
        "sweep": (sweep.sweep, "Which parts carry a behaviour: each by itself."),
        "circuit": (circuit.circuit, "Which heads and edges carry a task."),
        "repair": (repair.repair, "What makes up for a head taken away."),
        "steer": (steer.steer, "Push a model along a direction."),
        "function-vector": (function_vector.function_vector, "Add what heads write after examples."),
        "align": (align.align, "Does a network run this algorithm?"),
    },
    "Dictionaries of features": {
        "dictionary": (dictionary.app, "Train, judge, describe, search, convert them."),
        "classify": (classify.classify, "Classify texts from features, and from less."),
    },
    "Training": {
        "develop": (develop.develop, "What was learnt when."),
    },
    "Pictures": {
        "neurons": (neurons.neurons, "What neurons of a vision model stand for."),
        "visualise": (visualise.visualise, "Make pictures that drive a neuron."),
        "attack": (attack.attack, "Write words on pictures; what a model says."),
    },
    "Exact truth, and learning": {
        "exam": (exam.exam, "A room's methods beside exact truth."),
        "toy": (toy.toy, "Subjects whose truth is exact, checked."),
        "exercise": (exercise.exercise, "Functions to write oneself, marked."),
        "organism": (organism.app, "Make the shipped models again from a seed."),
    },
}


class _Grouped(TyperGroup):
    """`--help` with the verbs under their headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for heading, verbs in VERBS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<15}", about) for name, (_, about) in verbs.items()])


app = typer.Typer(
    cls=_Grouped,
    help="Open a neural network, see what it did to produce its output, and how far to believe what you see.",
    epilog='Start with:  cutaway trace "36 + 59 =" --open',
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks (works after any verb)."),
) -> None:
    # `--debug` is taken out of the arguments in cutaway.cli.run, so that it may stand anywhere; it is listed here.
    del version, debug


for _verbs in VERBS.values():
    for _name, (_run, _about) in _verbs.items():
        if isinstance(_run, typer.Typer):
            app.add_typer(_run, name=_name, short_help=_about)
        else:
            app.command(_name, short_help=_about)(_run)
