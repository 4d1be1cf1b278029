"""``Tensor``: an array that remembers how it was computed, and ``backward``, which gives the gradients.

A Tensor has the operators and methods that an ndarray has; every other function is in :mod:`gpunn.functional`.
The graph is the tensors themselves: each result holds its parents and a function from its gradient to theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real
from typing import Any

import numpy as np

from gpunn.backend import DTYPES, Array, asarray, device_context, device_of, get_array_module, is_array, to_cpu
from gpunn.errors import DeviceError, DtypeError, GraphError, ShapeError, check, fail
from gpunn.ops.arithmetic import matmul_backward, scatter, spread, unbroadcast

Backward = Callable[[Array, tuple[bool, ...]], Sequence[Array | None]]
"""From the gradient of a result, and which parents need one, to the gradients of the parents (None: not needed)."""

_recording: ContextVar[bool] = ContextVar("recording", default=True)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within this context nothing is recorded: for evaluation.

    >>> x = tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


class Tensor:
    """An array with a gradient; made by :func:`tensor` or by computing with tensors.

    ``data`` is the raw NumPy or CuPy array. ``grad`` is a raw array of the same shape after :meth:`backward`, else
    None; gradients of several backward passes add up.
    """

    __array_ufunc__ = None  # makes `ndarray * Tensor` call Tensor.__rmul__ instead of multiplying element by element
    __slots__ = ("__weakref__", "_backward", "_changes", "_data", "_parents", "_seen", "grad", "requires_grad")

    def __init__(self, data: Array, requires_grad: bool = False) -> None:
        floating = data.dtype in DTYPES
        check(floating or not requires_grad, DtypeError, "Tensor", "only floats have gradients", dtype=str(data.dtype))
        self._data = data
        self.requires_grad = requires_grad
        self.grad: Array | None = None
        self._parents: tuple[Tensor, ...] = ()
        self._backward: Backward | None = None
        self._changes = [0]  # how often data was changed in place; one counter for all tensors on the same memory
        self._seen: tuple[int, ...] = ()  # the counts of this tensor and its parents when this was computed

    # ---- the array ------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        return self._data

    @data.setter
    def data(self, new: Array) -> None:
        self._data = new
        self.mark_changed()

    def mark_changed(self) -> None:
        """Say that ``data`` was changed in place, so that a gradient that needs the old values is refused."""
        self._changes[0] += 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self._data.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return self._data.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> str:
        return device_of(self._data)

    @property
    def T(self) -> Tensor:
        return self.transpose()

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        text = repr(self._data).replace("array(", "tensor(", 1)
        return f"{text[:-1]}, requires_grad=True)" if self.requires_grad else text

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self._data)

    def item(self) -> Any:
        """The only element, as a Python number."""
        return self._data.item()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        fail(DtypeError, "numpy", "a Tensor becomes an array by t.numpy() (a copy) or t.data", shape=self.shape)

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy of the data as a NumPy array."""
        return np.array(to_cpu(self._data))

    def detach(self) -> Tensor:
        """A tensor on the same data that no gradient passes through."""
        return self._same_memory(Tensor(self._data))

    def _same_memory(self, view: Tensor) -> Tensor:
        """``view``, which shares memory with this tensor: a change of one is a change of the other."""
        view._changes = self._changes
        view._seen = tuple(counter[0] for counter in view._counters())
        return view

    def _counters(self) -> list[list[int]]:
        return [self._changes, *(parent._changes for parent in self._parents)]

    # ---- the gradient ---------------------------------------------------------------------------------------------

    def backward(self, g: Array | None = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to the ``grad`` of every leaf it was computed from.

        ``g`` is the gradient with respect to this tensor, an array of its shape; without it this tensor must have one
        element, and g is 1. The graph is freed on the way unless ``retain_graph``.

        >>> x = tensor([3.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        array([6.], dtype=float32)

        Raises GraphError if nothing was recorded, the graph was freed, or an array in it was changed in place.
        """
        check(self.requires_grad, GraphError, "backward", "this tensor does not depend on one with requires_grad=True")
        pending: dict[int, Array] = {id(self): self._first_gradient(g)}
        for node in self._topological_order():
            gy = pending.pop(id(node), None)
            if gy is None:
                continue
            if node._backward is None:
                with device_context(gy):
                    node.grad = gy.copy() if node.grad is None else node.grad + gy
                continue
            node._check_unchanged()
            needs = tuple(parent.requires_grad for parent in node._parents)
            with device_context(gy):
                gradients = node._backward(gy, needs)
            for parent, gradient in zip(node._parents, gradients, strict=True):
                if parent.requires_grad and gradient is not None:
                    earlier = pending.get(id(parent))
                    with device_context(gradient):
                        total = gradient if earlier is None else earlier + gradient
                    pending[id(parent)] = _array(total)
            if not retain_graph:
                node._backward, node._parents, node._seen = _freed, (), ()

    def _first_gradient(self, g: Array | None) -> Array:
        xp = get_array_module(self._data)
        if g is None:
            rule = "a tensor of several elements needs the gradient passed in: backward(g)"
            check(self.size == 1, GraphError, "backward", rule, shape=self.shape)
            return xp.ones(self.shape, self.dtype)
        check(is_array(g), DtypeError, "backward", "g must be a raw array", type=type(g).__name__)
        get_array_module(self._data, g)
        check(
            g.shape == self.shape,
            ShapeError,
            "backward",
            "g must have the tensor's shape",
            g=g.shape,
            tensor=self.shape,
        )
        check(
            g.dtype == self.dtype,
            DtypeError,
            "backward",
            "g must have the tensor's dtype",
            g=str(g.dtype),
            tensor=str(self.dtype),
        )
        return g

    def _topological_order(self) -> list[Tensor]:
        """This tensor first, each before its parents. Iterative: recurrent graphs are deeper than Python's stack."""
        order: list[Tensor] = []
        visited: set[int] = set()
        stack: list[tuple[Tensor, bool]] = [(self, False)]
        while stack:
            node, parents_done = stack.pop()
            if parents_done:
                order.append(node)
            elif id(node) not in visited:
                visited.add(id(node))
                stack.append((node, True))
                stack.extend((parent, False) for parent in node._parents if parent.requires_grad)
        return order[::-1]

    def _check_unchanged(self) -> None:
        if not self._seen or self._seen == tuple(counter[0] for counter in self._counters()):
            return
        rule = "an array of this graph was changed in place after it was computed with"
        fail(GraphError, "backward", rule, result=self.shape, operands=[parent.shape for parent in self._parents])

    # ---- operators ------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        a, b = _both("add", self, other)
        shapes = a.shape, b.shape

        def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
            return unbroadcast(gy, shapes[0]) if needs[0] else None, unbroadcast(gy, shapes[1]) if needs[1] else None

        return record(a.data + b.data, (a, b), backward)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Tensor:
        a, b = _both("subtract", self, other)
        shapes = a.shape, b.shape

        def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
            return unbroadcast(gy, shapes[0]) if needs[0] else None, unbroadcast(-gy, shapes[1]) if needs[1] else None

        return record(a.data - b.data, (a, b), backward)

    def __rsub__(self, other: Any) -> Tensor:
        return (-self).__add__(other)

    def __mul__(self, other: Any) -> Tensor:
        a, b = _both("multiply", self, other)
        x, y = a.data, b.data

        def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
            return unbroadcast(gy * y, x.shape) if needs[0] else None, unbroadcast(gy * x, y.shape) if needs[
                1
            ] else None

        return record(x * y, (a, b), backward)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Tensor:
        a, b = _both("divide", self, other)
        x, y = a.data, b.data

        def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
            gx = gy / y
            return unbroadcast(gx, x.shape) if needs[0] else None, unbroadcast(-gx * x / y, y.shape) if needs[
                1
            ] else None

        return record(x / y, (a, b), backward)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _like(other, self).__truediv__(self)

    def __neg__(self) -> Tensor:
        return record(-self._data, (self,), lambda gy, _: (-gy,))

    def __pow__(self, exponent: float) -> Tensor:
        number = isinstance(exponent, Real)
        check(number, DtypeError, "power", "the exponent must be a number", type=type(exponent).__name__)
        exponent = float(exponent)  # a NumPy scalar would promote
        x = self._data
        return record(
            x**exponent, (self,), lambda gy, _: (gy * exponent * x ** (exponent - 1) if exponent else gy * 0,)
        )

    def __matmul__(self, other: Any) -> Tensor:
        a, b = _both("matmul", self, other)
        x, y = a.data, b.data
        fits = x.ndim and y.ndim and x.shape[-1] == y.shape[-2 if y.ndim > 1 else 0]
        check(bool(fits), ShapeError, "matmul", "the inner dimensions must agree", a=a.shape, b=b.shape)
        return record(x @ y, (a, b), lambda gy, needs: matmul_backward(gy, x, y, (needs[0], needs[1])))

    def __rmatmul__(self, other: Any) -> Tensor:
        return _like(other, self).__matmul__(self)

    def __getitem__(self, index: Any) -> Tensor:
        index = _raw_index(index)
        shape = self.shape
        y = self._data[index]
        result = record(y, (self,), lambda gy, _: (scatter(gy, shape, index),))
        return self._same_memory(result) if is_array(y) and y.base is not None else result

    def __setitem__(self, index: Any, value: Any) -> None:
        recorded = self.requires_grad and _recording.get()
        check(not recorded, GraphError, "setitem", "a tensor that requires a gradient cannot be changed in place")
        self._data[_raw_index(index)] = value.data if isinstance(value, Tensor) else value
        self.mark_changed()

    # ---- methods of an ndarray ------------------------------------------------------------------------------------

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        shape = self.shape
        y = self._data.sum(axis, keepdims=keepdims)
        return record(y, (self,), lambda gy, _: (spread(gy, shape, axis, keepdims),))

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        check(self.size > 0, ShapeError, "mean", "there must be elements to average", shape=self.shape)
        shape = self.shape
        y = self._data.mean(axis, keepdims=keepdims)  # float16 is summed in float32 by NumPy and CuPy
        share = _array(y).size / self.size
        return record(y, (self,), lambda gy, _: (spread(gy * share, shape, axis, keepdims),))

    def reshape(self, *shape: Any) -> Tensor:
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        old = self.shape
        try:
            y = self._data.reshape(wanted)
        except ValueError:
            fail(ShapeError, "reshape", "the number of elements must stay the same", shape=old, wanted=tuple(wanted))
        return self._same_memory(record(y, (self,), lambda gy, _: (gy.reshape(old),)))

    def transpose(self, *axes: Any) -> Tensor:
        given = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
        order = given or tuple(range(self.ndim))[::-1]
        valid = sorted(axis % self.ndim for axis in order) == list(range(self.ndim))
        check(valid, ShapeError, "transpose", "each axis must be given once", axes=tuple(order), shape=self.shape)
        inverse = tuple(sorted(range(self.ndim), key=lambda axis: order[axis] % self.ndim))
        return self._same_memory(record(self._data.transpose(order), (self,), lambda gy, _: (gy.transpose(inverse),)))

    def astype(self, dtype: Any) -> Tensor:
        old = self.dtype
        if np.dtype(dtype) not in DTYPES:
            return Tensor(self._data.astype(dtype))  # integers have no gradient
        return record(self._data.astype(dtype), (self,), lambda gy, _: (gy.astype(old),))


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None, device: str | None = None) -> Tensor:
    """A Tensor from anything NumPy or CuPy takes: numbers, nested lists, arrays (which are not copied), tensors.

    Python floats become float32, an array keeps its dtype, unless ``dtype`` is given. ``device`` is ``"cpu"``,
    ``"gpu"`` or ``"gpu:N"``; without it an array stays where it is.

    >>> tensor([1.0, 2.0], requires_grad=True)
    tensor([1., 2.], dtype=float32, requires_grad=True)
    """
    raw = data.data if isinstance(data, Tensor) else data
    return Tensor(asarray(raw, device=device, dtype=dtype), requires_grad)


def record(y: Array, parents: Sequence[Tensor], backward: Backward) -> Tensor:
    """Wrap ``y``, computed from ``parents``, and remember ``backward`` if a parent needs a gradient.

    ``backward(gy, needs)`` returns one gradient for each parent, None for those that need none.
    """
    result = Tensor(_array(y))
    if _recording.get() and any(parent.requires_grad for parent in parents):
        result.requires_grad = True
        result._parents, result._backward = tuple(parents), backward
        result._seen = tuple(counter[0] for counter in result._counters())
    return result


def _array(y: Any) -> Array:
    """``y`` as an array: NumPy returns scalars where there are no dimensions, CuPy arrays."""
    return y if is_array(y) else np.asarray(y)


def _freed(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
    fail(
        GraphError, "backward",
        "this graph was freed by an earlier backward; call that one with retain_graph=True (gradients are first-order)",
    )  # fmt: skip


def _like(value: Any, other: Tensor) -> Tensor:
    """``value`` as a tensor; a Python number takes the dtype and device of ``other``, so that nothing is promoted."""
    if isinstance(value, Tensor):
        return value
    if is_array(value):
        return Tensor(value)
    exact = isinstance(value, int) or other.dtype in DTYPES
    return tensor(value, dtype=other.dtype if exact else None, device=other.device)


def _both(op: str, a: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    b = _like(other, a)
    here, there = a.device, b.device
    check(here == there, DeviceError, op, "operands must be on one device", a=here, b=there)
    check(a.dtype == b.dtype, DtypeError, op, "operands must have one dtype", a=str(a.dtype), b=str(b.dtype))
    if op != "matmul":
        try:
            np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            fail(ShapeError, op, "shapes must broadcast", a=a.shape, b=b.shape)
    return a, b


def _raw_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_raw_index(item) for item in index)
    return index.data if isinstance(index, Tensor) else index
