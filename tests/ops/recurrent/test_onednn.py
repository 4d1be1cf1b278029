"""oneDNN's way through a sequence: where it is taken, and that it gives what the steps give."""

import threading

import numpy as np
import oracles
import pytest

import gpunn.functional as F
from gpunn import cuda, nn, tensor
from gpunn.cpu import onednn
from gpunn.ops import recurrent as ops
from gpunn.ops.recurrent import Inputs, Sizes, Weights, layer
from gpunn.ops.shared.routes import route

pytestmark = pytest.mark.skipif(onednn.found()[0] is None, reason=onednn.found()[1])

GATES = {"tanh": 1, "lstm": 4, "gru": 3, "gru before": 3}
SHAPES = [(1, 1, 1, 1), (9, 3, 7, 20), (35, 16, 64, 128), (12, 1, 2, 17), (8, 64, 256, 256)]  # steps, N, in, H


def drawn(rng, cell, steps, n, size, hidden, reverse=False, dtype=np.float32, biases=(True, True)):
    """Inputs of the operation, and a gradient of its result."""
    draw = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    rows, states = GATES.get(cell, 1) * hidden, 2 if cell == "lstm" else 1
    weights = [draw(rows, k) / np.float32(hidden) ** 0.5 for k in (size, hidden)]
    weights = Weights(*(w.astype(dtype) for w in weights), *(draw(rows) if given else None for given in biases))
    sizes = Sizes([n] * steps, reverse)
    inputs = Inputs(cell, draw(steps * n, size), [draw(n, hidden) for _ in range(states)], weights, sizes)
    return inputs, draw((steps + states) * n, hidden)


def both_passes(inputs, gout, needs=None):
    """The way that was taken, the result, and the gradients."""
    out, saved = ops.sequence(inputs)
    needs = (True,) * (5 + len(inputs.states)) if needs is None else needs
    gradients = ops.sequence_backward(inputs, gout, out, saved, needs)
    return saved.way.__name__.rpartition(".")[2], out, gradients


def chosen(inputs):
    return route(layer.ROUTES, inputs).__name__.rpartition(".")[2]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cell", GATES)
def test_it_gives_what_the_steps_give(cell, shape, reverse, rng):
    steps, n, _, hidden = shape
    inputs, gout = drawn(rng, cell, *shape, reverse)
    wide = Inputs(
        cell, inputs.x.astype(float), [s.astype(float) for s in inputs.states],
        Weights(*(w.astype(float) for w in inputs.weights)), inputs.sizes,
    )  # fmt: skip
    with onednn.engine("onednn"):
        way, out, gradients = both_passes(inputs, gout)
    assert way == "onednn"
    way, expected, expected_gradients = both_passes(wide, gout.astype(float))
    assert way == "steps"
    oracles.assert_close(out, expected, 8 * steps * hidden)
    for g, wanted in zip(gradients, expected_gradients, strict=True):
        assert g.dtype == np.float32
        oracles.assert_close(g, wanted, 16 * steps * n * hidden)


@pytest.mark.parametrize("biases", [(True, False), (False, True), (False, False)], ids=str)
@pytest.mark.parametrize("cell", GATES)
def test_biases_may_be_left_out_and_gradients_asked_for_one_by_one(cell, biases, rng):
    inputs, gout = drawn(rng, cell, 9, 3, 5, 6, biases=biases)
    with onednn.engine("onednn"):
        way, out, gradients = both_passes(inputs, gout)
        for number in range(len(gradients)):
            needs = tuple(k == number for k in range(len(gradients)))
            _, _, alone = both_passes(inputs, gout, needs)
            assert [g is not None for g in alone] == list(needs)
            np.testing.assert_array_equal(alone[number], gradients[number])
    assert way == "onednn"
    with onednn.engine("numpy"):
        _, expected, wanted = both_passes(inputs, gout)
    oracles.assert_close(out, expected, 100)
    for g, its in zip(gradients, wanted, strict=True):
        oracles.assert_close(g, its, 400)


def test_no_gradient_is_the_memory_of_another(rng):
    for cell in GATES:
        inputs, gout = drawn(rng, cell, 9, 3, 5, 6)
        with onednn.engine("onednn"):
            _, out, gradients = both_passes(inputs, gout)
        arrays = [out, gout, inputs.x, *inputs.states, *inputs.weights, *gradients]
        for k, g in enumerate(gradients):
            assert not any(np.may_share_memory(g, a) for a in arrays if a is not g), (cell, k)


def test_where_it_is_taken(rng):
    for cell in GATES:
        inputs, _ = drawn(rng, cell, 9, 3, 5, 6)
        assert chosen(inputs) == "onednn"
        assert chosen(inputs._replace(sizes=Sizes([3] * 9, True))) == "onednn"
        assert chosen(inputs._replace(sizes=Sizes([3] * 8 + [2, 1]))) == "steps"
        assert chosen(drawn(rng, cell, 9, 3, 5, 6, dtype=np.float64)[0]) == "steps"
        assert chosen(drawn(rng, cell, 9, 3, 5, 6, dtype=np.float16)[0]) == "steps"
        for empty in ((9, 0, 5, 6), (9, 3, 0, 6), (9, 3, 5, 0)):
            assert chosen(drawn(rng, cell, *empty)[0]) == "steps"
        with cuda.emulate():
            assert chosen(inputs) == "steps"
        with onednn.engine("numpy"):
            assert chosen(inputs) == "steps"
    assert chosen(drawn(rng, "relu", 9, 3, 5, 6)[0]) == "steps"
    short = drawn(rng, "tanh", 7, 3, 5, 6)[0]
    assert chosen(short) == "steps"
    with onednn.engine("onednn"):
        assert chosen(short) == "onednn"


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_layers_come_here(kind, rng, monkeypatch):
    calls = []
    run = onednn.Job.__call__
    monkeypatch.setattr(onednn.Job, "__call__", lambda self, *arrays: (calls.append(len(arrays)), run(self, *arrays)))
    both = getattr(nn, kind)(5, 6, num_layers=2, bidirectional=True)
    x = tensor(rng.standard_normal((9, 3, 5)).astype(np.float32))
    both(x)[0].sum().backward()
    assert len([count for count in calls if count >= 8]) == 8  # of each layer and direction there and back


