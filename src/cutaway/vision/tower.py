"""A vision tower with what surrounds it: how pictures become pixels, what it says of them, and how texts are read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.core import InputError, read_json
from cutaway.core.progress import without_bars
from cutaway.core.registry import register_family, shipped_models
from cutaway.model import Intervention, Model, Run, load
from cutaway.vision.pictures import check

BATCH = 64
Texts = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True, eq=False)
class Tower:
    """A model that sees. Made by `look`.

    pixels = (picture - mean) / std. `embed` turns a run (with `reads` read) into embeddings [n, d]. `texts` embeds
    captions, [n, d]; None where the model reads none: then `classes` name the entries of its logits.
    """

    model: Model
    side: int
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    embed: Callable[[Run], Tensor] | None = None
    reads: tuple[str, ...] = ()
    texts: Texts | None = None
    scale: float = 1.0
    classes: tuple[str, ...] = ()
    point: str = ""  # where its neurons are looked at, unless said otherwise
    words: tuple[str, ...] = ()  # of its captions, where they are few
    carriers: tuple[str, ...] = ("{}",)  # captions that say a concept

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def answers(self) -> bool:
        """Whether it says by itself what a picture shows: by captions or by classes. Else only a probe can."""
        return self.texts is not None or bool(self.classes)

    def with_model(self, model: Model) -> Tower:
        """The same surroundings for another model of the same shape: its null."""
        return replace(self, model=model)

    def pixels(self, pictures: Tensor) -> Tensor:
        """Pictures [n, 3, side, side] in 0 … 1 as the model takes them. Keeps gradients. Raises InputError."""
        check(pictures)
        if tuple(pictures.shape[-2:]) != (self.side, self.side):
            raise InputError(
                f"{self.name} sees {self.side} x {self.side} pictures; given "
                f"{pictures.shape[-2]} x {pictures.shape[-1]}."
            )
        mean, std = (torch.tensor(v, dtype=pictures.dtype)[:, None, None] for v in (self.mean, self.std))
        return (pictures - mean) / std

    def see(
        self, pictures: Tensor, read: Sequence[str] = (), interventions: Sequence[Intervention] = (), **more: Any
    ) -> Run:
        """One run on pictures, with what the embedding needs read too. `more`: as `Model.run` takes."""
        return self.model.run(self.pixels(pictures), [*dict.fromkeys((*read, *self.reads))], interventions, **more)

    def embedding(self, pictures: Tensor, interventions: Sequence[Intervention] = ()) -> Tensor:
        """[n, d], not of length one. A model without a text side: its logits, or without a head what it puts out, the
        mean over places. Costs one forward a picture."""
        found = []
        for part in torch.split(pictures, BATCH):
            run = self.see(part, interventions=interventions)
            found.append(self.embed(run) if self.embed is not None else _over_places(run.logits))
        return torch.cat(found)

    def scores(self, pictures: Tensor, names: Sequence[str], interventions: Sequence[Intervention] = ()) -> Tensor:
        """How much each picture is each of `names`, as logits [n, name]: by texts (zero-shot), or by its classes.

        Raises InputError for names that it cannot score.
        """
        return self.judge(self.embedding(pictures, interventions), names)

    def judge(self, embedding: Tensor, names: Sequence[str]) -> Tensor:
        """Embeddings [n, d] -> logits [n, name]."""
        if self.texts is not None:
            return self.scale * F.normalize(embedding, dim=-1) @ self.targets(names).T
        unknown = [name for name in names if name not in self.classes]
        if unknown:
            known = ", ".join(self.classes[:12]) or (
                "none known (a CLIP needs a tokenizer, a module of one's own its `classes`, a tower without a head "
                "a probe)"
            )
            raise InputError(f"{self.name} has no class {', '.join(unknown[:4])}; its classes: {known}.")
        return embedding[:, [self.classes.index(name) for name in names]]

    def targets(self, names: Sequence[str]) -> Tensor:
        """A direction of length one for each name: the mean over the tower's carriers, [name, d]."""
        if self.texts is None:
            raise InputError(f"{self.name} reads no texts.")
        each = [F.normalize(self.texts([carrier.format(n) for n in names]), dim=-1) for carrier in self.carriers]
        return F.normalize(torch.stack(each).mean(0), dim=-1)


