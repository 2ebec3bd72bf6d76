"""A feature's label by rule, from what was measured; no language model is asked."""

from __future__ import annotations

from typing import Any

from cutaway.core.table import shown

TOLD, CONTEXT = 0.9, 0.02


def rule_label(found: dict[str, Any]) -> str:
    """In words: what it fires on, whether that takes context, what it makes likely. From a row of describe.py."""
    if not found["fired"]:
        return "never fired"
    token, pair = found["token_auroc"], found["pair_auroc"]
    names = [f"“{shown(t)}”" for t in found["rule_tokens"][:4]]
    on = " ".join(dict.fromkeys(names))
    if token is None:
        text = f"rare (fired {found['fired']} times)" + (f": on {on}" if on else "")
    elif token >= TOLD and on:
        text = f"on {on}"
    elif on:
        text = f"in some contexts, mostly on {on}"
    else:
        text = "in some contexts, on no token in particular"
    if token is not None and pair is not None and pair - token >= CONTEXT:
        text += ", told better with the token before"
    raised = [f"“{shown(one['token'])}”" for one in found["lost"][:3]] or [
        f"“{shown(one['token'])}”" for one in found["top_logits"][:3]
    ]
    effect, chance = found["effect"], found["effect_random"]
    if raised and effect is not None and chance is not None and effect > 2 * chance and effect > 0.01:
        text += f"; makes {' '.join(raised)} likelier"
    return text
