"""Along one axis: which elements of x each element of y is made of, and by how much.

    y[o] = sum_t weight[t, o] x[index[t, o]]      gx[i] = sum of weight[t, o] gy[o] over the (t, o) with index[t, o] = i

The o-th of O elements of y lies at ``c`` among the L elements of x, with ``s`` = O / L unless another scale is given:

    half_pixel             (o + 1/2) / s - 1/2              asymmetric       o / s
    pytorch_half_pixel     the same, and 0 if O = 1         align_corners    o (L - 1) / (O - 1), and 0 if O = 1
    half_pixel_symmetric   the same as half_pixel, moved so that the middles of x and y coincide where s L is no integer
    tf_half_pixel_for_nn   (o + 1/2) / s                    tf_crop_and_resize    (L - 1) (p + o (q - p) / (O - 1)) for
                                                            the part from p to q, and its middle if O = 1

and s L in place of O in align_corners, if a scale is given.

``nearest`` takes the element at c, rounded by ``floor``, ``ceil``, ``round_prefer_floor`` or ``round_prefer_ceil``;
``linear`` weighs the two around c by ``max(0, 1 - |d|)``, where d is their distance from it; ``cubic`` the four around
it by

    (a + 2) |d|^3 - (a + 3) |d|^2 + 1   for |d| <= 1,        a (|d|^3 - 5 |d|^2 + 8 |d| - 4)   for |d| < 2.

What lies outside counts as the outermost element, or with ``exclude_outside`` not at all, the other weights divided by
their sum. With ``antialias``, where y is smaller, d is counted in elements of y, and weights are divided by their sum.
Coordinates are computed in the dtype of the sums, for ``nearest``, where rounding decides, in float32, as PyTorch does.
Sources: Keys 1981, "Cubic convolution interpolation for digital image processing"; the coordinates: the ONNX operator
Resize.

The gradient is a table too, with the roles of x and y exchanged. There the elements have different numbers of weights,
and those that an element lacks point behind the last one, at a zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from math import ceil
from typing import Any, Literal

import numpy as np

from gpunn.backend import Array, device_of, get_array_module

Kind = Literal["nearest", "linear", "cubic"]
Coordinates = Literal[
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
]  # fmt: skip
Rounding = Literal["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]


@dataclass(frozen=True, eq=False)
class Table:
    """Indices and weights (T, size) of an axis of ``length`` elements; without weights all are 1."""

    length: int
    index: Array
    weight: Array | None

    @property
    def size(self) -> int:
        return int(self.index.shape[1])

    @cached_property
    def is_identity(self) -> bool:
        """Whether y is x."""
        same = self.index.shape == (1, self.length) and np.array_equal(self.index[0], np.arange(self.length))
        return same and self.weight is None

    @cached_property
    def transposed(self) -> Table:
        """The table of the gradient."""
        outputs = np.broadcast_to(np.arange(self.size), self.index.shape)
        pairs, number = np.unique(self.index * self.size + outputs, return_inverse=True)
        element, output = np.divmod(pairs, self.size)
        counts = np.bincount(element, minlength=self.length)
        place = np.arange(len(pairs)) - np.repeat(np.cumsum(counts) - counts, counts)
        index = np.full((max(1, counts.max(initial=0)), self.length), self.size)
        index[place, element] = output
        if self.weight is None:
            return Table(self.size, index, None)
        weight = np.zeros(index.shape, self.weight.dtype)
        weight[place, element] = np.bincount(number.reshape(-1), self.weight.reshape(-1))
        return Table(self.size, index, weight)

    @cached_property
    def _reaches_behind(self) -> bool:
        return bool((self.index == self.length).any())

    @cached_property
    def _on_devices(self) -> dict[str, tuple[Array, Array | None]]:
        """The indices and weights on each device that has used them: a captured step cannot copy them there."""
        return {"cpu": (self.index, self.weight)}

    def _beside(self, xp: Any, x: Array) -> tuple[Array, Array | None]:
        device = device_of(x)
        if device not in self._on_devices:
            weight = None if self.weight is None else xp.asarray(self.weight)
            self._on_devices[device] = xp.asarray(self.index), weight
        return self._on_devices[device]

    def apply(self, x: Array, axis: int) -> Array:
        """y, with ``size`` elements along ``axis``; x has the dtype of the weights."""
        if self.is_identity:
            return x
        xp = get_array_module(x)
        if self._reaches_behind:
            zero = xp.zeros((*x.shape[:axis], 1, *x.shape[axis + 1 :]), x.dtype)
            x = xp.concatenate([x, zero], axis)
        indices, weights = self._beside(xp, x)
        y, ones = None, (1,) * (x.ndim - 1 - axis)
        for number, index in enumerate(indices):
            part = xp.take(x, index, axis)
            if weights is not None:
                part *= weights[number].reshape(-1, *ones)
            if y is None:
                y = part
            else:
                y += part
        return y


@lru_cache(1024)
def table(
    length: int,
    size: int,
    kind: Kind,
    dtype: Any,
    *,
    scale: float | None = None,
    coordinates: Coordinates = "half_pixel",
    rounding: Rounding = "round_prefer_floor",
    a: float = -0.75,
    exclude_outside: bool = False,
    antialias: bool = False,
    part: tuple[float, float] = (0.0, 1.0),
) -> Table:
    """The table from ``length`` elements to ``size``, at least one each; ``dtype`` is that of the sums.

    ``part`` is what tf_crop_and_resize takes of the axis; where that lies outside of it the outermost element counts.

    >>> found = table(2, 4, "linear", np.dtype(np.float64))
    >>> found.index.tolist(), found.weight.tolist()
    ([[0, 0, 0, 1], [1, 1, 1, 1]], [[1.0, 0.75, 0.25, 1.0], [0.0, 0.25, 0.75, 0.0]])
    >>> table(2, 4, "nearest", np.dtype(np.float64)).index.tolist()
    [[0, 0, 1, 1]]
    """
    if size == length and scale is None and coordinates != "tf_crop_and_resize":
        return Table(length, np.arange(length)[None], None)
    step = _step(length, size, dtype if kind != "nearest" else np.dtype(np.float32), scale, coordinates)
    if coordinates == "tf_crop_and_resize":
        center = part_centers(length, size, part, step.dtype)
    else:
        center = _center(length, size, step, scale, coordinates)
    if kind == "nearest":
        return Table(length, np.clip(_ROUND[rounding](center).astype(np.int64), 0, length - 1)[None], None)
    if kind == "linear" and not exclude_outside and not antialias:
        center = np.clip(center, 0, length - 1)
    spread = max(step, dtype.type(1)) if antialias else dtype.type(1)
    reach = ceil({"linear": 1, "cubic": 2}[kind] * spread)
    first = np.minimum(np.floor(center), length - 1)
    taps = np.arange(1 - reach, 1 + reach, dtype=dtype)[:, None]
    weight = _WEIGHT[kind]((taps - (center - first)) / spread, a)
    index = (first + taps).astype(np.int64)
    if exclude_outside:
        weight[(index < 0) | (index >= length)] = 0
    if exclude_outside or antialias:
        weight /= weight.sum(0)
    return Table(length, np.clip(index, 0, length - 1), weight)


def _step(length: int, size: int, dtype: Any, scale: float | None, coordinates: Coordinates) -> Any:
    """The elements of x for each of y."""
    if coordinates != "align_corners":
        return dtype.type(length / size if scale is None else 1.0 / scale)
    count = size if scale is None else scale * length
    return dtype.type((length - 1) / (count - 1) if size > 1 and count != 1 else 0.0)


def part_centers(length: int, size: int, part: tuple[float, float], dtype: Any) -> Array:
    """Where ``size`` elements lie that tf_crop_and_resize takes of the part of an axis.

    >>> part_centers(5, 3, (0.0, 0.5), np.float32).tolist()
    [0.0, 1.0, 2.0]
    """
    first, last = (end * (length - 1) for end in part)
    return np.linspace(first, last, size, dtype=dtype) if size > 1 else np.array([(first + last) / 2], dtype)


def _center(length: int, size: int, step: Any, scale: float | None, coordinates: Coordinates) -> Array:
    """Where the elements of y lie in x."""
    number = np.arange(size, dtype=step.dtype)
    if coordinates in ("asymmetric", "align_corners"):
        return step * number
    if coordinates == "pytorch_half_pixel" and size == 1:
        return np.zeros(1, step.dtype)
    center = step * (number + step.dtype.type(0.5))
    if coordinates == "tf_half_pixel_for_nn":
        return center
    center -= step.dtype.type(0.5)
    if coordinates == "half_pixel_symmetric" and scale is not None:
        center += step.dtype.type(length / 2 * (1 - size / (scale * length)))
    return center


def _triangle(d: Array, a: float) -> Array:
    return np.maximum(0, 1 - abs(d))


def keys(xp: Any, d: Array, a: float) -> Array:
    """The weight of the cubic at the distance ``d``."""
    d = abs(d)
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return xp.where(d <= 1, near, xp.where(d < 2, far, xp.zeros_like(d)))


def keys_slope(xp: Any, d: Array, a: float) -> Array:
    """The slope of :func:`keys` with respect to ``d``, which has a sign."""
    sign, d = xp.sign(d), abs(d)
    near, far = (3 * (a + 2) * d - 2 * (a + 3)) * d, (3 * a * d - 10 * a) * d + 8 * a
    return sign * xp.where(d <= 1, near, xp.where(d < 2, far, xp.zeros_like(d)))


_WEIGHT: dict[str, Callable[[Array, float], Array]] = {"linear": _triangle, "cubic": partial(keys, np)}
_ROUND: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda c: np.ceil(c - c.dtype.type(0.5)),
    "round_prefer_ceil": lambda c: np.floor(c + c.dtype.type(0.5)),
}
