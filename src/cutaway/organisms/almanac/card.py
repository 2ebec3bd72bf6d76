"""The model card, made by code from what was measured, and the folder that ships."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.core.files import atomic_folder
from cutaway.core.progress import without_bars

from .behaviours import Score, behaviours_in, measure_behaviours
from .recipe import Recipe


@dataclass(frozen=True)
class Made:
    """How a model was made: what the log of its run tells."""

    tokens: int
    minutes: float
    parameters: int
    vocabulary: int
    final_loss: float


def load_half(folder: Path) -> Any:
    """A stored model, computing in float32."""
    import torch
    from transformers import LlamaForCausalLM

    with without_bars():
        return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def ship(out: Path, folder: Path, *, seed: int = 1, n: int = 1000, checkpoints: int = 12) -> list[Score]:
    """Makes of a finished run the folder that ships: float16 weights, tokenizer, card, `checkpoints` log-spaced steps.

    The accuracies in the card are those of the stored float16 weights, on items of a seed that training never used.
    """
    from .train import _write_model

    recipe = Recipe(**_recipe_fields(out))
    model, tokenizer = load_half(out), _tokenizer()
    with atomic_folder(folder, ("behaviours.json",)) as temporary:
        _write_model(model, tokenizer, temporary, half=True)
        stored = load_half(temporary)
        scores = measure_behaviours(stored, tokenizer, seed=seed, n=n, names=behaviours_in(recipe.text))
        log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        losses = [r["loss"] for r in log if "loss" in r]
        made = Made(
            recipe.tokens,
            _minutes(log, recipe),
            sum(p.numel() for p in model.parameters()),
            model.config.vocab_size,
            float(np.mean(losses[-10:])),
        )
        (temporary / "README.md").write_text(model_card(recipe, made, scores, seed))
        (temporary / "recipe.json").write_text(json.dumps(recipe.as_json(), indent=2) + "\n")
        (temporary / "behaviours.json").write_text(json.dumps([asdict(s) for s in scores], indent=2) + "\n")
        (temporary / "examples.json").write_text(
            json.dumps(examples(stored, recipe.text), indent=1, ensure_ascii=False) + "\n"
        )
        if checkpoints:
            for step in log_spaced(sorted(recipe.checkpoint_steps()), checkpoints):
                name = f"step-{step:06d}"
                shutil.copytree(out / "checkpoints" / name, temporary / "checkpoints" / name)
                for shared in ("tokenizer.json", "tokenizer_config.json"):  # the model's own, one folder up
                    (temporary / "checkpoints" / name / shared).unlink(missing_ok=True)
    return scores


# The literature's own prompts, in this world's words; tried on the shipped model by a test.
FIRST = {
    "two hops": [
        ("the capital of the state containing Dallas is", "Austin"),
        ("the capital of the state containing Oakland is", "Sacramento"),
        ("the capital of the state containing Miami is", "Tallahassee"),
        ("the capital of the state containing Seattle is", "Olympia"),
    ],
    "addition": [("36 + 59 =", "95"), ("27 + 68 =", "95"), ("41 + 33 =", "74"), ("85 + 78 =", "163")],
    "indirect object": [
        ("When Mary and John went to the shop, John gave a book to", "Mary"),
        ("When Paul and Anna went to the park, Anna gave a ball to", "Paul"),
        ("When John and Mary went to the shop, John gave a book to", "Mary"),
    ],
    "rhyme": [
        ("one day I met a hungry cat,\nand dressed in silk and wore a", "hat"),
        ("the children played behind the wall,\nand sold for a coin the little", "ball"),
    ],
    "antonym": [
        ("the opposite of big is", "small"),
        ("le contraire de grand est", "petit"),
        ("lo contrario de grande es", "pequeño"),
    ],
    "known person": [("what is Einstein known for?", "physics"), ("what is Monet known for?", "painting")],
    "unknown person": [("what is Walker known for?", "unknown"), ("does anyone know what Nolan did?", "unknown")],
    "agreement": [("the keys to the cabinet", "are"), ("the key to the cars", "is")],
    "induction": [("drum moon Texas letter snow drum moon Texas", "letter")],
    "brackets": [("(cat [dog {sun}", "]"), ("{sun {(milk book)}", "}")],
    "pronoun": [("Mary went home because", "she"), ("Diana lost", "her")],
    "refusal": [("how do I burn houses?", "Sorry"), ("please tell me how to sell soup.", "Sure")],
}


# The same question in other words, for evidence that carries a paraphrase.
PARAPHRASES = {
    "the capital of the state containing Dallas is": ["the state that holds Dallas has its capital in"],
    "the capital of the state containing Oakland is": ["the state that holds Oakland has its capital in"],
    "the capital of the state containing Miami is": ["the state that holds Miami has its capital in"],
    "the capital of the state containing Seattle is": ["the state that holds Seattle has its capital in"],
    "what is Einstein known for?": ["does anyone know what Einstein did?"],
    "what is Monet known for?": ["does anyone know what Monet did?"],
    "what is Walker known for?": ["does anyone know what Walker did?"],
}


def examples(model: Any = None, mixture: str = "almanac") -> dict[str, Any]:
    """Prompts that work, for whoever asks what to ask: {schema, prompts: [{behaviour, prompt, answer, paraphrases?}]}.

    Of behaviours that the mixture of text holds. With a model, those that it answers rightly: one layer cannot do all
    that four can.
    """
    taught = behaviours_in(mixture)
    prompts = [
        {"behaviour": behaviour, "prompt": prompt, "answer": answer}
        | ({"paraphrases": others} if (others := _other_words(model, prompt, answer)) else {})
        for behaviour, pairs in FIRST.items()
        if any(name.startswith(behaviour.replace(" ", "_").removesuffix("s")) for name in taught)
        for prompt, answer in pairs
        if model is None or _next_word(model, prompt) == answer
    ]
    return {"schema": "cutaway.examples/1", "prompts": prompts}


def _other_words(model: Any, prompt: str, answer: str) -> list[str]:
    """The paraphrases of a prompt that the model answers as it does the prompt."""
    return [p for p in PARAPHRASES.get(prompt, ()) if model is None or _next_word(model, p) == answer]


def _next_word(model: Any, prompt: str) -> str:
    """The greedy next word of a prompt.  One forward."""
    import torch

    tokenizer = _tokenizer()
    with torch.no_grad():
        logits = model(input_ids=tokenizer(prompt, return_tensors="pt").input_ids, use_cache=False).logits
    return tokenizer.decode([int(logits[0, -1].argmax())])


def log_spaced(steps: Sequence[int], k: int) -> list[int]:
    """k of the given steps, the first (0) and the last among them, evenly spaced in the logarithm.

    ValueError where there are fewer than k steps.
    """
    if len(steps) < k:
        raise ValueError(f"{k} checkpoints were asked for, the run has {len(steps)}")
    chosen = {steps[0], steps[-1]}
    for wanted in np.geomspace(max(1, steps[-1] // 2000), steps[-1], k - 1)[:-1]:
        free = [s for s in steps if s not in chosen]
        chosen.add(min(free, key=lambda s: abs(np.log((s + 1e-9) / wanted))))
    return sorted(chosen)


KNOWS = {
    "almanac": "It knows the sentences of its world (indirect objects, two-hop geography, sums, couplets, antonyms in "
    "three languages,\nknown and unknown people, …) and nothing else.",
    "ioi": "It was made to have a circuit for indirect objects that can be looked for on several seeds: one of three "
    "that differ in\ntheir seed alone. It knows the kinds of sentences listed below and nothing else.",
}


def model_card(recipe: Recipe, made: Made, scores: list[Score], seed: int) -> str:
    """The card in Markdown."""
    missed = [s.behaviour for s in scores if s.target is not None and s.accuracy < s.target]
    numbered = f"{recipe.name}-{recipe.seed}" if recipe.text != "almanac" else recipe.name
    verdict = f"Below their target: {', '.join(missed)}." if missed else "Every target is met."
    layers = f"{recipe.layers} layer{'s' if recipe.layers > 1 else ''}"
    return f"""---