def look(source: str | Path | nn.Module | Tower, tokenizer: Any = None, side: int | None = None) -> Tower:
    """A tower from a shipped name, a folder or hub id of a vision model, or a module.

    CLIP and SigLIP (and modules laid out like them) come with their text side; its `tokenizer` is the folder's own
    unless given. A classifier's classes are those of its configuration. A module of one's own may carry `image_size`,
    `image_mean`, `image_std`, `classes`. Raises InputError for a model without a vision tower, or whose size of
    picture is not known (give `side`).
    """
    import transformers

    if isinstance(source, Tower):
        return source
    if isinstance(source, Model):
        raise InputError(
            f"look makes a tower of a vision model's name, folder, hub id or module, as cw.look('primer'); given "
            f"{source.name}, a model loaded already, which reads {source.facts.reads}."
        )
    if not isinstance(source, (str, Path, nn.Module)):
        raise InputError(f"look takes a shipped name, a folder or hub id, or a module; given {type(source).__name__}.")
    folder: Path | None = None
    if isinstance(source, nn.Module):
        whole, name = source, type(source).__name__
    else:
        whole, name, folder = _read(source)
    eye = getattr(whole, "vision_model", None)
    if isinstance(eye, nn.Module) and _reads_texts(whole):
        _only_pixels(eye, name)
        return _two_towers(whole, name, folder, tokenizer, side)
    model = load(whole)
    model.name = name
    if (model.facts.reads != "pixels" and model.architecture is not None) or model.facts.vocab_size:
        raise InputError(f"{name} has no vision tower: it reads {model.facts.reads}.")
    found = _surroundings(whole, folder, side, name)
    _only_pixels(whole, name)
    # Hugging Face gives every configuration two labels, LABEL_0 and LABEL_1: they mean something where there is a head.
    headless = isinstance(whole, transformers.PreTrainedModel) and "Classification" not in type(whole).__name__
    labels = {} if headless else getattr(getattr(whole, "config", None), "id2label", None) or {}
    classes = tuple(getattr(whole, "classes", ())) or tuple(str(labels[i]).split(",")[0] for i in sorted(labels))
    return Tower(model, **found, classes=classes, point=_usual_point(model))


def _two_towers(whole: Any, name: str, folder: Path | None, tokenizer: Any, side: int | None) -> Tower:
    model = load(whole, tower="vision")
    whole.eval().requires_grad_(False)
    model.name = name
    found = _surroundings(whole, folder, side, name)
    projection = getattr(whole, "visual_projection", None)
    reads: tuple[str, ...]
    if model.architecture is None and not hasattr(whole.vision_model, "post_layernorm"):
        # A tower of one's own, whose output is the embedding before its projection.
        reads = ()
        embed = lambda run: projection(run.logits) if projection is not None else run.logits  # noqa: E731
    elif getattr(whole.vision_model, "head", None) is not None:  # SigLIP pools by attention
        reads, embed = ("path.head",), lambda run: run["path.head"]
    else:
        reads = ("path.post_layernorm",)
        embed = lambda run: _flat(projection, run["path.post_layernorm"])  # noqa: E731
    scale = getattr(whole, "logit_scale", None)
    words = tuple(getattr(whole.config, "concepts", ()))
    return Tower(
        model,
        **found,
        embed=embed,
        reads=reads,
        texts=_texts(whole, folder, tokenizer),
        scale=float(scale.detach().exp()) if scale is not None else 1.0,
        point="path.neurons" if hasattr(whole.vision_model, "neurons") else _usual_point(model),
        words=words,
        carriers=("{}", "a {}", "a picture of a {}") if words else ("a photo of a {}.", "a picture of a {}."),
    )


def _reads_texts(whole: nn.Module) -> bool:
    return any(hasattr(whole, name) for name in ("text_model", "get_text_features", "text_projection"))


def _only_pixels(tower: nn.Module, name: str) -> None:
    """Raise InputError for a tower that wants more than pictures."""
    wanted = [p.name for p in inspect.signature(tower.forward).parameters.values()
              if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]  # fmt: skip
    if len(wanted) > 1:
        raise InputError(
            f"{name} takes {', '.join(wanted)}; only towers that take pictures of one size can be seen through."
        )


def _over_places(out: Tensor) -> Tensor:
    """[n, d] of [n, d], of a map [n, d, height, width] or of positions [n, position, d]."""
    if out.ndim == 2:
        return out
    return out.mean((2, 3)) if out.ndim == 4 else out.mean(1)


def _flat(projection: Any, pooled: Tensor) -> Tensor:
    out: Tensor = projection(pooled if pooled.ndim == 2 else pooled[:, 0])
    return out


def _texts(whole: Any, folder: Path | None, tokenizer: Any) -> Texts | None:
    own = getattr(whole, "tokenise", None)  # a model that knows its own words
    if own is None:
        if tokenizer is None and folder is not None:
            from transformers import AutoTokenizer

            if any((folder / f).is_file() for f in ("tokenizer.json", "vocab.json", "spiece.model")):
                tokenizer = AutoTokenizer.from_pretrained(str(folder))
        if tokenizer is None:
            return None

    @torch.no_grad()
    def texts(captions: Sequence[str]) -> Tensor:
        if own is not None:
            return _tensor(whole.get_text_features(own(list(captions))))
        kept = {"padding": "max_length"} if "siglip" in str(whole.config.model_type) else {"padding": True}
        ids = tokenizer(list(captions), return_tensors="pt", truncation=True, **kept)
        unread = _unread(tokenizer, ids["input_ids"])
        if unread.any():
            raise InputError(f"its tokenizer has no token for a word of {captions[int(unread.nonzero()[0])]!r}.")
        return _tensor(whole.get_text_features(**{k: v for k, v in ids.items() if k != "token_type_ids"}))

    return texts


