import os
import subprocess
import sys

import numpy as np
import pytest

from gpunn.cuda import device

cupy = pytest.importorskip("cupy")

pytestmark = pytest.mark.gpu
ours = pytest.mark.skipif(device.running() is None, reason="looks at modules of the emulated device")

# Of each distribution: its parameters, and the mean and the variance that it has with them.
DISTRIBUTIONS = {
    "random": ((), 1 / 2, 1 / 12),
    "uniform": ((2, 5), 3.5, 3 / 4),
    "integers": ((3, 9), 5.5, 35 / 12),
    "beta": ((2, 3), 0.4, 0.04),
    "binomial": ((10, 0.3), 3, 2.1),
    "chisquare": ((4,), 4, 8),
    "exponential": ((2,), 2, 4),
    "f": ((5, 20), 10 / 9, 115 / 162),
    "gamma": ((3, 2), 6, 12),
    "geometric": ((0.3,), 10 / 3, 0.7 / 0.09),
    "hypergeometric": ((10, 15, 8), 3.2, 1.36),
    "logseries": ((0.5,), 1 / np.log(2), (2 * np.log(2) - 1) / np.log(2) ** 2),
    "poisson": ((4,), 4, 4),
    "power": ((3,), 0.75, 0.0375),
    "standard_exponential": ((), 1, 1),
    "standard_gamma": ((3,), 3, 3),
    "standard_normal": ((), 0, 1),
}
WHOLE = {"integers", "binomial", "geometric", "hypergeometric", "logseries", "poisson"}
WITH_OUTPUT = ["random", "standard_exponential", "standard_gamma", "standard_normal"]
OF_ARRAYS = [name for name, (parameters, *_) in DISTRIBUTIONS.items() if parameters and name != "integers"]


@pytest.fixture
def rng():
    return cupy.random.default_rng(7)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mean_and_variance_are_those_of_the_distribution(rng, name):
    parameters, mean, variance = DISTRIBUTIONS[name]
    count = 20_000
    x = getattr(rng, name)(*parameters, size=count).get()
    assert x.shape == (count,)
    assert x.dtype == (np.int64 if name in WHOLE else np.float64)
    assert abs(x.mean() - mean) < 6 * np.sqrt(variance / count)
    np.testing.assert_allclose(x.var(), variance, rtol=0.2)
    # No number follows from the one before.
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 6 / np.sqrt(count)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_same_seed_gives_the_same_numbers_and_the_state_moves_on(name):
    parameters = DISTRIBUTIONS[name][0]
    one, same, other = (getattr(cupy.random.default_rng(seed), name) for seed in (3, 3, 4))
    first, second = one(*parameters, size=50).get(), one(*parameters, size=50).get()
    np.testing.assert_array_equal(same(*parameters, size=50).get(), first)
    np.testing.assert_array_equal(same(*parameters, size=50).get(), second)
    assert (first != second).any()
    assert (other(*parameters, size=50).get() != first).any()


@pytest.mark.parametrize("kind", ["XORWOW", "MRG32k3a", "Philox4x3210"])
def test_every_bit_generator(kind):
    rng = cupy.random.Generator(getattr(cupy.random, kind)(5))
    x = rng.random(20_000).get()
    assert abs(x.mean() - 0.5) < 6 * np.sqrt(1 / 12 / x.size)
    assert (rng.random(20_000).get() != x).any()
    raw = rng.bit_generator.random_raw(4000).get()
    assert raw.shape == (4000,)
    assert len(set(raw.tolist())) > 3990
    assert (rng.bit_generator.random_raw(4000).get() != raw).any()


def test_bit_generators_differ():
    drawn = [
        cupy.random.Generator(kind(5)).random(100).get().tolist()
        for kind in (cupy.random.XORWOW, cupy.random.MRG32k3a, cupy.random.Philox4x3210)
    ]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_shapes(rng, name):
    parameters = DISTRIBUTIONS[name][0]
    for size, shape in [(None, ()), ((), ()), (0, (0,)), (5, (5,)), ((2, 3), (2, 3)), ((2, 0), (2, 0))]:
        x = getattr(rng, name)(*parameters, size=size)
        assert isinstance(x, cupy.ndarray)
        assert x.shape == shape
    with pytest.raises(ValueError):
        getattr(rng, name)(*parameters, size=-1)


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_parameters_are_broadcast(rng, name):
    parameters, mean, variance = DISTRIBUTIONS[name]
    of_rows = [cupy.full((4, 1), value) if i else cupy.full(3, value) for i, value in enumerate(parameters)]
    shape = (4, 3) if len(parameters) > 1 else (3,)
    method = getattr(rng, name)
    assert method(*of_rows).shape == shape
    x = method(*of_rows, size=(1000, *shape)).get()
    assert x.shape == (1000, *shape)
    assert abs(x.mean() - mean) < 6 * np.sqrt(variance / x.size)
    assert len(np.unique(x)) > 3
    with pytest.raises(ValueError):
        method(*of_rows, size=7)


