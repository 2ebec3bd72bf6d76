"""The folder that ships: weights in half precision, the tokenizer, the recipe, and a card made of what was measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cutaway.core.files import write_json, write_text
from cutaway.organisms.almanac.train import save_folder
from cutaway.organisms.othello.game import MOVES, NAMES, play
from cutaway.organisms.othello.train import HELD_OUT, Recipe, tokenizer

EXAMPLES = 4


def ship(model: Any, recipe: Recipe, rows: list[dict[str, Any]], folder: Path) -> None:
    """Write `folder`; rows: what `measure_othello` found."""
    save_folder(model, tokenizer(), folder, half=True)
    write_json(folder / "recipe.json", asdict(recipe), indent=1)
    write_json(folder / "behaviours.json", rows, indent=1)
    games = play(EXAMPLES, HELD_OUT * 2)
    prompts = [
        {
            "behaviour": "a game",
            "prompt": " ".join(NAMES[i] for i in game[: 6 + 3 * k]),
            "answer": NAMES[game[6 + 3 * k]],
        }
        for k, game in enumerate(games.moves.tolist())
    ]
    write_json(folder / "examples.json", {"schema": "cutaway.examples/1", "prompts": prompts}, indent=1)
    write_text(folder / "README.md", card(model, recipe, rows))


def card(model: Any, recipe: Recipe, rows: list[dict[str, Any]]) -> str:
    size, said = sum(p.numel() for p in model.parameters()), recipe.steps * recipe.batch
    table = []
    for row in rows:
        low, high = row["interval"]
        table.append(f"| {row['behaviour']} | {row['accuracy']:.3f} | {low:.3f} – {high:.3f} | {row['n']:,} |")
    paragraphs = [
        "# othello",
        f"A GPT-2 of {recipe.layers} layers, d_model {recipe.d_model}, {recipe.heads} heads ({size:,} parameters) that "
        "reads the moves of Othello on a board of 6 x 6 and says the next one. It never sees a board. A token is a "
        'square, "a1" to "f6"; "start" comes first.',
        f"Games are random legal moves, the first {MOVES} of each; {said:,} games from seed {recipe.seed}. Muon (rate "
        f"{recipe.matrix_rate}) for the blocks' matrices, AdamW (rate {recipe.rate}) for the rest, {recipe.steps:,} "
        f"steps of {recipe.batch} games, the last {1 - recipe.constant:.0%} of them with a falling rate. Made by "
        "`cutaway organism train othello --out DIR`, in about half an hour of one core.",
        "| on games of another seed | share | 95 % (Wilson) | moves |\n|---|---|---|---|\n" + "\n".join(table),
        "What it keeps of the board, and whether it uses it: `cutaway state othello`.",
    ]
    return "\n\n".join(paragraphs) + "\n"
