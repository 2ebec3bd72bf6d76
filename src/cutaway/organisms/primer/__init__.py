"""primer: a small CLIP of a drawn world, with its pictures, words, captions and trainer.  Imports nothing heavy."""

NAMES = ("primer", "primer-textless")  # the model that ships, and its twin that never saw letters in pictures
TWINS = {"primer": "primer-textless"}
