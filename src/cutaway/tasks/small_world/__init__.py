"""The small world: its vocabulary and the kinds of text that speak of it, each drawn in bulk from a generator.

The text that the shipped models learned from is made of these (`cutaway.organisms.almanac.text`), and so are the tasks
for them: both draw from one place, with the same items withheld.
"""
