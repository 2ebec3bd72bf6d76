"""RASP programs compiled to transformer weights: subjects of which every variable and every true edge is known.

`compile_program(program("reverse"))` gives a model (`.load()` opens it), its interpreter, and `.truth`. Programs of
one's own are written with `tokens`, `indices`, `select`, `aggregate`, `selector_width`, `Map`, `sequence_map` and
`linear`. Importing this room lets transformers load saved programs.
"""

from cutaway.toys.rasp.check import Checked, check
from cutaway.toys.rasp.edges import Edges
from cutaway.toys.rasp.interpreter import Ambiguous
from cutaway.toys.rasp.language import (
    Map,
    Select,
    SOp,
    aggregate,
    indices,
    linear,
    numerical,
    select,
    selector_width,
    sequence_map,
    tokens,
)
from cutaway.toys.rasp.library import program, program_names
from cutaway.toys.rasp.matrices import matrices
from cutaway.toys.rasp.program import CompiledProgram, Program, compile_program
from cutaway.toys.rasp.save import save
from cutaway.toys.rasp.truth import Truth, Variable

__all__ = [
    "Ambiguous",
    "Checked",
    "CompiledProgram",
    "Edges",
    "Map",
    "Program",
    "SOp",
    "Select",
    "Truth",
    "Variable",
    "aggregate",
    "check",
    "compile_program",
    "indices",
    "linear",
    "matrices",
    "numerical",
    "program",
    "program_names",
    "save",
    "select",
    "selector_width",
    "sequence_map",
    "tokens",
]
