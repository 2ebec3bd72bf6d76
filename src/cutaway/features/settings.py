"""What to train and how: frozen, JSON, recorded with the result. A changed setting refuses to resume."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cutaway.core import InputError

Kind = Literal["plt", "clt"]
Rule = Literal["relu", "gated", "topk", "batchtopk", "jumprelu", "matryoshka", "p_anneal", "matching_pursuit"]


def _unless(default: Any, **limits: Any) -> Any:
    """A setting of few architectures: written down only where it is not as usual."""
    return Field(default=default, exclude_if=lambda value: value == default, **limits)


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, value: dict[str, Any]) -> Self:
        """From JSON. Raises `InputError` that names the setting."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, e['loc'])) or cls.__name__}: {e['msg']}" for e in error.errors())
            raise InputError(f"these are no {cls.__name__}: {told}.") from error

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class DictionarySettings(_Settings):
    """One dictionary: transcoders for every MLP of a model (plt, clt), or one at a point (sae).

    kind              plt, clt; sae: reads the point `at` (resid_post.2, mlp_act.0, z.1 with its heads in a row, …) and
                      reconstructs it, or writes to the point `to` (a transcoder of one place)
    features, l0      per layer; l0 is the mean number of active features a token
    activation        one of `features.architectures`: batchtopk and matryoshka (saved as jumprelu with one threshold a
                      layer), topk, jumprelu, relu, p_anneal, gated (saved as the jumprelu that it equals),
                      matching_pursuit (sae alone)
    skip              adds W_skip x to the output of each layer (Paulo et al. 2025)
    floor             a token's squared error is divided by |y - mean|^2 + floor x its median over tokens: 0 counts
                      every token alike; None is the plain squared error |y - y_hat|^2 / d, where a few huge tokens are
                      all that counts
    lr                peak rate of Adam; by default 0.15 / sqrt(d), a fixed share of an encoder row's entries a step
    l0_start          the l0 at the first step, brought down over `l0_anneal` of the steps, so that features find their
                      place before they compete (fewer die); by default three times l0
    aux               weight of the AuxK loss: features dead for `dead_after` tokens model the error that is left
    pre_activation    weight of ReLU(theta - h) |W_dec| on dead features (Anthropic's CLT recipe)
    sparsity          weight of the penalty: jumprelu's; relu, gated, p_anneal: of the norm of a |W_dec|
    penalty           jumprelu: quadratic (L0 / l0 - 1)^2, l0 (L0 / l0), or tanh (of tanh_scale a |W_dec|)
    sparsity_warmup   share of the steps over which the weight rises from zero (relu, gated, p_anneal)
    adapt             moves that weight towards the L0 aimed at (architectures/base.py); at the end the levels at which
                      features fire make up what it has left, so that l0 is what comes out
    groups            matryoshka: shares of the features that must reconstruct alone; all of them always do
    p_end, p_steps    p_anneal: the last exponent, and in how many stages it is reached
    decoder           free, or unit: rows kept at length 1, their gradient's part along them removed
    tied              decoders begin as the encoders' rows; by default for sae, where both live in one space
    normalise         median or rms: mean removed, one scale a layer; none: as they are. Folded away at the end
    frozen            encoder or decoder stays as it was drawn: the nulls of arXiv 2602.14111
    resample          every so many tokens, features that did not fire since start anew at tokens that are badly
                      reconstructed (Bricken et al. 2023)
    finetune          tokens, after the others, trained through the replacement model (finetune.py), at `finetune_lr`
                      times the rate, falling to zero; kl, own: weights of its terms
    """

    name: str = Field(default="clt", pattern=r"^[A-Za-z0-9._-]+$")
    kind: Literal["plt", "clt", "sae"] = "clt"
    at: str | None = _unless(None)
    to: str | None = _unless(None)
    features: int = Field(default=2048, ge=1)
    l0: int = Field(default=16, ge=1)
    activation: Rule = "batchtopk"
    skip: bool = False
    floor: float | None = Field(default=0.1, ge=0)
    l0_start: int | None = None
    l0_anneal: float = Field(default=0.25, ge=0, le=1)
    lr: float | None = Field(default=None, gt=0)
    aux: float = Field(default=1 / 32, ge=0)
    aux_k: int = Field(default=32, ge=1)
    dead_after: int = Field(default=100_000, ge=1)
    pre_activation: float = Field(default=0.0, ge=0)
    sparsity: float = Field(default=1.0, ge=0)
    bandwidth: float = Field(default=0.5, gt=0)
    finetune: int = Field(default=0, ge=0)
    finetune_lr: float = Field(default=0.02, gt=0)
    kl: float = Field(default=2.0, ge=0)
    own: float = Field(default=0.0, ge=0)
    penalty: Literal["quadratic", "l0", "tanh"] = _unless("quadratic")
    tanh_scale: float = _unless(4.0, gt=0)
    sparsity_warmup: float = _unless(0.0, ge=0, le=1)
    adapt: float = _unless(0.0, ge=0, le=1)
    groups: tuple[float, ...] = _unless((1 / 16, 1 / 8, 1 / 4, 1 / 2))
    p_end: float = _unless(0.2, gt=0, le=1)
    p_steps: int = _unless(10, ge=1)
    decoder: Literal["free", "unit"] = _unless("free")
    tied: bool | None = _unless(None)
    normalise: Literal["median", "rms", "none"] = _unless("median")
    frozen: Literal["encoder", "decoder"] | None = _unless(None)
    resample: int | None = _unless(None, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.l0 > self.features:
            raise ValueError(f"l0 {self.l0} is more than the {self.features} features of a layer")
        if (self.kind == "sae") != (self.at is not None):
            raise ValueError(
                f"a point (at) belongs to kind sae, and to no other; {self.kind} with at={self.at} was given"
            )
        if self.to is not None and self.kind != "sae":
            raise ValueError("a point to write to (to) belongs to kind sae")
        if self.activation == "matching_pursuit" and (self.kind != "sae" or self.to is not None or self.skip):
            raise ValueError("matching pursuit reconstructs what it reads: kind sae alone, without `to` or skip")
        if self.activation == "matching_pursuit" and self.frozen == "encoder":
            raise ValueError("matching pursuit has no encoder to freeze")
        if self.finetune and self.kind == "sae":
            raise ValueError("finetune goes through the replacement model, which replaces MLPs: kinds plt and clt")
        if any(not 0 < share <= 1 for share in self.groups):
            raise ValueError(f"groups are shares of the features, over 0 and up to 1; {self.groups} were given")
        return self

    @property
    def begins_tied(self) -> bool:
        return self.kind == "sae" and self.to is None if self.tied is None else self.tied


class TrainSettings(_Settings):
    """One training run: dictionaries that share a stream of activations.

    tokens            to train on, over as many epochs of the rows as that takes
    batch             tokens a step
    block             tokens harvested at once, shuffled together, then spent
    warmup, decay     shares of the steps: the rate rises over the first, falls to zero over the last
    first_position    whether position 0 of each row (usually <bos>, whose activations are huge and always the same) is
                      trained on; figures never count it
    bf16              candidates are found in bf16 (values are always computed in full precision); None: where it pays
    """

    dictionaries: tuple[DictionarySettings, ...] = (DictionarySettings(),)
    tokens: int = Field(default=4_000_000, ge=1)
    batch: int = Field(default=2048, ge=1)
    block: int = Field(default=65_536, ge=1)
    warmup: float = Field(default=0.02, ge=0, le=1)
    decay: float = Field(default=0.5, ge=0, le=1)
    first_position: bool = True
    bf16: bool | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [d.name for d in self.dictionaries]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"dictionaries need one name each; {names} were given")
        return self

    def check_rows(self, n: int) -> None:
        """Raises `InputError` where there are fewer tokens than features: each would learn a token by heart."""
        for one in self.dictionaries:
            if n < one.features:
                raise InputError(
                    f"{one.name}: {n:,} different tokens are fewer than the {one.features:,} features that should be "
                    "learned from them; give more text, or ask for fewer features."
                )

    @property
    def steps(self) -> int:
        return -(-self.tokens // self.batch)