@pytest.mark.parametrize("cell", GATES)
def test_a_graph_that_is_kept_gives_the_same_bits_again(cell, rng):
    inputs, gout = drawn(rng, cell, 9, 3, 5, 6)
    out, saved = ops.sequence(inputs)
    before = out.copy()
    needs = (True,) * (5 + len(inputs.states))
    once = ops.sequence_backward(inputs, gout, out, saved, needs)
    assert saved.way.__name__ == "gpunn.ops.recurrent.onednn"
    assert saved.values.workspace == []  # oneDNN may spoil it, so it is not used twice
    again, third = (ops.sequence_backward(inputs, gout, out, saved, needs) for _ in range(2))
    np.testing.assert_array_equal(out, before)
    for a, b, c in zip(once, again, third, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("cell", GATES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity_go_where_the_steps_send_them(cell, value, rng):
    inputs, gout = drawn(rng, cell, 9, 3, 5, 20)
    arrays = [inputs.x, *inputs.states, *inputs.weights, gout]
    for array in arrays:
        kept = array.flat[array.size // 2]
        array.flat[array.size // 2] = value
        results = []
        for name in ("onednn", "numpy"):
            with onednn.engine(name), np.errstate(all="ignore"):
                _, out, gradients = both_passes(inputs, gout)
            results.append([out, *gradients])
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            np.testing.assert_array_equal(a[np.isinf(b)], b[np.isinf(b)])
        array.flat[array.size // 2] = kept


@pytest.mark.parametrize("cell", GATES)
def test_any_layout_of_the_arrays(cell, rng):
    inputs, gout = drawn(rng, cell, 9, 3, 5, 6)
    gaps = lambda a: np.repeat(np.asfortranarray(a), 2, -1)[..., ::2]  # noqa: E731
    odd = inputs._replace(
        x=gaps(inputs.x), states=list(map(gaps, inputs.states)), weights=Weights(*map(gaps, inputs.weights))
    )
    odd.x.flags.writeable = False
    _, out, gradients = both_passes(inputs, gout)
    way, its_out, its_gradients = both_passes(odd, gaps(gout))
    assert way == "onednn"
    for a, b in zip([out, *gradients], [its_out, *its_gradients], strict=True):
        np.testing.assert_array_equal(a, b)


def test_threads_do_not_meet(rng):
    cases = [drawn(rng, cell, 9, 3 + k, 5, 6) for k in range(2) for cell in GATES]
    expected = [both_passes(*case) for case in cases]
    wrong = []

    def work():
        for case, (_, out, gradients) in zip(cases * 5, expected * 5, strict=True):
            _, mine, its = both_passes(*case)
            if not all(map(np.array_equal, [mine, *its], [out, *gradients])):
                wrong.append(case[0].cell)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.slow
def test_jobs_of_thousands_of_shapes_are_given_up(rng):
    onednn.release()
    for steps in range(1, 40):
        for n in range(1, 8):
            inputs, gout = drawn(rng, "lstm", steps, n, 2, 3)
            way, _, _ = both_passes(inputs, gout)
            assert way == "onednn"
    assert len(onednn._here.jobs) <= onednn._KEPT


@pytest.mark.peer("rnn", "lstm", "gru")
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_layers_match_pytorch(kind):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        steps, n, size, hidden = (int(rng.integers(1, most)) for most in (30, 20, 70, 70))
        settings = {"num_layers": 1 + seed % 2, "bidirectional": bool(rng.integers(2)), "bias": bool(rng.integers(4))}
        theirs = getattr(torch.nn, kind.upper())(size, hidden, **settings)
        ours = getattr(nn, kind.upper())(size, hidden, **settings)
        ours.load_state_dict({name: p.numpy() for name, p in theirs.state_dict().items()})
        x = rng.standard_normal((steps, n, size)).astype(np.float32)
        mine, its = tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        with onednn.engine("onednn"):
            y, _ = ours(mine)
            g = rng.standard_normal(y.shape).astype(np.float32)
            y.backward(g)
        wanted, _ = theirs(its)
        wanted.backward(torch.tensor(g))
        pairs = [(y.data, wanted), (mine.grad, its.grad)]
        pairs += [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
        for a, b in pairs:
            oracles.assert_close(a, b.detach().numpy(), 64 * steps * n)


def test_what_forward_did_backward_does_whatever_engine_is_asked_for(rng):
    x, weights = rng.standard_normal((9, 3, 5)).astype(np.float32), drawn(rng, "lstm", 9, 3, 5, 6)[0].weights
    leaf = tensor(x, requires_grad=True)
    y, _ = F.lstm(leaf, None, *weights)
    with onednn.engine("numpy"):
        y.sum().backward()
    again = tensor(x, requires_grad=True)
    F.lstm(again, None, *weights)[0].sum().backward()
    np.testing.assert_array_equal(leaf.grad, again.grad)
