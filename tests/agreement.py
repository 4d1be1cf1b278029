"""A differentiable function against PyTorch's: the result, and the gradient of everything that has one."""

from __future__ import annotations

import numpy as np

from gpunn import tensor


def assert_agrees(run, torch, ours, theirs, arrays, constants=(), where="", tolerance=1e-11) -> None:
    """``ours(*tensors, *constants)`` is ``theirs`` of the same values, and so are the gradients of ``arrays``.

    All float64. Sums are of some hundred terms of about 1, so that the tolerance leaves room for their rounding.
    """
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    given = [torch.tensor(c) if isinstance(c, np.ndarray) else c for c in constants]
    expected = theirs(*leaves, *given)
    gy = np.asarray(np.random.default_rng(len(where)).standard_normal(expected.shape))
    expected.backward(torch.tensor(gy))

    def both_ways(g, *values):
        own = [tensor(v, requires_grad=True) for v in values[: len(arrays)]]
        y = ours(*own, *values[len(arrays) :])
        y.backward(g)
        return (y.data, *(leaf.grad for leaf in own))

    results = run(both_ways, gy, *arrays, *constants)
    wanted = [expected.detach(), *(leaf.grad for leaf in leaves)]
    for name, actual, right in zip(["result", *(f"gradient {n}" for n in range(9))], results, wanted, strict=False):
        np.testing.assert_allclose(actual, right.numpy(), rtol=tolerance, atol=tolerance, err_msg=f"{name} of {where}")
