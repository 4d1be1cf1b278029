"""Functions of gpunn among PyTorch's, and PyTorch's among gpunn's, each with gradients, on the same memory.

    function(f)         a function of gpunn as one of PyTorch's tensors, a ``torch.autograd.Function``
    lift(f)             a function or module of PyTorch as one of gpunn's Tensors
    to_torch(x)         one array or Tensor as a tensor of PyTorch
    from_torch(x)       the other way

Arrays pass without copies, on the CPU and on GPUs, by DLPack (:func:`gpunn.from_dlpack`); bfloat16, which NumPy has
from ``ml_dtypes``, passes as its bits. What PyTorch cannot hold is copied: read-only arrays, and views that go
backwards. Gradients are of the first order. PyTorch is imported when one of these is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from typing import Any

import numpy as np

from gpunn import backend
from gpunn.backend import Array, get_array_module, is_array, is_floating
from gpunn.errors import ArgumentError, DtypeError, PackageError, check, fail
from gpunn.graph import copy_of, is_recording, kept, no_grad, raw
from gpunn.tensor import Tensor, exported, record, tensor, wrapped

__all__ = ["from_torch", "function", "lift", "to_torch"]


def function(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f``, which takes Tensors of gpunn and gives one or a tuple of them, as a function of PyTorch's tensors.

    PyTorch's ``backward`` passes through it, and adds to ``grad`` of f's own parameters. Other arguments are passed on
    as they are; tensors that require a gradient must be positional. PyTorch refuses a backward pass where an argument
    or a result was changed in place meanwhile.

    >>> import torch  # doctest: +SKIP
    >>> from gpunn import functional as F
    >>> lrn = function(F.local_response_norm)  # doctest: +SKIP
    >>> x = torch.ones(1, 5, 2, 2, requires_grad=True)  # doctest: +SKIP
    >>> lrn(x, 5).sum().backward()  # doctest: +SKIP
    >>> x.grad.shape  # doctest: +SKIP
    torch.Size([1, 5, 2, 2])

    Raises PackageError without PyTorch, ArgumentError for a keyword that requires a gradient, DtypeError where f gives
    something else.
    """
    torch, op = _package(), f"torch.function({getattr(f, '__name__', type(f).__name__)})"

    def is_tensor(x: Any) -> bool:
        return isinstance(x, torch.Tensor)

    class Function(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, keywords: dict[str, Any], _start: Any, *inputs: Any) -> Any:
            given = zip(inputs, ctx.needs_input_grad[2:], strict=True)
            ours = [wrapped(_array(x), needed) if is_tensor(x) else x for x, needed in given]
            ctx.inputs, result = ours, f(*ours, **keywords)
            ctx.outputs = _outputs(op, result)
            own = [x.data for x in ours if isinstance(x, Tensor)]
            theirs = [to_torch(_apart(y.data, own)) for y in ctx.outputs]
            ctx.set_materialize_grads(False)
            ctx.mark_non_differentiable(*[y for y, t in zip(theirs, ctx.outputs, strict=True) if not t.requires_grad])
            ctx.save_for_backward(*filter(is_tensor, inputs), *theirs)
            return tuple(theirs) if isinstance(result, tuple | list) else theirs[0]

        @staticmethod
        @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
        def backward(ctx: Any, *gradients: Any) -> Any:
            _ = ctx.saved_tensors  # refused by PyTorch if one was changed in place
            given = [(y, _array(g)) for y, g in zip(ctx.outputs, gradients, strict=True) if g is not None]
            leaves = [x for x in ctx.inputs if isinstance(x, Tensor)]
            for leaf in leaves:
                leaf.grad = None
            if given:
                outputs, each = zip(*given, strict=True)
                record(np.zeros(()), outputs, lambda _, needs: each).backward(retain_graph=True)
            back = [x.grad if isinstance(x, Tensor) else None for x in ctx.inputs]
            return None, None, *[None if g is None else to_torch(g) for g in back]

    @wraps(f)
    def call(*inputs: Any, **keywords: Any) -> Any:
        for name, x in keywords.items():
            if is_tensor(x):
                rule = "tensors that require a gradient must be positional"
                check(not x.requires_grad, ArgumentError, op, rule, keyword=name)
                keywords[name] = from_torch(x)
        if torch.is_grad_enabled():  # the graph begins anew where f's own parameters alone have gradients
            return Function.apply(keywords, torch.zeros((), requires_grad=True), *inputs)
        with no_grad():
            result = f(*[from_torch(x.detach()) if is_tensor(x) else x for x in inputs], **keywords)
        theirs = [to_torch(y.detach()) for y in _outputs(op, result)]
        return tuple(theirs) if isinstance(result, tuple | list) else theirs[0]

    return call


