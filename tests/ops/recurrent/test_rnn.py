import numpy as np
import oracles
import pytest
from runners import Runner

import gpunn
import gpunn.functional as F
from gpunn import cuda, nn, tensor
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import recurrent as ops
from gpunn.ops.recurrent import Inputs, Sizes, Weights

KINDS = ["tanh", "relu", "lstm", "gru", "gru before"]
GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3, "gru before": 3}
LENGTHS = {  # of the sequences; a whole batch of one length is the usual case
    "one step": [1], "one sequence": [7], "one length": [4, 4, 4], "all different": [6, 5, 3, 2, 1],
    "pairs": [5, 5, 2, 2], "no sequence": [],
}  # fmt: skip


def parameters(rng, kind, size, hidden, dtype=np.float64):
    rows = GATES[kind] * hidden
    shapes = (rows, size), (rows, hidden), (rows,), (rows,)
    return [(rng.standard_normal(shape) / hidden**0.5).astype(dtype) for shape in shapes]


def states(rng, kind, n, hidden, dtype=np.float64):
    return [rng.standard_normal((n, hidden)).astype(dtype) for _ in range(2 if kind == "lstm" else 1)]


def call(kind, x, state, weights, batch_sizes=None, reverse=False):
    """Output and last states of the function for ``kind``, as one tuple."""
    how = {"batch_sizes": batch_sizes, "reverse": reverse}
    if kind == "lstm":
        y, ends = F.lstm(x, tuple(state) if state else None, *weights, **how)
        return y, *ends
    h = state[0] if state else None
    if kind in ("gru", "gru before"):
        return F.gru(x, h, *weights, reset_after=kind == "gru", **how)
    return F.rnn(x, h, *weights, nonlinearity=kind, **how)


