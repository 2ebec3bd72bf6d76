"""What an alignment gives: IIA with its parts and intervals, the evidence, the items that fail; saved and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutaway.abstraction.featurizers import Coordinates, DictionaryFeatures, Featurizer, Subspace, Whole
from cutaway.abstraction.nonlinear import Nonlinear
from cutaway.abstraction.places import Place
from cutaway.abstraction.score import Attribute, Score
from cutaway.core import Estimate, Evidence, InputError, atomic_path, read_json, write_json, write_text
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns

if TYPE_CHECKING:
    from cutaway.abstraction.causal_model import CausalModel
    from cutaway.abstraction.items import Settings
    from cutaway.model import Model

SCHEMA = "cutaway.alignment/1"
DORMANT = 0.1  # of the average direction's activity


@dataclass(frozen=True, eq=False, repr=False)
class Alignment(Drawn):
    """Made by `align`. Prints as a table; `iia`, `cause`, `isolate` are on held-out items.

    featurizers: [seed][variable]. score.hits [seed, item]; loss [seed, item], -log P(what the causal model says).
    competence: how often the network is right before anything is exchanged. rate: how often an exchange changes the
    answer in pairs drawn at random. evidence: that of the alignment, then of the parts of its subspaces.
    attributes: RAVEL's measures of each variable, where there are several. failures: items that fail, worst first.
    how_run: why the network was run whole, or "".
    """

    model: str
    fingerprint: str
    causal: dict[str, Any]
    svg: str
    places: Mapping[str, Place]
    featurizers: tuple[tuple[Featurizer, ...], ...]
    settings: Settings
    seeds: tuple[int, ...]
    competence: Estimate
    rate: float
    held_out: str
    score: Score
    loss: Tensor
    evidence: tuple[Evidence, ...]
    divergence: Estimate
    attributes: tuple[Attribute, ...]
    failures: list[dict[str, Any]]
    how_run: str = ""

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(self.places)

    @property
    def iia(self) -> Estimate:
        return self.score.iia

    @property
    def cause(self) -> Estimate:
        return self.score.cause

    @property
    def isolate(self) -> Estimate:
        return self.score.isolate

    def basis(self, variable: str, seed: int | None = None) -> Tensor | None:
        """[k, width] orthonormal directions of a variable (of the first seed); None where it is not linear."""
        if variable not in self.places:
            raise InputError(f"{variable} is not aligned here; there are: {', '.join(self.places)}.")
        number = 0 if seed is None else self.seeds.index(seed)
        featurizer = self.featurizers[number][self.variables.index(variable)]
        return featurizer.rows(featurizer.width) if isinstance(featurizer, (Whole, Coordinates)) else featurizer.rows(0)

    def check(self, model: Model, causal_model: CausalModel) -> Score:
        """Measure again, on the same held-out items drawn anew (or on another model): the same IIA for the same model.
        Costs two forwards of the items, and one from the changed place on."""
        from cutaway.abstraction.data import Data
        from cutaway.abstraction.items import drawn, split
        from cutaway.abstraction.measure import Cell, measure

        pairs, first = drawn(causal_model, self.variables, self.settings, ())
        data = Data(model, causal_model, self.variables, pairs, [place.at for place in self.places.values()])
        _, test = split(data, first, self.settings.only_right)
        spots = tuple(data.spot(place, slot) for slot, place in enumerate(self.places.values()))
        cells = [Cell(spots, data.wanted, seed) for seed in self.seeds]
        hits = measure(data, cells, self.featurizers, test).hits
        return Score(hits, data.changes[test])

    # ---- out

    def to_json(self) -> dict[str, Any]:
        """A JSON object: everything but the featurizers' tensors (`save` writes those)."""
        score = self.score
        return {
            "schema": SCHEMA,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "causal_model": self.causal,
            "svg": self.svg,
            "variables": [
                {
                    "name": v,
                    "place": place.to_json(),
                    "size": [row[slot].size for row in self.featurizers],
                }
                for slot, (v, place) in enumerate(self.places.items())
            ],
            "n": int(score.hits.shape[1]),
            "seeds": list(self.seeds),
            "iia": _plain(self.iia),
            "iia_by_seed": score.seeds,
            "cause": _plain(self.cause),
            "isolate": _plain(self.isolate),
            "disentangle": _number(score.disentangle),
            "attributes": [one.to_json() for one in self.attributes],
            "competence": _plain(self.competence),
            "changes_at_random": self.rate,
            "held_out": self.held_out,
            "divergence": _plain(self.divergence),
            "evidence": [e.to_json() for e in self.evidence],
            "failures": self.failures,
            "settings": asdict(self.settings),
            "how_run": self.how_run,
        }

    def save(self, folder: str | Path) -> None:
        """Write alignment.json, alignment.safetensors (each seed's and variable's featurizer, hits, losses) and
        causal-model.svg. A dictionary is not written, only which of its features were chosen."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {
            "hits": self.score.hits.to(torch.uint8), "changes": self.score.changes.to(torch.uint8), "loss": self.loss,
        }  # fmt: skip
        kinds: list[list[dict[str, Any]]] = []
        for seed, row in zip(self.seeds, self.featurizers):
            kinds.append([])
            for v, featurizer in zip(self.variables, row):
                more = {"width": featurizer.width} if isinstance(featurizer, (Whole, Coordinates)) else {}
                origin = {"origin": featurizer.origin} if isinstance(featurizer, Subspace) else {}
                kinds[-1].append({"kind": featurizer.kind, **more, **origin})
                for name, x in featurizer.tensors().items():
                    tensors[f"{seed}/{v}/{name}"] = x.contiguous()
        with atomic_path(folder / "alignment.safetensors") as path:
            save_file(tensors, path)
        write_json(folder / "alignment.json", {**self.to_json(), "featurizers": kinds})
        write_text(folder / "causal-model.svg", self.svg)

    @classmethod
    def load(cls, folder: str | Path, dictionary: Any = None) -> Alignment:
        """What `save` wrote. `dictionary`: for alignments with a dictionary's features. Raises InputError."""
        from cutaway.abstraction.items import Settings
        from cutaway.abstraction.train import Training

        folder = Path(folder)
        if not (folder / "alignment.json").is_file():
            raise InputError(f"{folder} holds no alignment (no alignment.json).")
        data = read_json(folder / "alignment.json")
        if data.get("schema") != SCHEMA:
            raise InputError(f"{folder} has schema {data.get('schema')!r}; this version reads {SCHEMA!r}.")
        tensors = load_file(folder / "alignment.safetensors")
        places = {}
        for row in data["variables"]:
            said = row["place"]
            positions = tuple(said["positions"]) if isinstance(said["positions"], list) else said["positions"]
            head = None if said["head"] is None else tuple(said["head"])
            places[row["name"]] = Place(said["at"], positions, said["how"], said["dims"], head)
        featurizers = tuple(
            tuple(_read(kind, tensors, f"{seed}/{v}", dictionary) for v, kind in zip(places, kinds))
            for seed, kinds in zip(data["seeds"], data["featurizers"])
        )
        held = data["settings"]
        settings = Settings(**{**held, "seeds": tuple(held["seeds"]), "training": Training(**held["training"])})
        return cls(
            model=data["model"], fingerprint=data["fingerprint"], causal=data["causal_model"], svg=data["svg"],
            places=places, featurizers=featurizers, settings=settings, seeds=tuple(data["seeds"]),
            competence=_estimate(data["competence"]), rate=data["changes_at_random"], held_out=data["held_out"],
            score=Score(tensors["hits"].bool(), tensors["changes"].bool()), loss=tensors["loss"],
            evidence=tuple(Evidence.from_json(e) for e in data["evidence"]),
            divergence=_estimate(data["divergence"]),
            attributes=tuple(
                Attribute(a["name"], _estimate(a["cause"]), _estimate(a["isolate"])) for a in data.get("attributes", ())
            ),
            failures=data["failures"], how_run=data["how_run"],
        )  # fmt: skip

    def __str__(self) -> str:
        main = self.evidence[0]
        lines = [f"Does {self.model} run this: {self.causal['name']}?"]
        for slot, (v, place) in enumerate(self.places.items()):
            sizes = sorted({row[slot].size for row in self.featurizers})
            many = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}"
            lines.append(f"  {v} at {place.where}: {_what(place, many)}")
        lines.append(
            f"  items: {self.score.hits.shape[1]} held out ({self.held_out} unseen in training), half change the "
            f"answer; the network is right on {self.competence.value:.1%}"
        )
        rows: list[tuple[str, ...]] = [("IIA on held-out items", "", "interval", "n", "")]
        rows.append(_row("this alignment", self.iia, self.iia.note))
        rows.append(_row("  where the answer changes (cause)", self.cause))
        rows.append(_row("  where it does not (isolate)", self.isolate))
        for part in self.attributes:
            rows.append(_row(f"  {part.name} alone: cause", part.cause, f"disentangle {part.disentangle:.3f}"))
            rows.append(_row(f"  {part.name} alone: isolate", part.isolate))
        rows += [_row(f"null: {c.estimate.name}", c.estimate, _apart(c.difference)) for c in main.nulls]
        rows += [_row(f"baseline: {c.estimate.name}", c.estimate, _apart(c.difference)) for c in main.baselines]
        for cut in self.evidence[1:]:
            outside = max(cut.settings["outside"])
            rows.append(_row(f"{cut.settings['part']} alone", cut.effect, _dormant(cut, outside)))
        lines += columns(rows, right=(1, 3))
        if math.isfinite(self.divergence.value):
            lines.append(
                f"  divergence from vectors the network makes itself: AUROC {self.divergence} "
                "(0.5: cannot be told apart)"
            )
        lines += [f"  not done: {item.what} ({item.why})" for item in main.not_done]
        lines.append(f"  verdict: {main.verdict_text}")
        if self.failures:
            one = self.failures[0]
            source = "; ".join(f"{v} from {text!r}" for v, text in one["sources"].items())
            lines.append(
                f"  {len(self.failures)} failing items kept, first: {one['base']!r}, {source}: said {one['said']}, "
                f"expected {one['expected']}"
            )
        return "\n".join(lines)

    __repr__ = __str__


