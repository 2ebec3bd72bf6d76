"""Othello: the rules against a slow player that walks the board square by square; games; states; edits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.core import InputError
from cutaway.organisms.othello.game import MOVES, NAMES, SIDE, SQUARES, play, square
from cutaway.organisms.othello.states import START, VOCABULARY, othello_states
from cutaway.organisms.othello.train import Recipe, measure_othello, new_model, tokenizer, train

AROUND = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def turned(board, at, player):
    """Squares that turn when `player` places a disc at `at`: board[row][column] in 0, 1, 2."""
    row, column = divmod(at, SIDE)
    found = []
    for down, right in AROUND:
        line, r, c = [], row + down, column + right
        while 0 <= r < SIDE and 0 <= c < SIDE and board[r][c] == 3 - player:
            line.append(r * SIDE + c)
            r, c = r + down, c + right
        if 0 <= r < SIDE and 0 <= c < SIDE and board[r][c] == player:
            found += line
    return found


def legal(board, player):
    return {at for at in range(SQUARES) if board[at // SIDE][at % SIDE] == 0 and turned(board, at, player)}


def test_games_follow_the_rules_as_a_slow_player_does():
    games = play(20, 3)
    for g in range(20):
        board = [[0] * SIDE for _ in range(SIDE)]
        for name, colour in (("d3", 1), ("c4", 1), ("c3", 2), ("d4", 2)):
            at = square(name)
            board[at // SIDE][at % SIDE] = colour
        player = 1  # black
        for turn in range(MOVES + 1):
            may = legal(board, player)
            if not may:
                player, may = 3 - player, legal(board, 3 - player)
            assert games.black[g, turn] == (player == 1)
            assert set(np.flatnonzero(games.legal[g, turn]).tolist()) == may
            flat = np.array(board).flatten()
            seen = np.where(flat == 0, 0, np.where(flat == player, 1, 2))
            assert (games.board[g, turn] == seen).all()
            if turn == MOVES:
                break
            at = int(games.moves[g, turn])
            assert at in may
            for other in [*turned(board, at, player), at]:
                board[other // SIDE][other % SIDE] = player
            player = 3 - player


def test_games_come_again_from_their_seed_and_differ_between_seeds():
    one, again, other = play(8, 1), play(8, 1), play(8, 2)
    assert (one.moves == again.moves).all()
    assert (one.moves != other.moves).any()


def test_a_square_has_one_name():
    assert [square(name) for name in NAMES] == list(range(SQUARES))


@pytest.mark.parametrize("side", ["mover", "colour"])
def test_edits_turn_one_disc_and_say_what_is_legal_then(side):
    data = othello_states(12, 5, side)
    games, edits = play(12, 5), data.edits
    assert edits is not None
    assert len(edits) >= 12
    for i in range(len(edits)):
        r, t, v = edits.row[i], edits.position[i], edits.variable[i]
        now = data.state[r, t, v]
        assert {int(now), int(edits.to[i])} == {1, 2}
        seen = games.board[r, t].astype(int)
        assert set(np.flatnonzero(edits.before[i]).tolist()) == legal(seen.reshape(SIDE, SIDE), 1)
        seen[v] = 3 - seen[v]
        assert set(np.flatnonzero(edits.valid[i]).tolist()) == legal(seen.reshape(SIDE, SIDE), 1)


def test_black_and_white_are_the_colours_of_the_players():
    games, data = play(10, 4), othello_states(10, 4, "colour", edits=0)
    assert data.edits is None
    assert (data.tokens[:, 0] == START).all()
    # The discs of a colour that is not to move grow by one disc and what it turns; a disc never leaves the board.
    assert ((data.state > 0).sum(2) == np.arange(MOVES) + 4).all()
    first = data.state[:, 0]
    assert (first == first[0]).all()
    assert first[0, square("d3")] == 1  # black
    assert (games.board[:, 0] == first).all()  # black moves first


def test_a_game_is_text_for_the_tokenizer():
    made = tokenizer()
    assert made("c2 b1")["input_ids"] == [START, square("c2"), square("b1")]
    assert made.decode([square("a1"), square("f6")]) == "a1 f6"


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("cutaway.organisms.othello.train.STATE_EVERY", 50)
    tiny = {"layers": 1, "d_model": 16, "heads": 2, "batch": 4, "warmup": 5}
    whole = train(Recipe(steps=60, **tiny), tmp_path / "whole")

    class Killed(Exception):
        pass

    def stop(*_, **__):
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cutaway.organisms.othello.train.print", stop, raising=False)  # at its last line of progress
        with pytest.raises(Killed):
            train(Recipe(steps=60, **tiny), tmp_path / "parts", log_every=55)
    assert (tmp_path / "parts" / "state.pt").is_file()
    parts = train(Recipe(steps=60, **tiny), tmp_path / "parts")
    for a, b in zip(whole.parameters(), parts.parameters()):
        assert torch.equal(a, b)


def test_what_is_measured_lies_between_nothing_and_everything():
    rows = measure_othello(new_model(Recipe(layers=1, d_model=16, heads=2)), n=20)
    assert [row["n"] for row in rows] == [20 * MOVES] * 2
    for row in rows:
        low, high = row["interval"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
    assert rows[0]["accuracy"] < 0.6  # an untrained model knows no rules
    assert VOCABULARY == SQUARES + 1


def test_what_ships_is_a_model_folder_with_its_card(tmp_path):
    import cutaway as cw
    from cutaway.core.registry import model_examples
    from cutaway.organisms.othello.ship import ship

    recipe = Recipe(layers=1, d_model=16, heads=2, steps=1)
    model = new_model(recipe).eval()
    ship(model, recipe, measure_othello(model, n=4), tmp_path / "othello")
    loaded = cw.load(str(tmp_path / "othello"))
    ids = [START, *play(1, 9).moves[0].tolist()]
    expected = model(input_ids=torch.tensor([ids])).logits
    torch.testing.assert_close(loaded.run(ids).logits, expected, rtol=0, atol=5e-3)  # half precision
    card = (tmp_path / "othello" / "README.md").read_text()
    assert f"| {4 * MOVES} |" in card
    prompt = model_examples(tmp_path / "othello")[0]
    assert len(loaded.tokens(prompt["prompt"])[0]) == 7


def test_a_game_has_no_more_moves_than_squares():
    with pytest.raises(InputError, match="1 to 32"):
        play(1, 0, moves=33)
