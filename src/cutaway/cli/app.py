"""The verbs, in the order in which one meets them."""

from __future__ import annotations

import typer

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
    steer,
    sweep,
    tasks,
    toy,
    trace,
    view,
    visualise,
)

app = typer.Typer(
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


app.command("trace", short_help="Show what a model did, and test it.")(trace.trace)
app.command("view")(view.view)
app.command("lens", short_help="What each layer would say next.")(lens.lens)
app.command("sweep", short_help="Which parts carry a behaviour: change each by itself.")(sweep.sweep)
app.command("heads", short_help="What each attention head looks at.")(heads.heads)
app.command("patchscope", short_help="What a state says, put into another prompt.")(patchscope.patchscope)
app.command("probe", short_help="What can be read from each layer.")(probe.probe)
app.command("steer", short_help="Push a model along a direction.")(steer.steer)
app.command("repair", short_help="What makes up for a head that is taken away.")(repair.repair)
app.command("function-vector", short_help="Add what heads write after examples.")(function_vector.function_vector)
app.command("circuit", short_help="Which heads and edges carry a task.")(circuit.circuit)
app.command("neurons", short_help="What neurons of a vision model stand for.")(neurons.neurons)
app.command("visualise", short_help="Make pictures that drive a neuron.")(visualise.visualise)
app.command("attack", short_help="Write words on pictures, and see what a model says.")(attack.attack)
app.command("align", short_help="Does a network run this algorithm?")(align.align)
app.command("develop", short_help="Follow a model through its training.")(develop.develop)
app.command("models", short_help="List the models that ship.")(models.models)
app.command("tasks", short_help="List the tasks, show one for a model, say how well it does.")(tasks.tasks)
app.add_typer(dictionary.app, name="dictionary")
app.command("classify", short_help="Classify texts from features, and from simpler things.")(classify.classify)
app.add_typer(organism.app, name="organism")
app.command("exam")(exam.exam)
app.command("toy", short_help="Make subjects whose truth is exact, and check them.")(toy.toy)
app.command("exercise", short_help="Functions to write oneself, marked.")(exercise.exercise)