def _what(place: Place, size: str) -> str:
    return {
        "rotation": f"{size} learned dimensions",
        "boundless": f"{size} dimensions, their number learned",
        "nonlinear": f"{size} features of a learned nonlinear map",
        "pca": f"{size} principal components",
        "given": f"a given subspace of {size}",
        "whole": "the whole vector",
        "neurons": f"{size} coordinates{', learned' if place.learned else ''}",
        "dictionary": f"{size} dictionary features{', learned' if place.learned else ''}",
    }[place.how]


def _dormant(part: Evidence, outside: float) -> str:
    whole = part.baselines[0]
    lost = whole.difference is not None and whole.difference.high < 0
    why = "works where the network does not vary by itself" if "natural" in part.settings["part"] else "not all is read"
    if "read" in part.settings["part"] and min(part.settings["activity"]) < DORMANT:
        why = "dormant pathway"
    return f"{f'less than the whole: {why}' if lost else 'as the whole'}; {outside:.0%} of the exchange lies outside"


def _row(name: str, estimate: Estimate, note: str = "") -> tuple[str, ...]:
    value = f"{estimate.value:.3f}" if math.isfinite(estimate.value) else "undefined"
    span = estimate.interval
    return name, value, "" if span is None else f"[{span.low:.3f}, {span.high:.3f}]", str(estimate.n), note


