"""Data sets: anything with a length and samples by number, and ways to put them together.

A sample is what a model is trained on: an array, a number, or a tuple or dict of them, mostly ``(image, label)``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from gpunn.backend import Array, asarray, device_of, generator_or_default, plain
from gpunn.data.collate import default_collate
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check

Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Sample = TypeVar("Sample", covariant=True)


class Dataset(Protocol[Sample]):
    """What a data set has to have, as :class:`ArrayDataset` does: a length, and the sample of a number below it.

    A data set that can give many samples at once cheaper than one by one has also ``batch(indices)``, which returns
    what :func:`~gpunn.data.default_collate` makes of the samples; :class:`~gpunn.data.DataLoader` then calls it.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


class ArrayDataset:
    """Arrays of one length along axis 0: sample i is ``(a[i], b[i], ...)``, or ``a[i]`` of a single array.

    >>> data = ArrayDataset(np.eye(3, dtype=np.float32), np.arange(3))
    >>> len(data), data[1]
    (3, (array([0., 1., 0.], dtype=float32), np.int64(1)))
    >>> data.batch(np.array([2, 0]))[1].tolist()
    [2, 0]

    Raises ShapeError for arrays of different lengths.
    """

    def __init__(self, *arrays: Array) -> None:
        check(len(arrays) > 0, ArgumentError, "ArrayDataset", "there must be an array", arrays=len(arrays))
        for number, each in enumerate(arrays):
            rule = f"argument {number} must be an array, with an axis of samples"
            check(hasattr(each, "ndim"), DtypeError, "ArrayDataset", rule, type=type(each).__name__)
        ranked = all(a.ndim > 0 for a in arrays)
        check(ranked, ShapeError, "ArrayDataset", "arrays need an axis of samples", shapes=[a.shape for a in arrays])
        lengths = [len(a) for a in arrays]
        check(len(set(lengths)) == 1, ShapeError, "ArrayDataset", "arrays must have one length", lengths=lengths)
        self.arrays = tuple(map(plain, arrays))

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> Any:
        index = checked_index(index, len(self))
        return _one_or_all(tuple(a[index] for a in self.arrays))

    def batch(self, indices: Indices) -> Any:
        """The samples of many numbers: ``(a[indices], b[indices], ...)``, each on the device of its array."""
        for index in indices[(indices < -len(self)) | (indices >= len(self))][:1]:  # CuPy would wrap it round
            checked_index(index, len(self))
        return _one_or_all(tuple(a[asarray(indices, device_of(a))] for a in self.arrays))


class Subset:
    """The samples of ``dataset`` that ``indices`` (N,) number, in that order.

    >>> subset = Subset(ArrayDataset(np.arange(10, 20)), [7, 2])
    >>> len(subset), int(subset[0])
    (2, 17)

    Raises ArgumentError for indices that are no integers, or outside the data set.
    """

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int] | Indices) -> None:
        self.dataset = dataset
        given = np.asarray(indices)
        rule = "indices must be integers"
        check(given.dtype.kind in "iu" or given.size == 0, ArgumentError, "Subset", rule, dtype=str(given.dtype))
        self.indices: Indices = given.astype(np.int64)
        fits = self.indices.ndim == 1 and bool(np.all((self.indices >= 0) & (self.indices < len(dataset))))
        rule = "indices must be a list of numbers from 0 to the length of the data set - 1"
        check(fits, ArgumentError, "Subset", rule, length=len(dataset), indices=self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[checked_index(index, len(self))])]

    def batch(self, indices: Indices) -> Any:
        """The collated samples of many numbers."""
        return read_batch(self.dataset, self.indices[indices])


class ConcatDataset:
    """Data sets one after another.

    >>> both = ConcatDataset([ArrayDataset(np.arange(3)), ArrayDataset(np.arange(10, 12))])
    >>> [int(both[i]) for i in range(len(both))]
    [0, 1, 2, 10, 11]
    """

    def __init__(self, datasets: Sequence[Dataset[Any]]) -> None:
        check(len(datasets) > 0, ArgumentError, "ConcatDataset", "there must be a data set", datasets=len(datasets))
        self.datasets = list(datasets)
        self.ends = np.cumsum([len(d) for d in datasets])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Any:
        index = checked_index(index, len(self))
        part = int(np.searchsorted(self.ends, index, "right"))
        dataset = self.datasets[part]
        return dataset[index - int(self.ends[part]) + len(dataset)]


class MapDataset:
    """``function(sample)`` for each sample of ``dataset``, computed whenever it is asked for.

    What is random belongs into the ``transform`` or ``augment`` of a :class:`~gpunn.data.DataLoader`, which hands
    them a generator.

    >>> squares = MapDataset(ArrayDataset(np.arange(4)), lambda x: x * x)
    >>> int(squares[3])
    9
    """

    def __init__(self, dataset: Dataset[Any], function: Callable[[Any], Any]) -> None:
        self.dataset, self.function = dataset, function

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.function(self.dataset[checked_index(index, len(self))])


def random_split(
    dataset: Dataset[Any], lengths: Sequence[int | float], generator: np.random.Generator | None = None
) -> list[Subset]:
    """Divide a data set at random into parts that share no sample, of the given lengths.

    ``lengths`` are numbers of samples that sum to all of them, or fractions that sum to 1: then each part gets its
    fraction, rounded down, and what is left goes to the first parts, one each.

    >>> from gpunn.backend import random_generator
    >>> data = ArrayDataset(np.arange(10))
    >>> [len(part) for part in random_split(data, [0.75, 0.25], random_generator(0))]
    [8, 2]

    Raises ArgumentError for lengths that do not sum to the whole.
    """
    n = len(dataset)
    check(all(a >= 0 for a in lengths), ArgumentError, "random_split", "lengths must not be negative", lengths=lengths)
    sizes: list[int]
    if all(isinstance(a, (int, np.integer)) for a in lengths):
        sizes = [int(a) for a in lengths]
        rule = "lengths must sum to the number of samples"
        check(sum(sizes) == n, ArgumentError, "random_split", rule, lengths=lengths, samples=n)
    else:
        rule = "fractions must sum to 1"
        check(math.isclose(sum(lengths), 1), ArgumentError, "random_split", rule, lengths=lengths)
        sizes = [math.floor(n * a + 1e-9 * n * a) for a in lengths]  # 10 · 0.3 may come out a last bit below 3
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    order = generator_or_default(generator).permutation(n)
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def read_batch(dataset: Dataset[Any], indices: Indices) -> Any:
    """The collated samples of many numbers, by the data set's own ``batch`` if it has one."""
    batch = getattr(dataset, "batch", None)
    return default_collate([dataset[int(i)] for i in indices]) if batch is None else batch(indices)


def checked_index(index: int, length: int) -> int:
    """``index`` counted from 0; a negative one counts from the end. Raises IndexError, which ends a ``for`` loop."""
    number = operator.index(index)
    if not -length <= number < length:
        raise IndexError(f"the data set has {length} samples, got index={number}")
    return number % length


def _one_or_all(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else values
