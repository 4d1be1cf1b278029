import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn import nn, tensor
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops.linear import bag as ops


def draw(seed, dtype=np.float64):
    """A table, indices with bags, and the settings."""
    rng = np.random.default_rng(seed)
    rows, n = int(rng.integers(1, 6)), int(rng.integers(0, 9))
    table = rng.standard_normal((rows, 3)).round(1).astype(dtype)
    padding = int(rng.integers(-rows, rows)) if seed % 3 == 0 else None
    mode = ("sum", "mean", "max")[seed % 4 % 3]
    if seed % 2:
        indices, offsets, last = rng.integers(0, rows, (int(rng.integers(1, 4)), n)), None, False
    else:
        last = bool(seed % 3)
        starts = np.sort(rng.integers(0, n + 1, int(rng.integers(0, 4))))
        indices, offsets = rng.integers(0, rows, n), np.array([0, *starts, *[n] * last])
    weights = rng.standard_normal(indices.shape).astype(dtype) if mode == "sum" and rng.random() < 0.7 else None
    return table, indices, offsets, mode, weights, last, padding


def naive(table, indices, offsets, mode, weights, last, padding):
    if offsets is not None:
        ends = [*offsets[1:], indices.size][: len(offsets) - last]
        groups = [range(start, end) for start, end in zip(offsets, ends, strict=False)]
    else:
        groups = [range(b * indices.shape[1], (b + 1) * indices.shape[1]) for b in range(len(indices))]
    flat, y = indices.reshape(-1), np.zeros((len(groups), table.shape[1]))
    for place, group in enumerate(groups):
        own = [n for n in group if padding is None or flat[n] != padding % len(table)]
        rows = [np.float64(table[flat[n]]) * (1 if weights is None else float(weights.reshape(-1)[n])) for n in own]
        if rows:
            y[place] = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode](rows, 0)
    return y


def bag(table, indices, offsets, mode, weights, last, padding, **more):
    return F.embedding_bag(
        indices, table, offsets, mode=mode, per_sample_weights=weights, include_last_offset=last, padding_idx=padding,
        **more,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_forward_is_the_naive_loop(run_xp, dtype):
    for seed in range(60):
        given = draw(seed, dtype)
        y = run_xp(bag, *given)
        assert y.dtype == dtype
        oracles.assert_close(y, naive(*given), 9)


def test_backward_is_the_directional_difference(run_xp, rng):
    for seed in range(40):
        table, *given = draw(seed)
        table = np.random.default_rng(seed).standard_normal(table.shape)  # no equal maxima

        def gradient(v, g, *given):
            leaf = tensor(v, requires_grad=True)
            bag(leaf, *given).backward(g)
            return leaf.grad

        oracles.assert_gradient(
            lambda v, given=given: run_xp(bag, v, *given),
            lambda g, t=table, a=given: run_xp(gradient, t, g, *a),
            table,
            rng,
        )


def test_two_runs_give_the_same_bits_and_the_layer_is_its_function(rng):
    layer = nn.EmbeddingBag(5, 3, 1.5, 1.0, True, "sum", padding_idx=-1, generator=random_generator(0))
    assert not layer.weight.data[4].any()
    weight, weights = layer.weight.data.copy(), np.float32([1, 2, 3, 4])
    indices, offsets = np.array([0, 4, 0, 2]), tensor(np.array([0, 2]))
    y = layer(tensor(indices), offsets, weights)
    other = tensor(weight, requires_grad=True)
    expected = F.embedding_bag(
        indices, other, np.array([0, 2]), 1.5, 1.0, True, "sum", per_sample_weights=weights, padding_idx=4
    )
    np.testing.assert_array_equal(y.data, expected.data)
    np.testing.assert_array_equal(layer.weight.data, other.data)
    assert (abs(layer.weight.data).sum(1)[[0, 2]] <= 1.5).all()
    y.sum().backward()
    expected.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad, other.grad)
    np.testing.assert_array_equal(layer.weight.grad[:, 0], [2, 0, 4, 0, 0])  # (1 + 3) / 2, as row 0 is named twice
    given = np.float32([[1, 2], [3, 4]])
    frozen = nn.EmbeddingBag.from_pretrained(given, mode="max")
    assert not frozen.weight.requires_grad
    assert frozen(np.array([[0, 1], [0, 0]])).tolist() == [[3, 4], [1, 2]]


