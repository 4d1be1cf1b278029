"""The shape of a convolution to test, shared by the tests of its float and of its tensor-core kernels."""

from __future__ import annotations

import dataclasses


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