def packed(rng, lengths, size, dtype=np.float64):
    """The rows, the batch sizes, and the rows of each sequence."""
    sizes = [sum(length > t for length in lengths) for t in range(max(lengths, default=2))]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows = rng.standard_normal((sum(lengths), size)).astype(dtype)
    return rows, sizes, [[int(starts[t]) + k for t in range(length)] for k, length in enumerate(lengths)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_the_naive_loop(run, kind, lengths, reverse, dtype, rng):
    size, hidden = (3, 4) if len(lengths) % 2 else (5, 3)
    rows, sizes, places = packed(rng, lengths, size, dtype)
    weights, state = parameters(rng, kind, size, hidden, dtype), states(rng, kind, len(lengths), hidden, dtype)
    y, *ends = run(lambda x, *a: call(kind, x, a[4:], a[:4], sizes, reverse), rows, *weights, *state)
    assert y.dtype == ends[0].dtype == dtype
    assert y.shape == (len(rows), hidden)
    assert all(end.shape == (len(lengths), hidden) for end in ends)
    for k, place in enumerate(places):
        order = place[::-1] if reverse else place
        expected, last = oracles.recurrence(kind, rows[order], [s[k] for s in state], *weights)
        oracles.assert_close(y[order], expected, 8 * len(order))
        oracles.assert_close(np.stack([end[k] for end in ends]), last, 8 * len(order))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [[3, 3], [4, 2, 1]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_backward_is_the_directional_difference(run, kind, lengths, reverse, rng):
    rows, sizes, _ = packed(rng, lengths, 2)
    arrays = [rows, *parameters(rng, kind, 2, 3), *states(rng, kind, len(lengths), 3)]

    def forward(*a):
        return np.concatenate([p.ravel() for p in run(lambda *b: call(kind, b[0], b[5:], b[1:5], sizes, reverse), *a)])

    def backward(gy, number):
        def gradient(gy, *a):
            leaves = [tensor(b, requires_grad=k == number) for k, b in enumerate(a)]
            parts = call(kind, leaves[0], leaves[5:], leaves[1:5], sizes, reverse)
            start, total = 0, None
            for part in parts:
                g = tensor(gy[start : start + part.size].reshape(part.shape))
                total = (part * g).sum() if total is None else total + (part * g).sum()
                start += part.size
            total.backward()
            assert [leaf.grad is None for leaf in leaves] == [k != number for k in range(len(leaves))]
            return leaves[number].grad

        return run(gradient, gy, *arrays)

    for number in range(len(arrays)):
        others = lambda v, number=number: [*arrays[:number], v, *arrays[number + 1 :]]  # noqa: E731
        oracles.assert_gradient(
            lambda v, others=others: forward(*others(v)), lambda gy, number=number: backward(gy, number),
            arrays[number], rng,
        )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_without_state_and_biases_both_are_zeros(run, kind, rng):
    x, weights = rng.standard_normal((3, 2, 4)), parameters(rng, kind, 4, 5)
    zeros = [np.zeros_like(s) for s in states(rng, kind, 2, 5)]
    without = run(lambda x, *w: call(kind, x, None, w), x, *weights[:2])
    full = run(lambda x, *a: call(kind, x, a[4:], a[:4]), x, *weights[:2], *np.zeros((2, len(weights[2]))), *zeros)
    for a, b in zip(without, full, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_of_the_cell_give_the_sequence(kind, rng):
    x, weights, state = rng.standard_normal((4, 2, 3)), parameters(rng, kind, 3, 5), states(rng, kind, 2, 5)
    y, *ends = call(kind, x, state, weights)
    for t, step in enumerate(x):
        if kind == "lstm":
            state = F.lstm_cell(step, tuple(state), *weights)
        elif kind in ("tanh", "relu"):
            state = [F.rnn_cell(step, state[0], *weights, nonlinearity=kind)]
        else:
            state = [F.gru_cell(step, state[0], *weights, reset_after=kind == "gru")]
        oracles.assert_close(y[t], state[0], 8)
    for end, last in zip(ends, state, strict=True):
        oracles.assert_close(end, last, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_float32(run, kind, rng):
    arrays = [a.astype(np.float16) for a in (rng.standard_normal((9, 2, 4)), *parameters(rng, kind, 4, 5))]
    half = run(lambda x, *w: call(kind, x, None, w), *arrays)
    wide = run(lambda x, *w: call(kind, x, None, w), *(a.astype(np.float32) for a in arrays))
    for a, b in zip(half, wide, strict=True):
        assert a.dtype == np.float16
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)  # rounded once, at the end
    leaves = [tensor(a, requires_grad=True) for a in arrays]
    call(kind, leaves[0], None, leaves[1:])[0].sum().backward()
    assert all(leaf.grad.dtype == np.float16 for leaf in leaves)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_5000_steps(kind, rng):
    x, weights = rng.standard_normal((5000, 1, 2)), parameters(rng, kind, 2, 2)
    leaves = [tensor(a, requires_grad=True) for a in (x, *weights)]
    y = call(kind, leaves[0], None, leaves[1:])[0]
    (y[-1] * y[-1]).sum().backward()
    expected, _ = oracles.recurrence(kind, x[:, 0], np.zeros((2, 2)), *weights)
    np.testing.assert_allclose(y.data[:, 0], expected, atol=1e-9)
    assert all(np.isfinite(leaf.grad).all() for leaf in leaves)
    assert np.abs(leaves[0].grad[-1]).max() > 0


def test_a_graph_that_is_kept_gives_the_same_gradient_twice(rng):
    leaves = [tensor(a, requires_grad=True) for a in (rng.standard_normal((3, 2, 4)), *parameters(rng, "gru", 4, 5))]
    y = F.gru(leaves[0], None, *leaves[1:])[0].sum()
    y.backward(retain_graph=True)
    once = [leaf.grad.copy() for leaf in leaves]
    y.backward()
    for leaf, g in zip(leaves, once, strict=True):
        np.testing.assert_array_equal(leaf.grad, 2 * g)


def test_errors_name_rule_and_values(run, rng):
    x, w = np.ones((3, 2, 4)), parameters(rng, "lstm", 4, 5)
    h = np.ones((2, 5))
    for wrong, message in (
        ((x[0], None, *w), r"lstm: x must have the dimensions \(T, N, in\), got shape=\(2, 4\)"),
        ((x[:0], None, *w), r"lstm: there must be at least 1 step, got shape=\(0, 2, 4\)"),
        ((x, (h, h[:1]), *w), r"lstm: c0 must have shape \(2, 5\), got shape=\(1, 5\)"),
        ((x[..., :3], None, *w), r"lstm: w_ih must have shape \(20, 3\), got shape=\(20, 4\)"),
        ((x, None, w[0], w[1][:, :3]), r"lstm: w_ih must have shape \(12, 4\), got shape=\(20, 4\)"),
        ((x, None, *w[:3], w[3][1:]), r"lstm: b_hh must have shape \(20,\), got shape=\(19,\)"),
        ((x, None, *w, None, [6]), r"lstm: packed x must have the dimensions \(S, in\), got shape=\(3, 2, 4\)"),
    ):
        with pytest.raises(ShapeError, match=message):
            F.lstm(*wrong[:6], batch_sizes=wrong[7] if len(wrong) > 6 else None)
    rows, gru = np.ones((6, 4)), parameters(rng, "gru", 4, 5)
    for sizes, error, message in (
        ([3, 2], ShapeError, "batch_sizes must add up to the rows of x, got total=5, rows=6"),
        ([2, 4], ArgumentError, r"batch_sizes must not grow from step to step, got batch_sizes=\[2, 4\]"),
        ([7, -1], ArgumentError, r"batch_sizes must not grow"),
        ([], ShapeError, "there must be at least 1 step, got steps=0"),
    ):
        with pytest.raises(error, match=f"gru: {message}"):
            F.gru(rows, None, *gru, batch_sizes=sizes)
    with pytest.raises(ArgumentError, match="rnn: nonlinearity must be .*, got nonlinearity='gelu'"):
        F.rnn(x, None, *parameters(rng, "tanh", 4, 5), nonlinearity="gelu")
    with pytest.raises(DtypeError, match="gru: x must be a floating array"):
        F.gru(rows.astype(int), None, *gru, batch_sizes=[6])
    with pytest.raises(ShapeError, match=r"rnn: h0 must have 2 dimensions, got shape=\(5,\)"):
        ops.sequence(Inputs("tanh", rows, [np.ones(5)], Weights(*parameters(rng, "tanh", 4, 5)), Sizes([6])))
    inputs = Inputs("gru", rows, [np.ones((6, 5))], Weights(*gru), Sizes([6]))
    out, saved = ops.sequence(inputs)
    with pytest.raises(ShapeError, match=r"gru_backward: gout must have shape \(12, 5\), got shape=\(6, 5\)"):
        ops.sequence_backward(inputs, out[:6], out, saved, (True,) * 6)
    with pytest.raises(DtypeError, match="gru_backward: arrays must have one dtype, got gout='float32', out='float64'"):
        ops.sequence_backward(inputs, out.astype(np.float32), out, saved, (True,) * 6)


# ---- the layers -----------------------------------------------------------------------------------------------------

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def draw(seed, kind, small=False):
    """A random configuration, and the generator for its numbers."""
    rng = np.random.default_rng(9000 + seed)
    most = 4 if small else 7
    settings = {
        "input_size": int(rng.integers(1, most)), "hidden_size": int(rng.integers(1, most)),
        "num_layers": 1 + seed % 3, "bidirectional": bool(rng.integers(2)), "bias": bool(rng.integers(4)),
        "batch_first": bool(rng.integers(2)),
    }  # fmt: skip
    if kind == "rnn":
        settings["nonlinearity"] = ["tanh", "relu"][int(rng.integers(2))]
    form = ["batch", "packed", "packed, unsorted", "alone"][int(rng.choice(4, p=[0.35, 0.3, 0.25, 0.1]))]
    lengths = rng.integers(1, most, rng.integers(1, most)).tolist()
    if form == "packed":
        lengths.sort(reverse=True)
    if kind == "lstm" and settings["hidden_size"] > 1 and seed % 2:
        settings["proj_size"] = int(rng.integers(settings["hidden_size"]))
    return rng, settings, form, lengths[:1] if form == "alone" else lengths, bool(rng.integers(3))


def through(layer, lib, x, lengths, form, state):
    """The output, padded, and the last states; ``lib`` has the packing functions."""
    first = layer.batch_first
    if form.startswith("packed"):
        given = lib.pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=form == "packed")
        y, ends = layer(given, state)
        y = lib.pad_packed_sequence(y, batch_first=first)[0]
    else:
        y, ends = layer(x, state)
    return y, *(ends if isinstance(ends, tuple) else (ends,))


def as_state(kind, parts):
    """What a layer takes as its initial state: nothing, h, or (h, c)."""
    if not parts:
        return None
    return tuple(parts) if kind == "lstm" else parts[0]


def compare(run, kind, seed, small=False):
    torch = pytest.importorskip("torch")
    rng, settings, form, lengths, has_state = draw(seed, kind, small)
    steps, n, most = max(lengths), len(lengths), settings["hidden_size"]
    widths = settings.get("proj_size", 0) or most, most
    batch = (n, steps) if settings["batch_first"] else (steps, n)
    x = rng.standard_normal(((steps,) if form == "alone" else batch) + (settings["input_size"],))
    layers = settings["num_layers"] * (1 + settings["bidirectional"])
    one = (layers,) if form == "alone" else (layers, n)
    given = [rng.standard_normal((*one, w)) for w in widths[: 2 if kind == "lstm" else 1]] if has_state else []

    theirs = getattr(torch.nn, kind.upper())(**settings, dtype=torch.float64)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, *given)]
    results = through(theirs, torch.nn.utils.rnn, leaves[0], lengths, form, as_state(kind, leaves[1:]))
    gys = [rng.standard_normal(tuple(r.shape)) for r in results]
    sum((r * torch.tensor(g)).sum() for r, g in zip(results, gys, strict=True)).backward()
    expected = [*(r.detach() for r in results), *(leaf.grad for leaf in leaves), *(p.grad for p in theirs.parameters())]

    ours = LAYERS[kind](**settings, dtype=np.float64)
    ours.load_state_dict({name: p.numpy() for name, p in theirs.state_dict().items()})
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]

    def every(*arrays):
        if not isinstance(arrays[0], np.ndarray):
            ours.to("gpu")
        mine = [tensor(a, requires_grad=True) for a in arrays[: len(leaves)]]
        results = through(ours, nn, mine[0], lengths, form, as_state(kind, mine[1:]))
        sum((r * g).sum() for r, g in zip(results, arrays[len(leaves) :], strict=True)).backward()
        return *(r.data for r in results), *(leaf.grad for leaf in mine), *(p.grad for p in ours.parameters())

    actual = run(every, x, *given, *gys)
    assert len(actual) == len(expected)
    for number, (mine, its) in enumerate(zip(actual, expected, strict=True)):
        difference = np.abs(mine - its.numpy()).max()
        assert difference <= 1e-11 * max(1, np.abs(its.numpy()).max()), (number, difference, settings, form, lengths)


