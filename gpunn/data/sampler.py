"""In which order the samples of a data set come: a pure function of a generator, so that an epoch can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence, Sized
from typing import Any, Protocol

import numpy as np

from gpunn.backend import manual_seed
from gpunn.data.dataset import Indices
from gpunn.errors import ArgumentError, ShapeError, check, check_sizes


class Sampler(Protocol):
    """Gives the numbers of an epoch's samples, as :class:`RandomSampler` does; equal generators give equal orders."""

    def __len__(self) -> int: ...
    def indices(self, generator: np.random.Generator, /) -> Indices: ...


class BatchSampler(Protocol):
    """Gives the numbers of the samples of each batch of an epoch; ``len`` is the number of batches of each epoch.

    The one that :class:`DataLoader` takes in place of a sampler and a batch size.

    >>> class Halves:
    ...     def __len__(self):
    ...         return 2
    ...     def batches(self, generator):
    ...         return [np.array([0, 1]), np.array([2, 3])]
    >>> [batch.tolist() for batch in Halves().batches(None)]
    [[0, 1], [2, 3]]
    """

    def __len__(self) -> int: ...
    def batches(self, generator: np.random.Generator, /) -> Sequence[Indices]: ...


class SequentialSampler:
    """All samples, in their order.

    >>> from gpunn.backend import random_generator
    >>> SequentialSampler([5, 6, 7]).indices(random_generator(0)).tolist()
    [0, 1, 2]
    """

    def __init__(self, dataset: Sized) -> None:
        self.length = len(dataset)

    def __len__(self) -> int:
        return self.length

    def indices(self, generator: np.random.Generator) -> Indices:
        """0 to N - 1."""
        return np.arange(self.length)


class RandomSampler:
    """``num_samples`` samples (all, if None) drawn at random: each at most once, or ``replacement=True``.

    >>> from gpunn.backend import random_generator
    >>> sorted(RandomSampler("abc").indices(random_generator(0)).tolist())
    [0, 1, 2]
    """

    def __init__(self, dataset: Sized, replacement: bool = False, num_samples: int | None = None) -> None:
        self.length, self.replacement = len(dataset), replacement
        self.num_samples = self.length if num_samples is None else num_samples
        check_sizes("RandomSampler", 0, num_samples=self.num_samples)
        fits = replacement or self.num_samples <= self.length
        fits = fits and (self.length > 0 or self.num_samples == 0)
        rule = "num_samples must be at most the number of samples without replacement, and 0 of no samples"
        check(fits, ArgumentError, "RandomSampler", rule, num_samples=self.num_samples, samples=self.length)

    def __len__(self) -> int:
        return self.num_samples

    def indices(self, generator: np.random.Generator) -> Indices:
        """A draw of the numbers."""
        if self.replacement:
            return generator.integers(self.length, size=self.num_samples)
        return generator.permutation(self.length)[: self.num_samples]


class WeightedRandomSampler:
    """``num_samples`` samples, sample i with a probability proportional to ``weights[i]``.

    With weights of 1 / (size of its class) every class comes equally often.

    >>> from gpunn.backend import random_generator
    >>> WeightedRandomSampler([0, 1, 0], 4).indices(random_generator(0)).tolist()
    [1, 1, 1, 1]

    Raises ArgumentError for a negative weight, or more samples than have a weight above 0 without replacement.
    """

    def __init__(self, weights: Any, num_samples: int, replacement: bool = True) -> None:
        weights = np.asarray(weights, np.float64)
        op = "WeightedRandomSampler"
        check(weights.ndim == 1, ShapeError, op, "weights must be a list of numbers", shape=weights.shape)
        valid = bool(np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0)
        check(valid, ArgumentError, op, "weights must be at least 0, finite, and not all 0", weights=weights)
        possible = int(np.count_nonzero(weights))
        check_sizes(op, 0, num_samples=num_samples)
        rule = "num_samples must be at most the number of positive weights without replacement"
        fits = replacement or num_samples <= possible
        check(fits, ArgumentError, op, rule, num_samples=num_samples, positive=possible)
        self.probabilities = weights / weights.sum()
        self.num_samples, self.replacement = num_samples, replacement

    def __len__(self) -> int:
        return self.num_samples

    def indices(self, generator: np.random.Generator) -> Indices:
        """A draw of the numbers."""
        length = len(self.probabilities)
        return generator.choice(length, self.num_samples, replace=self.replacement, p=self.probabilities)


class FixedSizeBatches:
    """The order of a sampler cut into batches of ``batch_size``; ``drop_last`` leaves out a shorter last one.

    >>> from gpunn.backend import random_generator
    >>> cut = FixedSizeBatches(SequentialSampler(range(5)), 2)
    >>> len(cut), [batch.tolist() for batch in cut.batches(random_generator(0))]
    (3, [[0, 1], [2, 3], [4]])
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False) -> None:
        check_sizes("DataLoader", batch_size=batch_size)
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __len__(self) -> int:
        whole, left = divmod(len(self.sampler), self.batch_size)
        return whole + bool(left and not self.drop_last)

    def batches(self, generator: np.random.Generator) -> list[Indices]:
        """The numbers of the samples of each batch."""
        order = self.sampler.indices(generator)
        return [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]


def own_share(indices: Indices, rank: int, size: int) -> Indices:
    """What ``rank`` of ``size`` ranks has of a batch: the shares follow one another, and differ by at most one sample.

    >>> [own_share(np.arange(5), rank, 3).tolist() for rank in range(3)]
    [[0, 1], [2, 3], [4]]
    """
    share, longer = divmod(len(indices), size)
    begin = rank * share + min(rank, longer)
    return indices[begin : begin + share + (rank < longer)]


# The seed is the first half of a Philox key, the purpose the second; epoch, batch and rank stand in the upper part of
# the counter, so that each stream has 2^64 blocks of numbers before it meets another.
_ORDER, _AUGMENTATION, _GLOBAL = 1, 2, 3


def order_generator(seed: int, epoch: int) -> np.random.Generator:
    """The stream that draws the order of an epoch."""
    return _stream(seed, _ORDER, epoch, 0)


def batch_generator(seed: int, epoch: int, batch: int, rank: int = 0) -> np.random.Generator:
    """The stream for what is random about a batch, or a rank's share of it, whoever makes it and whenever.

    >>> batch_generator(0, 2, 7).random() == batch_generator(0, 2, 7).random()
    True
    """
    return _stream(seed, _AUGMENTATION, epoch, batch, rank)


def seed_global_generators(seed: int, epoch: int, batch: int, rank: int = 0) -> None:
    """Seed ``random``, NumPy's global generator and gpunn's default one for a batch, each with numbers of its own.

    >>> seed_global_generators(0, 2, 7)
    >>> first = random.random()
    >>> seed_global_generators(0, 2, 7)
    >>> random.random() == first
    True
    """
    words = _stream(seed, _GLOBAL, epoch, batch, rank).integers(1 << 32, size=(3, 4), dtype=np.uint32)
    random.seed(words[0].tobytes())
    np.random.seed(words[1])  # noqa: NPY002  (it is for data sets that draw from it)
    manual_seed(int.from_bytes(words[2].tobytes(), "little"))


def _stream(seed: int, purpose: int, epoch: int, batch: int, rank: int = 0) -> np.random.Generator:
    key = np.array([seed, purpose], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, rank, batch, epoch], np.uint64)))
