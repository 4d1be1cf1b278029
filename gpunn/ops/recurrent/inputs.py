"""The gradients of the inputs of a sequence, from those of its gates: one product over all steps for each.

    gx = gx_gates W_ih;  gW_ih = gx_gates^T x;  gb_ih = sum of gx_gates over the rows
    gW_hh = gh_gates^T h, h being the state that each row was computed from;  gb_hh = sum of gh_gates over the rows

gx_gates and gh_gates, the gradients of what x and h give to the gates, differ in the GRU alone. The GRU that resets
before the product has r h in place of h in the rows of n.
"""

from __future__ import annotations

from gpunn.backend import Array
from gpunn.ops import linear as products
from gpunn.ops.recurrent.reset_before import weight_gradient
from gpunn.ops.recurrent.rows import Needs, Sizes, Weights, before, wide


def input_gradients(
    needs: Needs, x: Array, h0: Array, weights: Weights, sizes: Sizes, out: Array,
    of_x: Array, of_h: Array, of_states: list[Array], rz: Array | None = None,
) -> list[Array | None]:  # fmt: skip
    """The gradients of x, the states, W_ih, W_hh and the biases, in the dtype of x.

    ``out`` is what the forward function returned, ``of_x`` and ``of_h`` are the gradients of the gates, ``of_states``
    those of the initial states; ``rz`` are the gates that reset h before the product, if so.
    """
    needs_x, needs_ih, needs_hh, needs_b_ih, needs_b_hh = needs[0], *needs[-4:]
    of_w_hh = None
    if needs_hh:
        h = wide(before(out[: len(x)], h0, sizes))
        of_w_hh = products.linear_backward_w(of_h, h) if rz is None else weight_gradient(of_h, h, rz)
    gradients = [
        products.linear_backward_x(of_x, wide(weights.w_ih)) if needs_x else None,
        *of_states,
        products.linear_backward_w(of_x, wide(x)) if needs_ih else None,
        of_w_hh,
        products.linear_backward_b(of_x) if needs_b_ih else None,
        products.linear_backward_b(of_h) if needs_b_hh else None,
    ]
    return [None if g is None else g.astype(x.dtype, copy=False) for g in gradients]
