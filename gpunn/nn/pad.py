"""Padding layers; see :mod:`gpunn.ops.array.pad` for the modes."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from gpunn import functional as F
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.nn.calls import Plain
from gpunn.nn.module import ndim_of
from gpunn.ops.array.pad import PadMode


class _Pad(Plain):
    _mode: PadMode
    _dimensions: int
    value = 0.0

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        count = 2 * self._dimensions
        pads = tuple(padding) if isinstance(padding, Iterable) else (padding,) * count
        fits = len(pads) == count and all(isinstance(pad, Integral) for pad in pads)
        rule = f"padding must be an integer or {count} of them"
        check(fits, ArgumentError, type(self).__name__, rule, padding=padding)
        self.padding = pads

    def forward(self, x: Any) -> Any:
        rule = f"x must have {self._dimensions + 1} or {self._dimensions + 2} dimensions, channels first"
        fits = ndim_of(self, x) - self._dimensions in (1, 2)
        check(fits, ShapeError, type(self).__name__, rule, shape=x.shape)
        return F.pad(x, self.padding, self._mode, self.value)


class _ConstantPad(_Pad):
    _mode = "constant"

    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        self.value = value


class ConstantPad1d(_ConstantPad):
    """Adds elements of ``value`` to sequences (N, C, L); ``padding`` is one integer or (left, right).

    Negative numbers take elements away.

    >>> import numpy as np
    >>> ConstantPad1d((1, 2), 7.0)(np.array([[1.0, 2.0]])).tolist()
    [[7.0, 1.0, 2.0, 7.0, 7.0]]
    """

    _dimensions = 1


class ConstantPad2d(_ConstantPad):
    """:class:`ConstantPad1d` for images (N, C, H, W); ``padding`` is one integer or (left, right, top, bottom)."""

    _dimensions = 2


class ConstantPad3d(_ConstantPad):
    """:class:`ConstantPad1d` for volumes (N, C, D, H, W); ``padding`` is one integer or six, the last axis first."""

    _dimensions = 3


class ZeroPad1d(_Pad):
    """Adds zeros to sequences (N, C, L); ``padding`` is one integer or (left, right).

    >>> import numpy as np
    >>> ZeroPad1d((1, 2))(np.array([[1.0, 2.0]])).tolist()
    [[0.0, 1.0, 2.0, 0.0, 0.0]]
    """

    _mode, _dimensions = "constant", 1


class ZeroPad3d(_Pad):
    """:class:`ZeroPad1d` for volumes (N, C, D, H, W); ``padding`` is one integer or six, the last axis first."""

    _mode, _dimensions = "constant", 3


class ZeroPad2d(_Pad):
    """Adds rows and columns of zeros to images (N, C, H, W); ``padding`` is one integer or (left, right, top, bottom).

    Negative numbers take rows and columns away.

    >>> import numpy as np
    >>> ZeroPad2d((1, 0, 2, 0))(np.ones((1, 1, 2, 2))).shape
    (1, 1, 4, 3)
    """

    _mode, _dimensions = "constant", 2


class ReflectionPad1d(_Pad):
    """Mirrors sequences (N, C, L) at their outermost elements; ``padding`` is one integer or (left, right).

    >>> import numpy as np
    >>> ReflectionPad1d(2)(np.array([[1.0, 2.0, 3.0]])).tolist()
    [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]]
    """

    _mode, _dimensions = "reflect", 1


class ReflectionPad2d(_Pad):
    """:class:`ReflectionPad1d` for images (N, C, H, W); ``padding`` is one integer or (left, right, top, bottom)."""

    _mode, _dimensions = "reflect", 2


class ReflectionPad3d(_Pad):
    """:class:`ReflectionPad1d` for volumes (N, C, D, H, W); ``padding`` is one integer or six, the last axis first."""

    _mode, _dimensions = "reflect", 3


class ReplicationPad1d(_Pad):
    """Repeats the outermost elements of sequences (N, C, L); ``padding`` is one integer or (left, right).

    >>> import numpy as np
    >>> ReplicationPad1d(2)(np.array([[1.0, 2.0, 3.0]])).tolist()
    [[1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0]]
    """

    _mode, _dimensions = "replicate", 1


class ReplicationPad2d(_Pad):
    """:class:`ReplicationPad1d` for images (N, C, H, W); ``padding`` is one integer or (left, right, top, bottom)."""

    _mode, _dimensions = "replicate", 2


class ReplicationPad3d(_Pad):
    """:class:`ReplicationPad1d` for volumes (N, C, D, H, W); ``padding`` is one integer or six, the last axis first."""

    _mode, _dimensions = "replicate", 3


class CircularPad1d(_Pad):
    """Continues sequences (N, C, L) with their other end; ``padding`` is one integer or (left, right).

    >>> import numpy as np
    >>> CircularPad1d(2)(np.array([[1.0, 2.0, 3.0]])).tolist()
    [[2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0]]
    """

    _mode, _dimensions = "circular", 1


class CircularPad2d(_Pad):
    """:class:`CircularPad1d` for images (N, C, H, W); ``padding`` is one integer or (left, right, top, bottom)."""

    _mode, _dimensions = "circular", 2


class CircularPad3d(_Pad):
    """:class:`CircularPad1d` for volumes (N, C, D, H, W); ``padding`` is one integer or six, the last axis first."""

    _mode, _dimensions = "circular", 3
