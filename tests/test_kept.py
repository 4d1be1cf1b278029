"""What a graph keeps for the backward pass: memory of the caller may be filled anew before it."""

import numpy as np
import pytest

from gpunn import Tensor, nn, no_grad, tensor
from gpunn import functional as F
from gpunn.errors import GraphError
from gpunn.functional import recurrent as packed


def floats(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 0.9, shape)


def ints(*values):
    return np.array(values)


X, W = floats(2, 3), floats(2, 3, seed=1)
MASK, LABELS, SIGNS = np.array([[True, False, True]]), ints(2, 0), ints(1, -1)
STATE, GATES = floats(2, 2, seed=5), {n: (floats(n * 2, 3, seed=6), floats(n * 2, 2, seed=7)) for n in (1, 3, 4)}
STEPS = floats(3, 2, 3, seed=8)

# name: (function of a Tensor w and of arrays that are filled anew, the values of w, those of the arrays)
CASES = {
    "conv1d, x": (lambda w, x: F.conv1d(x, w), floats(2, 3, 2), floats(1, 3, 5)),
    "conv2d, x": (lambda w, x: F.conv2d(x, w), floats(2, 3, 2, 2), floats(1, 3, 4, 4)),
    "conv3d, w": (lambda x, w: F.conv3d(x, w), floats(1, 1, 3, 3, 3), floats(2, 1, 2, 2, 2)),
    "conv_transpose2d, x": (lambda w, x: F.conv_transpose2d(x, w), floats(3, 2, 2, 2), floats(1, 3, 4, 4)),
    "linear, x": (lambda w, x: F.linear(x, w), W, X),
    "linear, w": (lambda x, w: F.linear(x, w), X, W),
    "matmul": (lambda w, x: F.matmul(x, w), floats(3, 2), X),
    "@": (lambda w, x: w @ x, floats(4, 2), X),
    "reflected @": (lambda w, x: x @ w, floats(3, 2), X),
    "times": (lambda w, x: w * x, W, X),
    "divided by": (lambda w, x: w / x, W, X),
    "reflected division": (lambda w, x: x / w, W, X),
    "to the power": (lambda w, x: w**x, W, X),
    "reflected power": (lambda w, x: x**w, W, X),
    "maximum": (lambda w, x: F.maximum(w, x), W, X),
    "minimum": (lambda w, x: F.minimum(x, w), W, X),
    "where": (lambda w, mask: F.where(mask, w, 0.0), W, MASK),
    "mask": (lambda w, mask: w[mask], floats(3), MASK[0]),
    "index": (lambda w, i: w[:, i] * 2, W, LABELS),
    "indices": (lambda w, i, j: w[i, j], W, ints(0, 1), LABELS),
    "take": (lambda w, i: w.take(i, 1), W, LABELS),
    "max_unpool1d": (lambda w, i: F.max_unpool1d(w, i, 2), floats(1, 2, 2), np.array([[[0, 3], [2, 1]]])),
    "embedding": (lambda w, i: F.embedding(i, w), floats(3, 2), LABELS),
    "embedding_bag": (
        lambda w, i, offsets, each: F.embedding_bag(i, w, offsets, mode="sum", per_sample_weights=each),
        floats(3, 2), LABELS, ints(0, 1), floats(2)),
    "einsum": (lambda w, x: F.einsum("ij,ij->i", w, x), W, X),
    "prelu, x": (lambda w, x: F.prelu(x - 0.5, w), floats(3), X),
    "prelu, weight": (F.prelu, W - 0.5, floats(3)),
    "pow": (F.pow, W, X),
    "atan2": (F.atan2, W, X),
    "lerp": (F.lerp, W, X, floats(2, 3, seed=2)),
    "cross": (F.cross, W, X),
    "outer": (F.outer, W[0], X[0]),
    "masked_fill": (lambda w, mask: F.masked_fill(w, mask, 0.0) * 2, W, MASK),
    "masked_fill, the method": (lambda w, mask: w.masked_fill(mask, 0.0) * 2, W, MASK),
    "masked_select": (F.masked_select, W, MASK),
    "index_select": (lambda w, i: F.index_select(w, 1, i), W, LABELS),
    "gather": (lambda w, i: F.gather(w, 1, i), W, LABELS[:, None]),
    "scatter": (lambda w, i, x: F.scatter(w, 1, i, x), W, LABELS[:, None], X),
    "scatter, of": (lambda w, x, i: F.scatter(x, 1, i, w), W, X, LABELS[:, None]),
    "scatter_add": (lambda w, x, i: F.scatter_add(x, 1, i, w), W, X, LABELS[:, None]),
    "bilinear": (lambda w, x, z: F.bilinear(x, z, w), floats(2, 3, 3), X, W),
    "cosine_similarity": (lambda w, x: F.cosine_similarity(w, x), W, X),
    "attention": (lambda w, k, v: F.scaled_dot_product_attention(w, k, v), W, X, floats(2, 3, seed=2)),
    "attention, mask": (F.scaled_dot_product_attention, W, X, floats(2, 3, seed=2), np.array([[True, False]] * 2)),
    "grid_sample, grid": (F.grid_sample, floats(1, 2, 3, 4), floats(1, 2, 2, 2)),
    "grid_sample, x": (lambda g, x: F.grid_sample(x, g), floats(1, 2, 2, 2), floats(1, 2, 3, 4)),
    "fractional_max_pool2d": (
        lambda w, u: F.fractional_max_pool2d(w, 2, 3, _random_samples=u), floats(1, 1, 7, 6), floats(1, 1, 2)),
    "layer_norm": (lambda w, x: F.layer_norm(x, 3, w), floats(3), X),
    "group_norm": (lambda w, x: F.group_norm(x, 3, w), floats(3), floats(2, 3, 2)),
    "batch_norm": (lambda w, x: F.batch_norm(x, weight=w, training=True), floats(3), X),
    "batch_norm, running": (lambda w, m, v: F.batch_norm(w, m, v), W, floats(3), floats(3, seed=2)),
    "bias_relu_lrn_pool": (lambda b, x: F.bias_relu_lrn_pool(x, b), floats(3), floats(1, 3, 5, 5)),
    "cross_entropy": (F.cross_entropy, W, LABELS),
    "cross_entropy, weights": (lambda w, t, each: F.cross_entropy(w, t, each), W, LABELS, floats(3)),
    "cross_entropy, probabilities": (F.cross_entropy, W, X),
    "nll_loss": (F.nll_loss, W, LABELS, floats(3)),
    "kl_div": (F.kl_div, W, X),
    "mse_loss": (F.mse_loss, W, X),
    "l1_loss": (F.l1_loss, W, X),
    "huber_loss": (F.huber_loss, W, X),
    "binary_cross_entropy": (F.binary_cross_entropy, W, X, floats(2, 3, seed=4)),
    "binary_cross_entropy_with_logits": (
        lambda w, t, p: F.binary_cross_entropy_with_logits(w, t, pos_weight=p), W, X, floats(3)),
    "mse_loss, weights": (lambda w, x, each: F.mse_loss(w, x, weight=each), W, X, floats(2, 3)),
    "margin_ranking_loss": (lambda w, x, t: F.margin_ranking_loss(w, x, t, 2.0), floats(2), floats(2), SIGNS),
    "triplet_margin_loss": (lambda w, x, y: F.triplet_margin_loss(w, x, y, 5.0), W, X, floats(2, 3, seed=9)),
    "triplet_margin_with_distance_loss": (
        lambda w, x, y: F.triplet_margin_with_distance_loss(w, x, y, margin=5.0), W, X, floats(2, 3, seed=9)),
    "soft_margin_loss": (F.soft_margin_loss, floats(2), SIGNS),
    "multilabel_margin_loss": (F.multilabel_margin_loss, floats(2), ints(1, -1)),
    "multilabel_soft_margin_loss": (F.multilabel_soft_margin_loss, W, X, floats(3)),
    "poisson_nll_loss": (F.poisson_nll_loss, W, X),
    "gaussian_nll_loss": (F.gaussian_nll_loss, W, X, floats(2, 3, seed=9)),
    "ctc_loss": (F.ctc_loss, floats(4, 2, 3), ints(1, 2), ints(4, 3), ints(1, 1)),
    "pairwise_distance": (F.pairwise_distance, W, X),
    "rms_norm": (lambda w, x: F.rms_norm(x, 3, w), floats(3), X),
    "hinge_embedding_loss": (F.hinge_embedding_loss, floats(2), SIGNS),
    "multi_margin_loss": (lambda w, t, each: F.multi_margin_loss(w, t, weight=each), W, LABELS, floats(3)),
    "cosine_embedding_loss": (F.cosine_embedding_loss, W, X, SIGNS),
    "rnn": (lambda w, x, h: F.rnn(x, h, w, tensor(GATES[1][1]))[0], GATES[1][0], STEPS, STATE),
    "lstm": (lambda w, x, h, c: F.lstm(x, (h, c), w, tensor(GATES[4][1]))[0], GATES[4][0], STEPS, STATE, STATE.copy()),
    "gru": (lambda w, x, h: F.gru(x, h, w, tensor(GATES[3][1]))[0], GATES[3][0], STEPS, STATE),
    "rnn_cell": (lambda w, x, h: F.rnn_cell(x, h, w, tensor(GATES[1][1])), GATES[1][0], STEPS[0], STATE),
    "lstm_cell": (
        lambda w, x, h, c: F.lstm_cell(x, (h, c), w, tensor(GATES[4][1]))[0],
        GATES[4][0], STEPS[0], STATE, STATE.copy()),
    "gru_cell": (lambda w, x, h: F.gru_cell(x, h, w, tensor(GATES[3][1])), GATES[3][0], STEPS[0], STATE),
    "gru_cell, reset before": (
        lambda w, x, h: F.gru_cell(x, h, w, tensor(GATES[3][1]), reset_after=False), GATES[3][0], STEPS[0], STATE),
    "pick": (packed.pick, W, ints(1, 0)),
    "place": (lambda w, i: packed.place(w, i, 3), W, ints(2, 0)),
    "lengths": (lambda w, n: nn.pack_padded_sequence(w, n).data, floats(3, 2), ints(3, 1)),
}  # fmt: skip


