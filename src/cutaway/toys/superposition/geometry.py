"""How features lie in the hidden space. Source: Elhage et al. 2022, "The Geometry of Superposition"."""

from __future__ import annotations

import torch

# Dimensions per feature of the uniform polytopes that features settle in: m' dimensions shared by k features.
ATTRACTORS = {
    "dedicated": 1.0,
    "tetrahedron": 3 / 4,
    "triangle": 2 / 3,
    "digon": 1 / 2,
    "pentagon": 2 / 5,
    "square antiprism": 3 / 8,
    "not represented": 0.0,
}


def dimensions_per_feature(encoder: torch.Tensor) -> torch.Tensor:
    """D* = m / |W|_F^2 of each instance, [instance], for W [instance, m, n]."""
    return encoder.shape[1] / encoder.square().sum(dim=(1, 2))


def dimensionality(encoder: torch.Tensor) -> torch.Tensor:
    """D_i = |W_i|^2 / sum_j (W_i_hat . W_j)^2 of each feature, [instance, n]; 0 where W_i is zero."""
    norm = encoder.norm(dim=1)  # [instance, n]
    unit = encoder / norm.clamp_min(1e-8)[:, None]
    shared = torch.bmm(unit.mT, encoder).square().sum(dim=2)
    return torch.where(norm < 1e-3, torch.zeros_like(norm), norm.square() / shared.clamp_min(1e-12))


def interference(encoder: torch.Tensor) -> torch.Tensor:
    """sum over j != i of (W_i_hat . W_j)^2, [instance, n]: 0 for a feature with a direction of its own."""
    unit = encoder / encoder.norm(dim=1).clamp_min(1e-8)[:, None]
    overlap = torch.bmm(unit.mT, encoder).square()
    return overlap.sum(dim=2) - overlap.diagonal(dim1=1, dim2=2)


def cosines(encoder: torch.Tensor) -> torch.Tensor:
    """W_i_hat . W_j_hat, [instance, n, n]; 0 with a feature that is not represented."""
    unit = encoder / encoder.norm(dim=1, keepdim=True).clamp_min(1e-8)
    return torch.bmm(unit.mT, unit)


def neighbour_angles(encoder: torch.Tensor) -> torch.Tensor:
    """For m = 2: degrees from each feature to the next one round the circle, [instance, n], sorted by direction."""
    angle = torch.rad2deg(torch.atan2(encoder[:, 1], encoder[:, 0])).sort(dim=1).values
    return torch.diff(torch.cat([angle, angle[:, :1] + 360], dim=1), dim=1)


def represented(encoder: torch.Tensor) -> torch.Tensor:
    """Which features have |W_i|^2 > 1/2, [instance, n]."""
    return encoder.square().sum(dim=1) > 0.5
