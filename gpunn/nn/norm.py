"""Normalisation layers; see :mod:`gpunn.ops.norm` for the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.errors import ShapeError, check, check_number, check_sizes
from gpunn.functional.record import alone
from gpunn.nn.calls import Learning, Plain
from gpunn.nn.module import Buffer, Parameter, ndim_of
from gpunn.ops.norm import AlphaMode
from gpunn.ops.shared.checks import integer
from gpunn.ops.shared.window import Sizes


class ChannelNorm(Learning):
    """Parameters and running statistics of the layers that normalise channels; ``_dimensions`` are those x may have."""

    _dimensions: tuple[int, ...]
    _always_counts = True
    _places = (
        ("weight", Parameter),
        ("bias", Parameter),
        ("running_mean", Buffer),
        ("running_var", Buffer),
        ("num_batches_tracked", Buffer),
    )

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool,
        dtype: Any, bias: bool,
    ) -> None:  # fmt: skip
        op = type(self).__name__
        check_sizes(op, num_features=num_features)
        check_number(op, eps=eps, momentum=0 if momentum is None else momentum)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = Parameter(np.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype)) if affine and bias else None
        self.running_mean = Buffer(np.zeros(num_features, dtype)) if track_running_stats else None
        self.running_var = Buffer(np.ones(num_features, dtype)) if track_running_stats else None
        self.num_batches_tracked = Buffer(np.zeros((), np.int64)) if track_running_stats else None

    def forward(self, x: Any) -> Any:
        rule = f"x must have {' or '.join(map(str, self._dimensions))} dimensions, (N, C, ...)"
        check(ndim_of(self, x) in self._dimensions, ShapeError, type(self).__name__, rule, shape=x.shape)
        rule = f"x must have num_features={self.num_features} channels"
        check(x.shape[1] == self.num_features, ShapeError, type(self).__name__, rule, shape=x.shape)
        momentum = 0.0 if self.momentum is None else self.momentum
        tracked = self.num_batches_tracked if self.training else None
        if tracked is not None and self.momentum is None:
            momentum = 1 / (tracked.item() + 1)
        y, counts = self._normalize(x, self.training or self.running_mean is None, momentum)
        # Not a batch that was refused, or that has no values.
        if tracked is not None and counts and (self._always_counts or self.momentum is None):
            tracked.data += 1
        return y

    @property
    def affine(self) -> bool:
        """Whether it has parameters."""
        return self.weight is not None

    @property
    def track_running_stats(self) -> bool:
        """Whether it has running statistics."""
        return self.running_mean is not None

    def _normalize(self, x: Any, by_input: bool, momentum: float) -> tuple[Any, bool]:
        """x normalised, by its own statistics if ``by_input``, else by the running ones; whether there are values."""
        raise NotImplementedError


class BatchNorm(ChannelNorm):
    """What the layers of batch normalisation share."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        relu: bool = False,
        *,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)
        self.relu = relu

    def _normalize(self, x: Any, by_input: bool, momentum: float) -> tuple[Any, bool]:
        running = self.running_mean, self.running_var
        y = F.batch_norm(x, *running, self.weight, self.bias, by_input, momentum, self.eps, self.relu)
        return y, x.size > 0


class BatchNorm1d(BatchNorm):
    """Normalises each channel of (N, C) or (N, C, L); in training by the batch, in evaluation by running statistics.

    Parameters: ``weight`` and ``bias`` (C,), unless ``affine=False``; ``bias=False`` leaves out that alone. Buffers:
    ``running_mean`` and ``running_var`` (C,) and ``num_batches_tracked``, unless ``track_running_stats=False``: then
    every batch is normalised by itself. ``momentum=None`` makes the running statistics the mean over all batches;
    ``relu`` applies max(., 0) in the same pass. A batch without values gives such a result, and is not counted.

    >>> layer = BatchNorm1d(2, momentum=None)
    >>> _ = layer(np.float32([[1, 5], [3, 5]])), layer(np.float32([[3, 0], [5, 0]]))
    >>> layer.running_mean.data.tolist(), layer.running_var.data.tolist()
    ([3.0, 2.5], [2.0, 0.0])

    Raises ShapeError in training for one value a channel, as from a last batch of one example: its distance to the mean
    is always 0. ``DataLoader(drop_last=True)`` leaves such a batch out.
    """

    _dimensions = (2, 3)


class BatchNorm2d(BatchNorm):
    """:class:`BatchNorm1d` for images (N, C, H, W).

    >>> BatchNorm2d(3)(np.zeros((2, 3, 4, 5), np.float32)).shape
    (2, 3, 4, 5)
    """

    _dimensions = (4,)


class BatchNorm3d(BatchNorm):
    """:class:`BatchNorm1d` for volumes (N, C, D, H, W).

    >>> BatchNorm3d(3)(np.zeros((2, 3, 4, 5, 6), np.float32)).shape
    (2, 3, 4, 5, 6)
    """

    _dimensions = (5,)


