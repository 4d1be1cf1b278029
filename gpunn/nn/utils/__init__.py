"""What trains and moves the parameters of modules, by the names of PyTorch's ``nn.utils``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gpunn import functional as F
from gpunn.backend import Array, check_array, device_context
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check
from gpunn.graph import raw
from gpunn.nn.utils import rnn
from gpunn.optim.clip import clip_grad_norm, clip_grad_value
from gpunn.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "parameters_to_vector", "rnn", "vector_to_parameters"]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Array:
    """:func:`gpunn.optim.clip_grad_norm` of one parameter or several; those without a gradient are left alone.

    ``foreach``, which says how PyTorch computes, changes nothing.

    >>> import gpunn
    >>> p = gpunn.tensor([1.0, 1.0], requires_grad=True)
    >>> (p * gpunn.tensor([3.0, 4.0])).sum().backward()
    >>> float(clip_grad_norm_(p, max_norm=1.0)), p.grad.round(3).tolist()
    (5.0, [0.6000000238418579, 0.800000011920929])
    """
    return clip_grad_norm(_with_gradients("clip_grad_norm_", parameters), max_norm, norm_type, error_if_nonfinite)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """:func:`gpunn.optim.clip_grad_value` of one parameter or several; those without a gradient are left alone.

    >>> import gpunn
    >>> p = gpunn.tensor([1.0, 1.0], requires_grad=True)
    >>> (p * gpunn.tensor([0.5, -4.0])).sum().backward()
    >>> clip_grad_value_([p], 1.0)
    >>> p.grad.tolist()
    [0.5, -1.0]
    """
    clip_grad_value(_with_gradients("clip_grad_value_", parameters), clip_value)


def _with_gradients(op: str, parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [p for p in _tensors(op, parameters) if p.grad is not None]


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of the parameters in one tensor, one parameter behind the other; with gradients.

    >>> import gpunn
    >>> parameters_to_vector(gpunn.nn.Linear(2, 3).parameters()).shape
    (9,)
    """
    several = _tensors("parameters_to_vector", parameters)
    check(len(several) > 0, ArgumentError, "parameters_to_vector", "there must be at least one parameter")
    joined: Tensor = F.concatenate([p.reshape(-1) for p in several])
    return joined


def vector_to_parameters(vec: Tensor | Array, parameters: Iterable[Tensor]) -> None:
    """Copy the elements of ``vec`` into the parameters, one behind the other; an optimizer goes on from them.

    >>> import gpunn
    >>> layer = gpunn.nn.Linear(2, 1)
    >>> vector_to_parameters(gpunn.tensor([1.0, 2.0, 3.0]), layer.parameters())
    >>> layer.weight.data.tolist(), layer.bias.data.tolist()
    ([[1.0, 2.0]], [3.0])

    Raises ShapeError, and changes nothing, if there are more or fewer.
    """
    op = "vector_to_parameters"
    several, array = _tensors(op, parameters), raw(vec)
    check_array(op, vec=array)
    check(len(several) > 0, ArgumentError, op, "there must be at least one parameter")
    sizes = [p.data.size for p in several]
    fits = array.shape == (sum(sizes),)
    check(fits, ShapeError, op, f"vec must have one axis of {sum(sizes)} elements", shape=array.shape)
    start = 0
    for p, size in zip(several, sizes, strict=True):
        with device_context(p.data):
            p.data[...] = array[start : start + size].reshape(p.shape)
        p.mark_changed()
        start += size


def _tensors(op: str, parameters: Iterable[Tensor]) -> Sequence[Tensor]:
    several = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in several:
        check(isinstance(p, Tensor), DtypeError, op, "parameters must be tensors", type=type(p).__name__)
    return several
