"""Descriptions on disk: two Parquet files and a JSON, searched with DuckDB by text, by similarity, by effect.

FOLDER/features.parquet   a row a feature: the columns of describe.py
FOLDER/examples.parquet   a row an example: feature, band, tokens, activations, place
FOLDER/about.json         {schema: "cutaway.descriptions/1", model, dictionary, point, …, files {name: SHA-256}}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutaway.core import InputError, UnknownName, atomic_folder, read_json, write_json
from cutaway.core.drawing import Drawn
from cutaway.core.files import content_hash
from cutaway.core.table import columns
from cutaway.features.describe import Described

SCHEMA = "cutaway.descriptions/1"
ORDERS = {
    "effect": "effect desc nulls last",
    "frequency": "frequency desc",
    "context": "(pair_auroc - token_auroc) desc nulls last",
    "stable": "seed_cosine desc nulls last",
    "feature": "feature",
}
_SHOWN = "feature, label, frequency, maximum, token_auroc, pair_auroc, span, effect, effect_random, seed_cosine"


def save_descriptions(described: Described, folder: str | Path) -> Path:
    """Write the folder whole, or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_folder(Path(folder), ("features.parquet",)) as path:
        schema_free = {name: _typed(pa, name, values) for name, values in described.features.items()}
        pq.write_table(pa.table(schema_free), path / "features.parquet", compression="zstd")
        names = ("feature", "band", "tokens", "activations", "place")
        table = pa.table({name: [one[name] for one in described.examples] for name in names})
        pq.write_table(table, path / "examples.parquet", compression="zstd")
        files = {name: content_hash(path / name) for name in ("features.parquet", "examples.parquet")}
        write_json(path / "about.json", {"schema": SCHEMA, **described.about, "files": files})
    return Path(folder)


def _typed(pa: Any, name: str, values: list[Any]) -> Any:
    """Columns that may be empty or all None keep their type."""
    types = {
        "decoder": pa.list_(pa.float32()), "children": pa.list_(pa.int64()), "rule_tokens": pa.list_(pa.string()),
        "rule_p": pa.list_(pa.float64()), "parent": pa.int64(), "seed_partner": pa.int64(), "span": pa.int64(),
        "neuron": pa.int64(), "neuron_point": pa.string(), "logit_histogram": pa.list_(pa.int64()),
        "logit_edges": pa.list_(pa.float64()),
    }  # fmt: skip
    logit = pa.list_(pa.struct([("token", pa.string()), ("value", pa.float64())]))
    types |= dict.fromkeys(("top_logits", "bottom_logits", "lost", "clamp_raised"), logit)
    floats = ("effect", "effect_random", "clamp_effect", "seed_cosine", "seed_by_chance", "parent_cosine",
              "neuron_correlation", "token_auroc", "pair_auroc", "token_entropy")  # fmt: skip
    types |= dict.fromkeys(floats, pa.float64())
    return pa.array(values, type=types.get(name))


def load_descriptions(folder: str | Path) -> Described:
    """What `save_descriptions` wrote. Raises `InputError` where a file is missing, altered or cut short."""
    import pyarrow.parquet as pq

    folder = Path(folder)
    about = _about(folder)
    features = pq.read_table(folder / "features.parquet").to_pydict()
    examples = pq.read_table(folder / "examples.parquet").to_pylist()
    return Described(features, examples, {k: v for k, v in about.items() if k not in ("schema", "files")})


def _about(folder: Path) -> dict[str, Any]:
    path = folder / "about.json"
    if not path.is_file():
        raise InputError(
            f"{folder} holds no descriptions; make them with: cutaway dictionary describe DIR --out {folder}"
        )
    about: dict[str, Any] = read_json(path)
    if about.get("schema") != SCHEMA:
        raise InputError(f"{path} is of schema {about.get('schema')!r}, not {SCHEMA}.")
    for name, digest in about["files"].items():
        if not (folder / name).is_file() or content_hash(folder / name) != digest:
            raise InputError(f"{folder / name} is missing, altered or cut short: its hash is not {digest[:16]}….")
    return about