def test_errors_name_rule_and_values():
    w, two, three = np.ones((4, 3)), np.array([[0, 1]]), np.array([0, 1, 2])
    bag = F.embedding_bag
    for call, kind, message in (
        (lambda: bag(two, w, three), ArgumentError, "indices of 2 dimensions are their own bags"),
        (lambda: bag(three, w), DtypeError, "embedding_bag: offsets must be a NumPy or CuPy array, got"),
        (lambda: bag(three, w, three[1:]), ArgumentError, r"must begin with 0, not fall, and be at most the"),
        (lambda: bag(three, w, three[:2], include_last_offset=True), ArgumentError, "and end with the number"),
        (lambda: bag(three, w, two), ShapeError, r"offsets must have one dimension, .*got shape=\(1, 2\)"),
        (lambda: bag(three, w, three[:0]), ShapeError, r"there can be no indices, got indices=\(3,\)"),
        (lambda: bag(three, w, three * 1.0), DtypeError, "offsets must be integers, got dtype='float64'"),
        (lambda: bag(two * 1.0, w), DtypeError, "embedding_bag: indices must be integers, got dtype='float"),
        (lambda: bag(two[None], w), ShapeError, "indices must have 1 or 2 dimensions, got shape="),
        (lambda: bag(two, w[0]), ShapeError, r"weight must have the 2 dimensions \(V, D\), got shape=\(3,\)"),
        (lambda: bag(two, w, mode="min"), ArgumentError, 'mode is "sum", "mean" or "max", got mode=\'min\''),
        (
            lambda: bag(two, w, per_sample_weights=np.ones((1, 2))),
            ArgumentError, 'only mode="sum" takes per_sample_weights, got mode=\'mean\'',
        ),
        (
            lambda: bag(two, w, mode="sum", per_sample_weights=np.ones(2)),
            ShapeError, r"per_sample_weights must have shape \(1, 2\), got shape=\(2,\)",
        ),
        (lambda: bag(two, w, padding_idx=4), ArgumentError, "padding_idx must lie in -4 to 3, got padding"),
        (lambda: bag(two + 3, w), ArgumentError, "indices must lie in 0 to 3, got index=4"),
        (lambda: bag(two, w, sparse=True), ArgumentError, "so sparse must be False, got sparse=True"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            call()
    assert ops.bags(two[:0]).number == 0


@pytest.mark.peer("embedding_bag")
def test_matches_pytorch(run_xp):
    """But for scale_grad_by_freq, where PyTorch on the CPU divides by how often another index is named."""
    torch = pytest.importorskip("torch")
    for seed in range(120):
        rng = np.random.default_rng(seed)
        table, indices, offsets, mode, weights, last, padding = draw(seed)
        if not indices.size or (offsets is not None and len(offsets) - last < 1):
            continue  # which PyTorch does not take
        settings = {"max_norm": float(rng.uniform(0.5, 2)), "norm_type": float(rng.choice([1, 2]))} if seed % 5 else {}
        leaf = torch.tensor(table).requires_grad_()
        own = None if weights is None else torch.tensor(weights, requires_grad=True)
        expected = torch.nn.functional.embedding_bag(
            torch.tensor(indices), leaf, None if offsets is None else torch.tensor(offsets), mode=mode,
            per_sample_weights=own, include_last_offset=last, padding_idx=padding, **settings,
        )  # fmt: skip
        gy = rng.standard_normal(expected.shape)
        expected.backward(torch.tensor(gy))

        def both(t, i, gy, offsets, weights, mode=mode, last=last, padding=padding, settings=settings):
            t = tensor(t, requires_grad=True)
            w = None if weights is None else tensor(weights, requires_grad=True)
            y = bag(t, i, offsets, mode, w, last, padding, **settings)
            y.backward(gy)
            return y.data, t.data, t.grad, *([] if w is None else [w.grad])

        found = run_xp(both, table, indices, gy, offsets, weights)
        wanted = [expected, leaf, leaf.grad, *([] if own is None else [own.grad])]
        for actual, right in zip(found, wanted, strict=True):
            np.testing.assert_allclose(actual, right.detach().numpy(), 1e-6, 1e-12, err_msg=f"{seed=} {mode}")
