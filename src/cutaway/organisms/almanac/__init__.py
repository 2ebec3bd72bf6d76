"""almanac: a small language model of a small world, with its text, trainer and exam.  Imports nothing heavy."""
