"""Initial values of parameters, drawn on the CPU so that every device starts from the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backend import default_generator
from gpunn.nn.module import Parameter


def uniform_fan_in(
    shape: tuple[int, ...], fan_in: int, generator: np.random.Generator | None = None, dtype: Any = np.float32
) -> Parameter:
    """Values from the uniform distribution over ``(-1/sqrt(fan_in), 1/sqrt(fan_in))``.

    It keeps the variance of the signal through a layer of ``fan_in`` inputs; LeCun et al. 1998, "Efficient BackProp",
    and the default of PyTorch's layers. Without ``generator`` the default one is used (:func:`gpunn.manual_seed`).

    >>> import gpunn
    >>> weight = uniform_fan_in((3, 4), fan_in=4, generator=gpunn.backend.random_generator(0))
    >>> weight.shape, bool((abs(weight.data) <= 0.5).all())
    ((3, 4), True)
    """
    bound, generator = fan_in**-0.5, generator or default_generator()
    values = np.empty(shape, dtype)
    flat = values.reshape(-1)
    # A part at a time, the same numbers: the doubles that are drawn stay in the cache.
    for start in range(0, flat.size, _PART):
        part = flat[start : start + _PART]
        part[...] = generator.uniform(-bound, bound, part.size)
    return Parameter(values)


_PART = 1 << 15
