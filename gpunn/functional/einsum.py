"""Differentiable sums of products over named axes; see :mod:`gpunn.ops.einsum`."""

from __future__ import annotations

from typing import Any

from gpunn.casting import in_half
from gpunn.functional.record import differentiable, kept
from gpunn.ops import einsum as ops
from gpunn.tensor import Tensor


@in_half
def einsum(equation: str, *operands: Any) -> Any:
    """The sum of products that ``equation`` names: each axis has a letter, those not in the result are summed over.

    A letter may occur once in each operand (no diagonals), and there is no ellipsis.

    >>> import numpy as np
    >>> einsum("ij,jk->ik", np.ones((2, 3)), np.ones((3, 1))).tolist()
    [[3.0], [3.0]]
    """
    arrays = kept(*operands)
    y = ops.einsum(equation, *arrays)
    result = differentiable(y, operands, lambda gy, needs: ops.einsum_backward(gy, equation, arrays, needs))
    # Of one operand it may be a view: its axes in another order.
    return result.sharing_memory(*operands) if len(operands) == 1 and isinstance(result, Tensor) else result
