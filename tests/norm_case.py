"""Layers of normalisation beside PyTorch's."""

from __future__ import annotations

import numpy as np

from gpunn import tensor


def assert_steps_are_pytorchs(run, layer, theirs, shape, rng, tolerance, note=""):
    """From the same parameters, drawn if there are any: two steps in training, one in evaluation."""
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