def fill_anew(array):
    array[...] = ~array if array.dtype == bool else array[::-1].copy() if array.dtype.kind == "i" else array / 2 + 0.3


def gradient(function, w, arrays, as_given, filled):
    """Of w, where the arrays are filled anew between the two passes, if they are."""
    leaf, arrays = tensor(w, requires_grad=True), [a.copy() for a in arrays]
    y = function(leaf, *map(as_given, arrays))
    if filled:
        for array in arrays:
            fill_anew(array)
    y.backward(np.linspace(1.0, 2.0, y.size).reshape(y.shape))
    return leaf.grad


def put_into(a):
    held = tensor(np.zeros_like(a))
    held.data = a
    return held


class Holder:
    """Another library's array, which NumPy reads without a copy."""

    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return self.a


GIVEN = {
    "arrays": lambda a: a,
    "tensors": tensor,
    "views": lambda a: tensor(a[:])[:],
    "the class": Tensor,
    "buffers": nn.Buffer,
    "put into a tensor": put_into,
    "another library's": lambda a: tensor(Holder(a), dtype=a.dtype),
}


@pytest.mark.parametrize("as_given", GIVEN.values(), ids=GIVEN)
@pytest.mark.parametrize("name", CASES)
def test_memory_of_the_caller_may_be_filled_anew(name, as_given):
    function, w, *arrays = CASES[name]
    if name in ("pick", "place", "lengths"):  # these take arrays
        as_given = GIVEN["arrays"]
    right = gradient(function, w, arrays, as_given, filled=False)
    np.testing.assert_array_equal(gradient(function, w, arrays, as_given, filled=True), right)