class GroupNorm(Learning):
    """Normalises each of ``num_groups`` runs of channels of each example of (N, num_channels, ...) by itself.

    Parameters: ``weight`` and ``bias`` (num_channels,), unless ``affine=False``; ``bias=False`` leaves out that alone.

    >>> GroupNorm(2, 4, eps=0.0)(np.float32([[1, 3, 7, 5]])).data.tolist()
    [[-1.0, 1.0, 1.0, -1.0]]
    """

    _places = (("weight", Parameter), ("bias", Parameter))

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        check_sizes("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        rule = "num_groups must divide num_channels"
        divides = num_channels % num_groups == 0
        check(divides, ShapeError, "GroupNorm", rule, num_groups=num_groups, num_channels=num_channels)
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = Parameter(np.ones(num_channels, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_channels, dtype)) if affine and bias else None

    @property
    def affine(self) -> bool:
        """Whether it has parameters."""
        return self.weight is not None

    def forward(self, x: Any) -> Any:
        rule = f"x must have num_channels={self.num_channels} channels, (N, C, ...)"
        check(ndim_of(self, x) >= 2 and x.shape[1] == self.num_channels, ShapeError, "GroupNorm", rule, shape=x.shape)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class _InstanceNorm(ChannelNorm):
    _always_counts = False

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def forward(self, x: Any) -> Any:
        return alone(super().forward, x) if ndim_of(self, x) == self._dimensions[0] - 1 else super().forward(x)

    def _normalize(self, x: Any, by_input: bool, momentum: float) -> tuple[Any, bool]:
        running = self.running_mean, self.running_var
        y = F.instance_norm(x, *running, self.weight, self.bias, by_input, momentum, self.eps)
        return y, x.size > 0


class InstanceNorm1d(_InstanceNorm):
    """Normalises each channel of each example of (N, C, L) by itself, or of one example (C, L).

    Parameters with ``affine=True``: ``weight`` and, unless ``bias=False``, ``bias`` (C,). Buffers with
    ``track_running_stats=True``: ``running_mean`` and ``running_var`` (C,), by which evaluation then normalises, and
    ``num_batches_tracked``; ``momentum=None`` makes the running statistics the mean over all batches, which are counted
    for that alone. (PyTorch's layer has this buffer too, but never counts in it.)

    >>> InstanceNorm1d(2, eps=0.0)(np.float32([[[1, 3], [7, 5]]])).tolist()
    [[[-1.0, 1.0], [1.0, -1.0]]]
    """

    _dimensions = (3,)


class InstanceNorm2d(_InstanceNorm):
    """:class:`InstanceNorm1d` for images (N, C, H, W).

    >>> InstanceNorm2d(3)(np.zeros((2, 3, 4, 5), np.float32)).shape
    (2, 3, 4, 5)
    """

    _dimensions = (4,)


class InstanceNorm3d(_InstanceNorm):
    """:class:`InstanceNorm1d` for volumes (N, C, D, H, W).

    >>> InstanceNorm3d(3)(np.zeros((2, 3, 4, 5, 6), np.float32)).shape
    (2, 3, 4, 5, 6)
    """

    _dimensions = (5,)


class LayerNorm(Learning):
    """Normalises each row of (..., *normalized_shape) by its own mean and variance; the shape stays.

    Parameters, of ``normalized_shape``: ``weight``, unless ``elementwise_affine=False``, and ``bias``, unless that or
    ``bias=False``.

    >>> LayerNorm(2, eps=0.0)(np.float32([[1, 3], [7, 5]])).data.tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """

    _places = (("weight", Parameter), ("bias", Parameter))

    def __init__(
        self,
        normalized_shape: Sizes,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        given = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        self.normalized_shape = tuple(integer("LayerNorm", "normalized_shape", size, 1) for size in given)
        self.eps = eps
        self.weight = Parameter(np.ones(self.normalized_shape, dtype)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(self.normalized_shape, dtype)) if elementwise_affine and bias else None

    @property
    def elementwise_affine(self) -> bool:
        """Whether it has parameters."""
        return self.weight is not None

    def forward(self, x: Any) -> Any:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class LocalResponseNorm(Plain):
    """Normalises each element by its ``size`` neighbours across channels; the shape stays.

    The layer of the AlexNet paper is ``LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, alpha_mode="sum")``.

    >>> import numpy as np
    >>> LocalResponseNorm(5)(np.zeros((1, 96, 27, 27), np.float32)).shape
    (1, 96, 27, 27)
    """

    def __init__(
        self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, alpha_mode: AlphaMode = "mean"
    ) -> None:
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
        self.alpha_mode: AlphaMode = alpha_mode

    def forward(self, x: Any) -> Any:
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k, self.alpha_mode)


class RMSNorm(Learning):
    """Divides each row of (..., *normalized_shape) by the root of its mean square; the shape stays.

    Parameter, of ``normalized_shape``: ``weight``, unless ``elementwise_affine=False``.

    >>> RMSNorm(2)(np.float32([[1, 7]])).data.round(4).tolist()
    [[0.20000000298023224, 1.399999976158142]]
    """

    _places = (("weight", Parameter),)

    def __init__(
        self,
        normalized_shape: Sizes,
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        given = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        self.normalized_shape = tuple(integer("RMSNorm", "normalized_shape", size, 1) for size in given)
        self.eps = eps
        self.weight = Parameter(np.ones(self.normalized_shape, dtype)) if elementwise_affine else None

    @property
    def elementwise_affine(self) -> bool:
        """Whether it has parameters."""
        return self.weight is not None

    def forward(self, x: Any) -> Any:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)
