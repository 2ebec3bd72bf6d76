"""What a graph explains: the likely next tokens, one token, or one token against another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.frozen import FrozenPath


@dataclass(frozen=True)
class LogitTargets:
    """Logit nodes at one position. A node's value is `vectors . final norm + bias`, linear in the stream."""

    position: int
    tokens: Tensor  # [n]; for a contrast (A, B), the one node carries A
    probabilities: Tensor  # [n], the model's own, after any softcap
    vectors: Tensor  # [n, d], reading the final norm's output
    biases: Tensor  # [n]
    values: Tensor  # [n], the run's own: what the sums must give
    contrast: tuple[int, int] | None = None

    def weights(self) -> Tensor:
        """[n]: how much each node counts in influence. Its probability; 1 for a chosen token or a contrast."""
        return self.probabilities if len(self.tokens) > 1 else torch.ones_like(self.probabilities)


def likely(path: FrozenPath, position: int = -1, mass: float = 0.95, at_most: int = 10) -> LogitTargets:
    """The smallest set of tokens that holds `mass` of the probability, at most `at_most` of them.

    A node is a logit less the mean logit, W_U[t] - mean(W_U): what a softmax can see of it.
    """
    probabilities = _probabilities(path, position)
    top, tokens = probabilities.topk(min(at_most, len(probabilities)))
    enough = int((top.cumsum(0) < mass).sum()) + 1
    return _against_mean(path, position, tokens[:enough], top[:enough])


def token(path: FrozenPath, target: int, position: int = -1) -> LogitTargets:
    """One chosen token's logit less the mean logit."""
    _check_token(path, target)
    chosen = torch.tensor([target], device=path.w_unembed.device)
    return _against_mean(path, position, chosen, _probabilities(path, position)[chosen])


def contrast(path: FrozenPath, a: int, b: int, position: int = -1) -> LogitTargets:
    """The logit of `a` less the logit of `b`, W_U[a] - W_U[b], as one node."""
    _check_token(path, a)
    _check_token(path, b)
    if a == b:
        raise InputError(f"A contrast needs two different tokens; both are {a}.")
    at = _position(path, position)
    chosen = torch.tensor([a], device=path.w_unembed.device)
    bias = path.w_unembed.new_zeros(1) if path.b_unembed is None else (path.b_unembed[a] - path.b_unembed[b])[None]
    value = (path.logits[at, a] - path.logits[at, b])[None]
    vector = (path.w_unembed[a] - path.w_unembed[b])[None]
    return LogitTargets(at, chosen, _probabilities(path, position)[chosen], vector, bias, value, (a, b))


def _against_mean(path: FrozenPath, position: int, tokens: Tensor, probabilities: Tensor) -> LogitTargets:
    at = _position(path, position)
    vectors = path.w_unembed[tokens] - path.w_unembed.mean(0)
    if path.b_unembed is None:
        biases = vectors.new_zeros(len(tokens))
    else:
        biases = path.b_unembed[tokens] - path.b_unembed.mean()
    values = path.logits[at, tokens] - path.logits[at].mean()
    return LogitTargets(at, tokens, probabilities, vectors, biases, values)


def _probabilities(path: FrozenPath, position: int) -> Tensor:
    logits = path.logits[_position(path, position)]
    if path.softcap:
        logits = path.softcap * torch.tanh(logits / path.softcap)
    return logits.softmax(-1)


def _position(path: FrozenPath, position: int) -> int:
    if not -path.n_positions <= position < path.n_positions:
        raise InputError(f"Position {position} is outside the prompt's {path.n_positions} tokens.")
    return position % path.n_positions


def _check_token(path: FrozenPath, target: int) -> None:
    if not 0 <= target < len(path.w_unembed):
        raise InputError(f"Token {target} is outside the vocabulary of {len(path.w_unembed)}.")
