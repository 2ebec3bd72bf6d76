"""What a probe learns from: texts with a label each, or sentences with a label for every word."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutaway.core import InputError, UnknownName

MIN_PER_CLASS = 5


@dataclass(frozen=True)
class Labelled:
    """`texts` with `labels`; or, where `words` is set, the words of each text and a label (or None) for each word.

    groups: texts of one group stay on one side of every split (paraphrases, one document); None: each by itself.
    """

    texts: tuple[str, ...]
    labels: tuple[Any, ...]  # [texts] of str, or [texts] of tuples of str or None
    words: tuple[tuple[str, ...], ...] | None = None
    groups: tuple[str, ...] | None = None
    name: str = "data"

    def __post_init__(self) -> None:
        if not self.texts:
            raise InputError(f"{self.name} holds no text.")
        if len(self.labels) != len(self.texts) or (self.groups and len(self.groups) != len(self.texts)):
            raise InputError(f"{self.name}: one label (and one group) a text; {len(self.texts)} texts were given.")
        if self.words is not None:
            for i, (words, labels) in enumerate(zip(self.words, self.labels)):
                if len(words) != len(labels):
                    raise InputError(f"{self.name}, text {i + 1}: {len(words)} words and {len(labels)} labels.")
        if empty := [i + 1 for i, text in enumerate(self.texts) if not text.strip()]:
            raise InputError(f"{self.name}: {len(empty)} texts are empty (the first is number {empty[0]}).")
        counts = Counter(self.flat)
        if len(counts) < 2:
            raise InputError(
                f"{self.name} has one class ({next(iter(counts), 'none')!r}); a probe tells two or more apart."
            )
        if few := [f"{label!r} ({n})" for label, n in counts.items() if n < MIN_PER_CLASS]:
            raise InputError(
                f"{self.name}: a class needs at least {MIN_PER_CLASS} examples, to learn, choose and test on; "
                f"too few of {', '.join(few[:5])}. Leave them out or merge them."
            )

    @property
    def flat(self) -> list[str]:
        """Every label."""
        if self.words is None:
            return [str(label) for label in self.labels]
        return [str(label) for row in self.labels for label in row if label is not None]

    @classmethod
    def of(cls, texts: Sequence[str], labels: Sequence[Any], groups: Sequence[Any] | None = None) -> Labelled:
        """Texts with a label each."""
        return cls(tuple(texts), tuple(map(str, labels)), groups=None if groups is None else tuple(map(str, groups)))

    @classmethod
    def of_words(cls, sentences: Sequence[Sequence[str]], labels: Sequence[Sequence[Any]]) -> Labelled:
        """Sentences as lists of words with a label each; None leaves a word out."""
        words = tuple(tuple(map(str, sentence)) for sentence in sentences)
        named = tuple(tuple(None if label is None else str(label) for label in row) for row in labels)
        return cls(tuple(" ".join(sentence) for sentence in words), named, words)


def read_labelled(
    path: str | Path, *, text: str = "text", label: str = "label", group: str | None = None, limit: int | None = None
) -> Labelled:
    """A .csv or .jsonl file of texts with labels; .jsonl with `words` and `labels` lists; or a .conllu treebank.

    text, label, group: the columns. In a treebank `label` is one of upos (the default), xpos, deprel. Any may be .gz.
    limit: the first so many texts. Raises InputError naming the columns that there are.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {path}.")
    suffix = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]).removesuffix(".gz")
    if suffix not in (".csv", ".tsv", ".jsonl", ".conllu"):
        raise InputError(f"{path.name}: a probe reads .csv, .tsv, .jsonl or .conllu (or one of them .gz).")
    try:
        data = path.read_bytes()
        body = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile) as error:
        raise InputError(f"{path.name} is no UTF-8 text: {error}.") from error
    if not body.strip():
        raise InputError(f"{path.name} is empty.")
    if suffix == ".conllu":
        return _treebank(body, path.name, "upos" if label == "label" else label, limit)
    rows = _records(body, suffix, path.name)[:limit]
    if suffix == ".jsonl" and "words" in rows[0]:
        return _sentences(rows, path.name)
    columns = list(rows[0])
    for what, name in (("text", text), ("label", label), ("group", group)):
        if name is not None and name not in columns:
            raise UnknownName(f"column in {path.name}", name, columns, f"(name it with --{what}-column)")
    bad = [i + 1 for i, row in enumerate(rows) if row.get(text) in (None, "") or row.get(label) in (None, "")]
    if bad:
        raise InputError(f"{path.name}: {len(bad)} rows lack a text or a label (the first is row {bad[0]}).")
    return Labelled(
        tuple(str(row[text]) for row in rows),
        tuple(str(row[label]) for row in rows),
        groups=None if group is None else tuple(str(row.get(group)) for row in rows),
        name=path.name,
    )


def _records(body: str, suffix: str, name: str) -> list[dict[str, Any]]:
    if suffix == ".jsonl":
        rows = []
        for number, line in enumerate(body.splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{name}, line {number} is no JSON: {error}.") from None
            if not isinstance(row, dict):
                raise InputError(f"{name}, line {number} is no JSON object.")
            rows.append(row)
    else:
        rows = list(csv.DictReader(body.splitlines(keepends=True), delimiter="\t" if suffix == ".tsv" else ","))
    if not rows:
        raise InputError(f"{name} has a header and no rows." if suffix != ".jsonl" else f"{name} is empty.")
    return rows


def _sentences(rows: list[dict[str, Any]], name: str) -> Labelled:
    if any(not isinstance(row.get("words"), list) or not isinstance(row.get("labels"), list) for row in rows):
        raise InputError(f"{name}: every row needs the lists `words` and `labels` where one has `words`.")
    words = tuple(tuple(map(str, row["words"])) for row in rows)
    labels = tuple(tuple(None if label is None else str(label) for label in row["labels"]) for row in rows)
    return Labelled(tuple(" ".join(sentence) for sentence in words), labels, words, name=name)


def _treebank(body: str, name: str, label: str, limit: int | None) -> Labelled:
    """CoNLL-U: ten tab-separated columns a word, blank lines between sentences. Rare labels are left out (None)."""
    known = {"upos": 3, "xpos": 4, "deprel": 7}
    if label not in known:
        raise UnknownName("label in a treebank", label, known)
    sentences: list[tuple[str, ...]] = []
    labels: list[tuple[str | None, ...]] = []
    for block in body.split("\n\n")[:limit]:
        cells = [line.split("\t") for line in block.splitlines() if line and not line.startswith("#")]
        rows = [cell for cell in cells if len(cell) == 10 and cell[0].isdigit()]  # no ranges, no empty nodes
        if rows:
            sentences.append(tuple(cell[1] for cell in rows))
            labels.append(
                tuple(cell[known[label]].split(":")[0] if label == "deprel" else cell[known[label]] for cell in rows)
            )
    if not sentences:
        raise InputError(f"{name} holds no sentence in the CoNLL-U format.")
    counts = Counter(item for row in labels for item in row)
    kept = tuple(
        tuple(item if counts[item] >= 4 * MIN_PER_CLASS and item != "_" else None for item in row) for row in labels
    )
    return Labelled(tuple(" ".join(s) for s in sentences), kept, tuple(sentences), name=name)
