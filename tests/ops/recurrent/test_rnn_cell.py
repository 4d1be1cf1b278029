import numpy as np
import oracles
import pytest

import gpunn.functional as F
from gpunn import cuda, tensor
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops.recurrent import cell as rnn_cell
from gpunn.ops.recurrent import cell_kernel

SHAPES = {
    "one unit": (1, 1), "no row": (0, 4), "no unit": (3, 0), "a pack": (1, 4), "packs": (5, 12),
    "rows that break packs": (3, 7), "more than a block": (11, 52), "a long row": (1, 131),
}  # fmt: skip


def arrays(rng, shape, *widths, dtype=np.float64):
    """Arrays (N, width H), of which a width may be (2,) for (2, N, H)."""
    n, hidden = shape
    sizes = [(*w, n, hidden) if isinstance(w, tuple) else (n, w * hidden) for w in widths]
    return [2 * rng.standard_normal(size).astype(dtype) for size in sizes]


FORWARD = {
    "lstm_cell": (rnn_cell.lstm_cell, oracles.lstm_cell, (4, 1)),
    "gru_cell": (rnn_cell.gru_cell, oracles.gru_cell, (3, 3, 1)),
}
BACKWARD = {  # the function, its gradients, the arguments of forward, and which of them the gradients belong to
    "lstm_cell": (rnn_cell.lstm_cell, rnn_cell.lstm_cell_backward, (4, 1), (0, 1)),
    "gru_cell": (rnn_cell.gru_cell, rnn_cell.gru_cell_backward, (3, 3, 1), (0, 1, 2)),
}
EVERY = {  # every function, and the shapes of its arguments
    "lstm_cell": (4, 1), "lstm_cell_backward": ((2,), 4, 1), "gru_cell": (3, 3, 1), "gru_cell_backward": (1, 3, 3, 1),
    "gru_reset": (2, 1), "gru_update": (2, 1, 1), "gru_update_backward_n": (1, 2, 1),
    "gru_reset_backward": (1, 1, 2, 1, 1),
}  # fmt: skip


def results(function, *args):
    found = function(*args)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("name", FORWARD)
def test_forward_is_the_naive_loop(run, name, shape, dtype, rng):
    function, oracle, widths = FORWARD[name]
    args = arrays(rng, shape, *widths, dtype=dtype)
    y = run(function, *args)
    assert y.dtype == dtype
    oracles.assert_close(y, oracle(*args), 2)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("name", BACKWARD)
def test_backward_is_the_directional_difference(run, name, shape, rng):
    forward, backward, widths, places = BACKWARD[name]
    args = arrays(rng, shape, *widths)
    for number, place in enumerate(places):
        oracles.assert_gradient(
            lambda v, place=place: run(forward, *args[:place], v, *args[place + 1 :]),
            lambda gy, number=number: run(backward, gy, *args)[number], args[place], rng,
        )  # fmt: skip


def reset_before(run, rz, n, h, w):
    return run(rnn_cell.gru_update, rz, n + run(rnn_cell.gru_reset, rz, h) @ w, h)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_parts_of_the_reset_before_the_product_have_their_gradients(run, shape, rng):
    rz, n, h = arrays(rng, shape, 2, 1, 1)
    w = rng.standard_normal((shape[1], shape[1]))

    def gradients(gy):
        total = n + run(rnn_cell.gru_reset, rz, h) @ w
        gn = run(rnn_cell.gru_update_backward_n, gy, rz, total)
        return gn, *run(rnn_cell.gru_reset_backward, gy, gn @ w.T, rz, total, h)

    oracles.assert_gradient(lambda v: reset_before(run, rz, v, h, w), lambda gy: gradients(gy)[0], n, rng)
    oracles.assert_gradient(lambda v: reset_before(run, v, n, h, w), lambda gy: gradients(gy)[1], rz, rng)
    oracles.assert_gradient(lambda v: reset_before(run, rz, n, v, w), lambda gy: gradients(gy)[2], h, rng)


