"""`python -m cutaway.exams.superposition`."""

from cutaway.exams.superposition.exam import main

main()
