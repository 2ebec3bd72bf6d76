"""primer: a small CLIP of a drawn world, with its pictures, words, captions and trainer.  Imports nothing heavy."""
