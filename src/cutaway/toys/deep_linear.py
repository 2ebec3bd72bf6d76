"""Deep linear networks: their learning coefficient is known exactly at every kind of point.

L(w) = 1/2 |W_L … W_1 - W*|^2 (Frobenius), the population loss of y = W* x + noise with whitened inputs. What the
coefficient is depends on the point: at the balanced, most singular one it is Aoyagi's; at a generic point of the same
fibre half the rank of the Jacobian of the product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from cutaway.core import InputError

Point = Literal["balanced", "generic"]


class DeepLinear(nn.Module):
    """x [batch, n_in] -> W_L … W_1 x [batch, n_out]. `weights[l]` is [dims[l + 1], dims[l]], in float64."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(w.double()) for w in weights])

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = x @ weight.T
        return x

    def product(self) -> Tensor:
        """W_L … W_1 [n_out, n_in]."""
        return self.forward(torch.eye(self.weights[0].shape[1], dtype=torch.float64)).T.detach()

    def data(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of which this network is a minimum, with L as above when the loss is squared error / 2."""
        n_in = self.weights[0].shape[1]
        x = math.sqrt(n_in) * torch.eye(n_in, dtype=torch.float64)
        return x, x @ self.product().T


def deep_linear(dims: Sequence[int], rank: int, point: Point = "generic", seed: int = 0) -> DeepLinear:
    """A network of those widths whose product has that rank, at a point of the fibre over its own product.

    balanced: every W_l = diag(1 … 1, 0 … 0) with `rank` ones. generic: all but the last W_l drawn with full rank, the
    last with `rank`. Raises InputError for a rank that does not fit.
    """
    if len(dims) < 3 or not 0 <= rank <= min(dims):
        raise InputError(f"at least three widths and a rank of at most the least are needed: {list(dims)}, {rank}.")
    if point == "balanced":
        return DeepLinear([torch.eye(rows, cols) * (torch.arange(cols) < rank) for cols, rows in pairwise(dims)])
    generator = torch.Generator().manual_seed(seed)

    def orthogonal(rows: int, cols: int) -> Tensor:
        # Singular values of 1: a generic point whose curvatures lie within reach of one another
        drawn = torch.randn(max(rows, cols), min(rows, cols), generator=generator, dtype=torch.float64)
        q: Tensor = torch.linalg.qr(drawn).Q
        return q if rows >= cols else q.T

    weights = [orthogonal(rows, cols) for cols, rows in pairwise(dims)]
    weights[-1] = orthogonal(dims[-1], rank) @ orthogonal(rank, dims[-2])
    return DeepLinear(weights)


def aoyagi(dims: Sequence[int], rank: int) -> tuple[float, int]:
    """(lambda, multiplicity) of a deep linear network at its most singular point (Aoyagi 2024, "Consideration on the
    learning efficiency of multiple-layered neural networks with linear units").

    With M_i = dims[i] - rank, take the set of the least M_i with, for l = |set| - 1 and S their sum, S >= l max and
    max < every other M_i, and S < l times every other; M = ceil(S / l), a = S - (M - 1) l.
    """
    m_all = sorted(d - rank for d in dims)
    base = (-(rank**2) + rank * (dims[0] + dims[-1])) / 2
    for size in range(2, len(m_all) + 1):
        chosen, rest = m_all[:size], m_all[size:]
        length, total = size - 1, sum(chosen)
        if total < length * chosen[-1] or (rest and not (chosen[-1] < rest[0] and total < length * rest[0])):
            continue
        ceiling = -(-total // length)
        a = total - (ceiling - 1) * length
        pairs = sum(x * y for x, y in combinations(chosen, 2))
        value = base + a * (length - a) / (4 * length) - length * (length - 1) / 4 * (total / length) ** 2 + pairs / 2
        return value, a * (length - a) + 1
    raise InputError(f"no subset of the widths {list(dims)} satisfies the conditions at rank {rank}.")


def jacobian_rank(module: DeepLinear, rtol: float = 1e-5) -> int:
    """The rank of d product / d weights at the network's weights."""
    from torch.func import functional_call, jacrev

    parameters = {name: value.detach() for name, value in module.named_parameters()}
    eye = torch.eye(module.weights[0].shape[1], dtype=torch.float64)
    found = jacrev(lambda p: functional_call(module, p, (eye,)))(parameters)
    matrix = torch.cat([part.reshape(eye.shape[0] * module.weights[-1].shape[0], -1) for part in found.values()], 1)
    return int(torch.linalg.matrix_rank(matrix, rtol=rtol))


def zero_map_llc(n_in: int, hidden: int, n_out: int, n_beta: float, localisation: float, points: int = 400) -> float:
    """What an LLC estimate is at the zero of a two-layer network, by quadrature: dims n_in-hidden-n_out, hidden <= 2.

    Given W_1 with singular values s, the Gaussian integral over W_2 is exact; the density of s is that of a matrix of
    independent normals (variance 1 / gamma), so that one or two dimensions are left:

        p(s) ~ prod s_i^|n_in - h| prod_{i<j} |s_i^2 - s_j^2| exp(-gamma s_i^2 / 2) (n beta s_i^2 + gamma)^(-n_out / 2)
        lambda_hat = E[ n_out / 2 sum_i n beta s_i^2 / (n beta s_i^2 + gamma) ]
    """
    if hidden > 2 or n_in < hidden:
        raise InputError(f"quadrature takes hidden <= 2 and n_in >= hidden; {n_in}-{hidden}-{n_out} was given.")
    g, t = localisation, n_beta
    u = torch.linspace(math.log(1e-6 / math.sqrt(t)), math.log(12 / math.sqrt(g)), points, dtype=torch.float64)
    s = u.exp()
    one = (n_in - hidden + 1) * u - g * s**2 / 2 - n_out / 2 * (t * s**2 + g).log()  # + 1: ds = s du
    value = n_out / 2 * t * s**2 / (t * s**2 + g)
    if hidden == 1:
        return float((one.softmax(0) * value).sum())
    gap = (s[:, None] ** 2 - s[None] ** 2).abs().clamp(min=1e-300).log()
    log_p = one[:, None] + one[None] + gap
    p = log_p.flatten().softmax(0).reshape(points, points)
    return float((p * (value[:, None] + value[None])).sum())
