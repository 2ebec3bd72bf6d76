"""Games as sequences with states: the board after each move, told in two ways, and edits of single discs."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cutaway.organisms.othello.game import MOVES, NAMES, SIDE, SQUARES, Games, bit, legal, play, squares_of
from cutaway.readouts.state_data import Edits, StateData

START = SQUARES  # the token before the first move; a square's token is its number
VOCABULARY = SQUARES + 1
Side = Literal["mover", "colour"]


def othello_states(n: int = 600, seed: int = 1, side: Side = "mover", edits: int = 3) -> StateData:
    """`n` games (tokens [n, 20]: the start and all moves but the last), the board before each next move.

    side: a disc is "mine" or "theirs" to who moves next ("mover"), or "black" or "white" ("colour").
    edits: of each game so many boards with one disc turned over, where that changes which moves are legal.
    """
    games = play(n, seed)
    tokens = np.concatenate([np.full((n, 1), START), games.moves[:, : MOVES - 1]], 1)
    state = games.board[:, :MOVES].astype(np.int64)
    if side == "colour":
        swap = ~games.black[:, :MOVES, None]
        state = np.where(swap & (state > 0), 3 - state, state)
    values = ("empty", "mine", "theirs") if side == "mover" else ("empty", "black", "white")
    found = _edits(games, state, edits, seed)
    return StateData("othello", tokens, state, NAMES, values, 0, found, (SIDE, SIDE), (*NAMES, "start"))


def _edits(games: Games, state: np.ndarray, per_game: int, seed: int) -> Edits | None:
    if per_game < 1:
        return None
    rng = np.random.default_rng([seed, 7])
    n, tries = len(games), 4 * per_game
    row = np.repeat(np.arange(n), tries)
    turn = rng.integers(2, MOVES, len(row))
    board = games.board[row, turn]
    square = (rng.random(board.shape) * (board > 0)).argmax(1)
    words = np.where(board[..., None] == np.array([1, 2]), bit(np.arange(SQUARES))[:, None], np.uint64(0))
    mine, theirs = (np.bitwise_or.reduce(words[..., i], 1) for i in range(2))
    turned = bit(square)
    after = squares_of(legal(mine ^ turned, theirs ^ turned))
    before = games.legal[row, turn]
    fits = np.flatnonzero(after.any(1) & (after != before).any(1))
    number = np.zeros(n, dtype=np.int64)
    kept = []
    for i in fits:  # the first `per_game` of each game
        if number[row[i]] < per_game:
            number[row[i]] += 1
            kept.append(i)
    keep = np.array(kept, dtype=np.int64)
    now = state[row[keep], turn[keep], square[keep]]
    return Edits(
        row=row[keep], position=turn[keep], variable=square[keep], to=3 - now,
        valid=_vocabulary(after[keep]), before=_vocabulary(before[keep]),
    )  # fmt: skip


def _vocabulary(squares: np.ndarray) -> np.ndarray:
    """[m, 36] squares as [m, 37] tokens: the start is never a move."""
    return np.concatenate([squares, np.zeros((len(squares), 1), dtype=bool)], 1)
