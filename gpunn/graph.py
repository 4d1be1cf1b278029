"""The graph: nodes that remember what they were computed from, and ``backward``, which gives the gradients.

A node, which is a Tensor (:mod:`gpunn.tensor`), holds an array, and the operation that it was computed by. The graph is
the operations: each holds those that its operands were computed by, or the operands themselves where they are leaves,
and a function from its gradient to theirs. So an array in between lives only as long as somebody needs it.
"""

from __future__ import annotations

import itertools
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from gpunn.backend import Array, device_context, device_of, get_array_module, is_array, is_floating, plain
from gpunn.context import Setting, context
from gpunn.errors import DeviceError, DtypeError, GraphError, ShapeError, check, fail
from gpunn.observer import observers

Backward = Callable[[Array, tuple[bool, ...]], Sequence[Array | None]]
"""From the gradient of a result, and which parents need one, to the gradients of the parents (None: not needed)."""

_recording: Setting[bool] = Setting("recording", True)


@context
def no_grad() -> Iterator[None]:
    """Within this context nothing is recorded: for evaluation. It also decorates functions (:mod:`gpunn.context`).

    >>> from gpunn import tensor
    >>> x = tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """
    with _recording.using(False):
        yield


def is_recording() -> bool:
    """False within :func:`no_grad`."""
    return _recording.get()


def _is_free(a: Array) -> bool:
    """Whether ``a`` may be taken if nobody else holds it: an ordinary array, where references are counted."""
    return bool(_REFERENCES) and type(a) is np.ndarray and a.flags.c_contiguous and a.flags.writeable


def _owns_memory(a: Array) -> bool:
    """Whether nobody else can reach the memory of ``a``, which may be all of another array in another shape."""
    owner = a.base
    if owner is None:
        return True
    whole = type(owner) is type(a) and owner.base is None and owner.size == a.size and owner.dtype == a.dtype
    return whole and sys.getrefcount(owner) <= _REFERENCES


_REFERENCES = 3 if sys.implementation.name == "cpython" and sys.version_info < (3, 14) else 0
"""Of an array that one place besides this file holds: there, here, and for the count; a later Python counts less."""


class Operation:
    """What one result was computed by: an entry of the graph."""

    __slots__ = ("backward", "memories", "number", "parents", "seen", "shapes")
    requires_grad = True

    def __init__(self, result: Node, parents: Sequence[Node], backward: Backward) -> None:
        self.backward: Backward = backward
        # Loops, not comprehensions: those are a call each before Python 3.12.
        self.parents: list[Any] = []
        self.memories, self.shapes = [result._memory], [result._data.shape]
        self.seen = [result._memory[0]]  # how often each array had been changed in place when the result was computed
        for p in parents:
            self.parents.append((p._operation or p) if p.requires_grad else None)
            self.memories.append(p._memory)
            self.shapes.append(p._data.shape)
            self.seen.append(p._memory[0])
        self.number = _next_number()

    def pass_on(self, gy: Array, pending: dict[int, Array]) -> None:
        """Add the gradients of the parents to ``pending``, given that of the result."""
        for memory, seen in zip(self.memories, self.seen, strict=True):
            if memory[0] != seen:
                rule = "an array of this graph was changed in place after it was computed with"
                fail(GraphError, "backward", rule, result=self.shapes[0], operands=self.shapes[1:])
        needs = tuple([parent is not None and parent.requires_grad for parent in self.parents])
        for parent, needed, gradient in zip(self.parents, needs, self.backward(gy, needs), strict=True):
            if needed and gradient is not None:
                place = id(parent)
                earlier = pending.get(place)
                if earlier is not None:
                    with device_context(gradient):  # after a transfer it is not where gy is
                        gradient = earlier + gradient
                # A sum of arrays without dimensions is a number.
                if type(gradient) is not np.ndarray and not is_array(gradient):
                    gradient = get_array_module(gy).asarray(gradient)
                pending[place] = gradient

    def free(self) -> None:
        self.backward, self.parents, self.memories, self.seen = _freed, [], [], []


_next_number = itertools.count().__next__


