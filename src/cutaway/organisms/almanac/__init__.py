"""almanac: a small language model of a small world, its text, its trainer and its exam.  Nothing heavy is imported here."""
