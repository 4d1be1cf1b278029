import array_case
import numpy as np
import pytest
from array_case import Case

from gpunn import functional as F
from gpunn import no_grad, tensor
from gpunn.errors import ArgumentError, DtypeError, GraphError, ShapeError


def draw(rng):
    return [array_case.distinct(rng, array_case.shape(rng))], {}


def draw_axes(rng):
    (x,), _ = draw(rng)
    return [x], {"axes": tuple(map(int, rng.permutation(x.ndim)))}


def draw_two_axes(rng):
    x = array_case.distinct(rng, array_case.shape(rng, 1))
    return [x], {"axes": tuple(map(int, rng.integers(-x.ndim, x.ndim, 2)))}


def draw_squeeze(rng):
    x = array_case.distinct(rng, tuple(map(int, rng.choice([1, 1, 3], rng.integers(0, 5)))))
    single = [a for a, n in enumerate(x.shape) if n == 1]
    axis = None if rng.random() < 0.4 else tuple(single[: rng.integers(len(single) + 1)])
    return [x], {"axis": axis[0] - x.ndim if axis and len(axis) == 1 else axis}


def draw_repeat(rng):
    x = array_case.distinct(rng, array_case.shape(rng, 1))
    axis = array_case.axis(rng, x, several=False)
    length = x.size if axis is None else x.shape[axis]
    each = rng.random() < 0.5
    return [x], {"axis": axis, "repeats": rng.integers(0, 3, length).tolist() if each else int(rng.integers(4))}


def draw_reshape(rng):
    (x,), _ = draw(rng)
    return [x], {"wanted": [(-1,), (1, x.size), (x.size, 1, 1), x.shape[::-1]][rng.integers(4)]}


def draw_joined(rng):
    shape = array_case.shape(rng, 1)
    axis = int(rng.integers(-len(shape), len(shape)))
    shapes = [tuple(int(rng.integers(4)) if a == axis % len(shape) else n for a, n in enumerate(shape)) for _ in "abc"]
    return [array_case.distinct(rng, s) for s in shapes[: rng.integers(1, 4)]], {"axis": axis}


def draw_stacked(rng):
    shape = array_case.shape(rng)
    axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
    return [array_case.distinct(rng, shape) for _ in range(rng.integers(1, 4))], {"axis": axis}


def draw_split(rng):
    x = array_case.distinct(rng, array_case.shape(rng, 1, size=7))
    axis = int(rng.integers(-x.ndim, x.ndim))
    first = int(rng.integers(x.shape[axis] + 1))
    return [x], {"axis": axis, "sizes": int(rng.integers(1, 4)) if rng.integers(2) else [first, x.shape[axis] - first]}


def by_index(shape, source):
    """The array of ``shape`` whose element at each place is ``source(place)``."""
    y = np.empty(shape)
    for place in np.ndindex(y.shape):
        y[place] = source(place)
    return y


def transpose_loop(x, axes):
    return by_index([x.shape[a] for a in axes], lambda place: x[tuple(place[axes.index(a)] for a in range(x.ndim))])


def swapaxes_loop(x, axes):
    order = list(range(x.ndim))
    order[axes[0]], order[axes[1]] = order[axes[1]], order[axes[0]]
    return transpose_loop(x, tuple(order))


def same_elements(shape):
    """The elements in their order, in the shape that ``shape(x, **settings)`` says."""
    return lambda x, **settings: np.array([float(v) for v in x.flat]).reshape(shape(x, **settings))


def squeezed(x, axis):
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in np.atleast_1d(np.array(axis, int)).tolist()]
    return [n for a, n in enumerate(x.shape) if a not in axes or n > 1]


def repeat_loop(x, repeats, axis):
    rows = np.moveaxis(x.reshape(-1) if axis is None else x, axis or 0, 0)
    counts = repeats if isinstance(repeats, list) else [repeats] * len(rows)
    taken = [row for row, count in zip(rows, counts, strict=True) for _ in range(count)]
    return np.moveaxis(np.array(taken).reshape(len(taken), *rows.shape[1:]), 0, axis or 0)