@pytest.mark.peer("rnn", "lstm", "gru")
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_match_pytorch(run_xp, kind):
    for seed in range(75):
        compare(run_xp, kind, seed)


@pytest.mark.peer
@pytest.mark.parametrize("kind", LAYERS)
def test_emulated_layers_match_pytorch(kind):
    for seed in range(100, 112):
        compare(Runner("emulated"), kind, seed, small=True)


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_run_emulated_as_they_run_on_numpy(kind, rng):
    layer = LAYERS[kind](3, 4, 2, bidirectional=True, generator=rng)
    x = rng.standard_normal((3, 2, 3)).astype(np.float32)
    y = layer(x)[0]
    with cuda.emulate(check=True):
        np.testing.assert_allclose(layer(x)[0].data, y.data, atol=1e-6)


def test_the_reset_before_the_product_in_layers(rng):
    layer = nn.GRU(3, 4, 2, reset_after=False, generator=rng, dtype=np.float64)
    x = rng.standard_normal((5, 2, 3))
    y, h = layer(x)
    for n in range(2):
        rows = x[:, n]
        for k in range(2):
            w = [getattr(layer, f"{name}_l{k}").data for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            rows, last = oracles.recurrence("gru before", rows, np.zeros((1, 4)), *w)
            oracles.assert_close(h.data[k, n], last[0], 40)
        oracles.assert_close(y.data[:, n], rows, 40)


def test_dropout_acts_between_layers_in_training_alone(rng):
    layer = nn.LSTM(3, 64, 2, dropout=0.5, generator=random_generator(1))
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    a, b = layer(x)[0], layer(x)[0]
    assert not np.array_equal(a.data, b.data)
    layer.eval()
    still = layer(x)[0]
    np.testing.assert_array_equal(still.data, layer(x)[0].data)
    whole = nn.LSTM(3, 64, 2)
    whole.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(whole(x)[0].data, still.data)
    gone = nn.LSTM(3, 64, 2, dropout=1.0)
    gone.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(gone(x)[0].data, gone(0 * x)[0].data)  # the second layer sees nothing of x


def test_a_generator_draws_the_same_weights_and_the_bound_is_kept():
    a, b = (nn.GRU(3, 16, generator=random_generator(4)).state_dict() for _ in range(2))
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name])
        assert 0.15 < np.abs(array).max() <= 0.25


