"""Arrays that are not quite NumPy's: subclasses with other operators, with masks, and in the other byte order."""

import numpy as np
import pytest
from runners import Runner
from test_functional import FUNCTIONS

import gpunn
from gpunn import Tensor, backend, cuda, nn, tensor
from gpunn import functional as F
from gpunn.data import ArrayDataset, DataLoader, default_collate
from gpunn.errors import DtypeError, GpunnError, LaunchError
from gpunn.train import predict

VALUES = [[1.0, 2.0], [3.0, 4.0]]
PLAIN = np.array(VALUES, np.float32)


def as_matrix():
    sparse = pytest.importorskip("scipy.sparse")
    return sparse.csr_matrix(PLAIN).todense()


def unaligned(x):
    """The elements begin one byte behind where an element may."""
    y = np.frombuffer(b" " + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    assert not y.flags.aligned or not x.size
    return y


def read_only(x):
    y = x.copy()
    y.flags.writeable = False
    return y


def backwards(x):
    order = (slice(None, None, -1),) * x.ndim
    return np.asarray(np.asarray(x[order]).copy()[order])


def with_gaps(x):
    whole = np.empty([2 * n for n in x.shape], x.dtype)
    y = np.asarray(whole[(slice(None, None, 2),) * x.ndim])
    y[...] = x
    return y


LAID = [unaligned, read_only, backwards, with_gaps, np.asfortranarray]
MEANT = {
    "matrix": as_matrix,
    "read-only": lambda: read_only(PLAIN),
    "backwards": lambda: backwards(PLAIN),
    "other byte order": lambda: PLAIN.astype(PLAIN.dtype.newbyteorder("S")),
    "subclass": lambda: PLAIN.view(type("Named", (np.ndarray,), {})),
}
WEIGHT = np.array([[2.0, 0.0], [1.0, 1.0]], np.float32)


def emulated(x):
    with cuda.emulate():
        return F.batch_norm(x, training=True), F.global_avg_pool1d(x[..., None])


def gradient_times_weight(gy):
    x = tensor(np.ones_like(PLAIN), requires_grad=True)
    (x * WEIGHT).backward(gy)
    return x.grad


# what is done with an array; each must give what it gives of the plain one
DONE = {
    "tensor": lambda x: tensor(x),
    "tensor of a dtype": lambda x: tensor(VALUES, dtype=x.dtype),
    "astype": lambda x: tensor(np.float64(VALUES)).astype(x.dtype),
    "the class": lambda x: Tensor(x) * WEIGHT,
    "parameter": lambda x: nn.Parameter(x).detach() * WEIGHT,
    "buffer": lambda x: nn.Buffer(x) * WEIGHT,
    "backward": lambda x: gradient_times_weight(x),
    "times": lambda x: tensor(x) * WEIGHT,
    "beside a tensor": lambda x: tensor(WEIGHT, requires_grad=True) * x,
    "before a tensor": lambda x: x * tensor(WEIGHT),
    "compared": lambda x: tensor(WEIGHT) < x,
    "index": lambda x: tensor(WEIGHT)[x > 1.5],
    "function": lambda x: F.relu(x),
    "functions of several": lambda x: F.linear(WEIGHT, x),
    "joined": lambda x: F.concatenate([x, x]),
    "emulated": lambda x: emulated(np.asarray(x)) if isinstance(x, np.matrix) else emulated(x),
    "layer": lambda x: nn.Softmax()(x),
    "data set": lambda x: ArrayDataset(x)[0],
    "loader": lambda x: next(iter(DataLoader(ArrayDataset(x), 2))),
    "collated": lambda x: default_collate([x, x]),
    "predict": lambda x: predict(nn.ReLU(), x),
}


def bare(result):
    return [y.data if isinstance(y, Tensor) else y for y in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("make", MEANT.values(), ids=MEANT)
@pytest.mark.parametrize("do", DONE.values(), ids=DONE)
def test_it_counts_as_the_array_that_it_is(make, do):
    for actual, right in zip(bare(do(make())), bare(do(PLAIN)), strict=True):
        assert type(actual) is np.ndarray
        assert actual.dtype == right.dtype
        assert actual.dtype.isnative
        np.testing.assert_array_equal(actual, right)


def with_gradients(function, arrays, lay):
    """What a function gives of tensors on arrays, and their gradients, all laid out in one way."""
    leaves = [tensor(lay(a)) for a in arrays]
    for leaf in leaves:
        leaf.requires_grad = True
    y = function(*leaves)
    gy = np.random.default_rng(0).standard_normal(y.shape).astype(y.dtype)
    y.backward(lay(gy) if y.ndim else np.asarray(gy))
    return [y.data, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("engine", ["numpy", "onednn", "emulated"])
@pytest.mark.parametrize("lay", LAID)
def test_every_function_takes_arrays_however_they_lie(lay, engine):
    if engine == "emulated" and lay is unaligned:
        with pytest.raises(LaunchError, match="arrays must begin at a multiple of their element size"):
            emulated(unaligned(PLAIN))
        return
    run = Runner(engine)
    for function, shapes in FUNCTIONS.values():
        rng = np.random.default_rng(0)
        arrays = [np.asarray(rng.standard_normal(shape), np.float32) for shape in shapes]
        results = [
            run(lambda *_, f=function, a=arrays, lay=lay: tuple(with_gradients(f, a, lay))) for lay in (lay, np.copy)
        ]
        for actual, right in zip(*results, strict=True):
            np.testing.assert_allclose(actual, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("do", [do for name, do in DONE.items() if " of a dtype" not in name and name != "astype"])
def test_a_masked_array_is_refused(do):
    masked = np.ma.masked_array(PLAIN, PLAIN > 3)
    with pytest.raises(DtypeError, match=r"array: a masked array must be filled first: x.filled\(value\), got shape="):
        do(masked)


def test_scikit_learns_estimators_refuse_masked_arrays():
    pytest.importorskip("sklearn")
    from gpunn.sklearn import NeuralClassifier

    masked, y = np.ma.masked_array(PLAIN, PLAIN > 3), np.array([0, 1])
    model = NeuralClassifier(epochs=1)
    for given in ((masked, y), (PLAIN, np.ma.masked_array(y, [True, False]))):
        with pytest.raises(DtypeError, match="a masked array must be filled first"):
            model.fit(*given)
    with pytest.raises(DtypeError, match="a masked array must be filled first"):
        model.fit(PLAIN, y).predict(masked)


def test_records_and_bare_bytes_are_no_numbers():
    for x in (np.zeros(2, [("a", "f4")]), np.zeros(2, "V3")):
        for do in (lambda x: tensor(x), lambda x: gpunn.from_dlpack(x), lambda x: F.relu(x)):
            with pytest.raises(GpunnError, match="must hold numbers|must be numbers|cannot be taken as it is"):
                do(x)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_operations_on_raw_arrays_say_what_they_take():
    with pytest.raises(DtypeError, match="relu: x must be a plain array, got type='matrix'"):
        gpunn.ops.activation.pointwise.relu(np.matrix(VALUES))
    with pytest.raises(DtypeError, match="relu: x must be a plain array, got type='MaskedArray'"):
        gpunn.ops.activation.pointwise.relu(np.ma.masked_array(PLAIN))
    swapped = PLAIN.astype(PLAIN.dtype.newbyteorder("S"))
    with pytest.raises(
        DtypeError, match=r"relu: x must have this machine's byte order: x.astype\('float32'\), got dty"
    ):
        gpunn.ops.activation.pointwise.relu(swapped)
    assert backend.plain(3) == 3
    assert backend.plain(PLAIN) is PLAIN
