"""Antonyms in English, French and Spanish: the same concepts, several frames a language.

For a fifth of (pair, direction) in each language both question frames are withheld while the other frames are
trained, so that the exam asks for a known relation in a frame never seen with it.
"""

from __future__ import annotations

import numpy as np

from .templates import PAD, Drawn, capitalised, draw, fill, table, template_words, withheld_table
from .vocabulary import ids

# One concept a line: English pair, French pair, Spanish pair.
CONCEPTS = tuple(
    tuple(line.split())
    for line in """
big small grand petit grande pequeño
hot cold chaud froid caliente frío
high low haut bas alto bajo
fast slow rapide lent rápido lento
old young vieux jeune viejo joven
rich poor riche pauvre rico pobre
strong weak fort faible fuerte débil
hard soft dur mou duro blando
heavy light lourd léger pesado ligero
bright dark clair sombre claro oscuro
good bad bon mauvais bueno malo
happy sad heureux malheureux feliz triste
full empty plein vide lleno vacío
open closed ouvert fermé abierto cerrado
clean dirty propre sale limpio sucio
dry wet sec mouillé seco mojado
near far proche lointain cercano lejano
deep shallow profond superficiel profundo superficial
wide narrow large étroit ancho estrecho
thick thin épais mince grueso delgado
loud quiet bruyant silencieux ruidoso silencioso
brave cowardly courageux lâche valiente cobarde
kind mean gentil méchant amable malvado
true false vrai faux verdadero falso
early late tôt tard temprano tarde
first last premier dernier primero último
easy difficult facile difficile fácil difícil
smooth rough lisse rugueux liso áspero
sweet bitter doux amer dulce amargo
safe dangerous sûr dangereux seguro peligroso
alive dead vivant mort vivo muerto
awake asleep éveillé endormi despierto dormido
polite rude poli grossier cortés grosero
sick healthy malade sain enfermo sano
beautiful ugly beau laid hermoso feo
inside outside dedans dehors dentro fuera
always never toujours jamais siempre nunca
day night jour nuit día noche
war peace guerre paix guerra paz
love hate amour haine amor odio
""".strip().splitlines()
)
LANGUAGES = ("english", "french", "spanish")
QUESTION = {
    "english": ("the opposite of {a} is *{b} .", "the opposite of the word {a} is the word *{b} ."),
    "french": ("le contraire de {a} est *{b} .", "le contraire du mot {a} est le mot *{b} ."),
    "spanish": ("lo contrario de {a} es *{b} .", "lo contrario de la palabra {a} es la palabra *{b} ."),
}
OTHER = {
    "english": ("{a} is the contrary of *{b} .", "not {a} but *{b} .", "{a} and {b} are opposites .", "{a} or *{b} ?"),
    "french": (
        "{a} est le mot opposé à *{b} .",
        "pas {a} mais *{b} .",
        "{a} et {b} sont des contraires .",
        "{a} ou *{b} ?",
    ),
    "spanish": (
        "{a} es la palabra opuesta a *{b} .",
        "no {a} sino *{b} .",
        "{a} y {b} son contrarios .",
        "{a} o *{b} ?",
    ),
}
# A bridge between the languages, so that one concept is worth one direction in the residual stream.
TRANSLATION = {
    ("english", "french"): "the word {a} in french is *{b} .",
    ("english", "spanish"): "the word {a} in spanish is *{b} .",
    ("french", "english"): "le mot {a} en anglais est *{b} .",
    ("spanish", "english"): "la palabra {a} en inglés es *{b} .",
}


def _word_table(language: int) -> np.ndarray:
    """[concept, side] ids of a language's words."""
    return np.stack([ids(tuple(c[2 * language + side] for c in CONCEPTS)) for side in (0, 1)], axis=1)


def antonym(rng: np.random.Generator, n: int, split: str = "train", language: str | None = None) -> Drawn:
    """One frame of one language (all three when `language` is None), half the time after a sentence about other words.

    In the exam only question frames are drawn; the sentence before is always one of the training text.
    """
    languages = LANGUAGES if language is None else (language,)
    counts = np.bincount(rng.integers(len(languages), size=n), minlength=len(languages))
    parts = [_antonym(rng, int(m), split, name) for name, m in zip(languages, counts, strict=True) if m]
    if len(parts) == 1:
        return parts[0]
    width = max(p.tokens.shape[1] for p in parts)
    wide = [np.pad(p.tokens, ((0, 0), (0, width - p.tokens.shape[1])), constant_values=PAD) for p in parts]
    return Drawn(np.concatenate(wide), np.concatenate([p.answer for p in parts]))


def _antonym(rng: np.random.Generator, n: int, split: str, language: str) -> Drawn:
    asked = _antonym_sentence(rng, n, split, language)
    before = _antonym_sentence(rng, n, "train", language)
    there = (rng.random(n) < 0.5) & (before.facts["concept"] != asked.facts["concept"])
    tokens = np.concatenate([np.where(there[:, None], before.tokens, np.int16(PAD)), asked.tokens], axis=1)
    return Drawn(tokens, asked.answer + before.tokens.shape[1], asked.facts)


def _antonym_sentence(rng: np.random.Generator, n: int, split: str, language: str) -> Drawn:
    question, other = QUESTION[language], OTHER[language]
    templates = table(question + other)
    barred = withheld_table(f"antonyms {language}", (len(CONCEPTS), 2), 0.2)
    frames = len(question) if split == "exam" else len(templates)

    def propose(rng: np.random.Generator, m: int) -> dict[str, np.ndarray]:
        return {
            "concept": rng.integers(len(CONCEPTS), size=m),
            "side": rng.integers(2, size=m),
            "template": rng.integers(frames, size=m),
        }

    drawn = draw(rng, n, propose, lambda d: barred[d["concept"], d["side"]] & (d["template"] < len(question)), split)
    words = _word_table(LANGUAGES.index(language))
    a, b = words[drawn["concept"], drawn["side"]], words[drawn["concept"], 1 - drawn["side"]]
    slots = {"a": a, "b": b, "concept": drawn["concept"], "side": drawn["side"]}
    return capitalised(rng, fill(templates, drawn["template"], slots))


def translation(rng: np.random.Generator, n: int, split: str = "train") -> Drawn:
    """A word and its translation, from or into English."""
    templates = table(tuple(TRANSLATION.values()))
    routes = np.array([[LANGUAGES.index(a), LANGUAGES.index(b)] for a, b in TRANSLATION])
    words = np.stack([_word_table(k) for k in range(len(LANGUAGES))])  # [language, concept, side]
    choice, concept, side = (
        rng.integers(len(templates), size=n),
        rng.integers(len(CONCEPTS), size=n),
        rng.integers(2, size=n),
    )
    source, target = routes[choice].T
    return fill(templates, choice, {"a": words[source, concept, side], "b": words[target, concept, side]})


def words() -> list[str]:
    """All words that these kinds use."""
    frames = [t for group in (*QUESTION.values(), *OTHER.values()) for t in group] + list(TRANSLATION.values())
    return template_words(tuple(frames)) + [w for concept in CONCEPTS for w in concept]