def test_a_summary_of_a_model_with_recurrent_layers():
    class Last(nn.Module):
        def __init__(self):
            self.lstm, self.linear = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x):
            return self.linear(self.lstm(x)[1][0][-1])

    lstm = next(line for line in Last().summary((5, 4)).splitlines() if line.startswith("lstm"))
    assert "((N, 5, 3), (" in lstm
    assert lstm.split()[-2:] == ["108", "432"]


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_refuse_bad_settings_and_inputs(kind):
    layer, name = LAYERS[kind], kind.upper()
    for settings, message in (
        ({"hidden_size": 0}, "hidden_size must be an integer of at least 1, got hidden_size=0"),
        ({"input_size": 0}, "input_size must be an integer of at least 1, got input_size=0"),
        ({"num_layers": 0}, "num_layers must be an integer of at least 1, got num_layers=0"),
        ({"num_layers": 2, "dropout": 1.5}, "dropout must be a probability, 0 to 1, got dropout=1.5"),
        ({"num_layers": 2, "dropout": -0.1}, "dropout must be a probability"),
        (
            {"dropout": 0.5},
            "dropout acts between layers, so num_layers must be at least 2, got dropout=0.5, num_layers=1",
        ),
    ):
        with pytest.raises(ArgumentError, match=f"{name}: {message}"):
            layer(**{"input_size": 4, "hidden_size": 3, **settings})
    made, x = layer(4, 3), np.ones((5, 2, 4), np.float32)
    state = np.zeros((1, 2, 3), np.float32)
    pair = (lambda h: (h, h)) if kind == "lstm" else (lambda h: h)
    for args, message in (
        ((x[..., :3],), r"the last dimension of x must equal input_size=4, got shape=\(5, 2, 3\)"),
        ((x[:0],), r"there must be at least 1 step, got shape=\(0, 2, 4\)"),
        ((x[0, 0],), r"x must have the dimensions \(T, N, in\), got shape=\(4,\)"),
        ((x, pair(state[:, :1])), r"h must have shape \(1, 2, 3\), got shape=\(1, 1, 3\)"),
        ((x[:, 0], pair(state)), r"h must have shape \(1, 3\), got shape=\(1, 2, 3\)"),
    ):
        with pytest.raises(ShapeError, match=f"{name}: {message}"):
            made(*args)
    with pytest.raises(DtypeError, match="one dtype"):
        made(x.astype(np.float64))
    assert made(np.ones((5, 0, 4), np.float32))[0].shape == (5, 0, 3)