def test_each_element_has_its_own_parameters(rng):
    x = rng.poisson(cupy.asarray([1.0, 100.0, 0.0]), size=(500, 3)).get()
    np.testing.assert_allclose(x.mean(0), [1, 100, 0], atol=3)
    assert (x[:, 2] == 0).all()
    strided = cupy.asarray([1.0, -1.0, 100.0, -1.0])[::2]
    np.testing.assert_allclose(rng.exponential(strided, size=(5000, 2)).get().mean(0), [1, 100], rtol=0.1)
    np.testing.assert_allclose(rng.binomial(cupy.asarray([7, 9]), 1.0).get(), [7, 9])


@pytest.mark.parametrize("alpha", [[1.0, 2.0, 3.0], [[0.5, 0.5, 4.0], [3.0, 3.0, 3.0]]], ids=["row", "rows"])
def test_dirichlet(rng, alpha):
    alpha = np.array(alpha)
    assert rng.dirichlet(cupy.asarray(alpha)).shape == alpha.shape
    x = rng.dirichlet(cupy.asarray(alpha), size=(50, 40)).get()
    assert x.shape == (50, 40, *alpha.shape)
    np.testing.assert_allclose(x.sum(-1), 1, rtol=1e-12)
    np.testing.assert_allclose(x.mean((0, 1)), alpha / alpha.sum(-1, keepdims=True), atol=0.04)


def test_a_number_is_the_alpha_of_the_last_axis(rng):
    x = rng.dirichlet(cupy.asarray(3.0), size=(500, 4)).get()
    assert x.shape == (500, 4)
    np.testing.assert_allclose(x.sum(-1), 1, rtol=1e-12)
    np.testing.assert_allclose(x.mean(0), 0.25, atol=0.03)


def test_more_samples_than_there_are_have_all_of_the_good(rng):
    assert rng.hypergeometric(5, 10, 16, size=10).tolist() == [5] * 10


@pytest.mark.parametrize("name", WITH_OUTPUT)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_types_and_outputs(rng, name, dtype):
    parameters, mean, variance = DISTRIBUTIONS[name]
    method = getattr(rng, name)
    assert method(*parameters, size=3, dtype=dtype).dtype == dtype
    out = cupy.full((100, 50), -9, dtype)
    assert method(*parameters, dtype=dtype, out=out) is out
    assert abs(out.get().mean() - mean) < 6 * np.sqrt(variance / out.size)
    assert method(*parameters, size=(100, 50), dtype=dtype, out=out) is out
    with pytest.raises(ValueError, match="size must match"):
        method(*parameters, size=7, dtype=dtype, out=out)
    with pytest.raises(ValueError, match="not contiguous"):
        method(*parameters, dtype=dtype, out=out[:, ::2])
    with pytest.raises(TypeError, match="wrong type"):
        method(*parameters, dtype="float64" if dtype == "float32" else "float32", out=out)
    with pytest.raises(TypeError):
        method(*parameters, dtype=dtype, out=out.get())


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_reach_both_ends(rng, dtype):
    info = np.iinfo(dtype)
    x = rng.integers(info.max - 2, info.max, size=300, dtype=dtype, endpoint=True).get()
    assert x.dtype == dtype
    assert set(x.tolist()) == {info.max - 2, info.max - 1, info.max}
    x = rng.integers(info.min, info.min + 3, size=300, dtype=dtype).get()
    assert set(x.tolist()) == {info.min, info.min + 1, info.min + 2}
    x = rng.integers(info.min, int(info.max) + 1, size=3000, dtype=dtype).get().astype("d")
    assert abs(x.mean() - (int(info.max) + int(info.min)) / 2) < 0.2 * (float(info.max) - float(info.min))
    assert x.std() > 0.25 * (float(info.max) - float(info.min))
    with pytest.raises(ValueError, match="out of bounds"):
        rng.integers(0, int(info.max) + 2, dtype=dtype)
    with pytest.raises(ValueError, match="out of bounds"):
        rng.integers(int(info.min) - 1, 5, dtype=dtype)


