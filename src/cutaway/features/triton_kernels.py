"""The two products of the sparse path as Triton kernels, for CUDA; `sparse.py` takes them where Triton is installed.

    sampled   out[j] = left[token_j] . right[feature_j]                                     a pair a program
    bags      out[i] = sum over j in offsets[i] : offsets[i + 1] of weight_j table[index_j]  a row and a block of
              columns a program, its pairs one after another, so that the sum has one order on every run

Forward and backward of encoding and decoding are these two (sparse.py). Sums are held in float32, or float64.
Never run on a GPU: tested with Triton's interpreter alone, against the CPU path (tests/features/test_triton.py).
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor

BLOCK = 128  # columns at once


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _sampled(left, right, tokens, features, out, width: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr):  # type: ignore[no-untyped-def]
    pair = tl.program_id(0)
    row = left + tl.load(tokens + pair) * width
    column = right + tl.load(features + pair) * width
    lane = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=ACC)
    for start in range(0, width, BLOCK):
        inside = start + lane < width
        x = tl.load(row + start + lane, mask=inside, other=0.0).to(ACC)
        w = tl.load(column + start + lane, mask=inside, other=0.0).to(ACC)
        total += x * w
    tl.store(out + pair, tl.sum(total, axis=0))


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _bags(index, offsets, weights, table, out, width: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = lane < width
    total = tl.zeros((BLOCK,), dtype=ACC)
    j, end = tl.load(offsets + row), tl.load(offsets + row + 1)
    while j < end:
        here = table + tl.load(index + j) * width + lane
        total += tl.load(weights + j).to(ACC) * tl.load(here, mask=inside, other=0.0).to(ACC)
        j += 1
    tl.store(out + row * width + lane, total, mask=inside)


def sampled(left: Tensor, right: Tensor, tokens: Tensor, features: Tensor) -> Tensor:
    """left[token] . right[feature]: [n, m], [F, m], pairs [nnz] -> [nnz]."""
    out = left.new_empty(len(tokens))
    if len(tokens):
        left, right = left.contiguous(), right.contiguous()
        _sampled[(len(tokens),)](left, right, tokens, features, out, left.shape[1], BLOCK=BLOCK, ACC=_wide(left))
    return out


def bags(index: Tensor, offsets: Tensor, weights: Tensor, table: Tensor) -> Tensor:
    """[nnz], [rows + 1], [nnz], [F, m] -> [rows, m]."""
    table = table.contiguous()
    rows, width = offsets.shape[0] - 1, table.shape[1]
    out = table.new_empty(rows, width)
    if rows:
        _bags[(rows, triton.cdiv(width, BLOCK))](
            index, offsets, weights.contiguous(), table, out, width, BLOCK=BLOCK, ACC=_wide(table)
        )
    return out


def _wide(x: Tensor) -> tl.dtype:
    return tl.float64 if x.dtype == torch.float64 else tl.float32
