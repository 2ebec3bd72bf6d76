"""ReLU neurons that compute a map, a sequence map or a sum. All are off at BOS, so what they write is zero there.

    map of a categorical x          one neuron for each value:    ReLU(x_v)
    sequence map                    one for each pair of values:  ReLU(x_v + y_w - 1)
    map of a numerical x            a step between neighbours u < v, at their middle t, of slope s = 2 / (v - u):
                                    ReLU(s (x - t) + 1/2) - ReLU(s (x - t) - 1/2)
    a x + b y of numerical x, y     ReLU(x), ReLU(-x), ReLU(y), ReLU(-y)

A step is level within a quarter of the gap around every value, so that attention that is not quite sharp still gives
exact results. Where neighbours have one image there is no step.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from cutaway.toys.rasp.craft import Array, Residual
from cutaway.toys.rasp.interpreter import applied
from cutaway.toys.rasp.language import Linear, Map, SequenceMap, Value


@dataclass(frozen=True)
class Neurons:
    """n neurons: W_out ReLU(W_in x + b_in)."""

    into: Array  # W_in [n, width]
    bias: Array  # b_in [n]
    out: Array  # W_out [width, n]

    def __len__(self) -> int:
        return len(self.bias)


def map_neurons(sop: Map, name: str, of: str, r: Residual) -> Neurons:
    """The neurons that write the map `name` of the variable `of`."""
    if r.subspaces[of].numerical:
        return _steps(sop, name, of, r)
    space = r.subspaces[of]
    images = [_encoded(r, name, _image(sop, (value,))) for value in space.values]
    return _written(r, name, r.reader(of, np.eye(space.size)), np.zeros(space.size), images)


def sequence_map_neurons(sop: SequenceMap, name: str, first: str, second: str, r: Residual) -> Neurons:
    """The neurons that write the sequence map `name` of the variables `first` and `second`."""
    one, two = r.subspaces[first], r.subspaces[second]
    both = r.reader(first, np.repeat(np.eye(one.size), two.size, axis=0))
    both += r.reader(second, np.tile(np.eye(two.size), (one.size, 1)))
    images = [_encoded(r, name, _image(sop, (v, w))) for v in one.values for w in two.values]
    return _written(r, name, both, np.full(len(both), -1.0), images)


def linear_neurons(sop: Linear, name: str, first: str, second: str, r: Residual) -> Neurons:
    """The neurons that write a x + b y into `name`."""
    signs = np.array([[1.0], [-1.0]])
    into = np.concatenate([r.reader(first, signs), r.reader(second, signs)])
    a, b = float(sop.a), float(sop.b)
    return Neurons(into, np.zeros(4), r.writer(name, np.array([[a, -a, b, -b]])))


def _steps(sop: Map, name: str, of: str, r: Residual) -> Neurons:
    values = [Fraction(value) for value in r.subspaces[of].values]
    images = [_encoded(r, name, _image(sop, (value,))) for value in r.subspaces[of].values]
    # Everywhere but at BOS the image of the least value, then what each step adds.
    into, bias, out = [r.bos_reader(-1.0)], [1.0], [images[0]]
    for u, v, before, after in zip(values, values[1:], images, images[1:], strict=False):
        if (before == after).all():
            continue
        slope, middle = 2 / (v - u), (u + v) / 2
        for half, sign in ((Fraction(1, 2), 1.0), (Fraction(-1, 2), -1.0)):
            row = r.reader(of, np.array([[float(slope)]]))
            shift = float(half - slope * middle)
            row[0, 0] -= abs(shift) + float(slope * (values[-1] - values[0]))  # off at BOS
            into.append(row)
            bias.append(shift)
            out.append(sign * (after - before))
    return _written(r, name, np.concatenate(into), np.array(bias), out)


def _image(sop: Map | SequenceMap, arguments: tuple[Value, ...]) -> Value:
    """f of values that may never meet: None where it cannot be computed."""
    try:
        return applied(sop, arguments)
    except (ArithmeticError, TypeError, LookupError):
        return None


def _encoded(r: Residual, name: str, value: Value) -> Array:
    return r.subspaces[name].encode(value)


def _written(r: Residual, name: str, into: Array, bias: Array, images: list[Array]) -> Neurons:
    """Neurons that each write their image; those whose image is zero are left out."""
    matrix = np.stack(images, axis=1) if images else np.zeros((r.subspaces[name].size, 0))  # [size, n]
    keep = matrix.any(axis=0)
    return Neurons(into[keep], bias[keep], r.writer(name, matrix[:, keep]))