def concatenate_loop(*arrays, axis):
    slices = [part for a in arrays for part in np.moveaxis(a, axis, 0)]
    return np.moveaxis(np.array(slices).reshape(len(slices), *np.moveaxis(arrays[0], axis, 0).shape[1:]), 0, axis)


def stack_loop(*arrays, axis):
    return np.moveaxis(np.array([a.tolist() for a in arrays]), 0, axis)


def split_loop(x, sizes, axis):
    rows, pieces = list(np.moveaxis(x, axis, 0)), []
    whole = isinstance(sizes, int)
    counts = [min(sizes, len(rows) - start) for start in range(0, len(rows), sizes)] if whole else sizes
    for count in counts:
        taken, rows = rows[:count], rows[count:]
        pieces.append(np.moveaxis(np.array(taken).reshape(count, *np.moveaxis(x, axis, 0).shape[1:]), 0, axis))
    return pieces


CASES = {
    "reshape": Case(
        draw_reshape,
        lambda x, wanted: x.reshape(wanted),
        same_elements(lambda x, wanted: wanted),
        lambda t, x, wanted: x.reshape(wanted),
    ),
    "ravel": Case(draw, lambda x: x.ravel(), same_elements(lambda x: -1), lambda t, x: x.ravel()),
    "flatten": Case(draw, lambda x: x.flatten(), same_elements(lambda x: -1), lambda t, x: x.flatten()),
    "copy": Case(draw, lambda x: x.copy(), same_elements(lambda x: x.shape), lambda t, x: x.clone()),
    "transpose": Case(draw_axes, lambda x, axes: x.transpose(axes), transpose_loop, lambda t, x, axes: x.permute(axes)),
    "T": Case(
        draw,
        lambda x: x.T,
        lambda x: transpose_loop(x, tuple(range(x.ndim))[::-1]),
        lambda t, x: x.permute(tuple(range(x.ndim))[::-1]),
    ),
    "swapaxes": Case(
        draw_two_axes, lambda x, axes: x.swapaxes(*axes), swapaxes_loop, lambda t, x, axes: x.swapaxes(*axes)
    ),
    "squeeze": Case(
        draw_squeeze,
        lambda x, axis: x.squeeze(axis),
        same_elements(squeezed),
        lambda t, x, axis: x.squeeze() if axis is None else x.squeeze(axis),
    ),
    "repeat": Case(
        draw_repeat,
        lambda x, repeats, axis: x.repeat(repeats, axis),
        repeat_loop,
        lambda t, x, repeats, axis: t.repeat_interleave(
            x.reshape(-1) if axis is None else x, t.tensor(repeats), axis or 0
        ),
    ),
    "concatenate": Case(
        draw_joined,
        lambda *x, axis: F.concatenate(x, axis),
        concatenate_loop,
        lambda t, *x, axis: t.concatenate(x, axis),
    ),
    "stack": Case(draw_stacked, lambda *x, axis: F.stack(x, axis), stack_loop, lambda t, *x, axis: t.stack(x, axis)),
    "split": Case(
        draw_split,
        lambda x, sizes, axis: F.split(x, sizes, axis),
        split_loop,
        lambda t, x, sizes, axis: t.split(x, sizes, axis),
    ),
}
(
    test_forward_is_the_naive_loop,
    test_backward_is_the_directional_difference,
    test_gradients_keep_the_dtype,
    test_matches_pytorch,
) = array_case.tests_of(CASES)


VIEWS = {
    "ravel": lambda x: x.ravel(),
    "squeeze": lambda x: x.squeeze(),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "split": lambda x: F.split(x, 1)[0],
    "chain": lambda x: x.T.squeeze().reshape(1, 2)[0],
}
COPIES = {
    "flatten": lambda x: x.flatten(),
    "copy": lambda x: x.copy(),
    "repeat": lambda x: x.repeat(2),
    "take": lambda x: x.take([0], 1),
    "index": lambda x: x[:, [0]],
    "reshape that copies": lambda x: x.T.reshape(-1),
    "concatenate": lambda x: F.concatenate([x]),
}


