"""What a model is, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import nn


@dataclass(frozen=True)
class Facts:
    """Counts and switches of an architecture. A count that does not apply, or differs between layers, is 0.

    `family` is Hugging Face's `model_type`. `max_positions` is None where nothing bounds a prompt (ALiBi).
    """

    family: str
    architecture: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    vocab_size: int
    max_positions: int | None
    parallel: bool  # attention and MLP both read resid_pre
    sandwich: bool  # sublayer outputs are normed before they join the residual
    gated: bool  # the MLP multiplies two branches
    experts: int  # 0: dense
    tied: bool  # unembedding = embedding
    attention_softcap: float | None
    logit_softcap: float | None
    logit_scale: float  # what the family multiplies lm_head's output by
    residual_scales: tuple[float, float]  # attention's and the MLP's output are multiplied by these before they join
    n_parameters: int
    dtype: str
    causal: bool = True  # a position attends to none after it
    positions: str = "learned"  # how positions come in: "rotary", "alibi", "relative" (T5's bias) or "learned"
    post_norm: bool = False  # the stream is normed after each sublayer's output has joined it (BERT)
    reads: str = "tokens"  # what a run takes: "tokens", "pixels", or "source and tokens" (an encoder-decoder)

    def __str__(self) -> str:
        return "\n".join(f"{field.name:18} {getattr(self, field.name)}" for field in fields(self))


def bare_facts(hf: nn.Module) -> Facts:
    """Of a module of no known family: its size and dtype."""
    parameters = list(hf.parameters())
    return Facts(
        family="", architecture=type(hf).__name__, n_layers=0, d_model=0, n_heads=0, n_kv_heads=0, d_head=0, d_mlp=0,
        vocab_size=0, max_positions=None, parallel=False, sandwich=False, gated=False, experts=0, tied=False,
        attention_softcap=None, logit_softcap=None, logit_scale=1.0, residual_scales=(1.0, 1.0),
        n_parameters=sum(p.numel() for p in parameters),
        dtype=str(parameters[0].dtype).removeprefix("torch.") if parameters else "",
    )  # fmt: skip
