"""A dictionary of one point: a sparse autoencoder, or a transcoder from one point to another; trained here or read.

    pre = W_enc (x - c) + b_enc        c = b_dec where `centred`, else 0
    a   = act(pre)                     relu, jumprelu, topk; gated and matching_pursuit below
    y   = W_dec^T a + b_dec  (+ W_skip x)      (of matching pursuit: + c)

gated             a = 1[pre > 0] ReLU(exp(r_mag) W_enc (x - c) + b_mag)
matching_pursuit  r = x - c, then up to k times: f = argmax W_dec,f . r, v = ReLU(W_dec,f . r), a_f += v,
                  r -= v W_dec,f; a token stops where a step adds no feature (`stop_on_duplicate`) or |r| <
                  residual_threshold
norms             "before": pre times |W_dec| enters act; "after": act(pre) times |W_dec|; decoding divides by it again;
                  "gate": act(pre |W_dec|) / |W_dec|
input_norm        "sphere": x sqrt(d) / |x|, "layer_norm": (x - mean) / (std + 1e-5), a token; y is scaled back
input_scale       what x is divided by; output_scale what y is multiplied by

What the file formats of others say is kept as they say it (no arithmetic on reading), so that writing gives the same
tensors; `plain` gives the same dictionary without flags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.features.activations import Inference, above, activate
from cutaway.features.sparse import Active, decode
from cutaway.features.transcoders import ModelFacts

Norms = Literal["before", "after", "gate"] | None
InputNorm = Literal["sphere", "layer_norm"] | None
TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold", "r_mag", "b_mag", "W_skip")
FLAGS = (
    "k",
    "centred",
    "norms",
    "input_norm",
    "input_scale",
    "output_scale",
    "residual_threshold",
    "stop_on_duplicate",
    "heads",
)


@dataclass(frozen=True, eq=False)
class SAE:
    """Satisfies `cutaway.core.protocols.Dictionary`. Immutable; `to` gives another.

    W_enc [F, d_in], b_enc [F], W_dec [F, d_out], b_dec [d_out], threshold, r_mag, b_mag [F], W_skip [d_out, d_in], in
    the precision that they are stored in; half precision is computed with in float32.
    point: what it reads, an address (`resid_post.2`), empty where it is not known; output_point: what it reconstructs,
    if that is another. heads: of an attention point (z), whose [..., heads, d_head] is then taken and given.
    Raises `InputError` where shapes disagree or weights are not finite.
    """

    rule: Inference
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor | None = None
    r_mag: Tensor | None = None
    b_mag: Tensor | None = None
    W_skip: Tensor | None = None
    k: int | None = None
    centred: bool = False
    norms: Norms = None
    input_norm: InputNorm = None
    input_scale: float = 1.0
    output_scale: float = 1.0
    residual_threshold: float = 0.0
    stop_on_duplicate: bool = False
    heads: int | None = None
    point: str = ""
    output_point: str | None = None
    model: ModelFacts = field(default_factory=ModelFacts)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self) -> None:
        _check(self)

    @property
    def kind(self) -> str:
        return "sae"

    @property
    def n_features(self) -> int:
        return self.W_dec.shape[0]

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    @property
    def writes_to(self) -> str:
        """The point that it reconstructs."""
        return self.output_point or self.point

    def tensors(self) -> dict[str, Tensor]:
        """What is stored: of matching pursuit the decoder alone, which is its encoder too."""
        names = ("W_dec", "b_dec") if self.rule == "matching_pursuit" else TENSORS
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @cached_property
    def working(self) -> SAE:
        """The weights in the precision that is computed with."""
        half = self.W_dec.dtype in (torch.float16, torch.bfloat16)
        return self.to(dtype=torch.float32) if half else self

    @cached_property
    def decoder_norms(self) -> Tensor:
        norms: Tensor = self.working.W_dec.norm(dim=1)
        return norms

    @cached_property
    def written(self) -> Tensor:
        """[F, d_out]: what one unit of each feature's activation adds to the point, where its input is not normalised;
        where it is, `gain` of the input times that."""
        d = self.working.W_dec.float()
        written: Tensor = (
            d / self.decoder_norms[:, None].clamp_min(1e-30) if self._lengthened else d
        ) * self.output_scale
        return written

    def gain(self, x: Tensor) -> Tensor:
        """[..., d_in] -> [..., 1]: by what a reconstruction is multiplied to undo what normalised its input; else 1."""
        _, _, scale = self._enter(x)
        return torch.ones_like(x[..., :1]) if scale is None or self.output_point is not None else scale

    # ------------------------------------------------------------------------------------------------------ passes

    def encode(self, x: Tensor) -> Tensor:
        """[..., d_in] (or [..., heads, d_head]) -> [..., F], zero where inactive."""
        held = self.working
        x, _, _ = self._enter(x)
        if self.rule == "matching_pursuit":
            return held._pursued(x)
        if held.centred:
            x = x - held.b_dec
        pre = torch.nn.functional.linear(x, held.W_enc, held.b_enc)
        if self.norms in ("before", "gate"):
            pre = pre * self.decoder_norms
        if self.rule == "gated":
            assert held.r_mag is not None
            assert held.b_mag is not None
            size = torch.nn.functional.linear(x, held.W_enc * held.r_mag.exp()[:, None], held.b_mag).relu()
            a = size * (pre > 0)
        else:
            a = activate(pre, self.rule, held.threshold, self.k)
            if self.rule == "jumprelu":
                a = a.relu()  # a threshold below zero lets no negative value through
        if self.norms == "gate":
            return a / self.decoder_norms.clamp_min(1e-30)
        return a * self.decoder_norms if self.norms == "after" else a

    def decode(self, a: Tensor, x: Tensor | None = None) -> Tensor:
        """[..., F] -> [..., d_out] (or [..., heads, d_head]). x: what `a` was encoded from, which a skip connection
        and a normalised input need."""
        held = self.working
        return self._leave((self._scaled(a.to(held.W_dec.dtype)) @ held.W_dec) + held._written_bias, x)

    @property
    def _written_bias(self) -> Tensor:
        pursued_bare = self.rule == "matching_pursuit" and not self.centred
        return torch.zeros_like(self.b_dec) if pursued_bare else self.b_dec

    def sparse(self, x: Tensor) -> tuple[Active, Tensor]:
        """[n, d_in] -> the active (token, feature) pairs, and the activations there [nnz]."""
        a = self.encode(x)
        active = above(a, 0.0)
        return active, a[active.tokens, active.features]

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> tuple[Tensor, Active]:
        """[n, d_in] -> y_hat [n, d_out] and what was active; decoding touches active pairs alone."""
        active, values = self.sparse(x)
        held = self.working
        if self._lengthened:
            values = values / self.decoder_norms[active.features]
        return self._leave(decode(values, held.W_dec, active) + held._written_bias, x, flat=True), active

    def _scaled(self, a: Tensor) -> Tensor:
        return a / self.decoder_norms.clamp_min(1e-30) if self._lengthened else a

    @property
    def _lengthened(self) -> bool:
        """Whether activations carry their decoder's length, so that decoding divides by it."""
        return self.norms in ("before", "after")

    def _enter(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """x flat and normalised, with the shift and scale [..., 1] that were taken out."""
        if self.heads and x.shape[-2:] == (self.heads, self.d_in // self.heads) and x.ndim > 2:
            x = x.flatten(-2)
        if x.shape[-1] != self.d_in:
            raise InputError(
                f"this dictionary{f' of {self.point}' if self.point else ''} reads {self.d_in} numbers a token; "
                f"{list(x.shape)} were given."
            )
        x = x.to(self.working.W_dec.dtype) / self.input_scale
        if self.input_norm == "sphere":
            scale = x.norm(dim=-1, keepdim=True) / self.d_in**0.5
            return x / scale, None, scale
        if self.input_norm == "layer_norm":
            shift = x.mean(-1, keepdim=True)
            scale = (x - shift).std(-1, keepdim=True)
            return (x - shift) / (scale + 1e-5), shift, scale
        return x, None, None

    def _leave(self, y: Tensor, x: Tensor | None, flat: bool = False) -> Tensor:
        held = self.working
        if (held.W_skip is not None or self.input_norm) and x is None:
            why = "skip connection" if held.W_skip is not None else "normalised input"
            raise InputError(f"a dictionary with a {why} decodes with what it read: decode(a, x).")
        if x is not None and (held.W_skip is not None or self.input_norm):
            entered, shift, scale = self._enter(x)
            if held.W_skip is not None:
                y = y + entered @ held.W_skip.T
            if scale is not None and self.output_point is None:
                y = y * scale if shift is None else y * scale + shift
        y = y * self.output_scale
        if self.heads and not flat and self.output_point is None:
            return y.view(*y.shape[:-1], self.heads, y.shape[-1] // self.heads)
        return y

    def _pursued(self, x: Tensor) -> Tensor:
        r = (x - self.b_dec if self.centred else x).reshape(-1, self.d_in)
        a = r.new_zeros(r.shape[0], self.n_features)
        row = torch.arange(r.shape[0], device=r.device)
        going = torch.ones(r.shape[0], dtype=torch.bool, device=r.device)
        for _ in range(self.k or self.d_in):
            best = (r @ self.W_dec.T).argmax(1)
            taken = self.W_dec[best]
            value = (r * taken).sum(-1).relu() * going
            new = (a[row, best] == 0) & (value > 0)
            a[row, best] += value
            r = r - value[:, None] * taken
            if self.stop_on_duplicate:
                going = going & new
            if self.residual_threshold > 0:
                going = going & (r.norm(dim=-1) >= self.residual_threshold)
            if not bool(going.any()):
                break
        return a.view(*x.shape[:-1], -1)

    # ----------------------------------------------------------------------------------------------------- changes

    def plain(self) -> SAE:
        """The same function without flags: b_dec folded into b_enc, decoder norms into both, a gate into a threshold.

        Raises `InputError` for a normalised input, which no weights can hold, and for matching pursuit.
        """
        if self.input_norm or self.rule == "matching_pursuit":
            raise InputError(f"{self.input_norm or self.rule} cannot be folded into weights.")
        held = self.working
        W_enc, b_enc, W_dec, threshold = held.W_enc, held.b_enc, held.W_dec, held.threshold
        shift = W_enc @ held.b_dec if held.centred else torch.zeros_like(b_enc)
        if self.rule == "gated":
            assert held.r_mag is not None
            assert held.b_mag is not None
            size = held.r_mag.exp()
            # pre > 0  <=>  size W_enc x + b_mag > b_mag - size b_gate
            threshold = (held.b_mag - size * b_enc).clamp_min(0)
            W_enc, b_enc, shift = W_enc * size[:, None], held.b_mag, shift * size
        b_enc = b_enc - shift
        if self.norms is not None:
            norm = self.decoder_norms
            W_enc, b_enc, W_dec = W_enc * norm[:, None], b_enc * norm, W_dec / norm.clamp_min(1e-30)[:, None]
            if threshold is not None and self.norms == "after":
                threshold = threshold * norm
            if self.rule == "topk" and self.norms == "after":
                raise InputError(
                    "TopK chosen before its decoder norms are multiplied in cannot be folded into weights."
                )
        rule: Inference = "jumprelu" if self.rule == "gated" else self.rule
        W_skip = None if held.W_skip is None else held.W_skip * self.output_scale / self.input_scale
        return replace(
            held, rule=rule, W_enc=W_enc / self.input_scale, b_enc=b_enc, W_dec=W_dec * self.output_scale,
            b_dec=held.b_dec * self.output_scale, threshold=threshold, r_mag=None, b_mag=None, W_skip=W_skip,
            centred=False, norms=None, input_scale=1.0, output_scale=1.0, extra={},
        )  # fmt: skip

    @property
    def scaled(self) -> bool:
        return (self.input_scale, self.output_scale) != (1.0, 1.0)

    def centred_form(self) -> SAE:
        """The same function with b_dec taken from the input: b_enc + W_enc b_dec. For formats that always do so."""
        if self.centred:
            return self
        held = self.working
        return replace(held, centred=True, b_enc=held.b_enc + held.W_enc @ held.b_dec, extra={})

    def unit(self) -> SAE:
        """With decoder rows of length 1; activations are then multiplied by the old lengths, reconstructions the same.
        Raises `InputError` for TopK, which compares activations."""
        if self.rule in ("topk", "matching_pursuit") or self.norms is not None:
            raise InputError(f"the scales of {self.rule} features belong to it.")
        held, norm = self.working, self.decoder_norms.clamp_min(1e-30)
        threshold = None if held.threshold is None else held.threshold * norm
        b_mag = None if held.b_mag is None else held.b_mag * norm
        return replace(
            held, W_enc=held.W_enc * norm[:, None], b_enc=held.b_enc * norm, W_dec=held.W_dec / norm[:, None],
            threshold=threshold, b_mag=b_mag, extra={},
        )  # fmt: skip

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> SAE:
        """The same dictionary in another precision or place."""
        return self.map(lambda t: t.to(device=device, dtype=dtype))

    def map(self, change: Callable[[Tensor], Tensor]) -> SAE:
        return self.from_tensors({name: change(value) for name, value in self.tensors().items()}, replacing=self)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], replacing: SAE | None = None, **fields: Any) -> SAE:
        """From what `tensors` gives, and the other fields (or those of `replacing`)."""
        held: dict[str, Any] = dict(tensors)
        if (replacing.rule if replacing else fields.get("rule")) == "matching_pursuit":
            W_dec = held["W_dec"]
            held |= {"W_enc": W_dec, "b_enc": W_dec.new_zeros(W_dec.shape[:1])}
        return replace(replacing, **held) if replacing else cls(**held, **fields)

    def with_(self, **changes: Any) -> SAE:
        return replace(self, **changes)

    def save(self, folder: str | Path) -> None:
        """Write in our format (docs/dictionaries.md), in the precision that the weights have."""
        from cutaway.features.formats import save

        save(self, folder)

    def __str__(self) -> str:
        names = {"jumprelu": "JumpReLU", "relu": "ReLU", "topk": f"TopK {self.k}", "gated": "Gated"}
        act = names.get(self.rule, f"matching pursuit, {self.k or self.d_in} steps")
        what = f"transcoder {self.point} -> {self.output_point}" if self.output_point else f"SAE at {self.point or '?'}"
        of = f" of {self.model.name}" if self.model.name else ""
        width = f"d {self.d_in}" if self.d_in == self.d_out else f"d {self.d_in} -> {self.d_out}"
        return f"{what}{of}: {self.n_features} features, {width}, {act}"

    __repr__ = __str__


def _check(sae: SAE) -> None:
    if sae.W_enc.ndim != 2 or sae.W_dec.ndim != 2:
        raise InputError(
            f"W_enc is [F, d_in] and W_dec [F, d_out]; {list(sae.W_enc.shape)} and {list(sae.W_dec.shape)} were given."
        )
    (features, d_in), d_out = sae.W_enc.shape, sae.W_dec.shape[1]
    shapes = {
        "b_enc": (features,), "W_dec": (features, d_out), "b_dec": (d_out,), "threshold": (features,),
        "r_mag": (features,), "b_mag": (features,), "W_skip": (d_out, d_in),
    }  # fmt: skip
    for name, value in sae.tensors().items():
        if tuple(value.shape) != shapes.get(name, (features, d_in)):
            raise InputError(f"{name} should be {list(shapes[name])} and is {list(value.shape)}.")
        if not torch.isfinite(value).all():
            raise InputError(f"{name} holds NaN or infinite values.")
    for rule, names in {"jumprelu": ("threshold",), "gated": ("r_mag", "b_mag")}.items():
        for name in names:
            if (getattr(sae, name) is not None) != (sae.rule == rule):
                raise InputError(f"{name} belongs to {rule}, and this dictionary's rule is {sae.rule}.")
    if sae.rule == "topk" and not sae.k:
        raise InputError("a TopK dictionary needs k, and none is given.")
    if (sae.centred or sae.rule == "matching_pursuit") and d_in != d_out:
        raise InputError(f"b_dec [{d_out}] cannot be taken from inputs of {d_in}.")
    if sae.heads and d_in % sae.heads:
        raise InputError(f"{d_in} numbers do not divide into {sae.heads} heads.")