@dataclass(frozen=True)
class Found(Drawn):
    """Features that a search found, best first."""

    folder: str
    asked: str
    rows: tuple[dict[str, Any], ...]
    total: int

    def to_json(self) -> dict[str, Any]:
        return {"schema": "cutaway.feature_search/1", "folder": self.folder, "asked": self.asked, "total": self.total,
                "rows": list(self.rows)}  # fmt: skip

    def __str__(self) -> str:
        if not self.rows:
            return f"no feature of {self.folder} {self.asked}"
        extra = "similarity" in self.rows[0]
        table = [
            ["feature", "of tokens", "token", "+ before", "effect", "random", *(["cosine"] if extra else []), "label"]
        ]
        for r in self.rows:
            gain = None if r["token_auroc"] is None or r["pair_auroc"] is None else r["pair_auroc"] - r["token_auroc"]
            table.append([
                str(r["feature"]), f"{r['frequency']:.2%}", _show(r["token_auroc"], ".3f"), _show(gain, "+.3f"),
                _show(r["effect"], ".3f"), _show(r["effect_random"], ".3f"),
                *([f"{r['similarity']:.3f}"] if extra else []), r["label"][:90],
            ])  # fmt: skip
        return "\n".join(
            [
                f"{len(self.rows)} of {self.total} features that {self.asked}",
                *columns(table, right=range(len(table[0]) - 1)),
                "  token: held-out AUROC of telling from the token alone where it fires; + before: what the token "
                "before adds;",
                "  effect: KL, nats, of taking it out where it is strongest; random: of a random direction as long",
            ]
        )

    __repr__ = __str__


def search_features(
    folder: str | Path, text: str | None = None, *, like: int | None = None, by: str = "effect", alive: bool = True,
    limit: int = 20,
) -> Found:  # fmt: skip
    """Features whose label, rule, logits or examples hold `text` (any case), or that lie close to feature `like`.

    by: effect, frequency, context, stable, feature; with `like` the nearest come first. Raises UnknownName, InputError.
    """
    import duckdb

    if by not in ORDERS:
        raise UnknownName("order of a search", by, ORDERS)
    folder = Path(folder)
    about = _about(folder)
    if like is not None and not 0 <= like < int(about["n_features"]):
        raise InputError(f"no feature {like}; there are {about['n_features']}, from 0.")
    where, asked = ["fired > 0"] if alive else ["true"], []
    if text:
        held = [
            "label ilike $text", "list_aggregate(rule_tokens, 'string_agg', ' ') ilike $text",
            "array_to_string([x.token for x in top_logits], ' ') ilike $text",
            "feature in (select feature from examples where array_to_string(tokens, '') ilike $text)",
        ]  # fmt: skip
        where.append(f"({' or '.join(held)})")
        asked.append(f"hold “{text}”")
    near = ""
    if like is not None:
        near = ", list_cosine_similarity(decoder, (select decoder from features where feature = $like)) as similarity"
        where.append("feature != $like")
        asked.append(f"lie close to feature {like}")
    given: dict[str, Any] = {}
    if text:
        escaped = text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
        given["text"] = f"%{escaped}%"
        where = [w.replace("ilike $text", "ilike $text escape '\\'") for w in where]
    if like is not None:
        given["like"] = like
    with duckdb.connect() as connection:
        for name in ("features", "examples"):
            connection.from_parquet(str(folder / f"{name}.parquet")).create_view(name)
        rule = " and ".join(where)
        order = "similarity desc" if near else ORDERS[by]
        what = f"{_SHOWN}{near}, count(*) over () as total"
        query = f"select {what} from features where {rule} order by {order} limit {int(limit)}"
        cursor = connection.execute(query, given) if given else connection.execute(query)
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, one)) for one in cursor.fetchall()]
    total = int(rows[0]["total"]) if rows else 0
    for one in rows:
        one.pop("total")
    return Found(str(folder), " and ".join(asked) or "fire", tuple(rows), total)


def _show(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)