class Node:
    """An array, its gradient, and how it was computed."""

    __slots__ = ("__weakref__", "_data", "_memory", "_operation", "grad", "requires_grad")

    def __init__(self, data: Array, requires_grad: bool = False) -> None:
        if requires_grad and not is_floating(data.dtype):
            fail(DtypeError, "Tensor", "only floats have gradients", dtype=str(data.dtype))
        self._data = data
        self.requires_grad = requires_grad
        self.grad: Array | None = None
        self._operation: Operation | None = None
        # How often data was changed in place, and whether others hold the memory, who do not tell when they change it:
        # one list for all nodes on the same memory.
        self._memory: list[int] = [0, False]

    @property
    def data(self) -> Array:
        """The raw NumPy or CuPy array."""
        return self._data

    @data.setter
    def data(self, new: Array) -> None:
        new = plain(new)
        check(is_array(new), DtypeError, "data", "data must be a raw array", type=type(new).__name__)
        floats = is_floating(new.dtype) or not self.requires_grad
        check(floats, DtypeError, "data", "only floats have gradients", dtype=str(new.dtype))
        self.hold(new)
        self._memory[1] = self._memory[1] or not self.requires_grad

    def hold(self, own: Array) -> None:
        """Make ``own``, whose memory nobody else changes, the array."""
        self._data = own
        self.mark_changed()

    def mark_changed(self) -> None:
        """Say that ``data`` was changed in place, so that a gradient that needs the old values is refused."""
        self._memory[0] += 1

    def __getstate__(self) -> object:
        rule = "a result holds the graph it was computed by, and cannot be copied or pickled: detach() it first"
        check(self._operation is None, GraphError, "copy", rule, shape=self._data.shape)
        return super().__getstate__()

    # ---- recording ------------------------------------------------------------------------------------------------

    def computed_from(self, parents: Sequence[Node], backward: Backward) -> Self:
        """This node, which remembers ``backward`` if gradients are recorded and a parent needs one."""
        if is_recorded(*parents):
            self.requires_grad = True
            for observer in observers.get():
                backward = observer.around_gradient(backward)
            self._operation = Operation(self, parents, backward)
        return self

    def sharing_memory(self, other: Node) -> Self:
        """This node; if its array lies in the memory of that of ``other``, a change of one is a change of the other."""
        if get_array_module(self._data).may_share_memory(self._data, other._data):
            self._memory = other._memory
            if self._operation is not None:
                self._operation.memories[0] = self._memory
                self._operation.seen[0] = self._memory[0]
        return self

    def needing_no_operands(self) -> Self:
        """This node, whose gradient does not depend on the values of its operands: they may be changed in place."""
        if self._operation is not None:
            del self._operation.memories[1:], self._operation.seen[1:]
        return self

    # ---- the gradient ---------------------------------------------------------------------------------------------

    def backward(
        self, g: Array | None = None, retain_graph: bool = False, *, whole: Callable[[Any], None] | None = None
    ) -> None:
        """Add the gradient of this tensor to the ``grad`` of every leaf it was computed from.

        ``g`` is the gradient with respect to this tensor, an array of its shape; without it this tensor must have one
        element, and g is 1. The graph is freed on the way unless ``retain_graph``. ``whole`` is called with each leaf
        that gets a gradient, as soon as that is whole: when the first operation that was computed with the leaf is
        passed, while others are still ahead.

        >>> from gpunn import tensor
        >>> x = tensor([3.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        array([6.], dtype=float32)

        Raises GraphError if nothing was recorded, the graph was freed, or an array in it was changed in place.
        """
        check(self.requires_grad, GraphError, "backward", "this tensor does not depend on one with requires_grad=True")
        run = self._go_back
        for observer in observers.get():
            run = observer.around_backward(run)
        run(self._first_gradient(g), retain_graph, whole)

    def _go_back(self, g: Array, retain_graph: bool, whole: Callable[[Any], None] | None) -> None:
        start = self._operation or self
        pending: dict[int, Array] = {id(start): g}
        del g  # of a gradient that nobody else holds no copy is made
        order = _in_order(start)
        for entry in order if whole is None else _leaves_early(order):
            gy = pending.pop(id(entry), None)
            if gy is None:
                continue
            if type(gy) is np.ndarray:
                entry.pass_on(gy, pending)
            else:
                with device_context(gy):  # nodes of one graph may lie on several GPUs
                    entry.pass_on(gy, pending)
            if type(entry) is not Operation:
                if whole is not None:
                    whole(entry)
            elif not retain_graph:
                entry.free()

    def pass_on(self, gy: Array, pending: dict[int, Array]) -> None:
        """Add ``gy`` to the gradient of this leaf."""
        if self.grad is not None:
            self.grad = get_array_module(gy).asarray(self.grad + gy)  # of arrays without dimensions: a number
        else:
            self.grad = gy if _is_free(gy) and sys.getrefcount(gy) <= _REFERENCES and _owns_memory(gy) else gy.copy()

    def _first_gradient(self, g: Array | None) -> Array:
        xp = get_array_module(self._data)
        if g is None:
            rule = "a tensor of several elements needs the gradient passed in: backward(g)"
            check(self._data.size == 1, GraphError, "backward", rule, shape=self._data.shape)
            with device_context(self._data):
                return xp.ones(self._data.shape, self._data.dtype)
        g = plain(g)
        check(is_array(g), DtypeError, "backward", "g must be a raw array", type=type(g).__name__)
        own, given = device_of(self._data), device_of(g)
        check(own == given, DeviceError, "backward", "g must be on the tensor's device", g=given, tensor=own)
        fits = g.shape == self._data.shape
        rule = "g must have the tensor's shape"
        check(fits, ShapeError, "backward", rule, g=g.shape, tensor=self._data.shape)
        if g.dtype != self._data.dtype:
            rule = "g must have the tensor's dtype"
            fail(DtypeError, "backward", rule, g=str(g.dtype), tensor=str(self._data.dtype))
        return g


