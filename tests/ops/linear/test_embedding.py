import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn import nn
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import linear as ops

SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4), (0,), (2, 0), (257,)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_ways_are_the_naive_loop(run_xp, shape, dtype, rng):
    weight, indices = rng.standard_normal((6, 3)).astype(dtype), np.asarray(rng.integers(0, 6, shape))
    gy = rng.standard_normal((*shape, 3)).astype(dtype)
    y = run_xp(ops.embedding, indices, weight)
    assert y.dtype == dtype
    expected, gw = np.empty(gy.shape), np.zeros((6, 3))
    for place in np.ndindex(shape):
        expected[place] = weight[indices[place]]
        gw[indices[place]] += gy[place]
    oracles.assert_close(y, expected)
    for padding in (None, 2):
        if padding is not None:
            gw[padding] = 0
        gradient = run_xp(ops.embedding_backward, gy, indices, 6, padding)
        assert gradient.dtype == dtype
        oracles.assert_close(gradient, gw, indices.size)


def test_backward_is_the_directional_difference(run_xp, rng):
    weight, indices = rng.standard_normal((5, 4)), rng.integers(0, 5, (3, 7))
    oracles.assert_gradient(
        lambda v: run_xp(ops.embedding, indices, v), lambda gy: run_xp(ops.embedding_backward, gy, indices, 5), weight,
        rng,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 1000])
def test_runs_of_any_length_are_summed_whole(run_xp, count):
    # Powers of two are exact: a row lost or added twice would show.
    indices = np.concatenate([np.full(count, 1), [0], np.full(count, 3), [2], np.full(2 * count, 1)])
    gw = run_xp(ops.embedding_backward, np.ones((len(indices), 1)), indices, 5)
    np.testing.assert_array_equal(gw[:, 0], [1, 3 * count, 1, count, 0])


def test_a_long_sum_in_float32_keeps_its_digits(run_xp):
    gy = np.full((2**17, 1), 0.1, np.float32)
    exact = len(gy) * float(gy[0, 0])
    assert abs(np.cumsum(gy)[-1] / exact - 1) > 1e-5  # one after the other
    gw = run_xp(ops.embedding_backward, gy, np.zeros(len(gy), np.int8), 1)
    np.testing.assert_allclose(gw, [[exact]], rtol=1e-6)


