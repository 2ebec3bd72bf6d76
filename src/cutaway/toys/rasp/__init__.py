"""RASP programs compiled to transformer weights: subjects whose every variable is known."""
from cutaway.toys.rasp import transformer
