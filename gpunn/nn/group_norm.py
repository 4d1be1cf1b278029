"""The group and instance normalisation layers; see :mod:`gpunn.ops.group_norm` for the formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.errors import ShapeError, check, check_sizes
from gpunn.nn.batch_norm import ChannelNorm
from gpunn.nn.module import Module, Parameter


class GroupNorm(Module):
    """Normalises each of ``num_groups`` runs of channels of each example of (N, num_channels, ...) by itself.

    Parameters: ``weight`` and ``bias`` (num_channels,), unless ``affine=False``.

    >>> GroupNorm(2, 4, eps=0.0)(np.float32([[1, 3, 7, 5]])).data.tolist()
    [[-1.0, 1.0, 1.0, -1.0]]
    """

    _places = (("weight", Parameter), ("bias", Parameter))

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, dtype: Any = np.float32
    ) -> None:
        check_sizes("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        rule = "num_groups must divide num_channels"
        divides = num_channels % num_groups == 0
        check(divides, ShapeError, "GroupNorm", rule, num_groups=num_groups, num_channels=num_channels)
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = Parameter(np.ones(num_channels, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_channels, dtype)) if affine else None

    def forward(self, x: Any) -> Any:
        rule = f"x must have num_channels={self.num_channels} channels, (N, C, ...)"
        check(x.ndim >= 2 and x.shape[1] == self.num_channels, ShapeError, "GroupNorm", rule, shape=x.shape)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class _InstanceNorm(ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def _normalize(self, x: Any, by_input: bool, momentum: float) -> Any:
        running = self.running_mean, self.running_var
        return F.instance_norm(x, *running, self.weight, self.bias, by_input, momentum, self.eps)


class InstanceNorm1d(_InstanceNorm):
    """Normalises each channel of each example of (N, C, L) by itself.

    Parameters with ``affine=True``: ``weight`` and ``bias`` (C,). Buffers with ``track_running_stats=True``:
    ``running_mean`` and ``running_var`` (C,), by which evaluation then normalises, and ``num_batches_tracked``;
    ``momentum=None`` makes the running statistics the mean over all batches. (PyTorch's layer has this buffer too, but
    never counts in it.)

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
