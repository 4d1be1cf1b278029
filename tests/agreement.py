"""A differentiable function against PyTorch's: the result, and the gradient of everything that has one."""

from __future__ import annotations

from functools import partial

import numpy as np

from gpunn import functional, tensor


def both(torch, name, **settings):
    """gpunn's and PyTorch's function of this name, with these settings."""
    return [partial(getattr(place, name), **settings) for place in (functional, torch.nn.functional)]


def assert_agrees(run, torch, ours, theirs, arrays, constants=(), where="", tolerance=1e-11) -> None:
    """``ours(*tensors, *constants)`` is ``theirs`` of the same values, and so are the gradients of ``arrays``.

    Of several results the first has a gradient. All float64. Sums are of some hundred terms of about 1, so that the
    tolerance leaves room for their rounding.
    """
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    given = [torch.tensor(c) if isinstance(c, np.ndarray) else c for c in constants]
    expected, *others = _several(theirs(*leaves, *given))
    gy = np.asarray(np.random.default_rng(len(where)).standard_normal(expected.shape))
    expected.backward(torch.tensor(gy))

    def both_ways(g, *values):
        own = [tensor(v, requires_grad=True) for v in values[: len(arrays)]]
        y, *more = _several(ours(*own, *values[len(arrays) :]))
        y.backward(g)
        return (y.data, *(leaf.grad for leaf in own), *more)

    results = run(both_ways, gy, *arrays, *constants)
    wanted = [expected.detach(), *(leaf.grad for leaf in leaves), *others]
    gradients, more = ([f"{kind} {n}" for n in range(len(of))] for kind, of in (("gradient", leaves), ("more", others)))
    for name, actual, right in zip(["result", *gradients, *more], results, wanted, strict=True):
        np.testing.assert_allclose(actual, right.numpy(), rtol=tolerance, atol=tolerance, err_msg=f"{name} of {where}")


def _several(results):
    return results if isinstance(results, tuple) else (results,)
