"""What to train and how: frozen, JSON, recorded with the result. A changed setting refuses to resume."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cutaway.core import InputError
from cutaway.features.activations import Rule

Kind = Literal["plt", "clt"]


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
    """One dictionary: transcoders for every MLP of a model.

    features, l0      per layer; l0 is the mean number of active features a token
    activation        batchtopk (saved as jumprelu with one threshold a layer), topk, jumprelu, relu
    skip              adds W_skip x to the output of each layer (Paulo et al. 2025)
    floor             a token's squared error is divided by |y - mean|^2 + floor x its median over tokens: 0 counts
                      every token alike; infinity is the plain squared error, where a few huge tokens are all that
                      counts
    lr                peak rate of Adam; by default 0.15 / sqrt(d), a fixed share of an encoder row's entries a step
    l0_start          the l0 at the first step, brought down over `l0_anneal` of the steps, so that features find their
                      place before they compete (fewer die); by default three times l0
    aux               weight of the AuxK loss: features dead for `dead_after` tokens model the error that is left
    pre_activation    weight of ReLU(theta - h) |W_dec| on dead features (Anthropic's CLT recipe)
    sparsity          jumprelu: weight of (L0 / l0 - 1)^2; relu: weight of the L1 norm of a |W_dec|
    finetune          tokens, after the others, trained through the replacement model (finetune.py), at `finetune_lr`
                      times the rate, falling to zero; kl, own: weights of its terms
    """

    name: str = Field(default="clt", pattern=r"^[A-Za-z0-9._-]+$")
    kind: Kind = "clt"
    features: int = Field(default=2048, ge=1)
    l0: int = Field(default=16, ge=1)
    activation: Rule = "batchtopk"
    skip: bool = False
    floor: float = Field(default=0.1, ge=0)
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
    seed: int = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.l0 > self.features:
            raise ValueError(f"l0 {self.l0} is more than the {self.features} features of a layer")
        return self


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

    @property
    def steps(self) -> int:
        return -(-self.tokens // self.batch)
