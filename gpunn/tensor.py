"""``Tensor``: an array that remembers how it was computed.

A Tensor has the operators and methods that an ndarray has, with their names, arguments and defaults, and those of
PyTorch's that do not mean anything else (``view``, ``permute``, ``dim=`` for ``axis=``); every other function is in
:mod:`gpunn.functional`. The way back through the graph is in :mod:`gpunn.graph`, the gradients are in
:mod:`gpunn.ops`.
"""

from __future__ import annotations

import operator
import typing
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial, wraps
from numbers import Real
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np

from gpunn import backend
from gpunn.backend import (
    Array,
    asarray,
    cast,
    check_device,
    device_of,
    dtype_of,
    get_array_module,
    half_dtype,
    is_array,
    is_device,
    is_floating,
    plain,
    to_cpu,
)
from gpunn.casting import in_float32, in_half, in_widest
from gpunn.errors import ArgumentError, DtypeError, ExportError, GraphError, ShapeError, check, fail
from gpunn.graph import Backward, Node, copied, copy_of, is_recording, kept, no_grad, raw
from gpunn.ops.activation import pointwise
from gpunn.ops.array import arithmetic, elementary, indexing, layout, order, reduction, selection
from gpunn.ops.array import math as elementwise
from gpunn.ops.array import shape as shaping
from gpunn.ops.array.shape import Axis
from gpunn.spelling import spelled

__all__ = ["Backward", "Tensor", "from_dlpack", "no_grad", "record", "tensor"]


class Plain(Protocol):
    """An array of NumPy or CuPy: a Tensor has no strides."""

    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def dtype(self) -> Any: ...


Operand: TypeAlias = "Tensor | Plain | complex"
"""What an operator takes beside a Tensor: another one, an array or a number."""

Method = TypeVar("Method", bound=Callable[..., Any])

_UNLIKE = {
    "max": "PyTorch's max(dim) gives values and indices: here max(axis) and argmax(axis), or topk",
    "min": "PyTorch's min(dim) gives values and indices: here min(axis) and argmin(axis), or topk",
    "sort": "PyTorch's sort(dim) gives values and indices: here functional.sort; sort(axis) sorts in place",
    "std": "PyTorch's std(dim) divides by n - 1: here std(axis, ddof=1), and by n without ddof",
    "var": "PyTorch's var(dim) divides by n - 1: here var(axis, ddof=1), and by n without ddof",
}


def _without_dim(method: Method) -> Method:
    """``method``, which refuses ``dim``: who writes it means what PyTorch's method gives, and this one does not."""

    @wraps(method)
    def refusing(*args: Any, **settings: Any) -> Any:
        if "dim" in settings:
            fail(ArgumentError, method.__name__, _UNLIKE[method.__name__], dim=settings["dim"])
        return method(*args, **settings)

    return typing.cast(Method, refusing)


class Count(int):
    """The number of elements, as an ndarray's ``size`` gives it; called, as PyTorch's is, it gives the shape.

    >>> x = tensor([[1.0, 2.0]])
    >>> x.size, x.size(), x.size(0)
    (2, (1, 2), 1)
    """

    shape: tuple[int, ...]

    def __call__(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]


