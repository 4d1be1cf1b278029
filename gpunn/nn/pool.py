"""Pooling layers; see :mod:`gpunn.ops.pool` for the formulas and the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gpunn import functional as F
from gpunn.nn.calls import Plain
from gpunn.nn.conv import for_each_axis
from gpunn.nn.module import Module
from gpunn.ops.pool import Stride
from gpunn.ops.pool.adaptive import OutputSize
from gpunn.ops.shared.window import Sizes

if TYPE_CHECKING:
    from gpunn.functional.record import X


class _MaxPool(Plain):
    _pool: Callable[..., Any]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Stride = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding
        self.dilation, self.return_indices, self.ceil_mode = dilation, return_indices, ceil_mode

    def forward(self, x: Any) -> Any:
        settings = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        return type(self)._pool(x, *settings, self.return_indices)


class MaxPool1d(_MaxPool):
    """The maximum of each window of (N, C, L); ``stride`` is the window's size unless given.

    ``return_indices``, of all layers of maxima, also returns where each maximum lies in its flattened plane.

    >>> import numpy as np
    >>> MaxPool1d(3, stride=2)(np.zeros((1, 6, 55), np.float32)).shape
    (1, 6, 27)
    """

    _pool = F.max_pool1d


class MaxPool2d(_MaxPool):
    """The maximum of each window of (N, C, H, W); ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> MaxPool2d(3, stride=2)(np.zeros((1, 96, 55, 55), np.float32)).shape
    (1, 96, 27, 27)
    """

    _pool = F.max_pool2d


class MaxPool3d(_MaxPool):
    """The maximum of each window of (N, C, D, H, W); ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> MaxPool3d(2)(np.zeros((1, 6, 8, 8, 8), np.float32)).shape
    (1, 6, 4, 4, 4)
    """

    _pool = F.max_pool3d


class _MaxUnpool(Module):
    if TYPE_CHECKING:

        def __call__(self, x: X, indices: Any, output_size: Sequence[int] | None = None) -> X: ...

    _unpool: Callable[..., Any]
    _rank: int

    def __init__(self, kernel_size: Sizes, stride: Stride = None, padding: Sizes = 0) -> None:
        given = kernel_size, kernel_size if stride is None else stride, padding
        self.kernel_size, self.stride, self.padding = (for_each_axis(value, self._rank) for value in given)

    def forward(self, x: Any, indices: Any, output_size: Sequence[int] | None = None) -> Any:
        return type(self)._unpool(x, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(_MaxUnpool):
    """Puts maxima (N, C, L) back where :class:`MaxPool1d` found them, and 0 elsewhere.

    It is called with the maxima, the indices, and ``output_size`` where pooling left a rest; see
    :func:`gpunn.functional.max_unpool1d`.

    >>> import numpy as np
    >>> y, indices = MaxPool1d(2, return_indices=True)(np.array([[[3.0, 1.0, 2.0, 4.0, 0.0]]]))
    >>> MaxUnpool1d(2)(y, indices, (5,)).tolist()
    [[[3.0, 0.0, 0.0, 4.0, 0.0]]]
    """

    _unpool, _rank = F.max_unpool1d, 1


class MaxUnpool2d(_MaxUnpool):
    """:class:`MaxUnpool1d` for images (N, C, H, W).

    >>> import numpy as np
    >>> MaxUnpool2d(2)(np.ones((1, 6, 14, 14), np.float32), np.zeros((1, 6, 14, 14), int)).shape
    (1, 6, 28, 28)
    """

    _unpool, _rank = F.max_unpool2d, 2


class MaxUnpool3d(_MaxUnpool):
    """:class:`MaxUnpool1d` for volumes (N, C, D, H, W).

    >>> import numpy as np
    >>> MaxUnpool3d(2)(np.ones((1, 6, 4, 4, 4), np.float32), np.zeros((1, 6, 4, 4, 4), int)).shape
    (1, 6, 8, 8, 8)
    """

    _unpool, _rank = F.max_unpool3d, 3


class _AvgPool(Plain):
    _pool: Callable[..., Any]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Stride = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def _settings(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad

    def forward(self, x: Any) -> Any:
        return type(self)._pool(x, *self._settings())


class _DividingPool(_AvgPool):
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Stride = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override

    def _settings(self) -> tuple[Any, ...]:
        return *super()._settings(), self.divisor_override


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, L); ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> AvgPool1d(2)(np.zeros((1, 6, 28), np.float32)).shape
    (1, 6, 14)
    """

    _pool = F.avg_pool1d

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Stride = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        given = self.kernel_size, self.stride, self.padding
        self.kernel_size, self.stride, self.padding = (for_each_axis(value, 1) for value in given)


