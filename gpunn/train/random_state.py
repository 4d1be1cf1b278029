"""The states of the random generators that a training draws from, to be saved with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpunn.backend import default_generator
from gpunn.errors import ArgumentError, check
from gpunn.nn import Module
from gpunn.optim.optimizer import check_names


class RandomStreams:
    """The default generator, those that the modules of ``model`` hold, and those ``given`` by name.

    >>> from gpunn import nn
    >>> from gpunn.backend import random_generator
    >>> streams = RandomStreams(nn.Dropout(0.5, generator=random_generator(0)), {"mine": random_generator(1)})
    >>> list(streams.state_dict())
    ['default', 'model.generator', 'mine']
    """

    def __init__(self, model: Module, given: Mapping[str, np.random.Generator]) -> None:
        self._model, self._given = model, dict(given)

    def generators(self) -> dict[str, np.random.Generator]:
        """Those there are now, by name."""
        inside = {
            f"model.{path}.{name}" if path else f"model.{name}": value
            for path, module in self._model.named_modules()
            for name, value in vars(module).items()
            if isinstance(value, np.random.Generator)
        }
        return {"default": default_generator(), **inside, **self._given}

    def part(self, rank: int) -> None:
        """Give each generator a stream of the rank's own, which follows from its state; rank 0 keeps its streams."""
        if rank == 0:
            return
        for generator in self.generators().values():
            bits = generator.bit_generator
            digest = hashlib.sha256(json.dumps(_plain(bits.state), sort_keys=True).encode()).digest()
            seed = np.random.SeedSequence([int.from_bytes(digest, "little"), rank])
            bits.state = type(bits)(seed).state

    def state_dict(self) -> dict[str, Any]:
        """The state of each bit generator, its arrays as lists of integers."""
        return {name: _plain(generator.bit_generator.state) for name, generator in self.generators().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give each generator its state again; ArgumentError if the names or the kinds of generators differ."""
        own = self.generators()
        check_names("RandomStreams", own, state)
        states = {name: _like(name, own[name].bit_generator.state, state[name]) for name in own}
        for name, generator in own.items():
            generator.bit_generator.state = states[name]


def _plain(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


def _like(name: str, own: Any, read: Any) -> Any:
    """``read`` in the types of ``own``, the state of the same kind of generator."""
    rule = f"the state of the generator {name!r} is of another kind of generator"
    if isinstance(own, Mapping):
        fits = isinstance(read, Mapping) and read.keys() == own.keys()
        check(fits, ArgumentError, "RandomStreams", rule, own=list(own), read=read)
        return {key: _like(name, value, read[key]) for key, value in own.items()}
    if isinstance(own, np.ndarray):
        array = np.array(read, own.dtype)
        check(array.shape == own.shape, ArgumentError, "RandomStreams", rule, own=own.shape, read=array.shape)
        return array
    fits = read == own if isinstance(own, str) else isinstance(read, int)
    check(fits, ArgumentError, "RandomStreams", rule, own=own, read=read)
    return read