@pytest.mark.parametrize("name", EVERY)
def test_every_backend_gives_the_same_in_float32(run, name, rng):
    function = getattr(rnn_cell, name)
    for shape in SHAPES.values():
        args = arrays(rng, shape, *EVERY[name], dtype=np.float32)
        exact = results(function, *(a.astype(np.float64) for a in args))
        for actual, wanted in zip(results(run, function, *args), exact, strict=True):
            assert actual.dtype == np.float32
            oracles.assert_close(actual, wanted, 4)


@pytest.mark.parametrize("name", EVERY)
def test_half_precision_is_computed_in_float32(run, name, rng):
    function = getattr(rnn_cell, name)
    args = arrays(rng, (3, 5), *EVERY[name], dtype=np.float16)
    wide = results(function, *(a.astype(np.float32) for a in args))
    for actual, wanted in zip(results(run, function, *args), wide, strict=True):
        np.testing.assert_allclose(actual, wanted.astype(np.float16), rtol=1e-3)  # one unit in the last place


@pytest.mark.parametrize("name", EVERY)
def test_single_elements_and_a_wide_index_give_the_same_bits(name, rng, monkeypatch):
    function = getattr(rnn_cell, name)
    args = arrays(rng, (5, 12), *EVERY[name], dtype=np.float32)
    with cuda.emulate():
        packs = results(function, *args)
        monkeypatch.setattr(cell_kernel, "vector", lambda *_: 1)
        monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
        for actual, wanted in zip(results(function, *args), packs, strict=True):
            np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize("name", EVERY)
def test_arrays_with_gaps_and_odd_starts_are_read_right(run, name, rng):
    function = getattr(rnn_cell, name)
    args = arrays(rng, (5, 8), *EVERY[name], dtype=np.float32)
    gaps = [np.repeat(a, 2, -1)[..., ::2] for a in args]
    odd = [np.concatenate([[0], a.ravel()]).astype(np.float32)[1:].reshape(a.shape) for a in args]
    for moved in (gaps, odd):
        for actual, wanted in zip(results(run, function, *moved), results(run, function, *args), strict=True):
            np.testing.assert_array_equal(actual, wanted)


def test_gates_far_out_saturate_without_overflow(run):
    far = np.float32([[-1e4, 1e4, 1e4, -1e4]])
    np.testing.assert_array_equal(run(rnn_cell.lstm_cell, far, np.float32([[3]])).ravel(), [0, 3])
    assert all(
        np.isfinite(g).all() for g in run(rnn_cell.lstm_cell_backward, np.ones((2, 1, 1), np.float32), far, far[:, :1])
    )
    zero = np.zeros((1, 3), np.float32)
    assert run(rnn_cell.gru_cell, np.float32([[1e4, -1e4, 1e4]]), zero, np.float32([[5]])).item() == 1
    assert run(rnn_cell.gru_cell, np.float32([[1e4, 1e4, 1e4]]), zero, np.float32([[5]])).item() == 5


