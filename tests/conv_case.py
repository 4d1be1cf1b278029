"""What the tests of convolutions share: shapes of images, and the arrays that are refused."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from gpunn.errors import DtypeError, ShapeError


@dataclasses.dataclass
class ConvCase:
    x: tuple[int, ...]
    w: tuple[int, ...]
    bias: bool = True
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def settings(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def terms(self):
        return self.w[1] * self.w[2] * self.w[3]


def assert_wrong_arrays_are_refused(ops, name, x_shape, w_shape, y_shape):
    """Along one axis: another dtype, a bias of another length, and gradients of the shape of x."""
    x, w = np.ones(x_shape), np.ones(w_shape)
    with pytest.raises(DtypeError, match=f"{name}1d: arrays must have one dtype, got x='float64', w='float32'"):
        getattr(ops, name)(1, x, w.astype(np.float32))
    filters = y_shape[1]
    for wrong in (filters - 1, filters + 1):
        with pytest.raises(ShapeError, match=rf"{name}1d: b must have shape \({filters},\), got shape=\({wrong},\)"):
            getattr(ops, name)(1, x, w, np.ones(wrong))
    for gradient, args in (("backward_x", (w, x.shape)), ("backward_w", (x, w.shape))):
        message = f"{name}1d_{gradient}: gy must have shape {y_shape}, got shape={x_shape}"
        with pytest.raises(ShapeError, match=re.escape(message)):
            getattr(ops, f"{name}_{gradient}")(1, x, *args)
