"""The fully connected layer, Flatten before it, and Unflatten after it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.errors import ShapeError, check, check_sizes
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module, Parameter


class Linear(Module):
    """``y = x W^T + b``, from (..., in_features) to (..., out_features).

    Parameters: ``weight`` (out_features, in_features), ``bias`` (out_features,).

    >>> import numpy as np
    >>> Linear(4, 3)(np.zeros((2, 4), np.float32)).shape
    (2, 3)
    """

    _places = (("bias", Parameter),)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.weight = uniform_fan_in((out_features, in_features), in_features, generator, dtype)
        self.bias = uniform_fan_in((out_features,), in_features, generator, dtype) if bias else None

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)


class Flatten(Module):
    """(N, ...) to (N, everything else in one axis).

    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """

    def forward(self, x: Any) -> Any:
        return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))


class Unflatten(Module):
    """Splits ``axis`` into axes of ``sizes``, one of which may be -1.

    >>> import numpy as np
    >>> Unflatten(1, (3, -1, 5))(np.zeros((2, 60))).shape
    (2, 3, 4, 5)
    """

    def __init__(self, axis: int, sizes: tuple[int, ...]) -> None:
        self.axis, self.sizes = axis, tuple(sizes)

    def forward(self, x: Any) -> Any:
        valid = -x.ndim <= self.axis < x.ndim
        check(valid, ShapeError, "Unflatten", "axis must be one of x's", axis=self.axis, shape=x.shape)
        axis, known = self.axis % x.ndim, int(np.prod([size for size in self.sizes if size != -1], dtype=np.int64))
        free = self.sizes.count(-1)
        fits = known == x.shape[axis] if not free else free == 1 and known > 0 and x.shape[axis] % known == 0
        check(fits, ShapeError, "Unflatten", "sizes must multiply to axis", sizes=self.sizes, axis=x.shape[axis])
        sizes = tuple(x.shape[axis] // known if size == -1 else size for size in self.sizes)
        return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])
