"""Panels that several figures share. Nothing global is set; each takes the axes to draw on."""

from __future__ import annotations

from typing import Any

import numpy as np


def gram(ax: Any, values: Any, title: str) -> None:
    """W^T W as a picture: which features are there (diagonal) and which interfere (beside it)."""
    image = ax.imshow(np.array(values), cmap="RdBu", vmin=-1, vmax=1)
    ax.set(title=title, xticks=[], yticks=[], xlabel="feature")
    ax.title.set_fontsize(8)
    ax.figure.colorbar(image, ax=ax, shrink=0.7, ticks=[-1, 0, 1])


def norms(ax: Any, length: Any, shared: Any, title: str) -> None:
    """|W_i| as bars, coloured by how much of the direction is shared with others (0 alone, 1 shared)."""
    from matplotlib import colormaps

    order = np.arange(len(length))
    ax.barh(order, length, color=colormaps["viridis"](np.clip(shared, 0, 1)), height=0.9)
    ax.set(title=f"{title}\nbright: shares its direction", xlabel="|W_i|", ylabel="feature", xlim=(0, 1.4))
    ax.title.set_fontsize(7)
    ax.invert_yaxis()
