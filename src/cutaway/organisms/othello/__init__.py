"""Othello on 6 x 6: games, a model that sees their moves alone, and the boards that it may keep in mind."""

from cutaway.organisms.othello.states import othello_states

__all__ = ["othello_states"]