def test_errors_name_rule_and_values(run):
    with pytest.raises(ShapeError, match=r"lstm_cell: gates must have shape \(2, 12\), got shape=\(2, 9\)"):
        run(rnn_cell.lstm_cell, np.ones((2, 9)), np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"lstm_cell: c must have the 2 dimensions \(N, H\), got shape=\(3,\)"):
        run(rnn_cell.lstm_cell, np.ones(12), np.ones(3))
    with pytest.raises(ShapeError, match=r"lstm_cell_backward: gy\[0\] must have shape \(2, 3\), got shape=\(3,\)"):
        run(rnn_cell.lstm_cell_backward, np.ones((2, 3)), np.ones((2, 12)), np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"gru_cell: h_gates must have shape \(2, 9\), got shape=\(1, 9\)"):
        run(rnn_cell.gru_cell, np.ones((2, 9)), np.ones((1, 9)), np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"gru_update: rz must have shape \(2, 6\), got shape=\(2, 9\)"):
        run(rnn_cell.gru_update, np.ones((2, 9)), np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(DtypeError, match="gru_reset: arrays must have one dtype"):
        run(rnn_cell.gru_reset, np.ones((2, 6)), np.ones((2, 3), np.float32))


def test_errors_of_the_functions_name_rule_and_values():
    x, h, w_ih, w_hh = np.ones((2, 4)), np.ones((2, 3)), np.ones((12, 4)), np.ones((12, 3))
    with pytest.raises(ShapeError, match=r"lstm_cell: w_hh must have shape \(12, 3\), got shape=\(9, 3\)"):
        F.lstm_cell(x, (h, h), w_ih, w_hh[:9])
    with pytest.raises(ShapeError, match=r"gru_cell: w_ih must have shape \(9, 4\), got shape=\(12, 4\)"):
        F.gru_cell(x, h, w_ih, w_hh)
    with pytest.raises(ShapeError, match=r"x must have the dimensions \(N, in\), .*got x=\(2, 4\), h=\(1, 3\)"):
        F.rnn_cell(x, h[:1], w_ih, w_hh)
    with pytest.raises(ArgumentError, match="rnn_cell: nonlinearity must be .*, got nonlinearity='gelu'"):
        F.rnn_cell(x, h, w_ih[:3], w_hh[:3], nonlinearity="gelu")


def test_the_reset_before_the_product_is_the_naive_loop(run, rng):
    for n, size, hidden in ((1, 1, 1), (3, 5, 4), (4, 2, 7)):
        x, h, w_ih, w_hh, b_ih, b_hh = parameters(rng, "gru", n, size, hidden)
        expected = oracles.gru_cell_reset_before(x @ w_ih.T + b_ih, h, w_hh, b_hh)
        oracles.assert_close(run(F.gru_cell, x, h, w_ih, w_hh, b_ih, b_hh, reset_after=False), expected, 2 * hidden)


def parameters(rng, kind, n, size, hidden):
    """x, h (and c), w_ih, w_hh, b_ih, b_hh."""
    rows = {"rnn": 1, "gru": 3, "lstm": 4}[kind] * hidden
    states = [(n, hidden)] * (2 if kind == "lstm" else 1)
    return [rng.standard_normal(s) for s in ((n, size), *states, (rows, size), (rows, hidden), (rows,), (rows,))]


def call(function, args, **settings):
    if function.__name__ == "lstm_cell":
        x, h, c, *rest = args
        return function(x, (h, c), *rest)
    return (function(*args, **settings),)


def outputs_and_gradients(function, settings, gys, *arrays):
    leaves = [tensor(a, requires_grad=True) for a in arrays]
    outputs = call(function, leaves, **settings)
    sum((y * gy).sum() for y, gy in zip(outputs, gys, strict=True)).backward()
    return *(y.data for y in outputs), *(leaf.grad for leaf in leaves)


@pytest.mark.peer("rnn_cell", "lstm_cell", "gru_cell")
@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_matches_pytorch(run, kind, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5000 + seed)
    n, size, hidden = map(int, rng.integers(1, 10, 3))
    args = parameters(rng, kind, n, size, hidden)[: None if seed % 4 else -2]  # without biases now and then
    gys = rng.standard_normal((2 if kind == "lstm" else 1, n, hidden))
    settings = {"nonlinearity": ["tanh", "relu"][seed % 2]} if kind == "rnn" else {}
    states = 2 if kind == "lstm" else 1

    cells = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}
    cell = cells[kind](size, hidden, bias=len(args) == 5 + states, dtype=torch.float64, **settings)
    with torch.no_grad():
        for parameter, array in zip(cell.parameters(), args[1 + states :], strict=True):
            parameter.copy_(torch.tensor(array))
    x, *given = (torch.tensor(a, requires_grad=True) for a in args[: 1 + states])
    outputs = cell(x, tuple(given) if kind == "lstm" else given[0])
    outputs = outputs if kind == "lstm" else (outputs,)
    sum((y * torch.tensor(gy)).sum() for y, gy in zip(outputs, gys, strict=True)).backward()
    expected = [*(y.detach() for y in outputs), *(leaf.grad for leaf in (x, *given, *cell.parameters()))]

    function = getattr(F, f"{kind}_cell")
    actual = run(lambda gys, *a: outputs_and_gradients(function, settings, gys, *a), gys, *args)
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        oracles.assert_close(ours, theirs.numpy(), 4 * (n + size + hidden))
