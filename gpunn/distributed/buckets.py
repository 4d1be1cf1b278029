"""Gradients summed over all ranks, in buckets, while backward still runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from gpunn.backend import Array, accumulation_dtype, device_context, get_array_module
from gpunn.distributed.line import Pending
from gpunn.distributed.world import World
from gpunn.errors import ArgumentError, check, check_sizes
from gpunn.tensor import Tensor

BUCKET_BYTES = 1 << 22
"""The bytes of a bucket, unless something else is asked for."""


class Buckets:
    """Sums the gradients of ``parameters`` over the ranks of ``world``, in buckets of about ``bucket_bytes``.

    Backward gives the last parameters their gradients first: a bucket is of neighbours, and the buckets are reduced
    from the last to the first, the same ones on all ranks, each when its gradients are whole, while backward goes on.
    So equal runs give equal bits. Beside each gradient goes whether this rank has one: a parameter without a gradient
    on some ranks has the sum of the others', and one without any gets none. Frozen ones, the same on all ranks, are
    left out. The sums are views of the buckets, of the dtype of the optimizer's states, until the next :meth:`begin`.

    >>> from gpunn import distributed, tensor
    >>> p = tensor([1.0, 2.0], requires_grad=True)
    >>> buckets = Buckets(distributed.init(), [p])
    >>> buckets.begin()
    >>> (p * 3).sum().backward(whole=buckets.add)  # of each rank's part of the batch
    >>> buckets.finish()
    >>> p.grad.tolist()
    [3.0, 3.0]

    Raises ArgumentError for no parameters.
    """

    def __init__(self, world: World, parameters: Iterable[Tensor], bucket_bytes: int = BUCKET_BYTES) -> None:
        check_sizes("Buckets", bucket_bytes=bucket_bytes)
        given = list(parameters)
        check(bool(given), ArgumentError, "Buckets", "there must be at least one parameter")
        self._world, self._parameters, self._bytes = world, given[::-1], bucket_bytes
        self._learning: list[bool] = []
        self._buckets: list[_Bucket] = []
        self._place: dict[int, tuple[_Bucket, int]] = {}
        self._started: list[Pending] = []

    def begin(self) -> None:
        """Before the backward pass whose gradients are added to all others of the step."""
        self._started = []
        learning = [p.requires_grad for p in self._parameters]
        if learning != self._learning:
            self._learning = learning
            groups = _grouped([p for p in self._parameters if p.requires_grad], self._bytes)
            self._buckets = [_Bucket(group) for group in groups]
            self._place = {id(p): (bucket, n) for bucket in self._buckets for n, p in enumerate(bucket.parameters)}
        for bucket in self._buckets:
            bucket.empty()

    def add(self, leaf: Any) -> None:
        """Take the gradient of ``leaf``, which is whole now, if it is one of the parameters."""
        place = self._place.get(id(leaf))
        if place is not None:
            bucket, number = place
            bucket.take(number)
            while len(self._started) < len(self._buckets) and not self._buckets[len(self._started)].missing:
                self._start()

    def finish(self, divisor: float = 1.0) -> None:
        """Take the gradients that are left, wait for the sums, and give them, divided, to the parameters."""
        for bucket in self._buckets[len(self._started) :]:
            for number in sorted(bucket.missing):
                bucket.take(number)
            self._start()
        for bucket, pending in zip(self._buckets, self._started, strict=True):
            pending.wait()
            bucket.give(divisor)

    def _start(self) -> None:
        self._started.append(self._world.start_all_reduce(self._buckets[len(self._started)].flat))


class _Bucket:
    """Gradients one behind the other, and behind them for each 1 if the rank has it; after a sum, how many do."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.missing: set[int] = set()
        first = parameters[0]
        xp, dtype = get_array_module(first.data), accumulation_dtype(first.dtype)
        ends = [0]
        for p in parameters:
            ends.append(ends[-1] + math.prod(p.shape))
        with device_context(first.data):
            self.flat: Array = xp.zeros(ends[-1] + len(parameters), dtype)
        self._sums, self._flags = self.flat[: ends[-1]], self.flat[ends[-1] :]
        pairs = zip(pairwise(ends), parameters, strict=True)
        self._views = [self.flat[begin:end].reshape(p.shape) for (begin, end), p in pairs]

    def empty(self) -> None:
        self.missing = set(range(len(self.parameters)))

    def take(self, number: int) -> None:
        g = self.parameters[number].grad
        with device_context(self.flat):
            self._views[number][...] = 0 if g is None else g
            self._flags[number] = g is not None
        self.missing.discard(number)

    def give(self, divisor: float) -> None:
        with device_context(self.flat):
            if divisor != 1:
                self._sums /= divisor
            counts = self._flags.tolist()
        for p, view, count in zip(self.parameters, self._views, counts, strict=True):
            p.grad = view if count else None


def _grouped(parameters: list[Tensor], most: int) -> list[list[Tensor]]:
    """Neighbours of one dtype and device, a group ended by the one with which it has ``most`` bytes."""
    groups: list[list[Tensor]] = []
    kind, size = None, 0
    for p in parameters:
        own = p.dtype, p.device
        if own != kind or size >= most:
            groups.append([])
            kind, size = own, 0
        groups[-1].append(p)
        size += p.size * accumulation_dtype(p.dtype).itemsize
    return groups