def _apart(difference: Any) -> str:
    if difference is None or not math.isfinite(difference.low):
        return ""
    return f"this - that [{difference.low:+.3f}, {difference.high:+.3f}]"


def _read(kind: dict[str, Any], tensors: Mapping[str, Tensor], name: str, dictionary: Any) -> Featurizer:
    if kind["kind"] == "whole":
        return Whole(kind["width"])
    if kind["kind"] == "subspace":
        return Subspace(tensors[f"{name}/basis"], kind["origin"])
    if kind["kind"] == "nonlinear":
        return Nonlinear.read({key[len(name) + 1 :]: x for key, x in tensors.items() if key.startswith(f"{name}/")})
    chosen = tuple(tensors[f"{name}/chosen"].tolist())
    if kind["kind"] == "coordinates":
        return Coordinates(chosen, kind["width"])
    if dictionary is None:
        raise InputError(
            "this alignment is of a dictionary's features: load it with dictionary=, the one it was made with."
        )
    return DictionaryFeatures(chosen, dictionary)


def _estimate(value: dict[str, Any]) -> Estimate:
    value = {k: math.nan if k == "value" and v is None else v for k, v in value.items()}
    if value.get("interval"):
        value["interval"] = {
            k: math.nan if v is None and k in ("low", "high") else v for k, v in value["interval"].items()
        }
    return Estimate.model_validate(value)


def _plain(estimate: Estimate) -> dict[str, Any]:
    found: dict[str, Any] = estimate.model_dump(mode="json")
    return found


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
