"""RAVEL (Huang et al. 2024): entities, their attributes, and prompts that ask for one attribute.

A folder, or its archive, holds for each kind of entity (city, nobel_prize_winner, occupation, physical_object, verb):
`ravel_KIND_entity_attributes.json` {entity: {attribute: value}}, `ravel_KIND_attribute_to_prompts.json` {attribute:
[prompt with %s]}, and which split each entity and prompt belongs to.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.tasks.reading import reader
from cutaway.tasks.recall import Fact, recall
from cutaway.tasks.task import Task

FILES = ("entity_attributes", "attribute_to_prompts", "entity_to_split", "prompt_to_split")
SPLITS = ("train", "val", "test", "any")


def from_ravel(
    model: Any,
    path: str | Path,
    entity: str,
    attribute: str,
    *,
    split: str = "test",
    prompts: int = 4,
    n: int | None = 64,
    seed: int = 0,
    first_token: bool = False,
    metric: str | Callable[..., Tensor] | None = None,
) -> Task:
    """A task that asks for one attribute of entities: ("city", "Country"), ("verb", "Past Tense"), ….

    path: the folder of RAVEL's files, or their archive (data.tgz). split: of entities and prompts alike: train, val,
    test or any. prompts: how many of the attribute's prompts to draw. n: items, None for all that can be paired.
    Each item's counterfactual asks the same of another entity of as many tokens. Raises UnknownName, InputError.
    """
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    files = read_files(Path(path), entity)
    attributes, asked = files["entity_attributes"], files["attribute_to_prompts"]
    if attribute not in asked:
        raise UnknownName(f"attribute of {entity}", attribute, asked)

    def in_split(table: str, key: str) -> bool:
        return split == "any" or files[table].get(key) == split

    frames = [p for p in asked[attribute] if p.count("%s") == 1 and in_split("prompt_to_split", p)]
    if not frames:
        raise InputError(f"{entity} has no prompt for {attribute} in the split {split!r}.")
    rng = np.random.default_rng(np.random.SeedSequence([20272, seed]))
    chosen = [frames[int(i)] for i in sorted(rng.choice(len(frames), min(prompts, len(frames)), replace=False))]
    facts = [
        Fact(frame.replace("{}", "{ }").replace("%s", "{}"), name, str(values[attribute]), attribute)
        for frame in chosen
        for name, values in attributes.items()
        if values.get(attribute) and in_split("entity_to_split", name)
    ]
    if not facts:
        raise InputError(f"no {entity} has the attribute {attribute} in the split {split!r}.")
    return recall(
        facts, reader(model), n=n, seed=seed, name=f"ravel {entity} {attribute}", first_token=first_token,
        metric=metric, about=f"the {attribute} of a {entity.replace('_', ' ')}", split=split,
    )  # fmt: skip


def read_files(path: Path, entity: str) -> dict[str, Any]:
    names = {key: f"ravel_{entity}_{key}.json" for key in FILES}
    if path.is_dir():
        texts = {file.name: file.read_text(encoding="utf-8") for file in path.rglob("ravel_*.json")
                 if file.name in names.values()}  # fmt: skip
        there = {file.name for file in path.rglob("ravel_*.json")}
    elif path.is_file() and tarfile.is_tarfile(path):
        texts, there = {}, set()
        with tarfile.open(path) as archive:
            for member in archive:  # read in place: nothing is unpacked onto the disk
                base = Path(member.name).name
                there.add(base)
                if base in names.values() and (file := archive.extractfile(member)) is not None:
                    texts[base] = file.read().decode("utf-8")
    else:
        raise InputError(f"{path} is neither a folder with RAVEL's files nor their archive.")
    if missing := [name for name in names.values() if name not in texts]:
        ending = f"_{FILES[0]}.json"
        kinds = sorted(n.removeprefix("ravel_").removesuffix(ending) for n in there if n.endswith(ending))
        if entity not in kinds:
            raise UnknownName("kind of entity", entity, kinds)
        raise InputError(f"{path} lacks {', '.join(missing)}.")
    return {key: json.loads(texts[name]) for key, name in names.items()}