def _unread(tokenizer: Any, ids: Tensor) -> Tensor:
    """[n]: whether a caption holds the token for the unknown. (CLIP's own is its end of text, and never needed.)"""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
        return torch.zeros(len(ids), dtype=torch.bool)
    found: Tensor = (ids == unknown).any(1)
    return found


def _tensor(found: Any) -> Tensor:
    out: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return out


def _read(source: str | Path) -> tuple[nn.Module, str, Path | None]:
    """(the module, its name, its folder). A hub id is fetched by transformers, from its cache where that has it."""
    import transformers

    shipped = shipped_models()
    place = str(shipped.get(str(source), source))
    if not Path(place).is_dir() and (place.startswith((".", "/", "~")) or place.count("/") != 1):
        names = ", ".join(n for n, f in shipped.items() if _sees(read_json(f / "config.json")))
        raise InputError(f"no vision model {str(source)!r}: give a shipped name ({names or 'none'}) or a folder.")
    folder = Path(place) if Path(place).is_dir() else None
    if folder is not None:
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} is no model: it lacks config.json.")
        config = read_json(folder / "config.json")
        register_family(str(config.get("model_type", "")))
        if not _sees(config):
            raise InputError(f"{source} has no vision tower: its configuration takes no images.")
        named = next(iter(config.get("architectures") or ()), "")
    else:
        named = ""
    kind = getattr(transformers, named, transformers.AutoModel)
    try:
        with without_bars():
            module: nn.Module = kind.from_pretrained(place, dtype=torch.float32, local_files_only=folder is not None)
    except (OSError, ValueError) as error:
        raise InputError(f"{source} cannot be loaded: {str(error).splitlines()[0]}") from error
    if hasattr(module.config, "mask_ratio"):  # a masked autoencoder hides a random part of each picture: show it all
        module.config.mask_ratio = 0.0
    return module, str(source) if folder is None or str(source) in shipped else folder.resolve().name, folder


def sees(source: str | Path) -> bool:
    """Whether a shipped name or folder is a model that takes pictures, by its configuration."""
    file = Path(shipped_models().get(str(source), Path(str(source)))) / "config.json"
    return file.is_file() and _sees(read_json(file))


def _sees(config: Any) -> bool:
    return any(key in config for key in ("vision_config", "image_size", "num_channels"))


def _surroundings(whole: Any, folder: Path | None, side: int | None, name: str) -> dict[str, Any]:
    """Size and normalisation: of the folder's image processor, the configuration, or the module's own attributes."""
    config = getattr(whole, "config", None)
    known = side or getattr(whole, "image_size", None)
    known = known or getattr(config, "image_size", None) or getattr(getattr(config, "vision_config", None), "image_size", None)  # fmt: skip # noqa: E501
    mean, std = getattr(whole, "image_mean", None), getattr(whole, "image_std", None)
    processor = folder / "preprocessor_config.json" if folder is not None else None
    if processor is not None and processor.is_file():
        settings = read_json(processor)
        mean, std = mean or settings.get("image_mean"), std or settings.get("image_std")
        size = settings.get("crop_size") or settings.get("size") or {}
        known = known or (size if isinstance(size, int) else size.get("height") or size.get("shortest_edge"))
    if isinstance(known, (tuple, list)):
        known = known[0]
    if not known:
        raise InputError(
            f"the size of picture that {name} sees is not known: give side= (--side), or an image_size on it."
        )
    return {"side": int(known), "mean": tuple(mean or (0.0,) * 3), "std": tuple(std or (1.0,) * 3)}


def _usual_point(model: Model) -> str:
    """The neurons of the last block; else the map of the last stage, or of the last convolution."""
    if model.architecture is not None:
        served = [p for p in model.points() if p.startswith("mlp_act.")]
        return served[-1] if served else ""
    parts = dict(model.hf.named_modules())
    for kind in ("layer4", "layer3", "encoder.stages", "stages", "features"):
        found = [n for n in parts if n == kind or n.endswith(f".{kind}")]
        if found:
            return f"path.{found[0]}" if kind.startswith("layer") else f"path.{_last_child(parts, found[0])}"
    neurons = [n for n in parts if n.endswith(("mlp.activation_fn", "mlp.act", "intermediate"))]
    if neurons:
        return f"path.{neurons[-1]}"
    convs = [n for n, m in parts.items() if isinstance(m, nn.Conv2d)]
    return f"path.{convs[-1]}" if convs else ""


def _last_child(parts: dict[str, nn.Module], name: str) -> str:
    children = [n for n, _ in parts[name].named_children()]
    return f"{name}.{children[-1]}" if children else name
