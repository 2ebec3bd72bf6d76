"""What needs no dictionary learning: PCA, ICA, the point's own neurons, random directions, each at a given L0.

    c = read (x - mean)                   [F]
    a = c, where |c| |write| is among the k largest of the token (PCA: its k leading components, always)
    y = mean + write^T a

They satisfy `cutaway.core.protocols.Dictionary`; activations are signed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.features.sparse import Active

_ICA_ROWS = 8192
_APART = 7_919_000_003


@dataclass(frozen=True, eq=False)
class Components:
    """mean [d], read and write [F, d], k: how many are kept a token."""

    name: str
    mean: Tensor
    read: Tensor
    write: Tensor
    k: int

    @property
    def n_features(self) -> int:
        return self.write.shape[0]

    @property
    def W_dec(self) -> Tensor:
        return self.write

    @property
    def written(self) -> Tensor:
        """What one unit of each activation adds, [F, d], as an SAE's."""
        return self.write

    def encode(self, x: Tensor) -> Tensor:
        """[..., d] -> [..., F], zero where not kept."""
        c = (x.to(self.read.dtype) - self.mean) @ self.read.T
        if self.k >= self.n_features:
            return c
        top = (c.abs() * self.write.norm(dim=1)).topk(self.k, dim=-1).indices
        return torch.zeros_like(c).scatter(-1, top, c.gather(-1, top))

    def decode(self, a: Tensor) -> Tensor:
        """[..., F] -> [..., d]."""
        return self.mean + a @ self.write

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Active]:
        """[n, d] -> y_hat [n, d], and which were kept."""
        a = self.encode(x)
        at = (a != 0).nonzero()
        return self.decode(a), Active.of(at[:, 0], at[:, 1], a.shape[0], a.shape[1])


def pca(x: Tensor, k: int, seed: int = 0, *, leading: bool = True) -> Components:
    """Principal components of rows x [n, d]: the k leading ones; or (leading=False) all, the k largest of a token."""
    mean = _mean(x)
    centred = (x - mean).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    kept = vectors[:, -min(k, x.shape[1]) :] if leading else vectors
    rows = kept.flip(1).T.to(x.dtype).contiguous()
    return Components("PCA", mean, rows, rows, min(k, rows.shape[0]))


def ica(x: Tensor, k: int, seed: int = 0) -> Components:
    """All independent components of rows x [n, d] (FastICA on at most 8,192 of them); the k largest of a token."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    mean = _mean(x)
    centred = (x - mean)[:_ICA_ROWS].double()
    rank = int(torch.linalg.matrix_rank(centred.T @ centred, hermitian=True, rtol=1e-7))
    fit = FastICA(n_components=max(1, rank), whiten="unit-variance", max_iter=100, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what it has after 100 rounds is what is judged
        fit.fit(centred.numpy())
    read, write = torch.as_tensor(fit.components_), torch.as_tensor(fit.mixing_.T)
    return Components("ICA", mean, read.to(x.dtype), write.to(x.dtype).contiguous(), min(k, read.shape[0]))


def neurons(x: Tensor, k: int, seed: int = 0) -> Components:
    """The point's own coordinates; the k farthest from their mean."""
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    return Components("raw neurons", _mean(x), eye, eye, min(k, x.shape[1]))


def random_dictionary(x: Tensor, k: int, features: int, seed: int = 0) -> Components:
    """Random unit directions [features, d]; the k that a token lies most along, times one scale fitted to x."""
    mean = _mean(x)
    # Away from the seeds that subjects are drawn with: the same stream would give their very directions.
    generator = torch.Generator().manual_seed(seed + _APART)
    drawn = torch.randn(features, x.shape[1], generator=generator).to(x.dtype)
    unit = torch.nn.functional.normalize(drawn, dim=1)
    bare = Components("random dictionary", mean, unit, unit, min(k, features))
    some = x[:8192]
    written = bare.encode(some) @ unit
    # scale = argmin |x - mean - scale written|^2
    scale = float(((some - mean) * written).sum() / written.square().sum().clamp_min(1e-30))
    return Components(bare.name, mean, unit * scale, unit, bare.k)


def _mean(x: Tensor) -> Tensor:
    if x.ndim != 2 or x.shape[0] < 2:
        raise InputError(f"components are of rows [n, d], at least two; {list(x.shape)} was given.")
    return x.mean(0)


BASELINES: dict[str, Callable[[Tensor, int, int], Components]] = {"PCA": pca, "ICA": ica, "raw neurons": neurons}
