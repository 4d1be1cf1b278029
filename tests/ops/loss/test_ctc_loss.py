import itertools

import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn import nn, tensor
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import loss as ops


def naive(log_probs, target, blank):
    """Minus the logarithm of the sum over every path whose classes, without repetitions and blanks, are the target."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if [c for c, _ in itertools.groupby(path) if c != blank] == list(target):
            total += np.exp(sum(float(log_probs[t, c]) for t, c in enumerate(path)))
    return -np.log(total) if total else np.inf


def draw(seed, steps=5, dtype=np.float64):
    """Logarithms of probabilities, padded targets with anything behind their ends, lengths, and the blank."""
    rng = np.random.default_rng(seed)
    n, classes, longest = rng.integers(1, 4), rng.integers(2, 4), rng.integers(0, 4)
    blank = int(rng.integers(0, classes))
    targets = rng.integers(0, classes - 1, (n, longest))
    targets += targets >= blank
    inputs, labels = rng.integers(0, steps + 1, n), rng.integers(0, longest + 1, n)
    targets[np.arange(longest) >= labels[:, None]] = rng.integers(-9, 9)
    log_probs = F.log_softmax(rng.standard_normal((steps, n, classes))).astype(dtype)
    return log_probs, targets, inputs, labels, blank


def concatenated(targets, labels):
    return np.concatenate([row[:count] for row, count in zip(targets, labels, strict=True)])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_forward_is_the_sum_over_all_paths(run_xp, dtype):
    for seed in range(12):
        log_probs, targets, inputs, labels, blank = draw(seed, 4, dtype)
        examples = zip(log_probs.swapaxes(0, 1), targets, inputs, labels, strict=True)
        losses = np.array([naive(p[:t], row[:s], blank) for p, row, t, s in examples])
        for given in (targets, concatenated(targets, labels)):
            y = run_xp(ops.ctc_loss, log_probs, given, inputs, labels, blank, "none")
            assert y.dtype == dtype
            np.testing.assert_allclose(y, losses, 20 * np.finfo(dtype).eps, 20 * np.finfo(dtype).eps)
        settings = inputs.tolist(), tuple(labels.tolist()), blank
        finite = np.where(np.isinf(losses), 0, losses)
        tolerance = {"rtol": 20 * np.finfo(dtype).eps}
        np.testing.assert_allclose(
            run_xp(ops.ctc_loss, log_probs, targets, *settings, "sum", True), finite.sum(), **tolerance
        )
        expected = (finite / np.maximum(labels, 1)).mean()
        np.testing.assert_allclose(
            run_xp(ops.ctc_loss, log_probs, targets, *settings, "mean", True), expected, **tolerance
        )


def test_gradient_through_log_softmax_is_the_slope(run_xp, rng):
    for seed in range(12):
        log_probs, targets, *lengths, blank = draw(seed)

        def loss(x, given, settings=(*lengths, blank, "mean", True)):
            return F.ctc_loss(F.log_softmax(x), given, *settings)

        def gradient(x, given, g, loss=loss):
            leaf = tensor(x, requires_grad=True)
            loss(leaf, given).backward(g)
            return leaf.grad

        x = rng.standard_normal(log_probs.shape)
        oracles.assert_gradient(
            lambda v, f=loss, t=targets: run_xp(f, v, t),
            lambda g, f=gradient, x=x, t=targets: run_xp(f, x, t, g),
            x,
            rng,
        )


def test_one_example_and_the_layer(run_xp):
    log_probs, targets, *_ = draw(4)
    p, blank = log_probs[:, 0], draw(4)[-1]
    row = targets[0, :2] * 0 + (1 if blank == 0 else 0)
    y = run_xp(ops.ctc_loss, p, row, 5, 2, blank, "none")
    assert y.shape == ()
    np.testing.assert_allclose(y, run_xp(ops.ctc_loss, p[:, None], row[None], [5], [2], blank, "none")[0])
    leaf = tensor(p, requires_grad=True)
    nn.CTCLoss(blank, "sum", True)(leaf, row, tensor(np.array(5)), np.array(2)).backward()
    both = tensor(p[:, None], requires_grad=True)
    F.ctc_loss(both, row[None], [5], [2], blank, "sum").backward()
    np.testing.assert_array_equal(leaf.grad, both.grad[:, 0])


def test_impossible_and_long_alignments(run_xp):
    log_probs = np.log(np.full((3, 1, 2), 0.5))
    assert run_xp(ops.ctc_loss, log_probs, np.array([[1, 1, 1]]), [3], [3]) == np.inf
    leaf = tensor(log_probs, requires_grad=True)
    F.ctc_loss(leaf, np.array([[1, 1, 1]]), [3], [3], zero_infinity=True).backward()
    assert not leaf.grad.any()
    far = np.log(np.full((2000, 1, 2), 0.5, np.float32))  # each path has a probability of 2^-2000
    y = run_xp(ops.ctc_loss, far, np.array([[1]]), [2000], [1], reduction="none")
    np.testing.assert_allclose(y, 2000 * np.log(2) - np.log(2000 * 2001 / 2), rtol=1e-4)
    never = log_probs.copy()
    never[:, :, 1] = -np.inf
    assert run_xp(ops.ctc_loss, never, np.array([[1]]), [3], [1]) == np.inf


def test_errors_name_rule_and_values():
    p, row = np.zeros((4, 2, 3)), np.array([[1], [2]])
    for given, kind, message in (
        ((p, row, [4, 4], [1]), ArgumentError, r"target_lengths must be integers, one for each of 2 examples, got"),
        ((p, row, [4, 4.5], [1, 1]), ArgumentError, r"input_lengths must be integers, one for each of 2 examples"),
        ((p, row, [5, 4], [1, 1]), ArgumentError, r"ctc_loss: input_lengths must lie in 0 to 4, got .*=\[5, 4\]"),
        ((p, row, [4, 4], [2, 1]), ArgumentError, r"ctc_loss: target_lengths must lie in 0 to 1, got"),
        ((p, row - 1, [4, 4], [1, 1]), ArgumentError, "targets must lie in 0 to 2 and not be blank, got target=0"),
        ((p, row + 1, [4, 4], [1, 1]), ArgumentError, "targets must lie in 0 to 2 and not be blank, got target=3"),
        ((p, row, [4, 4], [1, 1], 3), ArgumentError, "blank must lie in 0 to 2, got blank=3"),
        ((p, row[:, 0], [4, 4], [1, 0]), ShapeError, r"must add up to the size of concatenated targets, got .*total=1"),
        ((p, row.T, [4, 4], [1, 1]), ShapeError, r"targets must have shape \(2, 2\), got shape=\(1, 2\)"),
        ((p, row * 1.0, [4, 4], [1, 1]), DtypeError, "targets must hold integer classes, got dtype='float64'"),
        (
            (p[0, 0], row, [4, 4], [1, 1]),
            ShapeError,
            r"log_probs must have the dimensions \(T, N, C\) or \(T, C\), got",
        ),
        ((p[:0], row, [0, 0], [1, 1]), ShapeError, r"ctc_loss: log_probs must not be empty, got shape=\(0, 2, 3\)"),
    ):
        with pytest.raises(kind, match=message):
            ops.ctc_loss(*given)


@pytest.mark.peer("ctc_loss")
def test_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(80):
        log_probs, targets, inputs, labels, blank = draw(seed, 12)
        reduction, zero = ("mean", "sum", "none")[seed % 3], bool(seed % 2)
        given = targets if seed % 5 else concatenated(targets, labels)
        leaf = torch.tensor(log_probs, requires_grad=True)
        lengths = torch.tensor(inputs), torch.tensor(labels)
        expected = torch.nn.functional.ctc_loss(leaf, torch.tensor(given), *lengths, blank, reduction, zero)
        gy = np.asarray(np.random.default_rng(seed).standard_normal(expected.shape))
        expected.backward(torch.tensor(gy))

        def both(x, given, gy, settings=(inputs, labels, blank, reduction, zero)):
            own = tensor(x, requires_grad=True)
            y = F.ctc_loss(own, given, *settings)
            y.backward(gy)
            return y.data, own.grad

        y, gx = run_xp(both, log_probs, given, gy)
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, err_msg=f"{seed=}")
        np.testing.assert_allclose(gx, leaf.grad.numpy(), rtol=1e-8, atol=1e-10, err_msg=f"{seed=}")
