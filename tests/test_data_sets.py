"""Data sets put together, samples put together, and orders."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pytest

from gpunn.backend import random_generator
from gpunn.data import (
    ArrayDataset,
    ConcatDataset,
    DataLoader,
    MapDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)
from gpunn.data.dataset import read_batch
from gpunn.errors import ArgumentError, DataError, DtypeError, ShapeError

# ---- data sets -----------------------------------------------------------------------------------------------------


def test_array_dataset() -> None:
    x, y = np.arange(12).reshape(4, 3), np.arange(4) * 10
    data = ArrayDataset(x, y)
    assert len(data) == 4
    assert [int(label) for _, label in data] == [0, 10, 20, 30]  # an IndexError ends the loop
    np.testing.assert_array_equal(data[-1][0], x[3])
    a, b = data.batch(np.array([3, 0, 3]))
    np.testing.assert_array_equal(a, x[[3, 0, 3]])
    assert b.tolist() == [30, 0, 30]
    with pytest.raises(IndexError, match="4 samples, got index=4"):
        data[4]
    with pytest.raises(ShapeError, match=r"one length, got lengths=\[4, 3\]"):
        ArrayDataset(x, y[:3])
    with pytest.raises(ShapeError, match="an axis of samples"):
        ArrayDataset(np.array(3))
    with pytest.raises(DtypeError, match="argument 1 must be an array, with an axis of samples, got type='str'"):
        ArrayDataset(np.ones(3), "y.npy")
    with pytest.raises(ArgumentError, match="there must be an array"):
        ArrayDataset()


def test_array_dataset_batches_stay_on_their_device(run_xp) -> None:
    x = np.arange(6.0).reshape(3, 2)
    result = run_xp(lambda a: ArrayDataset(a).batch(np.array([2, 0])), x)
    np.testing.assert_array_equal(result, x[[2, 0]])


@pytest.mark.parametrize("seed", range(20))
def test_compositions_against_lists(seed: int) -> None:
    rng = random_generator(seed)
    parts = [rng.integers(100, size=rng.integers(0, 5)) for _ in range(rng.integers(1, 5))]
    whole = np.concatenate(parts)
    data = MapDataset(ConcatDataset([ArrayDataset(p) for p in parts]), lambda v: int(v) * 2)
    expected = [2 * int(v) for v in whole]
    assert len(data) == len(expected)
    assert list(data) == expected
    assert [data[i - len(data)] for i in range(len(data))] == expected
    if len(whole):
        chosen = rng.integers(len(whole), size=7)
        subset = Subset(data, chosen)
        assert list(subset) == [expected[i] for i in chosen]
        places = rng.integers(7, size=4)
        assert read_batch(subset, places).tolist() == [expected[chosen[i]] for i in places]


def test_indices_outside_are_refused() -> None:
    with pytest.raises(ArgumentError, match="Subset: indices must be .*length=3"):
        Subset(ArrayDataset(np.arange(3)), [0, 3])
    with pytest.raises(ArgumentError, match="Subset: indices"):
        Subset(ArrayDataset(np.arange(3)), [-1])
    with pytest.raises(ArgumentError, match="ConcatDataset: there must be a data set"):
        ConcatDataset([])


@pytest.mark.parametrize(
    ("n", "lengths", "sizes"),
    [
        (10, [3, 7], [3, 7]),
        (10, [0.3, 0.7], [3, 7]),
        (10, [0.1] * 10, [1] * 10),
        (7, [0.5, 0.5], [4, 3]),
        (0, [0.5, 0.5], [0, 0]),
        (11, [1 / 3, 1 / 3, 1 / 3], [4, 4, 3]),
        (1000, [0.29, 0.71], [290, 710]),
    ],
)
def test_random_split_shares_nothing_and_loses_nothing(n: int, lengths: list, sizes: list[int]) -> None:
    data = ArrayDataset(np.arange(n))
    parts = random_split(data, lengths, random_generator(0))
    assert [len(p) for p in parts] == sizes
    assert sorted(int(v) for p in parts for v in p) == list(range(n))
    again = random_split(data, lengths, random_generator(0))
    assert [p.indices.tolist() for p in parts] == [p.indices.tolist() for p in again]
    if n == 1000:
        assert parts[0].indices.tolist() != list(range(290))


def test_random_split_errors() -> None:
    data = ArrayDataset(np.arange(5))
    with pytest.raises(ArgumentError, match=r"sum to the number of samples, got lengths=\[2, 2\], samples=5"):
        random_split(data, [2, 2])
    with pytest.raises(ArgumentError, match="fractions must sum to 1"):
        random_split(data, [0.5, 0.4])
    with pytest.raises(ArgumentError, match="must not be negative"):
        random_split(data, [6, -1])


# ---- collate -------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    image: np.ndarray
    label: int


def test_collate_keeps_structure_and_dtypes() -> None:
    samples = [
        {"x": np.full((2, 3), i, np.float16), "pair": Pair(np.zeros(1), i), "f": 0.5 * i, "b": i > 0, "s": str(i)}
        for i in range(3)
    ]
    batch = default_collate(samples)
    assert batch["x"].shape == (3, 2, 3)
    assert batch["x"].dtype == np.float16
    assert isinstance(batch["pair"], Pair)
    assert (batch["pair"].label.tolist(), batch["pair"].label.dtype) == ([0, 1, 2], np.int64)
    assert (batch["f"].tolist(), batch["f"].dtype) == ([0, 0.5, 1], np.float32)
    assert (batch["b"].tolist(), batch["b"].dtype) == ([False, True, True], np.bool_)
    assert batch["s"] == ["0", "1", "2"]
    assert default_collate([np.float64(1), np.float64(2)]).dtype == np.float64
    assert [a.tolist() for a in default_collate([[1, 2.0], [3, 4.0]])] == [[1, 3], [2.0, 4.0]]


def test_collate_errors() -> None:
    with pytest.raises(ShapeError, match=r"sample 1 of the batch .*shapes=\(\(2,\), \(3,\)\)"):
        default_collate([np.zeros(2), np.zeros(3)])
    with pytest.raises(DataError, match="of one kind, got sample 0 int, and sample 1 of the batch float"):
        default_collate([1, 1.0])
    with pytest.raises(ShapeError, match=r"tuples must have one length, got lengths=\[1, 2\]"):
        default_collate([(1,), (1, 2)])
    with pytest.raises(DataError, match="dicts must have one set of keys"):
        default_collate([{"a": 1}, {"b": 1}])
    with pytest.raises(DataError, match="no rule for object: pass collate="):
        default_collate([object()])
    with pytest.raises(ArgumentError, match="there must be a sample"):
        default_collate([])


# ---- samplers ------------------------------------------------------------------------------------------------------


def test_random_sampler() -> None:
    data = range(200)
    assert SequentialSampler(data).indices(random_generator(0)).tolist() == list(data)
    once = RandomSampler(data).indices(random_generator(1))
    assert sorted(once) == list(data)
    assert once.tolist() != list(data)
    assert once.tolist() == RandomSampler(data).indices(random_generator(1)).tolist()
    part = RandomSampler(data, num_samples=50).indices(random_generator(1))
    assert len(set(part.tolist())) == 50
    many = RandomSampler(data, replacement=True, num_samples=5000)
    counts = np.bincount(many.indices(random_generator(2)), minlength=200)
    assert len(many) == 5000
    assert counts.min() > 5  # 25 expected each; below 6 in one of 200 has a chance of 1e-3, for one fixed seed
    assert counts.max() < 55


def test_weighted_sampler_follows_its_weights() -> None:
    weights = np.array([1.0, 0.0, 3.0, 6.0])
    drawn = WeightedRandomSampler(weights, 20_000).indices(random_generator(0))
    # The deviation of a share of 20,000 draws is at most 0.0035.
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20_000, weights / 10, atol=0.015)
    without = WeightedRandomSampler(weights, 3, replacement=False).indices(random_generator(0))
    assert sorted(without.tolist()) == [0, 2, 3]


def test_sampler_errors() -> None:
    with pytest.raises(ArgumentError, match="RandomSampler: num_samples must .*num_samples=4, samples=3"):
        RandomSampler(range(3), num_samples=4)
    with pytest.raises(ArgumentError, match="RandomSampler: num_samples"):
        RandomSampler([], replacement=True, num_samples=1)
    for weights in ([-1, 2], [0, 0], [np.nan, 1], [np.inf, 1]):
        with pytest.raises(ArgumentError, match="weights must be at least 0, finite, and not all 0"):
            WeightedRandomSampler(weights, 1)
    with pytest.raises(ArgumentError, match="num_samples=2, positive=1"):
        WeightedRandomSampler([0, 1], 2, replacement=False)
    with pytest.raises(ShapeError, match="weights must be a list"):
        WeightedRandomSampler([[1]], 1)


# ---- PyTorch -------------------------------------------------------------------------------------------------------


def structure(rng: np.random.Generator, depth: int = 0):
    """A function that draws samples of one random structure."""
    kind = rng.integers(6 if depth < 2 else 4)
    if kind == 0:
        shape, dtype = rng.integers(0, 4, rng.integers(3)), rng.choice(["f4", "f8", "i8", "u1", "?"])
        return lambda: np.asarray(rng.integers(100, size=shape)).astype(dtype)
    if kind < 4:
        return [lambda: int(rng.integers(-9, 9)), lambda: float(rng.integers(9)) / 4, lambda: str(rng.integers(9))][
            kind - 1
        ]
    parts = [structure(rng, depth + 1) for _ in range(rng.integers(1, 4))]
    if kind == 4:
        return lambda: tuple(part() for part in parts)
    return lambda: {f"k{i}": part() for i, part in enumerate(parts)}


def assert_same(a: object, b: object, what: str) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), what
        for key in a:
            assert_same(a[key], b[key], what)
    elif isinstance(a, tuple | list) and not (a and isinstance(a[0], str)):
        assert len(a) == len(b), what
        for x, y in zip(a, b, strict=True):
            assert_same(x, y, what)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b.numpy(), err_msg=what)
    else:
        assert list(a) == list(b), what


@pytest.mark.peer
def test_collate_against_pytorch() -> None:
    data = pytest.importorskip("torch.utils.data")
    for seed in range(100):
        rng = random_generator(seed)
        draw = structure(rng)
        samples = [draw() for _ in range(rng.integers(1, 5))]
        assert_same(default_collate(samples), data.default_collate(samples), f"seed {seed}: {samples}")


@pytest.mark.peer
def test_split_sizes_and_batch_counts_against_pytorch() -> None:
    data = pytest.importorskip("torch.utils.data")
    for seed in range(100):
        rng = random_generator(seed)
        n, size, drop = int(rng.integers(1, 200)), int(rng.integers(1, 20)), bool(rng.integers(2))
        cuts = np.sort(rng.integers(0, 65, rng.integers(1, 4)))
        fractions = (np.diff([0, *cuts, 64]) / 64).tolist()
        samples = ArrayDataset(np.arange(n))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of empty parts
            theirs = data.random_split(range(n), fractions)
        ours = random_split(samples, fractions, rng)
        assert [len(p) for p in ours] == [len(p) for p in theirs], (seed, n, fractions)
        loaders = (
            DataLoader(samples, size, drop_last=drop),
            data.DataLoader(range(n), batch_size=size, drop_last=drop),
        )
        assert [b.tolist() for b in loaders[0]] == [b.tolist() for b in loaders[1]], (seed, n, size, drop)
        assert len(loaders[0]) == len(loaders[1])
