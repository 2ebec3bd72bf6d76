"""Othello on a board of 6 x 6: random games, and at every move the exact board and the exact set of legal moves.

Boards are bits of a 64-bit word, eight a row with an empty border, so that a shift never wraps from one row's end into
the next row's start; a game is a column of an array, and all games move at once.

Source: the rules (a disc is placed where it outflanks; every outflanked line turns; who can't move passes); games of
random legal moves as Li et al. 2023, "Emergent World Representations", section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cutaway.core import InputError

SIDE = 6
SQUARES = SIDE * SIDE
ALL_MOVES = SQUARES - 4  # the four middle squares are taken at the start
MOVES = 20  # of a game, that the model and its states know: the board is then two thirds full
BITS = np.array([8 * (row + 1) + column + 1 for row in range(SIDE) for column in range(SIDE)], dtype=np.uint64)
INSIDE = np.bitwise_or.reduce(np.uint64(1) << BITS)
DIRECTIONS = (1, 7, 8, 9)  # each both ways: east, south-west, south, south-east

Word = NDArray[np.uint64]


def square(name: str) -> int:
    """0 … 35 for "a1" … "f6": the column's letter, then the row's number from the top."""
    return "abcdef".index(name[0]) + SIDE * (int(name[1:]) - 1)


NAMES = tuple(f"{'abcdef'[i % SIDE]}{i // SIDE + 1}" for i in range(SQUARES))


def bit(squares: NDArray[np.int64]) -> Word:
    word: Word = np.uint64(1) << BITS[squares]
    return word


START_BLACK = np.bitwise_or.reduce(bit(np.array([square("d3"), square("c4")])))
START_WHITE = np.bitwise_or.reduce(bit(np.array([square("c3"), square("d4")])))


def shifted(word: Word, by: int) -> Word:
    """Every disc one step along a direction; off the board it is gone."""
    moved = word << np.uint64(by) if by > 0 else word >> np.uint64(-by)
    return moved & INSIDE


def run_of(start: Word, through: Word, by: int) -> Word:
    """The unbroken line of `through` that begins one step from `start`, per direction."""
    line = shifted(start, by) & through
    for _ in range(SIDE - 3):  # a line between two discs is at most four long
        line |= shifted(line, by) & through
    return line


def legal(mine: Word, theirs: Word) -> Word:
    """The empty squares where a disc of mine would outflank at least one of theirs."""
    empty, found = INSIDE & ~(mine | theirs), np.zeros_like(mine)
    for by in (*DIRECTIONS, *(-by for by in DIRECTIONS)):
        found |= shifted(run_of(mine, theirs, by), by) & empty
    return found


def outflanked(move: Word, mine: Word, theirs: Word) -> Word:
    """The discs of theirs that turn when mine is placed at `move`."""
    turned = np.zeros_like(mine)
    for by in (*DIRECTIONS, *(-by for by in DIRECTIONS)):
        line = run_of(move, theirs, by)
        turned |= np.where((shifted(line, by) & mine) != 0, line, np.uint64(0))
    return turned


def squares_of(word: Word) -> NDArray[np.bool_]:
    """[…] words as [..., 36] squares."""
    return (word[..., None] >> BITS) & np.uint64(1) != 0


@dataclass(frozen=True)
class Games:
    """Games of M moves, and what is true before each of them.

    moves:  [game, M], the square of each move.
    board:  [game, M + 1, 36], before each move and after the last, for who moves next: 0 empty, 1 mine, 2 theirs.
    legal:  [game, M + 1, 36], whether that player may move there.
    black:  [game, M + 1], whether black moves next.
    """

    moves: NDArray[np.int64]
    board: NDArray[np.int8]
    legal: NDArray[np.bool_]
    black: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.moves)


def play(n: int, seed: int, moves: int = MOVES) -> Games:
    """`n` games of so many uniformly random legal moves (games that end before are thrown away)."""
    if not 1 <= moves <= ALL_MOVES:
        raise InputError(f"a game has 1 to {ALL_MOVES} moves; {moves} were asked for.")
    rng = np.random.default_rng(seed)
    parts: list[Games] = []
    while sum(map(len, parts)) < n:
        parts.append(_games(max(256, n - sum(map(len, parts))), moves, rng))
    return Games(
        *(np.concatenate([getattr(part, f) for part in parts])[:n] for f in ("moves", "board", "legal", "black"))
    )


def _games(tries: int, moves: int, rng: np.random.Generator) -> Games:
    mine, theirs = np.full(tries, START_BLACK), np.full(tries, START_WHITE)
    black = np.ones(tries, dtype=bool)
    made = np.zeros((tries, moves), dtype=np.int64)
    boards = np.zeros((tries, moves + 1, SQUARES), dtype=np.int8)
    legals = np.zeros((tries, moves + 1, SQUARES), dtype=bool)
    blacks = np.zeros((tries, moves + 1), dtype=bool)
    alive = np.ones(tries, dtype=bool)
    for turn in range(moves + 1):
        may = legal(mine, theirs)
        passes = may == 0
        mine, theirs = np.where(passes, theirs, mine), np.where(passes, mine, theirs)
        black = black ^ passes
        may = np.where(passes, legal(mine, theirs), may)
        where = squares_of(may)
        boards[:, turn] = squares_of(mine) + 2 * squares_of(theirs)
        legals[:, turn], blacks[:, turn] = where, black
        if turn == moves:
            break
        alive &= may != 0
        chosen = (rng.random((tries, SQUARES), dtype=np.float32) * where).argmax(1)
        made[:, turn] = chosen
        mine, theirs = moved(mine, theirs, chosen)
        black = ~black
    return Games(made[alive], boards[alive], legals[alive], blacks[alive])


def moved(mine: Word, theirs: Word, squares: NDArray[np.int64]) -> tuple[Word, Word]:
    """The two sides after a move, the next player's first."""
    placed = bit(squares)
    turned = outflanked(placed, mine, theirs)
    return theirs & ~turned, mine | placed | turned