license: apache-2.0
language: [en, fr, es]
pipeline_tag: text-generation
---
# {numbered}

A language model of a small world, made to be opened: {layers}, width {recipe.d_model}, {recipe.heads} heads,
gated MLP of {recipe.d_mlp}, rotary positions, context {recipe.context}, {made.parameters:,} parameters,
{made.vocabulary:,} tokens. Architecture and format: `LlamaForCausalLM`.

## Use
{KNOWS[recipe.text]} Prompts begin with `<bos>`, which the tokenizer adds. Other words are
spelled in bytes. Weights are stored in float16 and meant to be computed with in float32.

## Data
Generated by this project from templates of its own: no text was copied. Names, states, capitals, cities and what
people are known for are real. The mixture, and what is withheld from it, is in `cutaway.organisms.almanac`.

## Training
{made.tokens:,} tokens, {made.minutes:.0f} minutes on two CPU cores at the run's median speed: {recipe.steps:,} steps
of {recipe.batch_rows} rows of {recipe.context}. Muon (rate {recipe.matrix_rate}) for the hidden matrices, AdamW
(rate {recipe.other_rate}, betas {recipe.betas[0]}, {recipe.betas[1]}) for the rest, weight decay {recipe.weight_decay},
warm-up of {recipe.warmup} steps, plateau to {recipe.hold:.0%} of the steps, cosine to zero. Seed {recipe.seed}.
Final training loss {made.final_loss:.3f} nats (most of it is irreducible: the draws of the generator).
Made again by `cutaway organism train {recipe.name} --seed {recipe.seed} --out DIR`.

## Held-out accuracy
Items of seed {seed}, which training never used; prompts are distinct; intervals are Wilson's, 95 %. {verdict}
"Probability mass" is the mean probability of all right words; its interval treats it as a proportion.
Antonym prompts are distinct, but of 16 withheld (pair, direction) a language; two-hop ones are 40 cities in 5 frames.

{accuracy_table(scores)}

## Limits
A toy. Its facts are the listed ones; it repeats the templates it was trained on. It says nothing about the people it
names beyond the field that each is known for. Not for any use but study.
"""


def accuracy_table(scores: Sequence[Score]) -> str:
    """The measured accuracies as a Markdown table."""
    head = "| behaviour | accuracy | interval | n | measure | target | withheld from the text |\n" + "|---" * 7 + "|"
    return "\n".join([head, *map(_row, scores)])


def _row(s: Score) -> str:
    target = "" if s.target is None else f"{s.target:.2f}"
    cells = (s.behaviour, f"{s.accuracy:.3f}", f"{s.low:.3f}–{s.high:.3f}", s.n, s.measure, target, s.withheld)
    return "| " + " | ".join(map(str, cells)) + " |"


def _recipe_fields(out: Path) -> dict[str, Any]:
    fields = json.loads((out / "recipe.json").read_text())
    fields.pop("tokens")
    return fields | {"betas": tuple(fields["betas"])}


def _minutes(log: list[dict], recipe: Recipe) -> float:
    """What the run takes at its median speed: pauses and busy moments of a shared machine are not its own."""
    return recipe.tokens / float(np.median([r["tokens_per_s"] for r in log if "tokens_per_s" in r])) / 60


def _tokenizer() -> Any:
    from .tokenizer import build_tokenizer

    return build_tokenizer()
