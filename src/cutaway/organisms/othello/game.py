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

SIDE = 6
SQUARES = SIDE * SIDE
MOVES = SQUARES - 4  # the four middle squares are taken at the start
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
    """Whole games, and what is true before each of their moves.

    moves:  [game, 32], the square of each move.
    board:  [game, 33, 36], before each move and at the end, for who moves next: 0 empty, 1 mine, 2 theirs.
    legal:  [game, 33, 36], whether that player may move there (nowhere at the end).
    black:  [game, 33], whether black moves next.
    """

    moves: NDArray[np.int64]
    board: NDArray[np.int8]
    legal: NDArray[np.bool_]
    black: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.moves)


def play(n: int, seed: int) -> Games:
    """`n` games of uniformly random legal moves that fill the board (games that end before are thrown away)."""
    rng = np.random.default_rng(seed)
    parts: list[Games] = []
    while sum(map(len, parts)) < n:
        parts.append(_full_games(max(256, n - sum(map(len, parts))), rng))
    return Games(
        *(np.concatenate([getattr(part, f) for part in parts])[:n] for f in ("moves", "board", "legal", "black"))
    )


def _full_games(tries: int, rng: np.random.Generator) -> Games:
    mine, theirs = np.full(tries, START_BLACK), np.full(tries, START_WHITE)
    black = np.ones(tries, dtype=bool)
    moves = np.zeros((tries, MOVES), dtype=np.int64)
    boards = np.zeros((tries, MOVES + 1, SQUARES), dtype=np.int8)
    legals = np.zeros((tries, MOVES + 1, SQUARES), dtype=bool)
    blacks = np.zeros((tries, MOVES + 1), dtype=bool)
    alive = np.ones(tries, dtype=bool)
    for turn in range(MOVES + 1):
        may = legal(mine, theirs)
        passes = may == 0
        mine, theirs = np.where(passes, theirs, mine), np.where(passes, mine, theirs)
        black = black ^ passes
        may = np.where(passes, legal(mine, theirs), may)
        where = squares_of(may)
        boards[:, turn] = squares_of(mine) + 2 * squares_of(theirs)
        legals[:, turn], blacks[:, turn] = where, black
        if turn == MOVES:
            break
        alive &= may != 0
        chosen = (rng.random((tries, SQUARES), dtype=np.float32) * where).argmax(1)
        moves[:, turn] = chosen
        mine, theirs = moved(mine, theirs, chosen)
        black = ~black
    return Games(moves[alive], boards[alive], legals[alive], blacks[alive])


def moved(mine: Word, theirs: Word, squares: NDArray[np.int64]) -> tuple[Word, Word]:
    """The two sides after a move, the next player's first."""
    placed = bit(squares)
    turned = outflanked(placed, mine, theirs)
    return theirs & ~turned, mine | placed | turned