class Tensor(Node):
    """An array with a gradient; made by :func:`tensor` or by computing with tensors.

    ``Tensor(array)`` is ``tensor(array)``. ``data`` is the raw NumPy or CuPy array. ``grad`` is a raw array of the same
    shape after :meth:`backward`, else None; gradients of several backward passes add up.

    Operands of an operator must be of one dtype and on one device; Python numbers take those of the other operand.
    Comparisons give boolean tensors, which have no gradient; as a key of a dict a tensor is known by identity.
    ``x += y`` makes a new tensor, as ``x = x + y`` does; the only change in place is ``x[index] = value``.

    >>> x = tensor([1.0, 2.0], requires_grad=True)
    >>> (3 * x**2).sum().backward()
    >>> x.grad.tolist()
    [6.0, 12.0]
    """

    __array_ufunc__ = None  # makes `ndarray * Tensor` call Tensor.__rmul__ instead of multiplying element by element
    __slots__ = ()
    __hash__ = object.__hash__  # by identity, though == compares the elements

    def __init__(self, data: Array, requires_grad: bool = False) -> None:
        array = plain(data)
        check(is_array(array), DtypeError, "Tensor", "data must be a raw array", type=type(data).__name__)
        super().__init__(copy_of(array) if requires_grad else array, requires_grad)
        self._memory[1] = not requires_grad

    # ---- the array ------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self._data.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> Count:
        count = Count(self._data.size)
        count.shape = self._data.shape
        return count

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> str:
        return device_of(self._data)

    @property
    def T(self) -> Tensor:
        return self.transpose()

    def dim(self) -> int:
        """The number of axes, :attr:`ndim`."""
        return self.ndim

    def numel(self) -> int:
        """The number of elements, :attr:`size`."""
        return int(self._data.size)

    def __len__(self) -> int:
        check(self.ndim > 0, ShapeError, "len", "a tensor without dimensions has no length")
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in range(len(self)))

    def __contains__(self, value: Any) -> bool:
        equal: Any = self == value  # False itself for what is no number
        return isinstance(equal, Tensor) and bool(equal.data.any())

    def __repr__(self) -> str:
        text = repr(self._data).replace("array(", "tensor(", 1)
        return f"{text[:-1]}, requires_grad=True)" if self.requires_grad else text

    def __bool__(self) -> bool:
        return bool(self._only("bool"))

    def __float__(self) -> float:
        return float(self._only("float"))

    def __int__(self) -> int:
        return int(self._only("int"))

    def __round__(self, digits: int | None = None) -> Any:
        return round(self._only("round"), digits)

    def __format__(self, spec: str) -> str:
        return format(self._only("format"), spec) if spec else str(self)

    def item(self) -> Any:
        """The only element, as a Python number."""
        return self._only("item")

    def _only(self, op: str) -> Any:
        x = self._data
        if x.size != 1:
            fail(ShapeError, op, "there must be one element", shape=x.shape)
        return x.item()

    def tolist(self) -> Any:
        return self._data.tolist()

    if not typing.TYPE_CHECKING:  # who checks types is to take it for no array: `array * tensor` is a Tensor

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
            fail(DtypeError, "numpy", "a Tensor becomes an array by t.numpy() (a copy) or t.data", shape=self.shape)

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy of the data as a NumPy array."""
        return np.array(to_cpu(self._data))

    # ---- for other libraries: the memory of the array, without a copy ------------------------------------------------

    def __dlpack__(
        self, *, stream: Any = None, max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None, copy: bool | None = None,
    ) -> Any:  # fmt: skip
        array, settings = exported("__dlpack__", self), {"max_version": max_version, "dl_device": dl_device}
        if copy and dl_device in (None, array.__dlpack_device__()):
            array, copy = copy_of(array), None  # CuPy's own does not copy on a GPU
        rule = "other libraries do not take negative strides: export a copy()"
        check(min(array.strides, default=0) >= 0, ExportError, "__dlpack__", rule, strides=array.strides)
        given = {name: value for name, value in (settings | {"copy": copy}).items() if value is not None}
        with backend.device_context(array):
            return array.__dlpack__(stream=stream, **given)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._data.__dlpack_device__()  # type: ignore[no-any-return]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if get_array_module(self._data) is np:
            raise AttributeError("the array of this Tensor is NumPy's: it has no __cuda_array_interface__")
        return exported("__cuda_array_interface__", self).__cuda_array_interface__  # type: ignore[no-any-return]

    def detach(self) -> Tensor:
        """A tensor on the same data that no gradient passes through."""
        return wrapped(self._data).sharing_memory(self)

    # ---- arithmetic -----------------------------------------------------------------------------------------------

    def __add__(self, other: Operand) -> Tensor:
        return _binary("add", operator.add, arithmetic.add_backward, self, other)

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Tensor:
        return _binary("subtract", operator.sub, arithmetic.subtract_backward, self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return _binary("subtract", operator.sub, arithmetic.subtract_backward, other, self)

    def __mul__(self, other: Operand) -> Tensor:
        return _binary("multiply", operator.mul, arithmetic.multiply_backward, self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Tensor:
        return _binary("divide", operator.truediv, arithmetic.divide_backward, self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return _binary("divide", operator.truediv, arithmetic.divide_backward, other, self)

    def __floordiv__(self, other: Operand) -> Tensor:
        return _of_pair("floor_divide", self, other)

    def __rfloordiv__(self, other: Operand) -> Tensor:
        return _of_pair("floor_divide", other, self)

    def __mod__(self, other: Operand) -> Tensor:
        return _of_pair("remainder", self, other)

    def __rmod__(self, other: Operand) -> Tensor:
        return _of_pair("remainder", other, self)

    @in_float32
    def __pow__(self, exponent: Operand) -> Tensor:
        if not isinstance(exponent, Real) or not is_floating(self.dtype):
            return _binary("power", operator.pow, arithmetic.power_backward, self, exponent)
        x, n = self._data, float(exponent)  # a NumPy scalar would promote
        return self._result(arithmetic.power_by_number(x, n), lambda gy: arithmetic.power_by_number_backward(gy, x, n))

    @in_float32
    def __rpow__(self, base: Operand) -> Tensor:
        return _binary("power", operator.pow, arithmetic.power_backward, base, self)

    def __matmul__(self, other: Operand) -> Tensor:
        return _matmul(self, other)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return _matmul(other, self)

    def __neg__(self) -> Tensor:
        return self._result(-self._data, operator.neg)

    def __abs__(self) -> Tensor:
        x = self._data
        return self._result(elementwise.abs(x), lambda gy: elementwise.abs_backward(gy, x))

    def __iadd__(self, other: Operand) -> Tensor:
        return self._not_a_leaf("+").__add__(other)

    def __isub__(self, other: Operand) -> Tensor:
        return self._not_a_leaf("-").__sub__(other)

    def __imul__(self, other: Operand) -> Tensor:
        return self._not_a_leaf("*").__mul__(other)

    def __itruediv__(self, other: Operand) -> Tensor:
        return self._not_a_leaf("/").__truediv__(other)

    def __ifloordiv__(self, other: Operand) -> Tensor:
        return self._not_a_leaf("//").__floordiv__(other)

    def __imod__(self, other: Operand) -> Tensor:
        return self._not_a_leaf("%").__mod__(other)

    def __ipow__(self, other: Operand) -> Tensor:
        return self._not_a_leaf("**").__pow__(other)

    def __imatmul__(self, other: Operand) -> Tensor:
        return self._not_a_leaf("@").__matmul__(other)

    def add(self, other: Any, alpha: float = 1) -> Tensor:
        return self.__add__(other if alpha == 1 else other * alpha)

    def sub(self, other: Any, alpha: float = 1) -> Tensor:
        return self.__sub__(other if alpha == 1 else other * alpha)

    def mul(self, other: Operand) -> Tensor:
        return self.__mul__(other)

    def div(self, other: Operand, rounding_mode: Literal["floor", "trunc"] | None = None) -> Tensor:
        if rounding_mode is None:
            return self.__truediv__(other)
        known = rounding_mode in ("floor", "trunc")
        rule = 'rounding_mode is "floor", "trunc" or None'
        check(known, ArgumentError, "div", rule, rounding_mode=rounding_mode)
        if rounding_mode == "floor":
            return self.__floordiv__(other)
        y = self.__truediv__(other)
        return y._result(elementary.of_each("trunc", y._data), lambda gy: gy * 0)

    def pow(self, exponent: Any) -> Tensor:
        return self**exponent  # type: ignore[no-any-return]

    def neg(self) -> Tensor:
        return -self

    def abs(self) -> Tensor:
        return self.__abs__()

    def matmul(self, other: Operand) -> Tensor:
        return self.__matmul__(other)

    def dot(self, other: Operand) -> Tensor:
        """The sum of products over the last axis and the one before the last of ``other``, of at most two axes."""
        ndim = getattr(other, "ndim", 0)
        check(ndim <= 2, ShapeError, "dot", "other must have two axes at most; use einsum", shape=np.shape(raw(other)))
        return self.__matmul__(other) if self.ndim and ndim else self.__mul__(other)

    @in_float32
    def exp(self) -> Tensor:
        y = elementwise.exp(self._data)
        return self._result(y, lambda gy: elementwise.exp_backward(gy, y))

    @in_float32
    def log(self) -> Tensor:
        x = self._data
        return self._result(elementwise.log(x), lambda gy: elementwise.log_backward(gy, x))

    @in_float32
    def sqrt(self) -> Tensor:
        y = elementwise.sqrt(self._data)
        return self._result(y, lambda gy: elementwise.sqrt_backward(gy, y))

    @in_float32
    def sigmoid(self) -> Tensor:
        y = pointwise.sigmoid(self._data)
        return self._result(y, lambda gy: pointwise.sigmoid_backward(gy, y))

    def tanh(self) -> Tensor:
        y = pointwise.tanh(self._data)
        return self._result(y, lambda gy: pointwise.tanh_backward(gy, y))

    def relu(self) -> Tensor:
        y = pointwise.relu(self._data)
        return self._result(y, lambda gy: pointwise.relu_backward(gy, y))

    def round(self, decimals: int = 0) -> Tensor:
        """The nearest number of ``decimals`` digits, of two the even one; its gradient is 0."""
        y = elementary.round(self._data, decimals)
        return self._result(y, lambda gy: gy * 0)

    # ---- comparisons, and logic on booleans and bits --------------------------------------------------------------

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return _compare("equal", operator.eq, self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return _compare("not_equal", operator.ne, self, other)

    def __lt__(self, other: Operand) -> Tensor:
        return _compare("less", operator.lt, self, other)

    def __le__(self, other: Operand) -> Tensor:
        return _compare("less_equal", operator.le, self, other)

    def __gt__(self, other: Operand) -> Tensor:
        return _compare("greater", operator.gt, self, other)

    def __ge__(self, other: Operand) -> Tensor:
        return _compare("greater_equal", operator.ge, self, other)

    def __and__(self, other: Operand) -> Tensor:
        return _logic("and", operator.and_, self, other)

    __rand__ = __and__

    def __or__(self, other: Operand) -> Tensor:
        return _logic("or", operator.or_, self, other)

    __ror__ = __or__

    def __xor__(self, other: Operand) -> Tensor:
        return _logic("xor", operator.xor, self, other)

    __rxor__ = __xor__

    def __invert__(self) -> Tensor:
        return _logic("invert", lambda x, _: ~x, self, self)

    @spelled
    def all(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return wrapped(reduction.all(self._data, axis, keepdims))

    @spelled
    def any(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return wrapped(reduction.any(self._data, axis, keepdims))

    # ---- elements -------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        index = _raw_index(self, index)
        indexing.check_index("getitem", self._data, index)
        return self._at(index)

    def _at(self, index: Any) -> Tensor:
        shape = self.shape
        return self._view(self._data[index], lambda gy: indexing.scatter(gy, shape, index))

    def __setitem__(self, index: Any, value: Any) -> None:
        recorded = is_recording() and (self.requires_grad or (isinstance(value, Tensor) and value.requires_grad))
        check(not recorded, GraphError, "setitem", "a tensor that requires a gradient cannot be changed in place")
        new, index = raw(value), _raw_index(self, index)
        get_array_module(self._data, new)
        indexing.check_index("setitem", self._data, index)
        self._data[index] = new
        self.mark_changed()

    @spelled
    def take(self, indices: Any, axis: int | None = None) -> Tensor:
        x = self if axis is not None else self.reshape(-1)
        return x._at(_raw_index(x, indexing.take_index(x.data, raw(indices), axis)))

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        if is_array(raw(min)) or is_array(raw(max)):
            return self._clip_between(min, max)
        x = self._data
        return self._result(selection.clip(x, min, max), lambda gy: selection.clip_backward(gy, x, min, max))

    def _clip_between(self, *bounds: Any) -> Tensor:
        x, low, high = selection.bounded("clip", *kept(self, *bounds))
        pairs = list(zip((self, *bounds), (x, low, high), strict=True))
        parents = [given if isinstance(given, Tensor) else wrapped(a) for given, a in pairs if a is not None]

        def backward(gy: Array, needs: tuple[bool, ...]) -> list[Array | None]:
            given = iter(needs)
            each = tuple(a is not None and next(given) for _, a in pairs)
            gradients = selection.clip_between_backward(gy, x, low, high, each)
            return [g for g, (_, a) in zip(gradients, pairs, strict=True) if a is not None]

        return record(selection.clip_between(x, low, high), parents, backward)

    def astype(self, dtype: Any) -> Tensor:
        old, dtype = self.dtype, dtype_of("astype", dtype).newbyteorder("=")
        if not is_floating(dtype):
            return wrapped(cast(self._data, dtype, copy=True))  # integers have no gradient
        return self._result(cast(self._data, dtype, copy=True), lambda gy: cast(gy, old))

    def copy(self) -> Tensor:
        return self._result(self._data.copy(), lambda gy: gy)

    def clone(self) -> Tensor:
        """:meth:`copy`, under PyTorch's name."""
        return self.copy()

    def contiguous(self) -> Tensor:
        """This tensor if its elements lie in order, else a copy whose do."""
        return self if self._data.flags.c_contiguous else self.copy()

    def fill(self, value: float) -> None:
        """Make each element ``value``, in place."""
        self[...] = value

    @_without_dim
    def sort(self, axis: int = -1) -> None:
        """Sort the elements along ``axis``, in place, as an ndarray's; :func:`gpunn.functional.sort` gives others."""
        self[...] = order.sort(self._data, axis)[0]

    @spelled
    def argsort(self, axis: int = -1) -> Tensor:
        """The indices that would sort along ``axis``, equal elements in the order they have."""
        return wrapped(order.argsort(self._data, axis))

    def nonzero(self) -> tuple[Tensor, ...]:
        """The indices of the elements that are not 0: an array for each axis, as an ndarray's."""
        return tuple(wrapped(index) for index in order.nonzero(self._data))

    def searchsorted(self, v: Any, side: order.Side = "left") -> Tensor:
        """Where each of ``v`` belongs in this sorted vector: before what is equal to it, or ``"right"`` of it."""
        return wrapped(order.searchsorted(self._data, raw(v), side))

    # ---- elsewhere, and of another dtype --------------------------------------------------------------------------

    def to(self, *targets: Any, memory_format: object = None, **named: Any) -> Tensor:
        """This tensor on a device (``"cpu"``, ``"gpu"``, ``"gpu:1"``, ``"cuda:1"``), of a dtype, or as another tensor.

        As PyTorch's it takes ``device=``, ``dtype=``, ``non_blocking=`` and ``copy=`` too, the last two also in their
        places at the end; copies are in turn with the stream anyway, and ``memory_format`` makes no difference here.

        >>> tensor([1.0]).to(np.float64).dtype
        dtype('float64')
        """
        wanted = [target for target in targets if not isinstance(target, bool)]
        flags = [target for target in targets if isinstance(target, bool)]
        unknown = named.keys() - {"device", "dtype", "non_blocking", "copy"}
        check(not unknown and len(flags) <= 2, ArgumentError, "to", "there is no such setting", named=sorted(unknown))
        x = self
        for target in (*wanted, named.get("device"), named.get("dtype")):
            if isinstance(target, Tensor):
                x = x._to(target.device)._of(target.dtype)
            elif isinstance(target, str) and is_device(target):
                x = x._to(target)
            elif target is not None:
                x = x._of(target)
        return x.copy() if x is self and (named.get("copy") or flags[1:] == [True]) else x

    def cpu(self) -> Tensor:
        """This tensor in the memory of the CPU."""
        return self._to("cpu")

    def cuda(self, device: str | int = 0) -> Tensor:
        """This tensor on a GPU, by number or name."""
        return self._to(device if isinstance(device, str) else f"gpu:{device}")

    def _to(self, device: str) -> Tensor:
        home, there = self.device, check_device(device)
        if there == home:
            return self
        return self._result(asarray(self._data, device=there), lambda gy: asarray(gy, device=home))

    def _of(self, dtype: Any) -> Tensor:
        try:
            wanted = np.dtype(dtype)
        except TypeError:
            fail(ArgumentError, "to", "a target is a device, a dtype of NumPy or a Tensor", target=dtype)
        return self if wanted == self.dtype else self.astype(wanted)

    # ---- shape ----------------------------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Tensor:
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        old = self.shape
        try:
            y = self._data.reshape(wanted)
        except TypeError:
            fail(ArgumentError, "reshape", "sizes must be integers", wanted=wanted)
        except ValueError:
            fail(ShapeError, "reshape", "the number of elements must stay the same", shape=old, wanted=tuple(wanted))
        return self._view(y, lambda gy: gy.reshape(old))

    def ravel(self) -> Tensor:
        return self.reshape(-1)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """A copy with the axes from ``start_dim`` to ``end_dim`` as one."""
        return self.reshape(shaping.flattened("flatten", self.shape, start_dim, end_dim)).copy()

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order, reversed by default: all of them are named.

        ``transpose(0, 1)`` of a matrix would leave it as it is, and transpose it in PyTorch: it is an error, as two
        axes of a tensor that has more of them are.
        """
        if len(axes) == 2 and self.ndim >= 2 and (self.ndim > 2 or (axes[0] in (0, -2) and axes[1] in (1, -1))):
            rule = f"all axes are named, in their new order; to exchange two: swapaxes{axes}, .T or permute"
            fail(ArgumentError, "transpose", rule, axes=axes, shape=self.shape)
        given = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
        order, inverse = shaping.permutation(self._data, given)
        return self._view(self._data.transpose(order), lambda gy: gy.transpose(inverse))

    def permute(self, *dims: Any) -> Tensor:
        """The axes in the order of ``dims``, which names all of them."""
        given = dims[0] if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
        check(len(given) == self.ndim, ShapeError, "permute", "each axis must be given", dims=given, shape=self.shape)
        return self.transpose(tuple(given))

    def t(self) -> Tensor:
        """A matrix transposed; a vector or a number as it is."""
        check(self.ndim <= 2, ShapeError, "t", "there must be two axes at most", shape=self.shape)
        return self.transpose()

    def view(self, *shape: Any) -> Tensor:
        """:meth:`reshape`, under PyTorch's name: a copy only where the memory does not lie as the shape needs it."""
        return self.reshape(*shape)

    def unsqueeze(self, dim: int) -> Tensor:
        """One axis more, of size 1, at ``dim``."""
        return self.reshape(shaping.unsqueezed("unsqueeze", self.shape, dim))

    def expand(self, *sizes: Any) -> Tensor:
        """The elements repeated along axes of size 1, and along new ones in front; -1 leaves a size as it is."""
        given = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
        return self._broadcast(layout.expanded("expand", self.shape, given))

    def _broadcast(self, shape: tuple[int, ...]) -> Tensor:
        old, xp = self.shape, get_array_module(self._data)
        # A copy: what is written to one element of a broadcast array shows in others.
        return self._result(xp.broadcast_to(self._data, shape).copy(), lambda gy: arithmetic.unbroadcast(gy, old))

    @spelled
    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """The elements whose second index is ``offset`` more than the first, along a last axis of their own."""
        old, places = self.shape, layout.diagonal_places("diagonal", self._data, offset, axis1, axis2)
        y = self._data.diagonal(offset, *places)
        return self._result(y.copy(), lambda gy: layout.diagonal_backward(gy, old, offset, *places))

    @spelled
    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """The sum of the :meth:`diagonal`."""
        return self.diagonal(offset, axis1, axis2).sum(-1)

    def masked_fill(self, mask: Any, value: Any) -> Tensor:
        """``value``, a number or an array without dimensions, where ``mask`` (booleans) holds, else this."""
        chosen, (x, v) = copied(mask, self, value), arithmetic.pair("masked_fill", self._data, raw(value))
        layout.check_fill("masked_fill", x, chosen, v)
        y = selection.where(chosen, v, x)
        return _joint(value, v, self, x, y, lambda gy, v, x, needs: selection.where_backward(gy, chosen, v, x, needs))

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        a, b = (shaping.axis_of("swapaxes", self._data, axis) for axis in (axis1, axis2))
        return self._view(self._data.swapaxes(a, b), lambda gy: gy.swapaxes(a, b))

    @spelled
    def squeeze(self, axis: Axis = None) -> Tensor:
        axes = shaping.axes_of("squeeze", self._data, axis)
        single = tuple(a for a in axes if self.shape[a] == 1)
        fits = axis is None or single == axes
        check(fits, ShapeError, "squeeze", "only axes of size 1 can go", axis=axis, shape=self.shape)
        return self.reshape([size for a, size in enumerate(self.shape) if a not in single])

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        """Each element ``repeats`` times (a number, or one for each element) along ``axis``."""
        if axis is None:
            return self.reshape(-1).repeat(repeats, 0)
        along = shaping.axis_of("repeat", self._data, axis)
        counts, old = np.asarray(repeats), self.shape
        valid = counts.dtype.kind in "iu" and counts.shape in ((), (old[along],)) and (counts >= 0).all()
        rule = "repeats must be a count, or one for each element of the axis"
        check(bool(valid), ArgumentError, "repeat", rule, repeats=repeats, axis=axis, shape=old)
        if counts.ndim:
            return self.take(asarray(np.repeat(np.arange(len(counts)), counts), device=self.device), along)
        times = int(counts)
        y = self._data.repeat(times, along)
        return self._result(y, lambda gy: shaping.repeat_backward(gy, old, times, along))

    # ---- reductions -----------------------------------------------------------------------------------------------

    @spelled
    @in_float32
    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        old = self.shape
        return self._result(
            reduction.sum(self._data, axis, keepdims), lambda gy: shaping.spread(gy, old, axis, keepdims)
        )

    @spelled
    @in_float32
    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        old = self.shape
        y = reduction.mean(self._data, axis, keepdims)
        return self._result(y, lambda gy: reduction.mean_backward(gy, old, axis, keepdims))

    @spelled
    @in_float32
    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        x = self._data
        y = reduction.prod(x, axis, keepdims)
        return self._result(y, lambda gy: reduction.prod_backward(gy, x, axis, keepdims))

    @_without_dim
    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The largest element; several equal ones share the gradient evenly."""
        x = self._data
        y = reduction.max(x, axis, keepdims)
        return self._result(y, lambda gy: reduction.extremum_backward(gy, x, y, axis, keepdims))

    @_without_dim
    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The smallest element; several equal ones share the gradient evenly."""
        x = self._data
        y = reduction.min(x, axis, keepdims)
        return self._result(y, lambda gy: reduction.extremum_backward(gy, x, y, axis, keepdims))

    @_without_dim
    @in_float32
    def var(self, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """The variance; the divisor is n - ``ddof``, n as with an ndarray (PyTorch's default is n - 1)."""
        x = self._data
        y = reduction.var(x, axis, ddof, keepdims)
        return self._result(y, lambda gy: reduction.var_backward(gy, x, axis, ddof, keepdims))

    @_without_dim
    @in_float32
    def std(self, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """The square root of :meth:`var`; its gradient is 0 where all elements are equal."""
        x = self._data
        y = reduction.std(x, axis, ddof, keepdims)
        return self._result(y, lambda gy: reduction.std_backward(gy, x, y, axis, ddof, keepdims))

    @spelled
    @in_float32
    def cumsum(self, axis: int | None = None) -> Tensor:
        old = self.shape
        return self._result(reduction.cumsum(self._data, axis), lambda gy: reduction.cumsum_backward(gy, old, axis))

    @spelled
    @in_float32
    def cumprod(self, axis: int | None = None) -> Tensor:
        x, y = self._data, reduction.cumprod(self._data, axis)
        return self._result(y, lambda gy: reduction.cumprod_backward(gy, x, axis))

    @spelled
    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The index of the first of the largest elements; it has no gradient."""
        return wrapped(reduction.argmax(self._data, axis, keepdims))

    @spelled
    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The index of the first of the smallest elements; it has no gradient."""
        return wrapped(reduction.argmin(self._data, axis, keepdims))

    # ---- results --------------------------------------------------------------------------------------------------

    def _result(self, y: Any, backward: Callable[[Array], Array]) -> Tensor:
        """``y``, computed from this tensor alone."""
        return record(y, (self,), lambda gy, _: (backward(gy),))

    def _view(self, y: Any, backward: Callable[[Array], Array]) -> Tensor:
        """``y``, which may lie in this tensor's memory: a change in place of one is then a change of the other."""
        return self._result(y, backward).sharing_memory(self)

    def _not_a_leaf(self, sign: str) -> Tensor:
        """This tensor, unless it is a parameter: ``p += y`` would leave it as it was, and p name another tensor."""
        rule = f"the parameter p would stay as it was: write p[...] = p {sign} y within no_grad"
        check(self._operation is not None or not self.requires_grad, GraphError, f"{sign}=", rule, shape=self.shape)
        return self

    # ---- PyTorch's names of dtypes, last: they hide Python's within the class --------------------------------------

    def half(self, memory_format: object = None) -> Tensor:
        return self._of(np.float16)

    def bfloat16(self, memory_format: object = None) -> Tensor:
        return self._of(half_dtype("bfloat16", "bf16"))

    def double(self, memory_format: object = None) -> Tensor:
        return self._of(np.float64)

    def long(self, memory_format: object = None) -> Tensor:
        return self._of(np.int64)

    def float(self, memory_format: object = None) -> Tensor:
        return self._of(np.float32)

    def int(self, memory_format: object = None) -> Tensor:
        return self._of(np.int32)

    def bool(self, memory_format: object = None) -> Tensor:
        return self._of(np.bool_)


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None, device: str | None = None) -> Tensor:
    """A Tensor from anything NumPy or CuPy takes: numbers, nested lists, arrays, tensors.

    Python floats become float32, an array keeps its dtype, unless ``dtype`` is given. ``device`` is ``"cpu"``,
    ``"gpu"`` or ``"gpu:N"``; without it an array stays where it is. An array is not copied, and may be filled anew: a
    gradient that needs its values has kept a copy. With ``requires_grad`` the tensor is one itself. Subclasses of
    ndarray count as the array that they are.

    >>> tensor([1.0, 2.0], requires_grad=True)
    tensor([1., 2.], dtype=float32, requires_grad=True)
    """
    given = raw(data)
    array = asarray(given, device=device, dtype=dtype)
    if isinstance(data, Tensor):
        copy = wrapped(array, requires_grad)
        return copy.sharing_memory(data) if array is given else copy
    new = isinstance(data, Real | np.generic | list | tuple)  # of anything else the memory may be another's
    shared = not new and (array is data or not is_array(data) or getattr(array, "base", None) is not None)
    return Tensor(array, requires_grad) if shared else wrapped(array, requires_grad)


def wrapped(array: Array, requires_grad: bool = False) -> Tensor:
    """A Tensor of an array that nobody else holds, or whose holders tell when they change it."""
    made = Tensor.__new__(Tensor)
    Node.__init__(made, array, requires_grad)
    return made


def record(y: Array, parents: Sequence[Tensor], backward: Backward) -> Tensor:
    """Wrap ``y``, computed from ``parents``, and remember ``backward`` if a parent needs a gradient.

    ``backward(gy, needs)`` returns one gradient for each parent, None for those that need none.
    """
    return wrapped(_array(y)).computed_from(parents, backward)


def _array(y: Any) -> Array:
    """``y`` as an array: NumPy returns scalars where there are no dimensions, CuPy arrays."""
    return y if type(y) is np.ndarray or is_array(y) else np.asarray(y)


def _joint(a: Any, x: Array, b: Any, y: Array, result: Array, backward: _PairBackward) -> Tensor:
    parents = [given if isinstance(given, Tensor) else wrapped(array) for given, array in ((a, x), (b, y))]
    return record(result, parents, lambda gy, needs: backward(gy, x, y, needs))


_PairBackward = Callable[[Array, Array, Array, tuple[bool, ...]], arithmetic.Gradients]


@in_widest
def _binary(op: str, forward: Callable[[Any, Any], Any], backward: _PairBackward, a: Any, b: Any) -> Tensor:
    values = (raw(a), raw(b)) if forward in (operator.add, operator.sub) else kept(a, b)  # a sum's gradient needs none
    x, y = arithmetic.pair(op, *values)
    return _joint(a, x, b, y, forward(x, y), backward)


def _of_pair(name: str, a: Any, b: Any) -> Tensor:
    """A function of :data:`gpunn.ops.array.elementary.PAIR_RULES`."""
    return _binary(name, partial(elementary.of_pair, name), partial(elementary.of_pair_backward, name), a, b)


@in_half
def _matmul(a: Any, b: Any) -> Tensor:
    x, y = arithmetic.agreeing("matmul", *kept(a, b))
    return _joint(a, x, b, y, arithmetic.matmul(x, y), arithmetic.matmul_backward)


@in_widest
def _compare(op: str, compare: Callable[[Any, Any], Any], a: Tensor, b: Any) -> Tensor:
    if b is None or isinstance(b, str):
        return NotImplemented  # type: ignore[no-any-return]
    return wrapped(_array(compare(*arithmetic.pair(op, a.data, raw(b)))))


def _logic(op: str, combine: Callable[[Any, Any], Any], a: Tensor, b: Any) -> Tensor:
    check(a.dtype.kind in "biu", DtypeError, op, "operands must be boolean or integers", dtype=str(a.dtype))
    return wrapped(_array(combine(*arithmetic.pair(op, a.data, raw(b)))))


def _raw_index(x: Tensor, index: Any) -> Any:
    """``index`` in arrays; copies, where a gradient will need it."""
    if isinstance(index, tuple):
        return tuple(_raw_index(x, item) for item in index)
    if isinstance(index, int | slice):
        return index
    if isinstance(index, list):
        return deepcopy(index)
    index = copied(index, x)
    get_array_module(x.data, index)
    return index


def from_dlpack(x: Any, /, *, device: str | None = None, copy: bool | None = None) -> Tensor:
    """A Tensor in the memory of an array of another library: of PyTorch, JAX, CuPy, NumPy, or anything with DLPack.

    It lies where x lies, unless ``device`` names another, to which it is copied; ``copy=True`` copies in any case, and
    ``copy=False`` refuses to. Its dtype is that of x. The other way it goes by the same protocol:
    ``torch.from_dlpack(t)``, ``numpy.from_dlpack(t)``, where t requires no gradient (``t.detach()``).

    >>> x = np.arange(3.0)
    >>> t = from_dlpack(x)
    >>> x[0] = 7
    >>> t
    tensor([7., 1., 2.])

    Raises what :func:`gpunn.backend.from_dlpack` does, and ExportError where ``copy=False`` cannot be.
    """
    array = backend.from_dlpack(x)
    here = asarray(array, device=device)
    rule = "another device can be reached only by a copy"
    check(here is array or copy is not False, ExportError, "from_dlpack", rule, device=device, copy=copy)
    if here is array and not copy:
        return Tensor(array)
    return wrapped(copy_of(array) if here is array else here)


def exported(op: str, x: Tensor) -> Array:
    """The array of ``x``, which others hold from now on, who do not tell when they change it."""
    rule = "what requires a gradient is not handed to other libraries: detach() it first"
    check(not x.requires_grad, ExportError, op, rule, shape=x.shape)
    x._memory[1] = True
    return x.data
