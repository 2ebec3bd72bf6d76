"""Many random programs: compiled model beside interpreter, and every variable's exchange beside the program's.

    PYTHONPATH=tests python tests/toys/rasp/fuzz.py 500

Prints counts; exit status 1 if anything differs. The tests draw a few dozen; this draws as many as asked.
"""

from __future__ import annotations

import random
import sys

from toys.rasp.random_programs import random_program

import cutaway as cw
from cutaway.core import InputError
from cutaway.toys.rasp import Ambiguous, CompiledProgram, compile_program


def outputs_and_variables(compiled: CompiledProgram) -> tuple[int, int]:
    """(inputs run, inputs on which an output or a variable differs), of up to three tokens."""
    inputs = wrong = 0
    for length in (1, 2, 3):
        rows = []
        for given in compiled.program.inputs(length):
            if len(given) == length:
                try:
                    rows.append((given, compiled.interpret(given)))
                except Ambiguous:
                    continue
        if not rows:
            continue
        outputs, found = (run([given for given, _ in rows]) for run in (compiled.outputs, compiled.decoded))
        for row, (_, trace) in enumerate(rows):
            right = outputs[row] == trace[compiled.truth.output]
            right = right and all(found[name][row] == values for name, values in trace.items())
            inputs, wrong = inputs + 1, wrong + (not right)
    return inputs, wrong


def exchanges(compiled: CompiledProgram) -> tuple[int, int]:
    """(exchanges made, those in which model and program differ): every variable where it is first and last whole."""
    model, pairs, made, wrong = compiled.load(), [], 0, 0
    rng, rows = random.Random(0), [given for given in compiled.program.inputs(3) if len(given) == 3]
    pairs = [(rng.choice(rows), rng.choice(rows)) for _ in range(12)]
    base, source = (compiled.ids([pair[side] for pair in pairs]) for side in (0, 1))
    for variable in compiled.truth.variables.values():
        points = variable.points("whole") if variable.values else ()
        for point in {points[0], points[-1]} if points else ():
            run = model.run(source, read=[point])
            change = cw.interchange(point, variable.basis, run[point])
            best = model.run(base, interventions=[change]).logits[:, 1:].argmax(-1).tolist()
            for (one, other), row in zip(pairs, best, strict=True):
                try:
                    values = {variable.name: compiled.interpret(other)[variable.name]}
                    expected = compiled.interpret(one, set_to=values)[compiled.truth.output]
                except Ambiguous:
                    continue
                made, wrong = made + 1, wrong + ([compiled.vocabulary.decode(i) for i in row] != expected)
    return made, wrong


def main(programs: int) -> int:
    totals, refused, layers = [0, 0, 0, 0], 0, 0
    for seed in range(20_000, 20_000 + programs):
        try:
            compiled = compile_program(random_program(seed, steps=9), rotate=seed)
        except InputError:
            refused += 1
            continue
        layers = max(layers, compiled.model.config.num_hidden_layers)
        found = (*outputs_and_variables(compiled), *exchanges(compiled))
        totals = [total + one for total, one in zip(totals, found, strict=True)]
    inputs, wrong, made, differ = totals
    print(
        f"{programs - refused} programs of up to {layers} layers ({refused} refused for their size): "
        f"{wrong} of {inputs:,} inputs wrong; {differ} of {made:,} exchanges wrong"
    )
    return int(bool(wrong or differ))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
