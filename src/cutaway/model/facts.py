"""What a model is, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields


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
