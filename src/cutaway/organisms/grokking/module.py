"""The network of "Progress measures for grokking via mechanistic interpretability" (Nanda et al. 2023): a + b mod p.

Tokens a, b and "=" (id p); one block of attention and ReLU neurons, no norm, and an unembedding of its own. Only the
last position's logits are read, so the query, the neurons and the logits are computed there alone.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cutaway.core import InputError


class ModularAddition(nn.Module):
    """Token ids [batch, 3] -> logits at the last position [batch, p] for a + b mod p.

    Parameters carry TransformerLens's names; `vocab` is p + 1 inputs and as many (or p) outputs, of which p are read.
    """

    def __init__(
        self, p: int, d_model: int = 128, heads: int = 4, d_mlp: int = 512, outputs: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.p, self.heads, d_head = p, heads, d_model // heads
        outputs = p if outputs is None else outputs
        generator = torch.Generator().manual_seed(seed)

        def drawn(*shape: int, fan_in: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator) * fan_in**-0.5)

        self.W_E = drawn(p + 1, d_model, fan_in=d_model)
        self.W_pos = drawn(3, d_model, fan_in=d_model)
        self.W_Q, self.W_K, self.W_V = (drawn(heads, d_model, d_head, fan_in=d_model) for _ in range(3))
        self.W_O = drawn(heads, d_head, d_model, fan_in=d_model)
        self.b_Q, self.b_K, self.b_V = (nn.Parameter(torch.zeros(heads, d_head)) for _ in range(3))
        self.b_O = nn.Parameter(torch.zeros(d_model))
        self.W_in, self.b_in = drawn(d_model, d_mlp, fan_in=d_model), nn.Parameter(torch.zeros(d_mlp))
        self.W_out, self.b_out = drawn(d_mlp, d_model, fan_in=d_mlp), nn.Parameter(torch.zeros(d_model))
        self.W_U, self.b_U = drawn(d_model, outputs, fan_in=d_model), nn.Parameter(torch.zeros(outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.W_E[tokens] + self.W_pos  # [batch, position, d_model]
        last = x[:, -1]
        q = torch.einsum("bd,hde->bhe", last, self.W_Q) + self.b_Q
        k = torch.einsum("bpd,hde->bphe", x, self.W_K) + self.b_K
        v = torch.einsum("bpd,hde->bphe", x, self.W_V) + self.b_V
        pattern = (torch.einsum("bhe,bphe->bhp", q, k) / q.shape[-1] ** 0.5).softmax(-1)
        z = torch.einsum("bhp,bphe->bhe", pattern, v)
        last = last + torch.einsum("bhe,hed->bd", z, self.W_O) + self.b_O
        last = last + (last @ self.W_in + self.b_in).relu() @ self.W_out + self.b_out
        return (last @ self.W_U + self.b_U)[:, : self.p]

    def pairs(self) -> Tensor:
        """All inputs (a, b, =), a major: [p^2, 3]."""
        a, b = torch.meshgrid(torch.arange(self.p), torch.arange(self.p), indexing="ij")
        return torch.stack([a.flatten(), b.flatten(), torch.full((self.p**2,), self.p)], 1)


def read_modular_addition(path: str | Path) -> ModularAddition:
    """A network from a safetensors file, with our parameter names or TransformerLens's (`blocks.0.attn.W_Q`).

    Raises InputError for a file that is not one.
    """
    from safetensors.torch import load_file

    try:
        found = {name.rsplit(".", 1)[-1]: value.float() for name, value in load_file(str(path)).items()}
        inputs, d_model = found["W_E"].shape
        module = ModularAddition(
            inputs - 1, d_model, found["W_Q"].shape[0], found["W_in"].shape[1], outputs=found["W_U"].shape[1]
        )
        module.load_state_dict(found)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} holds no network of modular addition: {error}") from error
    return module