@pytest.mark.parametrize(("index", "right"), [([2, 0], [2, 0, 1]), ([True, False, True], [1, 0, 2])])
def test_a_list_of_indices_may_change(index, right):
    x = tensor(floats(3), requires_grad=True)
    y = x[index]
    index[:] = index[1:] + index[:1]
    y.backward(np.array([1.0, 2.0]))
    assert x.grad.tolist() == right


def test_a_tensor_with_a_gradient_has_its_own_memory():
    given = np.ones(2)
    for make in (lambda: given, lambda: given[:], lambda: given.view(np.matrix).A1):
        x = tensor(make(), requires_grad=True)
        y = (x**3).sum()
        given[...] = 5
        y.backward()
        assert x.grad.tolist() == [3, 3]
        given[...] = 1


def test_a_tensor_without_one_stays_on_the_memory_that_it_was_given():
    given = np.ones(2)
    x = tensor(given)
    y = x * tensor([1.0, 1.0], dtype=np.float64, requires_grad=True)
    assert x.data is given
    given[...] = 5
    assert (x.tolist(), y.tolist()) == ([5, 5], [1, 1])


def test_nothing_is_copied_where_nothing_is_recorded(monkeypatch):
    monkeypatch.setattr("gpunn.graph.copy_of", lambda array: pytest.fail("a copy"))
    given, w = np.ones((2, 3)), Tensor(W) * 1
    F.linear(given, W)
    F.linear(tensor(given), w)
    F.linear(tensor(W, requires_grad=True), w)  # neither is memory of the caller
    with no_grad():
        F.linear(given, Tensor(W, requires_grad=True))
    tensor(given, requires_grad=True) + given  # a sum needs no values


def test_what_is_changed_through_a_tensor_is_refused():
    buffer, w = tensor(X), tensor(W, requires_grad=True)
    y = (w * buffer[:]).sum()
    buffer[...] = 0
    with pytest.raises(GraphError, match="an array of this graph was changed in place"):
        y.backward()


def test_a_tensor_of_a_tensor_and_what_only_looks_computed_share_its_changes():
    for share in (tensor, lambda x: F.to_device(x, "cpu"), lambda x: F.einsum("ij->ji", x)):
        x = tensor(X)
        same = share(x)
        y = (same * tensor(np.ones(same.shape), requires_grad=True)).sum()
        x[...] = 0
        assert not same.data.any()
        with pytest.raises(GraphError, match="an array of this graph was changed in place"):
            y.backward()


def test_a_parameter_has_its_own_memory():
    given = np.ones(2)
    parameter = nn.Parameter(given)
    y = (parameter**3).sum()
    given[...] = 5
    y.backward()
    assert parameter.grad.tolist() == [3, 3]


def test_a_list_of_pads_may_change():
    x, pads = tensor(floats(3), requires_grad=True), [1, 1]
    y = F.pad(x, pads)
    pads[:] = 2, 0
    y.backward(np.arange(5.0))
    assert x.grad.tolist() == [1, 2, 3]