def test_integers_of_one_bound(rng):
    assert set(rng.integers(3, size=200).get().tolist()) == {0, 1, 2}
    assert set(rng.integers(3, size=200, endpoint=True).get().tolist()) == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="low >= high"):
        rng.integers(5, 5)
    with pytest.raises(ValueError, match="Invalid integer data type"):
        rng.integers(5, dtype="float32")


@pytest.mark.parametrize("count", [1, 2, 10, 1000, 2**20 + 7])
def test_a_bijection_orders_all_numbers(count):
    from cupy.random._generator_api import FeistelBijection

    keys = np.random.default_rng(0).integers(0, 2**32, FeistelBijection.num_rounds, np.uint32)
    order = FeistelBijection(count, keys)(count).get()
    np.testing.assert_array_equal(np.sort(order), np.arange(count))
    np.testing.assert_array_equal(FeistelBijection(count, keys)(min(count, 7)).get(), order[:7])
    if count >= 1000:
        assert abs(np.corrcoef(order, np.arange(count))[0, 1]) < 6 / np.sqrt(count)
        assert (FeistelBijection(count, keys + 1)(7).get() != order[:7]).any()


def test_a_bijection_of_more_numbers_than_fit_in_memory():
    from cupy.random._generator_api import FeistelBijection

    keys = np.random.default_rng(0).integers(0, 2**32, FeistelBijection.num_rounds, np.uint32)
    some = FeistelBijection(2**40 + 1, keys)(2000).get()
    assert len(set(some.tolist())) == 2000
    assert some.min() >= 0
    assert abs(some.mean() / 2**39 - 1) < 6 / np.sqrt(3 * 2000)


@ours
@pytest.mark.parametrize("name", ["beta", "chisquare", "geometric", "poisson", "standard_gamma"])
def test_wrong_parameters_are_refused(rng, name):
    wrong = [-1.5 for _ in DISTRIBUTIONS[name][0]]
    with pytest.raises(ValueError):
        getattr(rng, name)(*wrong, size=3)
    with pytest.raises(ValueError):
        getattr(rng, name)(*map(cupy.asarray, wrong), size=3)


@ours
@pytest.mark.parametrize("name", ["random", "uniform", "beta", "standard_normal"])
def test_types_that_are_not_drawn_are_refused(rng, name):
    with pytest.raises(TypeError, match=f"Unsupported dtype float16 for {name}"):
        getattr(rng, name)(*DISTRIBUTIONS[name][0], dtype="float16")


@ours
def test_states_are_copied_and_strange_ones_refused():
    rng = cupy.random.default_rng(1)
    state = rng.bit_generator._state
    kept = state.copy()
    first = rng.integers(0, 100, size=7, dtype="uint8").get()
    state[...] = kept
    np.testing.assert_array_equal(rng.integers(0, 100, size=7, dtype="uint8").get(), first)
    state[...] = 0
    with pytest.raises(RuntimeError, match="not one that the emulated device has written"):
        rng.random(3)
    with pytest.raises(ValueError, match="room for the state"):
        cupy.random.XORWOW(1, size=0)


LATE = """
import ctypes
import numpy as np
from gpunn.cuda import device
device.start(device.Settings(late=True))
import cupy

def lies_there(array):
    memory = (ctypes.c_char * array.nbytes).from_address(array.data.ptr)
    return np.frombuffer(memory, array.dtype).copy()

rng = cupy.random.default_rng(3)
out, rates, wrong = cupy.full(1000, -1.0), cupy.zeros(1000), cupy.full(3, -1.0)
cupy.cuda.Device().synchronize()
stream = cupy.cuda.Stream(non_blocking=True)
with stream:
    rates += 100
    counts = rng.poisson(rates)
    rates *= 0
    rng.random(out=out)
    out *= -1
assert (lies_there(out) == -1).all(), "not visible yet"
stream.synchronize()
assert 95 < lies_there(counts).mean() < 105, lies_there(counts)
assert -0.6 < lies_there(out).mean() < -0.4
with stream:
    failed = rng.exponential(wrong)
try:
    stream.synchronize()
except cupy.cuda.runtime.CUDARuntimeError as error:
    print(error)
assert np.isnan(lies_there(failed)).all()
"""


@ours
def test_late_draws_are_in_the_order_of_their_stream():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", LATE], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "cudaErrorLaunchFailure: unspecified launch failure: ValueError: scale < 0" in ended.stdout
