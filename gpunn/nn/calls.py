"""What calling a layer gives, as type checkers and editors are told; of other layers that is what ``forward`` gives.

While a program runs they are no more than :class:`Module`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from gpunn.nn.module import Module

if TYPE_CHECKING:
    from gpunn.functional.record import Input, X, Y
    from gpunn.tensor import Tensor


class Plain(Module):
    """A layer that learns nothing, of one argument: gives a Tensor for a Tensor, an array for an array."""

    if TYPE_CHECKING:

        def __call__(self, x: X) -> X: ...


class Learning(Module):
    """A layer of one argument that may learn: gives a Tensor for a Tensor, and for an array where it does learn."""

    if TYPE_CHECKING:

        @overload
        def __call__(self, x: Tensor) -> Tensor: ...
        @overload
        def __call__(self, x: Any) -> Any: ...
        def __call__(self, x: Any) -> Any: ...


class Pair(Module):
    """A layer that learns nothing, of two arguments: gives a Tensor if one of them is a Tensor, else an array."""

    if TYPE_CHECKING:

        def __call__(self, x: Input[Y], target: Input[Y]) -> Y: ...
