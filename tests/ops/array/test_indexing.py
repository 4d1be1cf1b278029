import array_case
import numpy as np
import pytest
from array_case import Case

from gpunn import Tensor, backend, tensor
from gpunn import functional as F
from gpunn.cuda.capture import alarms, rehearsing
from gpunn.data import ArrayDataset
from gpunn.errors import ArgumentError, DtypeError, GpunnError, IndexRangeError, ShapeError
from gpunn.functional import recurrent as packed


def draw_take(rng):
    x = array_case.distinct(rng, array_case.shape(rng, 1))
    axis = array_case.axis(rng, x, several=False)
    length = x.size if axis is None else x.shape[axis]
    shape = array_case.shape(rng, 0, 3)
    return [x], {"indices": rng.integers(-length, length, shape), "axis": axis}


def draw_index(rng):
    """Slices, integers, new axes, an ellipsis, lists with repeated elements and masks."""
    x = array_case.distinct(rng, tuple(map(int, rng.integers(2, 5, 3))))
    size = x.shape[1]
    kinds = [
        (slice(None), 1), (slice(None, None, 2), slice(1, None)), (Ellipsis, -1), (None, 0), (slice(None), [0, 1, 0]),
        (x > 0,), ([1, 0, 1], slice(None), [0, 1, 1]), (0, 1, 1), (slice(None), rng.integers(0, size, (2, 2))),
        (rng.random(x.shape[0]) < 0.5,), (slice(2, 0),), (Ellipsis,),
    ]  # fmt: skip
    return [x], {"index": kinds[rng.integers(len(kinds))]}


def take_loop(x, indices, axis):
    rows = np.moveaxis(x.reshape(-1) if axis is None else x, axis or 0, 0)
    taken = np.array([rows[i] for i in indices.ravel().tolist()]).reshape(indices.size, *rows.shape[1:])
    place = (axis or 0) % (1 if axis is None else x.ndim)
    whole = np.moveaxis(taken, 0, place)
    return whole.reshape((*whole.shape[:place], *indices.shape, *whole.shape[place + 1 :]))


def index_loop(x, index):
    """By the numbers of the elements in the flattened array."""
    numbers = np.arange(x.size).reshape(x.shape)[index]
    flat = x.reshape(-1)
    return np.array([float(flat[number]) for number in np.ravel(numbers)]).reshape(np.shape(numbers))


def take_torch(torch, x, indices, axis):
    rows = x.reshape(-1) if axis is None else x
    place = (axis or 0) % rows.ndim
    positive = torch.tensor(indices % rows.shape[place])
    y = rows.index_select(place, positive.reshape(-1))
    return y.reshape((*rows.shape[:place], *indices.shape, *rows.shape[place + 1 :]))


def index_torch(torch, x, index):
    """PyTorch has no slices of negative step; these have none."""
    return x[tuple(torch.tensor(i) if isinstance(i, np.ndarray) else i for i in index)]


CASES = {
    "take": Case(draw_take, Tensor.take, take_loop, take_torch),
    "getitem": Case(draw_index, lambda x, index: x[index], index_loop, index_torch),
}
EACH = pytest.mark.parametrize("name", CASES)


@EACH
def test_forward_is_the_naive_loop(run_xp, name, rng):
    array_case.assert_is_the_loop(run_xp, CASES[name], rng)


@EACH
@pytest.mark.parametrize("seed", range(4))
def test_backward_is_the_directional_difference(name, seed):
    array_case.assert_gradients(CASES[name], np.random.default_rng(seed))


@EACH
def test_gradients_keep_the_dtype(name, rng):
    array_case.assert_gradients_keep_the_dtype(CASES[name], rng)


@EACH
@pytest.mark.peer(*CASES)
def test_matches_pytorch(name):
    array_case.assert_is_pytorch(CASES[name])


def test_an_element_taken_often_gets_every_gradient_in_float32(run_xp):
    def gradient(x):
        leaf = tensor(x, requires_grad=True)
        leaf.take([0] * 3000).sum().backward()
        return leaf.grad

    assert run_xp(gradient, np.ones(2, np.float16)).tolist() == [3000, 0]


def test_indices_may_be_tensors():
    x = tensor([1.0, 2.0, 3.0])
    assert x.take(tensor([2, -1])).tolist() == [3, 3]
    assert x[tensor([0, 2])].tolist() == [1, 3]
    assert x[x > 1.5].tolist() == [2, 3]


def test_one_hot_is_the_naive_loop(run_xp, rng):
    for shape in ((), (1,), (5,), (2, 3)):
        target = rng.integers(0, 4, shape)
        y = run_xp(F.one_hot, target, 5)
        assert y.dtype == np.int64
        assert y.shape == (*shape, 5)
        for place in np.ndindex(y.shape):
            assert y[place] == (target[place[:-1]] == place[-1])
    assert run_xp(F.one_hot, np.zeros(0, int), 3).shape == (0, 3)
    assert isinstance(F.one_hot(tensor([1])), Tensor)


