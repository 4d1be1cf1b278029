"""PyTorch's own samples of its optimizers: their settings give the same weights, and what it refuses is refused."""

import numpy as np
import pytest

from gpunn import optim, tensor
from gpunn.errors import GpunnError

# bfloat16 rounds to 1 part in 256: five steps of lr = 0.01 end within this of those in full.
ROUGH = {"Muon": 5e-3}  # PyTorch iterates in bfloat16, gpunn in the dtype of the states
WITHOUT = {"SparseAdam"}  # of sparse gradients, which gpunn does not have
STEPS = {"LBFGS": {"max_iter": 4}}  # of which each has several; near the end they are driven by rounding
TAKEN = {  # what PyTorch refuses and gpunn does not
    "lr as Tensor doesn't work with foreach & not capturable": "foreach says how PyTorch computes, and is ignored",
    r"betas\[0\] as a Tensor is not supported for capturable=False and foreach=True": "so here",
    "betas must be either both floats or both Tensors": "numbers are numbers, whatever holds them",
}


def optimizers():
    pytest.importorskip("torch")
    pytest.importorskip("expecttest")
    from torch.testing._internal.common_optimizers import optim_db

    return {info.optim_cls.__name__: info for info in optim_db if info.optim_cls.__name__ not in WITHOUT}


def as_arrays(value):
    """``value`` with NumPy's arrays in the place of PyTorch's tensors."""
    if isinstance(value, tuple | list):
        return type(value)(map(as_arrays, value))
    return value.detach().numpy() if hasattr(value, "detach") else value


def trained(name, kwargs, x, y, starts):
    """The weights after a few steps of least squares, by gpunn and by PyTorch."""
    import torch

    peers, leaves = (
        [torch.tensor(p, requires_grad=True) for p in starts],
        [tensor(p, requires_grad=True) for p in starts],
    )
    peer, ours = getattr(torch.optim, name)(peers, **kwargs), getattr(optim, name)(leaves, **as_arrays(kwargs))

    def closure_of(optimizer, asarray, parameters):
        def closure():
            optimizer.zero_grad()
            z = asarray(x) @ parameters[0] + (parameters[1] if len(parameters) > 1 else 0.0)
            loss = ((z - asarray(y)) ** 2).mean()
            loss.backward()
            return loss

        return closure

    for _ in range(2 if name in STEPS else 5):
        expected = peer.step(closure_of(peer, torch.tensor, peers)).item()
        loss = ours.step(closure_of(ours, tensor, leaves)).item()
        np.testing.assert_allclose(loss, expected, rtol=ROUGH.get(name, 1e-8), atol=1e-8)
    return [p.data for p in leaves], [p.detach().numpy() for p in peers]


@pytest.mark.peer("Adafactor", "LBFGS", "Muon", "Rprop")
def test_every_sample_of_pytorch_gives_its_weights(rng):
    passed = 0
    for name, info in optimizers().items():
        for sample in info.optim_inputs_func(device="cpu"):
            kwargs = sample.kwargs | STEPS.get(name, {})
            starts = [rng.standard_normal((5, 3)), *([rng.standard_normal(3)] if name != "Muon" else [])]
            x, y = rng.standard_normal((6, 5)), rng.standard_normal((6, 3))
            tolerance = {"rtol": 1e-8, "atol": ROUGH.get(name, 1e-8)}
            for ours, theirs in zip(*trained(name, kwargs, x, y, starts), strict=True):
                np.testing.assert_allclose(ours, theirs, **tolerance, err_msg=f"{name}: {sample.desc}")
            passed += 1
    assert passed > 80


@pytest.mark.peer
def test_what_pytorch_refuses_is_refused():
    import torch

    refused = set()
    for name, info in optimizers().items():
        for sample in info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
            given, leaves = sample.optimizer_error_input, {}

            def leaf(value, leaves=leaves):
                if isinstance(value, torch.Tensor):
                    if id(value) not in leaves:
                        leaves[id(value)] = tensor(as_arrays(value), requires_grad=True)
                    return leaves[id(value)]
                if isinstance(value, dict):
                    return {key: leaf(each) for key, each in value.items()}
                return type(value)(map(leaf, value)) if isinstance(value, tuple | list) else value

            def make(name=name, given=given, leaf=leaf):
                params = [torch.ones(2, 3)] if given.params is None else given.params
                getattr(optim, name)(leaf(params), **as_arrays(given.kwargs))

            if given.desc in TAKEN:
                make()
            else:
                try:
                    make()
                except GpunnError:
                    refused.add((name, given.desc))
                else:
                    pytest.fail(f"{name} takes what PyTorch does not: {given.desc}")
    assert len(refused) > 80