class AvgPool2d(_DividingPool):
    """The mean of each window of (N, C, H, W); ``stride`` is the window's size unless given.

    With ``divisor_override`` it is the sum of the window divided by that number.

    >>> import numpy as np
    >>> AvgPool2d(2)(np.zeros((1, 6, 28, 28), np.float32)).shape
    (1, 6, 14, 14)
    """

    _pool = F.avg_pool2d


class AvgPool3d(_DividingPool):
    """The mean of each window of (N, C, D, H, W); ``stride`` is the window's size unless given.

    With ``divisor_override`` it is the sum of the window divided by that number.

    >>> import numpy as np
    >>> AvgPool3d(2)(np.zeros((1, 6, 8, 8, 8), np.float32)).shape
    (1, 6, 4, 4, 4)
    """

    _pool = F.avg_pool3d


class _GlobalPool(Plain):
    _pool: Callable[..., Any]

    def forward(self, x: Any) -> Any:
        return type(self)._pool(x)


class GlobalAvgPool1d(_GlobalPool):
    """The mean of each channel of (N, C, L).

    >>> import numpy as np
    >>> GlobalAvgPool1d()(np.zeros((2, 512, 49), np.float32)).shape
    (2, 512, 1)
    """

    _pool = F.global_avg_pool1d


class GlobalAvgPool2d(_GlobalPool):
    """The mean of each plane of (N, C, H, W).

    >>> import numpy as np
    >>> GlobalAvgPool2d()(np.zeros((2, 512, 7, 7), np.float32)).shape
    (2, 512, 1, 1)
    """

    _pool = F.global_avg_pool2d


class GlobalAvgPool3d(_GlobalPool):
    """The mean of each volume of (N, C, D, H, W).

    >>> import numpy as np
    >>> GlobalAvgPool3d()(np.zeros((2, 64, 3, 7, 7), np.float32)).shape
    (2, 64, 1, 1, 1)
    """

    _pool = F.global_avg_pool3d


class GlobalMaxPool1d(_GlobalPool):
    """The maximum of each channel of (N, C, L).

    >>> import numpy as np
    >>> GlobalMaxPool1d()(np.zeros((2, 512, 49), np.float32)).shape
    (2, 512, 1)
    """

    _pool = F.global_max_pool1d


class GlobalMaxPool2d(_GlobalPool):
    """The maximum of each plane of (N, C, H, W).

    >>> import numpy as np
    >>> GlobalMaxPool2d()(np.zeros((2, 512, 7, 7), np.float32)).shape
    (2, 512, 1, 1)
    """

    _pool = F.global_max_pool2d


class GlobalMaxPool3d(_GlobalPool):
    """The maximum of each volume of (N, C, D, H, W).

    >>> import numpy as np
    >>> GlobalMaxPool3d()(np.zeros((2, 64, 3, 7, 7), np.float32)).shape
    (2, 64, 1, 1, 1)
    """

    _pool = F.global_max_pool3d


class _AdaptivePool(Plain):
    _pool: Callable[..., Any]

    def __init__(self, output_size: OutputSize) -> None:
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        return type(self)._pool(x, self.output_size)


class AdaptiveAvgPool1d(_AdaptivePool):
    """The mean of each of ``output_size`` bins of (N, C, L); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveAvgPool1d(7)(np.zeros((2, 64, 50), np.float32)).shape
    (2, 64, 7)
    """

    _pool = F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptivePool):
    """The mean of each of ``output_size`` bins of (N, C, H, W); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveAvgPool2d((6, 6))(np.zeros((2, 256, 13, 13), np.float32)).shape
    (2, 256, 6, 6)
    """

    _pool = F.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_AdaptivePool):
    """The mean of each of ``output_size`` bins of (N, C, D, H, W); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveAvgPool3d((1, None, 2))(np.zeros((2, 8, 4, 5, 6), np.float32)).shape
    (2, 8, 1, 5, 2)
    """

    _pool = F.adaptive_avg_pool3d


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, x: Any) -> Any:
        return type(self)._pool(x, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The maximum of each of ``output_size`` bins of (N, C, L); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveMaxPool1d(7)(np.zeros((2, 64, 50), np.float32)).shape
    (2, 64, 7)
    """

    _pool = F.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The maximum of each of ``output_size`` bins of (N, C, H, W); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveMaxPool2d((6, 6))(np.zeros((2, 256, 13, 13), np.float32)).shape
    (2, 256, 6, 6)
    """

    _pool = F.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The maximum of each of ``output_size`` bins of (N, C, D, H, W); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveMaxPool3d((1, None, 2))(np.zeros((2, 8, 4, 5, 6), np.float32)).shape
    (2, 8, 1, 5, 2)
    """

    _pool = F.adaptive_max_pool3d