def lift(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f``, a function or module of PyTorch that gives one tensor or a tuple of them, as a function of Tensors.

    gpunn's ``backward`` passes through it, to the arguments that require a gradient, and adds to ``grad`` of f's own
    parameters. Arrays may be arguments too; anything else is passed on as it is. f must not change its arguments.

    >>> import torch  # doctest: +SKIP
    >>> x = tensor([3.0], requires_grad=True)
    >>> lift(torch.special.i0)(x).sum().backward()  # doctest: +SKIP
    >>> round(x.grad.item(), 3)  # doctest: +SKIP
    3.953

    Raises PackageError without PyTorch, DtypeError where f gives something else than tensors.
    """
    torch, op = _package(), f"torch.lift({getattr(f, '__name__', type(f).__name__)})"

    @wraps(f)
    def call(*inputs: Any, **keywords: Any) -> Any:
        recording, start = is_recording(), tensor(0.0, requires_grad=True)
        *arrays, _ = kept(*inputs, start)  # arrays are copied even if f's own parameters alone have gradients
        theirs = [to_torch(a) if is_array(a) else a for a in arrays]
        parents, leaves = [], []
        for x, t in zip(inputs, theirs, strict=True):
            if recording and isinstance(x, Tensor) and x.requires_grad:
                parents.append(x)
                leaves.append(t.requires_grad_())
        with torch.set_grad_enabled(recording):
            result = f(*theirs, **keywords)
        outputs = result if isinstance(result, tuple | list) else (result,)
        for y in outputs:
            check(isinstance(y, torch.Tensor), DtypeError, op, "it must give tensors", type=type(y).__name__)
        given = [a for a in arrays if is_array(a)]
        ours = [_lifted(y, _apart(_array(y), given), parents or [start], leaves) for y in outputs]
        return tuple(ours) if outputs is result else ours[0]

    return call


def _lifted(y: Any, array: Array, parents: Sequence[Tensor], leaves: Sequence[Any]) -> Tensor:
    """``array``, which is the tensor ``y``, as what was computed from ``parents``, which are ``leaves`` in PyTorch.

    Without leaves f's own parameters alone have gradients, and the one parent is where the graph begins.
    """
    if not y.requires_grad:
        return wrapped(array)

    def backward(gy: Array, needs: tuple[bool, ...]) -> list[Array | None]:
        for leaf in leaves:
            leaf.grad = None
        y.backward(to_torch(gy), retain_graph=True)
        return [None if leaf.grad is None else _array(leaf.grad) for leaf in leaves] or [None]

    return record(array, parents, backward)


def from_torch(x: Any) -> Tensor:
    """A tensor of PyTorch as a Tensor, in the same memory; one that requires a gradient is refused: ``detach()`` it.

    >>> import torch  # doctest: +SKIP
    >>> from_torch(torch.ones(2, dtype=torch.bfloat16)).dtype  # doctest: +SKIP
    dtype(bfloat16)
    """
    known = isinstance(x, _package().Tensor)
    check(known, DtypeError, "from_torch", "x must be a tensor of PyTorch", type=type(x).__name__)
    rule = "a tensor that requires a gradient must be detached first: x.detach()"
    check(not x.requires_grad, ArgumentError, "from_torch", rule, shape=tuple(x.shape))
    return tensor(_array(x))


def to_torch(x: Any) -> Any:
    """A Tensor or an array as a tensor of PyTorch, in the same memory where PyTorch can hold it.

    >>> import numpy as np
    >>> to_torch(np.array([1.0, 2.0]))  # doctest: +SKIP
    tensor([1., 2.], dtype=torch.float64)

    Raises DtypeError for what is no array, ExportError for a Tensor that requires a gradient: ``detach()`` it first.
    """
    torch, array = _package(), raw(x)
    if not is_array(array):
        fail(DtypeError, "to_torch", "x must be a Tensor or an array", type=type(x).__name__)
    if isinstance(x, Tensor):
        array = exported("to_torch", x)
    fits = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    if not fits or (isinstance(array, np.ndarray) and not array.flags.writeable):
        array = copy_of(array)
    if is_floating(array.dtype) and array.dtype.kind == "V":
        return torch.from_dlpack(array.view(np.int16)).view(torch.bfloat16)
    try:
        return torch.from_dlpack(array)
    except BufferError as error:
        raise DtypeError(f"to_torch: PyTorch has no tensors of {array.dtype}: {error}") from error


def _array(x: Any) -> Array:
    """A tensor of PyTorch as an array in the same memory, whatever of its gradient."""
    torch, x = _package(), x.detach().resolve_neg()
    if x.device.type != "cuda":
        return _bits_as_array(torch, x)
    with torch.cuda.device(x.device):  # PyTorch exports from the current device alone
        return _bits_as_array(torch, x)


def _bits_as_array(torch: Any, x: Any) -> Array:
    if x.dtype != torch.bfloat16:
        return backend.from_dlpack(x)
    return backend.from_dlpack(x.view(torch.int16)).view(backend.half_dtype("from_torch", "bf16"))


def _outputs(op: str, result: Any) -> list[Tensor]:
    """What a function gave, as Tensors."""
    several = list(result) if isinstance(result, tuple | list) else [result]
    for y in several:
        check(is_array(raw(y)), DtypeError, op, "it must give Tensors or arrays", type=type(y).__name__)
    return [y if isinstance(y, Tensor) else wrapped(y) for y in several]


def _apart(y: Array, others: Sequence[Array]) -> Array:
    """``y``; a copy, if it lies in the memory of one of ``others``: neither library would see the other change it."""
    xp = get_array_module(y)
    shared = any(get_array_module(x) is xp and xp.may_share_memory(x, y) for x in others)
    return copy_of(y) if shared else y


def _package() -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        raise PackageError(f"gpunn.interop.torch needs PyTorch ({error}): https://pytorch.org/get-started") from error
