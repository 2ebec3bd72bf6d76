"""`python -m cutaway.toys.rasp [NAME …]`: the programs' table, every input checked; exit status 1 if any is wrong."""

from __future__ import annotations

import sys

from cutaway.toys.rasp.report import table

made = table(tuple(sys.argv[1:]), exhaustive=True, on=lambda name: print(name, file=sys.stderr))
print(made)
sys.exit(0 if made.passed else 1)
