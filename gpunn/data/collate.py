"""Samples put together to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.backend import get_array_module, is_array, plain
from gpunn.errors import ArgumentError, DataError, ShapeError, check


def default_collate(samples: Sequence[Any]) -> Any:
    """Put samples of one structure together, along a new axis 0.

    Arrays are stacked. Integers become an int64 array, Python floats a float32 one (NumPy scalars keep their dtype),
    booleans a bool one; texts stay a list. Tuples, lists and dicts are put together element by element.

    >>> x, y = default_collate([(np.zeros(3), 7), (np.ones(3), 9)])
    >>> x.shape, y
    ((2, 3), array([7, 9]))

    Raises ShapeError for arrays that differ in shape, DataError for samples that cannot be put together.
    """
    check(len(samples) > 0, ArgumentError, "default_collate", "there must be a sample", samples=len(samples))
    first = samples[0]
    for i, sample in enumerate(samples):
        if type(sample) is not type(first):
            kinds = f"{type(first).__name__}, and sample {i} of the batch {type(sample).__name__}"
            raise DataError(f"default_collate: samples must be of one kind, got sample 0 {kinds}")
    if is_array(first):
        for i, sample in enumerate(samples):
            rule = f"arrays must have one shape (sample {i} of the batch differs from sample 0)"
            check(sample.shape == first.shape, ShapeError, "default_collate", rule, shapes=(first.shape, sample.shape))
        return get_array_module(*samples).stack([plain(sample) for sample in samples])
    if isinstance(first, np.generic | bool):
        return np.asarray(samples)
    if isinstance(first, int):
        return np.asarray(samples, np.int64)
    if isinstance(first, float):
        return np.asarray(samples, np.float32)
    if isinstance(first, str):
        return list(samples)
    if isinstance(first, dict):
        if any(sample.keys() != first.keys() for sample in samples):
            raise DataError(f"default_collate: dicts must have one set of keys, got {[list(s) for s in samples]}")
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple | list):
        lengths = sorted({len(sample) for sample in samples})
        check(len(lengths) == 1, ShapeError, "default_collate", "tuples must have one length", lengths=lengths)
        parts = [default_collate(part) for part in zip(*samples, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    raise DataError(f"default_collate: there is no rule for {type(first).__name__}: pass collate= to the loader")