def _in_order(start: Operation | Node) -> list[Any]:
    """``start`` and all that it was computed by: each result before its operands, leaves last.

    What was recorded later is not computed with earlier: operations need only be sorted by their numbers.
    """
    found: dict[int, Any] = {id(start): start}
    leaves, operations, left = [], [], [start]
    while left:
        entry = left.pop()
        if type(entry) is not Operation:
            leaves.append(entry)
            continue
        operations.append(entry)
        for parent in entry.parents:
            if parent is not None and id(parent) not in found:
                found[id(parent)] = parent
                left.append(parent)
    operations.sort(key=_number_of, reverse=True)
    return operations + leaves


def _leaves_early(order: list[Any]) -> list[Any]:
    """What :func:`_in_order` gives, each leaf behind the last operation that adds to its gradient."""
    last: dict[int, tuple[Any, Any]] = {}
    for entry in order:
        for parent in entry.parents if type(entry) is Operation else ():
            if parent is not None and type(parent) is not Operation:
                last[id(parent)] = parent, entry
    behind: dict[int, list[Any]] = {}
    for leaf, entry in last.values():
        behind.setdefault(id(entry), []).append(leaf)
    return [each for entry in order if id(entry) not in last for each in (entry, *behind.get(id(entry), ()))]


_number_of = operator.attrgetter("number")


def _freed(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
    fail(
        GraphError, "backward",
        "this graph was freed by an earlier backward; call that one with retain_graph=True (gradients are first-order)",
    )  # fmt: skip


# ---- what a graph keeps ---------------------------------------------------------------------------------------------


def raw(x: Any) -> Any:
    """The array of a node; anything else as it is, and an array as :func:`gpunn.backend.plain` makes it."""
    return x._data if isinstance(x, Node) else plain(x)


def kept(*inputs: Any) -> list[Any]:
    """What ``raw`` gives of the inputs of a function whose gradient needs their values.

    Where a gradient is recorded, those are copies whose memory the caller holds, too, and may fill anew before the
    backward pass: of arrays, and of tensors on arrays. What changes other tensors is counted.

    >>> import numpy as np
    >>> from gpunn import functional as F, tensor
    >>> x, w = np.ones((1, 2)), tensor([[2.0, 3.0]], requires_grad=True, dtype=np.float64)
    >>> y = F.linear(x, w)
    >>> x[...] = 7
    >>> y.backward(np.ones((1, 1)))
    >>> w.grad.tolist()
    [[1.0, 1.0]]
    """
    records = is_recorded(*inputs)
    return [_own(x) if records else raw(x) for x in inputs]


def copied(constant: Any, *inputs: Any) -> Any:
    """What ``raw`` gives of labels, indices, masks or weights; a copy where a gradient of ``inputs`` is recorded."""
    if constant is None:
        return None
    array = raw(constant)
    return copy_of(array) if is_array(array) and is_recorded(*inputs) else array


def is_recorded(*inputs: Any) -> bool:
    """Whether what is computed from ``inputs`` remembers how."""
    if _recording.get():
        for x in inputs:  # a generator in any() takes longer than a small sum
            if isinstance(x, Node) and x.requires_grad:
                return True
    return False


def _own(x: Any) -> Any:
    if isinstance(x, Node):
        return copy_of(x._data) if x._memory[1] else x._data
    array = plain(x)
    return copy_of(array) if is_array(array) else array


def copy_of(array: Array) -> Array:
    """A copy, on the device of the array."""
    with device_context(array):  # CuPy copies to the current device
        return array.copy()


def arrays_in(value: Any) -> Iterator[Array]:
    """The arrays that ``value`` is or holds: of arrays and nodes, in tuples, lists and dicts, however deep.

    >>> import numpy as np
    >>> from gpunn import tensor
    >>> [x.tolist() for x in arrays_in({"h": (tensor([1.0]), np.array([2, 3])), "name": "x"})]
    [[1.0], [2, 3]]
    """
    if isinstance(value, Node):
        yield value._data
    elif is_array(value):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from arrays_in(item)
    elif isinstance(value, dict):
        yield from arrays_in(list(value.values()))
