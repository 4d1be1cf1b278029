"""What the tests of normalisation share."""

from __future__ import annotations

import numpy as np

from gpunn import tensor


def case(shape, dtype, rng, of_weight=None):
    """x of this shape, and weight and bias: one of each for a channel, or ``of_weight``."""
    x = (rng.standard_normal(shape) + 2).astype(dtype)
    weight, bias = rng.standard_normal((2, *(of_weight or shape[1:2]))).astype(dtype)
    return x, weight, bias


def assert_weight_and_bias_can_be_left_out(run, forward, backward, x, setting, shape):
    """They are 1 and 0 then; ``setting`` is the number of groups, or the shape of a row."""
    one, zero = np.ones(shape), np.zeros(shape)
    bare, mean, var = run(forward, x, setting)
    np.testing.assert_array_equal(bare, run(forward, x, setting, one, zero)[0])
    without, given = (run(backward, x, x, mean, var, setting, *weight) for weight in ((), (one,)))
    for a, b in zip(without, given, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_float16_gradients_are_those_of_float32(run, forward, backward, x, setting, weight, rng):
    """``setting`` is the number of groups, or the shape of a row."""
    gy = (rng.standard_normal(x.shape) * 900).astype(np.float16)
    mean, var = run(forward, x, setting)[1:]
    wide = [a.astype(np.float32) for a in (gy, x)]
    actual = run(backward, gy, x, mean, var, setting, weight)
    expected = run(backward, *wide, mean, var, setting, weight.astype(np.float32))
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == np.float16
        np.testing.assert_array_equal(a, e.astype(np.float16))


def assert_steps_are_pytorchs(run, layer, theirs, shape, rng, tolerance, note=""):
    """From the same parameters, drawn if there are any, as PyTorch's: two steps in training, one in evaluation."""
    import torch

    if layer.state_dict().keys() >= {"weight", "bias"}:
        state = layer.state_dict() | {key: rng.standard_normal(shape[1]) for key in ("weight", "bias")}
        layer.load_state_dict(state)
        theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()})

    def step(x, gy):
        leaf = tensor(x, requires_grad=True)
        layer.zero_grad()
        y = layer(leaf)
        y.backward(gy)
        return y.data, leaf.grad, *(p.grad for p in layer.parameters())

    if run.name == "cupy":
        layer.to("gpu")
    for training in (True, True, False):
        layer.train(training), theirs.train(training)
        x, gy = rng.standard_normal((2, *shape))
        leaf = torch.tensor(x, requires_grad=True)
        theirs.zero_grad()
        y = theirs(leaf)
        y.backward(torch.tensor(gy))
        expected = [y.detach(), leaf.grad, *(p.grad for p in theirs.parameters())]
        for a, e in zip(run(step, x, gy), expected, strict=True):
            np.testing.assert_allclose(a, e.numpy(), rtol=tolerance, atol=tolerance, err_msg=note)