def square_before_a_change(shape, part):
    """x of ones, and its square; then the first of ``part(x)`` is changed."""
    x = tensor(np.ones(shape), requires_grad=True)
    y = x * x
    with no_grad():
        part(x)[0] = 5.0
    return x, y


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_change_in_place_through_a_view_is_found(view):
    x, y = square_before_a_change((1, 2), view)
    assert x.data.max() == 5
    with pytest.raises(GraphError, match="changed in place"):
        y.sum().backward()


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_change_of_a_copy_is_no_change(copy):
    x, y = square_before_a_change((2, 2), copy)
    y.sum().backward()
    assert x.grad.tolist() == [[2, 2], [2, 2]]


def test_no_dtype_is_promoted_and_integers_are_joined(run_xp):
    assert run_xp(lambda a, b: F.stack([a, b]), np.array([1, 2]), np.array([3, 4])).dtype == np.int64
    assert run_xp(lambda a, b: F.concatenate([a, b]), *np.float16([[1], [2]])).dtype == np.float16


def test_empty_arrays(run_xp):
    empty = np.zeros((0, 3))
    assert run_xp(lambda x: F.concatenate([x, x]), empty).shape == (0, 3)
    assert [piece.shape for piece in F.split(empty, 2)] == [(0, 3)]
    leaf = tensor(empty, requires_grad=True)
    F.stack([leaf.repeat(2, 1), leaf.repeat(2, 1)], 1).sum().backward()
    assert leaf.grad.shape == (0, 3)


def test_tensors_and_arrays_are_joined_together():
    x = tensor([1.0], requires_grad=True)
    F.concatenate([x, np.float32([2.0]), x * 3]).backward(np.float32([1, 10, 100]))
    assert x.grad.tolist() == [301]


def test_errors_name_rule_and_values():
    x = tensor(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"squeeze: only axes of size 1 can go, got axis=0, shape=\(2, 3\)"):
        x.squeeze(0)
    with pytest.raises(ShapeError, match=r"swapaxes: axis must be one of x's, got axis=2, shape=\(2, 3\)"):
        x.swapaxes(0, 2)
    with pytest.raises(ShapeError, match=r"transpose: axis must be one of x's, got axis=\(0, 2\)"):
        x.transpose(0, 2)
    with pytest.raises(ShapeError, match=r"transpose: each axis must be given once, got axis=\(1,\), shape=\(2, 3\)"):
        x.transpose(1)
    for repeats in (-1, 1.5, [1, 2, 3], [1, -1]):
        with pytest.raises(ArgumentError, match="repeat: repeats must be a count, or one for each element of the axis"):
            x.repeat(repeats, 0)
    for function in (F.concatenate, F.stack):
        name = function.__name__
        with pytest.raises(ArgumentError, match=f"{name}: there must be at least one array"):
            function([])
        with pytest.raises(DtypeError, match=f"{name}: arrays must have one dtype, got dtypes=\\['float64', 'float32'"):
            function([x, np.ones((2, 3), np.float32)])
        with pytest.raises(DtypeError, match=f"{name}: every item must be an array"):
            function([x, [1.0]])
    with pytest.raises(
        ShapeError, match=r"shapes may differ along axis only, got axis=0, shapes=\[\(2, 3\), \(3, 2\)\]"
    ):
        F.concatenate([x, x.T])
    with pytest.raises(ShapeError, match=r"concatenate: arrays must have dimensions; use stack, got shape=\(\)"):
        F.concatenate([x.sum()])
    with pytest.raises(ShapeError, match=r"stack: arrays must have one shape, got shapes=\[\(2, 3\), \(3, 2\)\]"):
        F.stack([x, x.T])
    with pytest.raises(ShapeError, match="stack: axis must lie in -3 to 2, got axis=3"):
        F.stack([x], 3)
    with pytest.raises(ArgumentError, match="split: pieces must have at least one element, got size=0"):
        F.split(x, 0)
    with pytest.raises(ArgumentError, match=r"split: sizes must add up to the axis, got sizes=\[1, 2\], axis=0"):
        F.split(x, [1, 2])
