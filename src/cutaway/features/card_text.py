"""A feature's card as text, for a reader who knows no jargon."""

from __future__ import annotations

from typing import Any

from cutaway.core.table import shown


def card_text(card: dict[str, Any]) -> str:
    """`cutaway.feature_card/1` -> lines."""
    about = card["about"]
    lines = [
        f"feature {card['feature']} of {about['dictionary']}",
        f"  {card['label']}",
        "",
        f"  fires on {card['frequency']:.2%} of {about['n_tokens']:,} tokens; strongest {card['maximum']:.2f}",
    ]
    if card["rule_tokens"]:
        told = ", ".join(f"“{shown(t)}” {p:.0%}" for t, p in zip(card["rule_tokens"], card["rule_p"]))
        lines.append(f"  how often it fires on a token: {told}")
    if card["token_auroc"] is not None:
        lines.append(
            f"  where it fires can be told from the token alone with AUROC {card['token_auroc']:.3f} (.5 is chance, 1 "
            f"always right); with the token before, {card['pair_auroc']:.3f}; on text the rule was not made from"
        )
    if card["span"] is not None:
        need = "more than 32 tokens" if card["span"] < 0 else f"the last {card['span']} tokens"
        lines.append(f"  its strongest example needs {need} to keep half its strength")
    if card["effect"] is not None:
        lines.append(
            f"  taking it out there changes the next word by {card['effect']:.4f} nats; a random direction of the same "
            f"length by {card['effect_random']:.4f}; strengthening it threefold by {card['clamp_effect']:.4f}"
        )
    for name, told in (("lost", "without it less likely"), ("clamp_raised", "strengthened, more likely")):
        if card[name]:
            lines.append(f"  {told}: " + ", ".join(f"“{shown(one['token'])}”" for one in card[name]))
    if card["top_logits"]:
        lines.append("  writes towards: " + ", ".join(f"“{shown(one['token'])}”" for one in card["top_logits"]))
        lines.append("  and away from: " + ", ".join(f"“{shown(one['token'])}”" for one in card["bottom_logits"]))
    near = ", ".join(f"{f} ({c:.2f})" for f, c in zip(card["nearest"], card["nearest_cosine"]))
    lines.append(f"  nearest features (cosine; a random direction has {card['nearest_by_chance']:.2f}): {near}")
    if card["seed_partner"] is not None:
        lines.append(
            f"  in the dictionary of another seed: feature {card['seed_partner']}, cosine {card['seed_cosine']:.2f} "
            f"(random {card['seed_by_chance']:.2f})"
        )
    if card["parent"] is not None:
        lines.append(f"  parent in the narrower one: {card['parent']} ({card['parent_cosine']:.2f})")
    if card["children"]:
        lines.append(f"  children in the wider one: {', '.join(map(str, card['children'][:12]))}")
    if card["neuron"] is not None:
        lines.append(
            f"  the neuron most like it: {card['neuron_point']}, number {card['neuron']} (correlation "
            f"{card['neuron_correlation']:+.2f})"
        )
    band = None
    for one in card["examples"]:
        if one["band"] != band:
            band = one["band"]
            lines += ["", f"  {band}"]
        words = [
            f"[{shown(t)} {a:.1f}]" if a > 0 and i == one["place"] else (f"[{shown(t)}]" if a > 0 else shown(t))
            for i, (t, a) in enumerate(zip(one["tokens"], one["activations"]))
        ]
        lines.append("    " + " ".join(words))
    return "\n".join(lines)
