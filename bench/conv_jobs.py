"""The three passes of a convolution as jobs, for the benchmarks of each of its kernels."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import peer
from peer import torch

from gpunn import backend
from gpunn.ops import conv


class Layer(NamedTuple):
    """Channels, image, filters, their size, stride, padding and groups; images in a batch on a CPU and on a GPU."""

    c: int
    h: int
    k: int
    f: int
    stride: int
    padding: int
    groups: int
    batch: tuple[int, int] = (4, 128)


JOBS = ["forward", "bias relu", "backward x", "backward w"]


def measure(bench, title: str, name: str, layer: Layer, job: str, precision: str = "fp32") -> None:
    """Time ``job`` of ``layer``, with products of ``precision``; ``"fp16"`` takes float16 arrays, the rest float32."""
    c, h, k, f, stride, padding, groups, batch = layer
    n = bench.batch(*batch)
    out = (h + 2 * padding - f) // stride + 1
    shapes = ((n, c, h, h), (k, c // groups, f, f), (k,), (n, k, out, out))
    dtype = np.float16 if precision == "fp16" else np.float32
    inputs = peer.arrays(*shapes, dtype=dtype)
    plan = conv.plan(2, shapes[0], shapes[1], stride, padding, 1, groups)
    there = {"stride": stride, "padding": padding, "groups": groups}
    function, gradient = torch.nn.functional.conv2d, torch.nn.grad

    def ours(x, w, b, gy):
        run = {
            "forward": lambda: conv.forward(plan, x, w),
            "bias relu": lambda: conv.forward(plan, x, w, b, relu=True),
            "backward x": lambda: conv.backward_x(plan, gy, w),
            "backward w": lambda: conv.backward_w(plan, gy, x),
        }[job]

        def in_precision():
            with backend.matmul_precision(precision):
                run()

        return run if precision in ("fp32", "fp16") else in_precision

    def theirs(x, w, b, gy):
        if precision == "bf16":  # PyTorch rounds arrays, not the operands of one product
            x, w, b, gy = (a.bfloat16() for a in (x, w, b, gy))
        return {
            "forward": lambda: function(x, w, **there),
            "bias relu": lambda: torch.relu_(function(x, w, b, **there)),
            "backward x": lambda: gradient.conv2d_input(x.shape, w, gy, **there),
            "backward w": lambda: gradient.conv2d_weight(x, w.shape, gy, **there),
        }[job]

    with ExitStack() as stack:
        peer.torch_precision(precision)
        stack.callback(peer.torch_precision, "fp32")
        bench.measure(
            f"{title} {job}",
            f"{name} {shapes[0]}",
            inputs,
            ours,
            theirs,
            moved=sum(inputs[i].nbytes for i in (0, 1, 3)),
            operations=2 * math.prod(shapes[3]) * math.prod(shapes[1][1:]),
            unit=precision,
        )


def measure_training(bench, name: str, layer: Layer) -> None:
    """Forward and backward by public calls, as a job of the family convolution."""
    c, h, k, f, stride, padding, groups, batch = layer
    n, out = bench.batch(*batch), (h + 2 * padding - f) // stride + 1
    w, y = (k, c // groups, f, f), (n, k, out, out)
    bench.training(
        "convolution", name, [(n, c, h, h), w, (k,)], y,
        lambda F, x, w, b: F.conv2d(x, w, b, stride=stride, padding=padding, groups=groups),
        operations=3 * 2 * math.prod(y) * math.prod(w[1:]),
    )  # fmt: skip
