"""Batch normalisation by the batches of all ranks.

Forward, the ranks gather the number of values of a channel, their mean and their variance, and merge them (Chan, Golub
and LeVeque 1979)::

    n = sum(n_r)    mean = sum(n_r mean_r) / n    var = sum(n_r (var_r + (mean_r - mean)^2)) / n

backward, they add up the two sums over a channel that the gradient of x takes (:mod:`gpunn.ops.norm.batch`), of g and
of ``g (x - mean)``. Shares of the batch may differ in size, and be empty. The gradients of weight and bias are those of
the rank's own share, as those of all other parameters: what reduces the gradients adds them up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.backend import Array, get_array_module
from gpunn.distributed.world import World, current, init
from gpunn.nn.module import Module
from gpunn.nn.norm import BatchNorm


class _Whole:
    """The batch of all ranks in one call of a layer."""

    def __init__(self, world: World) -> None:
        self._world, self.count = world, 0

    def statistics(self, mean: Array, var: Array, count: int) -> tuple[Array, Array]:
        xp = get_array_module(mean)
        own = xp.stack([xp.full_like(mean, count, np.float64), mean.astype(np.float64), var.astype(np.float64)])
        counts, means, variances = self._world.all_gather(own).swapaxes(0, 1)
        self.count = int(counts[:, :1].sum())
        shares = counts / max(self.count, 1)
        with np.errstate(invalid="ignore", over="ignore"):
            total = (shares * means).sum(0)
            distance = means - total
            variance = (shares * (variances + distance * distance)).sum(0)
        return total.astype(mean.dtype), variance.astype(var.dtype)

    def sums(self, sum_g: Array, sum_gx: Array) -> tuple[Array, Array]:
        of_g, of_gx = self._world.all_reduce(get_array_module(sum_g).stack([sum_g, sum_gx]))
        return of_g, of_gx


class SyncBatchNorm(BatchNorm):
    """:class:`gpunn.nn.BatchNorm1d`, and 2d and 3d, that normalises in training by the batches of all ranks.

    As those it has ``weight``, ``bias``, ``running_mean``, ``running_var`` and ``num_batches_tracked``, under the same
    names, and takes their settings; running statistics are equal on all ranks. ``world``: the ranks, if not all. In
    evaluation, ranks work alone. x is (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), where N may differ between
    ranks, and be 0: such a rank calls the layer all the same, forward and backward.

    >>> layer = SyncBatchNorm(2, eps=0.0)  # with mpirun, of all ranks
    >>> layer(np.float32([[1, 5], [3, 7]])).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]

    Raises ShapeError on all ranks if all of them together have one value a channel.
    """

    _dimensions = (2, 3, 4, 5)

    def __init__(self, num_features: int, *settings: Any, world: World | None = None, **named: Any) -> None:
        super().__init__(num_features, *settings, **named)
        self.world: World | None = world or current() or init()

    def _normalize(self, x: Any, by_input: bool, momentum: float) -> tuple[Any, bool]:
        if not self.training or self.world is None:
            return super()._normalize(x, by_input, momentum)
        whole, running = _Whole(self.world), (self.running_mean, self.running_var)
        y = F.batch_norm(x, *running, self.weight, self.bias, True, momentum, self.eps, self.relu, whole=whole)
        return y, whole.count > 0


def convert(model: Module, world: World | None = None) -> Module:
    """``model``, with a :class:`SyncBatchNorm` in the place of each layer of batch normalisation.

    Parameters, buffers, names, settings and hooks stay what they are, so that optimizers and checkpoints fit. A model
    that is itself such a layer is not changed: what is returned takes its place. ``world``: the ranks, if not all.

    >>> from gpunn import nn
    >>> model = convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    >>> type(model[1]).__name__, list(model.state_dict())[2:4]
    ('SyncBatchNorm', ['1.weight', '1.bias'])
    """
    world = world or current() or init()
    made: dict[int, SyncBatchNorm] = {}
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if _is_alone(child):
                setattr(module, name, made.setdefault(id(child), _synchronised(child, world)))
    return _synchronised(model, world) if _is_alone(model) else model


@contextmanager
def apart(model: Module) -> Iterator[None]:
    """A context in which each rank normalises by its own batch: ranks need not call ``model`` together.

    >>> from gpunn import nn
    >>> model = convert(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    >>> with apart(model):
    ...     print(model[1].world)
    None
    """
    layers = synchronised(model)
    worlds = [layer.world for layer in layers]
    try:
        for layer in layers:
            layer.world = None
        yield
    finally:
        for layer, world in zip(layers, worlds, strict=True):
            layer.world = world


def synchronised(model: Module) -> list[SyncBatchNorm]:
    """The layers of ``model`` that all ranks must call together.

    >>> from gpunn import nn
    >>> len(synchronised(convert(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))))
    1
    """
    return [module for module in model.modules() if isinstance(module, SyncBatchNorm)]


def _is_alone(module: Module) -> bool:
    return isinstance(module, BatchNorm) and not isinstance(module, SyncBatchNorm)


def _synchronised(layer: Module, world: World) -> SyncBatchNorm:
    made = SyncBatchNorm.__new__(SyncBatchNorm)
    vars(made).update(vars(layer), world=world)
    return made