def test_what_only_one_of_the_layers_refuses():
    with pytest.raises(ArgumentError, match="RNN: nonlinearity must be .*, got nonlinearity='gelu'"):
        nn.RNN(4, 3, nonlinearity="gelu")
    x, h = np.ones((5, 2, 4), np.float32), np.zeros((1, 2, 3), np.float32)
    with pytest.raises(ArgumentError, match=r"LSTM: the state must be a pair \(h, c\), got type='ndarray'"):
        nn.LSTM(4, 3)(x, h)
    with pytest.raises(ShapeError, match=r"LSTM: c must have shape \(1, 2, 3\), got shape=\(2, 2, 3\)"):
        nn.LSTM(4, 3)(x, (h, np.zeros((2, 2, 3), np.float32)))
    with pytest.raises(ShapeError, match=r"GRU: x must have the dimensions \(S, in\), got shape=\(2, 5, 4\)"):
        nn.GRU(4, 3)(nn.PackedSequence(np.ones((2, 5, 4), np.float32), np.array([2])))


# ---- the cells ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYERS)
def test_cell_layers_give_the_steps_of_the_layer(kind, rng):
    layer, cell = LAYERS[kind](4, 3, generator=rng), getattr(nn, f"{kind.upper()}Cell")(4, 3)
    cell.load_state_dict({name.removesuffix("_l0"): array for name, array in layer.state_dict().items()})
    x, state = rng.standard_normal((5, 2, 4)).astype(np.float32), None
    y = layer(x)[0]
    for t, step in enumerate(x):
        state = cell(step, state)
        oracles.assert_close((state[0] if kind == "lstm" else state).data, y.data[t], 8)
    bare = getattr(nn, f"{kind.upper()}Cell")(4, 3, bias=False)
    assert [name for name, _ in bare.named_parameters()] == ["weight_ih", "weight_hh"]
    assert (bare(x[0])[0] if kind == "lstm" else bare(x[0])).shape == (2, 3)


def test_cell_layers_refuse_bad_settings():
    with pytest.raises(ArgumentError, match="GRUCell: hidden_size must be an integer of at least 1, got hidden_size=0"):
        nn.GRUCell(3, 0)
    with pytest.raises(ArgumentError, match="RNNCell: nonlinearity must be"):
        nn.RNNCell(3, 2, nonlinearity="gelu")
    with pytest.raises(ShapeError, match=r"LSTMCell: x must have the dimensions \(N, input_size\) or \(input"):
        nn.LSTMCell(3, 2)(np.ones((1, 1, 3), np.float32))
    assert nn.RNNCell(3, 2, nonlinearity="relu")(np.ones((1, 3), np.float32)).data.min() >= 0
    assert gpunn.nn.GRUCell(3, 2, reset_after=False)(np.ones((1, 3), np.float32)).shape == (1, 2)
