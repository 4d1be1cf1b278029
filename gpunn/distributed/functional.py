"""Differentiable exchange between the ranks that share one model, each of which holds a part of it.

What a rank computes with is of one of two kinds, and the gradients follow from that:

- *its own part*: the ranks have different ones, as the maps of a tower;
- *a replica*: every rank computes the same, as the whole of the maps, or the last layer and the loss.

The loss counts **once**, though every rank has it: each calls ``backward`` on its own replica of it, not divided by the
number of ranks, and each has, as the gradient of a replica that only replicas were computed from, the whole gradient.
It is not to be added up again. But the gradient of a replica that the ranks' own parts were computed from is, on each
rank, what came through its part: their sum is the whole. So there are four functions for the places where the kinds
meet, each with the backward that this asks for:

=============================  ===================  ========================================================
function                       forward              backward
=============================  ===================  ========================================================
:func:`copy`                   nothing              the sum over the ranks: of a replica that goes into parts
:func:`reduce`                 sum over the ranks   nothing: of parts of a sum that goes on as a replica
:func:`all_gather`             the parts, joined    the sum over the ranks, cut: the whole goes into parts
:func:`all_gather`, replicas   the parts, joined    cut: the whole goes on as a replica
=============================  ===================  ========================================================

``copy`` and ``reduce`` are f and g of Shoeybi et al. 2019, "Megatron-LM: training multi-billion parameter language
models using model parallelism". All ranks go backward through the same functions in the same order: a graph goes back
by the numbers of its operations, which is the opposite of the order of the calls, and that must be the same on all
ranks. Where the gradient of an input is needed on one rank only (it is frozen on another), they call different things,
and all end with a message that says so.
"""

from __future__ import annotations

from gpunn.backend import Array, check_array, device_context, get_array_module
from gpunn.distributed.world import World
from gpunn.functional.record import X, differentiable, raw
from gpunn.ops.array.shape import axis_of
from gpunn.tensor import Tensor

__all__ = ["all_gather", "copy", "reduce"]


def copy(x: X, world: World) -> X:
    """``x``, a replica that the ranks' own parts are computed from; its gradient is the sum of the ranks'.

    >>> import numpy as np
    >>> from gpunn import distributed
    >>> copy(np.ones(2), distributed.init())
    array([1., 1.])
    """
    xd = raw(x)
    check_array("copy", x=xd)
    y: X = differentiable(xd, (x,), lambda gy, _: (_summed(gy, world),))
    return y.sharing_memory(x) if isinstance(x, Tensor) and isinstance(y, Tensor) else y


def reduce(x: X, world: World) -> X:
    """The sum of what the ranks have, from which they compute replicas: its gradient is whole on every rank, and stays.

    The sum is formed in the order of the ranks, so that all of them have the same bits.

    >>> import numpy as np
    >>> from gpunn import distributed
    >>> reduce(np.ones(2), distributed.init())
    array([1., 1.])

    Raises DtypeError for a dtype that cannot be reduced.
    """
    xd = raw(x)
    check_array("reduce", x=xd)
    y: X = differentiable(_summed(xd, world), (x,), lambda gy, _: (gy,))
    return y


def all_gather(x: X, world: World, axis: int = 0, replicated: bool = False) -> X:
    """What the ranks have, of equal shapes, joined along ``axis`` in the order of the ranks.

    The gradient of ``x`` is the rank's own piece of the sum of the ranks' gradients. ``replicated`` says that all ranks
    compute the same with the result: then each has the whole gradient already, and takes its own piece of that.

    >>> import numpy as np
    >>> from gpunn import distributed
    >>> all_gather(np.ones((1, 2)), distributed.init(), axis=1).shape  # (1, 2 n) on n ranks
    (1, 2)

    Raises ShapeError for an axis that x does not have.
    """
    xd = raw(x)
    check_array("all_gather", x=xd)
    along = axis_of("all_gather", xd, axis)
    with device_context(xd):
        every = world.all_gather(xd)
        y = get_array_module(xd).moveaxis(every, 0, along).reshape(_joined(xd.shape, along, world.size))

    def backward(gy: Array, _: object) -> tuple[Array]:
        pieces = get_array_module(gy).moveaxis(gy.reshape(_parted(xd.shape, along, world.size)), along, 0)
        if replicated:
            return (pieces[world.rank],)
        return (world.reduce_scatter(pieces.reshape(-1)).reshape(pieces.shape[1:]),)

    result: X = differentiable(y, (x,), backward)
    return result


def _summed(x: Array, world: World) -> Array:
    return world.all_reduce(x.copy(order="C"))


def _joined(shape: tuple[int, ...], axis: int, ranks: int) -> tuple[int, ...]:
    return (*shape[:axis], ranks * shape[axis], *shape[axis + 1 :])


def _parted(shape: tuple[int, ...], axis: int, ranks: int) -> tuple[int, ...]:
    return (*shape[:axis], ranks, *shape[axis:])