def test_neither_argument_is_changed(rng):
    gy, indices = rng.standard_normal((6, 2)), np.array([1, 1, 0, 1, 0, 2])
    before = gy.copy(), indices.copy()
    ops.embedding_backward(gy, indices, 3)
    ops.embedding_backward(gy[:1], indices[:1], 3)
    np.testing.assert_array_equal(gy, before[0])
    np.testing.assert_array_equal(indices, before[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_every_integer_dtype_and_non_contiguous_arrays(run_xp, dtype, rng):
    weight, indices = rng.standard_normal((4, 9)).T[::2], rng.integers(0, 5, (4, 6))[:, ::2].T
    gy = rng.standard_normal((4, 4, 3)).transpose(2, 0, 1)
    y = run_xp(ops.embedding, indices.astype(dtype), weight)
    np.testing.assert_array_equal(y, weight.copy()[indices])
    gw = run_xp(ops.embedding_backward, gy, indices.astype(dtype), 5)
    np.testing.assert_array_equal(gw, ops.embedding_backward(gy.copy(), indices.copy(), 5))


def test_errors_name_rule_and_values():
    weight = np.ones((5, 2))
    for wrong in (-1, 5):
        with pytest.raises(ArgumentError, match=f"embedding: indices must lie in 0 to 4, got index={wrong}"):
            F.embedding(np.array([[0, 1], [wrong, 2]]), weight)
    with pytest.raises(DtypeError, match="embedding: indices must be integers, got dtype='float64'"):
        F.embedding(np.ones(2), weight)
    with pytest.raises(DtypeError, match="embedding: indices must be a NumPy or CuPy array, got type='list'"):
        F.embedding([0], weight)
    with pytest.raises(ShapeError, match=r"weight must have the 2 dimensions \(V, D\), got shape=\(5,\)"):
        F.embedding(np.array([0]), weight[:, 0])
    for wrong in (-6, 5):
        with pytest.raises(ArgumentError, match=f"padding_idx must lie in -5 to 4, got padding_idx={wrong}"):
            F.embedding(np.array([0]), weight, wrong)
    with pytest.raises(ShapeError, match=r"embedding_backward: gy must have shape \(3, 2\), got shape=\(2, 2\)"):
        ops.embedding_backward(np.ones((2, 2)), np.zeros(3, int), 5)


@pytest.mark.parametrize("norm_type", [2.0, 1, 3.5, np.inf])
def test_rows_are_scaled_to_the_largest_norm(run_xp, norm_type, rng):
    weight, indices = rng.standard_normal((6, 3)).astype(np.float32), np.array([[0, 4], [4, 2]])

    def scaled(w, i):
        w = w.copy()
        return F.embedding(i, w, None, 1.0, norm_type), w

    y, after = run_xp(scaled, weight, indices)
    norms = np.linalg.norm(weight.astype(float), norm_type, 1)
    share = np.where(np.isin(np.arange(6), indices), np.minimum(1, 1 / norms), 1)
    np.testing.assert_allclose(after, weight * share[:, None], rtol=1e-6)
    np.testing.assert_array_equal(y, after[indices])


def test_a_layer_with_a_largest_norm_is_called_twice(rng):
    layer = nn.Embedding(5, 3, max_norm=0.5, scale_grad_by_freq=True, generator=rng)
    twice = layer(np.array([0, 1, 1])), layer(np.array([1, 0]))
    (twice[0] + twice[0]).sum().backward()  # the second call found nothing left to scale
    np.testing.assert_array_equal(layer.weight.grad, [[2.0] * 3] * 2 + [[0.0] * 3] * 3)
    assert np.linalg.norm(layer.weight.data[:2], axis=1).max() <= 0.5
    layer(np.array([2, 3]))  # which scales rows that the gradient of the others does not read
    layer.zero_grad()
    twice[1].sum().backward()
    np.testing.assert_array_equal(layer.weight.grad, [[1.0] * 3] * 2 + [[0.0] * 3] * 3)


def test_rows_that_are_given(rng):
    rows = rng.standard_normal((4, 3))
    layer = nn.Embedding.from_pretrained(rows, padding_idx=1)
    assert not layer.weight.requires_grad
    assert nn.Embedding.from_pretrained(rows, freeze=False).weight.requires_grad
    np.testing.assert_array_equal(layer(np.array([1, 3])).data, rows[[1, 3]])
    with pytest.raises(ShapeError, match=r"Embedding: _weight must have shape \(5, 3\), got shape=\(4, 3\)"):
        nn.Embedding(5, 3, _weight=rows)
    with pytest.raises(ShapeError, match=r"Embedding: embeddings must have 2 dimensions, got shape=\(3,\)"):
        nn.Embedding.from_pretrained(rows[0])


def test_what_no_gradient_has():
    weight, index = np.ones((5, 2)), np.array([0])
    for call in (lambda: F.embedding(index, weight, sparse=True), lambda: nn.Embedding(5, 2, sparse=True)):
        with pytest.raises(ArgumentError, match="gradients are whole arrays, so sparse must be False, got sparse=True"):
            call()
    for name, wrong in (("max_norm", -1.0), ("norm_type", 0.0)):
        with pytest.raises(ArgumentError, match=f"embedding: {name} must be .*, got {name}={wrong}"):
            F.embedding(index, weight, **{"max_norm": 1.0, name: wrong})


@pytest.mark.peer("embedding")
def test_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        rows, size = rng.integers(1, 9, 2)
        weight, indices = rng.standard_normal((rows, size)), np.asarray(rng.integers(0, rows, rng.integers(0, 6, 2)))
        padding = int(rng.integers(-rows, rows)) if rng.random() < 0.5 else None
        how = {"scale_grad_by_freq": bool(rng.random() < 0.5)}
        ours = lambda w, i, p=padding, h=how: F.embedding(i, w, p, **h)  # noqa: E731
        theirs = lambda w, i, p=padding, h=how: torch.nn.functional.embedding(i, w, p, **h)  # noqa: E731
        agreement.assert_agrees(run_xp, torch, ours, theirs, [weight], [indices], f"{seed=} {weight.shape} {padding=}")


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_rows_are_scaled_between_two_uses_and_the_gradient(kind):
    """As in a net that reads two texts by one table: the gradient of the first needs none of the table's values."""
    layer = kind(3, 2, max_norm=1.0)
    layer.load_state_dict({"weight": np.full((3, 2), 4.0, np.float32)})
    first, second = layer(np.array([[0, 1]])), layer(np.array([[1, 2]]))
    (2 * first.sum() + second.sum()).backward()
    share = 1 if kind is nn.Embedding else 0.5
    assert layer.weight.grad.tolist() == [[2 * share] * 2, [3 * share] * 2, [share] * 2]
    np.testing.assert_allclose(layer.weight.data, 0.5**0.5, rtol=1e-5)
