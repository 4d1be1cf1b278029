"""What rank 0 alone does for all ranks, and states that it sends them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gpunn.backend import is_array, to_cpu
from gpunn.distributed.world import World
from gpunn.errors import GpunnError

State = dict[str, Any]


def on_first(world: World, job: Callable[[], Any]) -> Any:
    """What ``job()`` gives on rank 0, a small Python object, on all ranks; what gpunn raises of it is raised on all.

    >>> from gpunn import distributed
    >>> on_first(distributed.init(), lambda: "runs/digits-1")
    'runs/digits-1'
    """
    result: tuple[Any, GpunnError | None] = None, None
    if world.rank == 0:
        try:
            result = job(), None
        except GpunnError as error:
            if world.size == 1:
                raise
            result = None, type(error)(str(error))
    value, refused = world.broadcast_object(result)
    if refused is not None:
        raise refused
    return value


def share_state(world: World, state: Mapping[str, State] | None) -> dict[str, State]:
    """The ``state`` of rank 0, as :func:`gpunn.checkpoint.save_checkpoint` takes it, on all ranks; arrays are NumPy's.

    >>> from gpunn import distributed
    >>> share_state(distributed.init(), {"model": {"w": np.ones(2)}, "trainer": {"step": 3}})
    {'model': {'w': array([1., 1.])}, 'trainer': {'step': 3}}
    """
    given = state if world.rank == 0 and state is not None else {}
    layout = {part: {name: _described(value) for name, value in values.items()} for part, values in given.items()}
    layout = world.broadcast_object(layout)
    shared: dict[str, State] = {}
    for part, values in layout.items():
        shared[part] = {}
        for name, value in values.items():
            if isinstance(value, _Array):
                if world.rank == 0:
                    array = np.array(to_cpu(given[part][name]), order="C")
                else:
                    array = np.empty(value.shape, value.dtype)
                value = world.broadcast(array)
            shared[part][name] = value
    return shared


class _Array:
    """In the place of an array."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype


def _described(value: Any) -> Any:
    return _Array(value.shape, value.dtype) if is_array(value) else value