@pytest.mark.peer("one_hot")
def test_one_hot_matches_pytorch():
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        target = rng.integers(0, 6, array_case.shape(rng))
        classes = int(rng.choice([-1, 6, 9]))
        expected = torch.nn.functional.one_hot(torch.tensor(target), classes).numpy()
        np.testing.assert_array_equal(F.one_hot(np.asarray(target), classes), expected, err_msg=f"seed {seed}")


# name: (index, the axis and the index that the message names)
OUT_OF_RANGE = {
    "above": ((np.array([0, 2]),), 0, 2),
    "below": ((np.array([0, -3]),), 0, -3),
    "of one byte": ((np.array([5], np.uint8),), 0, 5),
    "without dimensions": ((np.array(9),), 0, 9),
    "second": ((slice(None), np.array([[1, 3]])), 1, 3),
    "behind an ellipsis": ((Ellipsis, np.array([4])), 2, 4),
    "behind a new axis": ((None, 0, None, np.array([-4])), 1, -4),
    "behind a mask": ((np.array([[True] * 3, [False] * 3]), np.array([4])), 2, 4),
    "a list": (([0, 7],), 0, 7),
}


@pytest.mark.gpu
@pytest.mark.parametrize(("index", "axis", "wrong"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE)
def test_on_cupy_an_index_out_of_range_is_refused(index, axis, wrong):
    x = np.zeros((2, 3, 4))
    with pytest.raises(IndexError):
        x[index]
    far = tensor(backend.to_gpu(x))
    index = tuple(backend.to_gpu(part) if isinstance(part, np.ndarray) else part for part in index)
    rule = rf"each index must lie on the axis, got index={wrong}, axis={axis}, shape=\(2, 3, 4\)"
    with pytest.raises(IndexError, match=f"getitem: {rule}"):
        far[index]
    with pytest.raises(IndexRangeError, match=f"setitem: {rule}"):
        far[index] = 1
    assert not far.data.get().any()


@pytest.mark.gpu
def test_on_cupy_indices_in_range_mean_what_they_mean_to_numpy():
    x = np.arange(24.0).reshape(2, 3, 4)
    for index in ([1, -1, -2], [0, 1, -3]), ([[0, -2], [1, 1]],), ([-2],):
        parts = tuple(map(np.array, index))
        np.testing.assert_array_equal(tensor(backend.to_gpu(x))[tuple(map(backend.to_gpu, parts))].data.get(), x[parts])


@pytest.mark.gpu
def test_on_cupy_rows_out_of_range_are_refused():
    x, index = backend.to_gpu(np.ones((2, 3))), backend.to_gpu(np.array([0, 2]))
    with pytest.raises(ArgumentError, match="take: each index must lie on the axis, got index=2, axis=0"):
        tensor(x).take(index, 0)
    with pytest.raises(ArgumentError, match="embedding: indices must lie in 0 to 1, got index=2"):
        F.embedding(index, x)
    with pytest.raises(IndexRangeError, match=r"pick: each index must lie on the axis, got index=2, axis=0, shape=\(2"):
        packed.pick(x, np.array([0, 2]))
    with pytest.raises(IndexRangeError, match="place: each index must lie on the axis, got index=-4, axis=0"):
        packed.place(x, np.array([0, -4]), 3)
    with pytest.raises(IndexError, match="the data set has 2 samples, got index=2"):
        ArrayDataset(x).batch(np.array([0, 2]))


@pytest.mark.gpu
def test_in_a_captured_step_it_is_told_when_the_step_is_over():
    x, index = backend.to_gpu(np.ones((2, 3), np.float32)), backend.to_gpu(np.array([0, 2]))
    for look in (lambda: tensor(x)[index], lambda: tensor(x).take(index, 0), lambda: F.embedding(index, x)):
        with rehearsing():
            look()
            ((wrong, report),) = alarms()
        assert bool(wrong)
        with pytest.raises(GpunnError, match="index=2"):
            report()


def test_errors_name_rule_and_values():
    x = tensor(np.ones((2, 3)))
    with pytest.raises(
        ArgumentError, match=r"take: each index must lie on the axis, got index=3, axis=1, shape=\(2, 3"
    ):
        x.take([0, 3], 1)
    with pytest.raises(ArgumentError, match=r"take: each index must lie on the axis, got index=-3, axis=0"):
        x.take(-3, 0)
    with pytest.raises(DtypeError, match="take: indices must be integers, got dtype='float32'"):
        x.take([0.5])
    with pytest.raises(ShapeError, match=r"take: axis must be one of x's, got axis=2, shape=\(2, 3\)"):
        x.take([0], 2)
    with pytest.raises(DtypeError, match="one_hot: target must hold integers, got dtype='float64'"):
        F.one_hot(np.ones(2))
    with pytest.raises(DtypeError, match="one_hot: target must be a NumPy or CuPy array, got type='list'"):
        F.one_hot([1])
    with pytest.raises(ArgumentError, match="one_hot: targets must lie in 0 to 2, got least=1, most=3"):
        F.one_hot(np.array([1, 3]), 3)
    with pytest.raises(ArgumentError, match="one_hot: targets must lie in 0 to 1, got least=-1, most=1"):
        F.one_hot(np.array([1, -1]))
    with pytest.raises(ArgumentError, match="one_hot: an empty target needs num_classes"):
        F.one_hot(np.zeros(0, int))
