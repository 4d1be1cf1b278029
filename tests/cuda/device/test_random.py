"""cuRAND as CuPy's wheel calls it: on a GPU, and on the emulated device."""

import ctypes
import textwrap

import numpy as np
import pytest
from own_process import in_a_process

from gpunn.cuda import device

cupy = pytest.importorskip("cupy")
stats = pytest.importorskip("scipy.stats")

pytestmark = pytest.mark.gpu
emulated = pytest.mark.skipif(device.running() is None, reason="of the emulated device")

PSEUDO_DEFAULT, XORWOW, MRG, MTGP, MERSENNE, PHILOX = 100, 101, 121, 141, 142, 161
TYPE_ERROR, OUT_OF_RANGE, LENGTH_NOT_MULTIPLE = 103, 104, 105
N = 200_000
UNLIKELY = 1e-4


class Generator:
    """A generator of the wheel's module; each method returns an array of the host."""

    def __init__(self, kind=PSEUDO_DEFAULT, seed=None):
        from cupy_backends.cuda.libs import curand

        self.module, self.handle = curand, curand.createGenerator(kind)
        if seed is not None:
            self("setPseudoRandomGeneratorSeed", seed)

    def __call__(self, name, *arguments):
        return getattr(self.module, name)(self.handle, *arguments)

    def draw(self, name, dtype, n, *arguments):
        out = cupy.zeros(n, dtype)
        self(name, out.data.ptr, n, *arguments)
        return out.get()

    def bits(self, n):
        return self.draw("generate", np.uint32, n)

    def status(self, name, *arguments):
        with pytest.raises(self.module.CURANDError) as raised:
            self(name, *arguments)
        return raised.value.status


@pytest.fixture
def generator():
    made = []

    def make(*arguments, **keywords):
        made.append(Generator(*arguments, **keywords))
        return made[-1]

    yield make
    for each in made:
        each("destroyGenerator")


# ---- distributions ----


@pytest.mark.parametrize("kind", [PSEUDO_DEFAULT, XORWOW, MRG, PHILOX])
def test_bits_are_even_and_independent(generator, kind):
    bits = generator(kind, seed=1).bits(N)
    each = (bits[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    assert (abs(each.mean(0) - 0.5) < 5 * 0.5 / np.sqrt(N)).all()
    together = np.corrcoef(each.T) - np.eye(32)
    assert abs(together).max() < 6 / np.sqrt(N)
    after = np.corrcoef(each[:-1].T, each[1:].T)[:32, 32:]
    assert abs(after).max() < 6 / np.sqrt(N)
    assert len(np.unique(bits)) > 0.9999 * N


@pytest.mark.parametrize(("name", "dtype"), [("generateUniform", np.float32), ("generateUniformDouble", np.float64)])
def test_uniform_numbers_are_above_0_and_up_to_1(generator, name, dtype):
    x = generator(seed=2).draw(name, dtype, N)
    assert 0 < x.min() < 1e-4
    assert 1 - 1e-4 < x.max() <= 1
    assert stats.kstest(x, "uniform").pvalue > UNLIKELY
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(N)


@pytest.mark.parametrize(("suffix", "dtype"), [("", np.float32), ("Double", np.float64)])
def test_normal_numbers(generator, suffix, dtype):
    x = generator(seed=3).draw(f"generateNormal{suffix}", dtype, N, 3.0, 2.0)
    assert stats.kstest(x.astype(float), "norm", (3, 2)).pvalue > UNLIKELY
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(N)
    assert x.max() > 3 + 2 * 3.5  # one of 4,000 is beyond 3.5 deviations
    assert x.min() < 3 - 2 * 3.5


@pytest.mark.parametrize(("suffix", "dtype"), [("", np.float32), ("Double", np.float64)])
def test_log_normal_numbers(generator, suffix, dtype):
    x = generator(seed=4).draw(f"generateLogNormal{suffix}", dtype, N, 0.5, 0.25)
    assert stats.kstest(np.log(x.astype(float)), "norm", (0.5, 0.25)).pvalue > UNLIKELY


@pytest.mark.parametrize("mean", [0.01, 0.7, 3.0, 9.99, 10.0, 41.5, 3000.0])
def test_poisson_numbers(generator, mean):
    x = generator(seed=5).draw("generatePoisson", np.uint32, N, mean).astype(int)
    law = stats.poisson(mean)
    edges = np.unique(law.ppf(np.linspace(0, 1, 30)[1:-1])).astype(int)  # few enough that each class is large
    classes = np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1)
    chances = np.diff(np.concatenate([[0], law.cdf(edges), [1]]))
    kept = chances * N > 5
    assert kept.sum() >= 2
    assert stats.chisquare(classes[kept], chances[kept] / chances[kept].sum() * classes[kept].sum()).pvalue > UNLIKELY
    assert abs(x.mean() - mean) < 5 * np.sqrt(mean / N)


# ---- sequences ----


@pytest.mark.parametrize("kind", [XORWOW, MRG, MTGP, MERSENNE, PHILOX])
def test_a_seed_names_a_sequence(generator, kind):
    first, again, other = generator(kind, seed=7), generator(kind, seed=7), generator(kind, seed=8)
    numbers = first.bits(1000)
    assert (again.bits(1000) == numbers).all()
    assert (other.bits(1000) == numbers).mean() < 0.01
    assert (first.bits(1000) == numbers).mean() < 0.01  # which goes on
    first("setPseudoRandomGeneratorSeed", 7)
    assert (first.bits(1000) == numbers).all()


def test_generators_of_different_types_give_different_numbers(generator):
    numbers = [generator(kind, seed=1).bits(100) for kind in (XORWOW, MRG, PHILOX)]
    assert (numbers[0] == numbers[1]).mean() < 0.1
    assert (numbers[1] == numbers[2]).mean() < 0.1


@emulated
@pytest.mark.parametrize(
    ("name", "dtype", "more"),
    [
        ("generate", np.uint32, ()), ("generateUniform", np.float32, ()), ("generateUniformDouble", np.float64, ()),
        ("generateNormal", np.float32, (0.0, 1.0)), ("generateNormalDouble", np.float64, (0.0, 1.0)),
        ("generatePoisson", np.uint32, (20.0,)),
    ],
)  # fmt: skip
def test_an_offset_skips_numbers(generator, name, dtype, more):
    whole = generator(PHILOX, seed=9).draw(name, dtype, 1000, *more)
    skipping = generator(PHILOX, seed=9)
    skipping("setGeneratorOffset", 358)
    assert (skipping.draw(name, dtype, 642, *more) == whole[358:]).all()
    far = generator(PHILOX, seed=9)
    far("setGeneratorOffset", 2**40)
    assert (far.draw(name, dtype, 1000, *more) == whole).mean() < 0.5
    parts = generator(PHILOX, seed=9)
    assert (np.concatenate([parts.draw(name, dtype, n, *more) for n in (2, 0, 998)]) == whole).all()


def philox(counter, key):
    """Philox4x32-10, as its paper has it."""
    (a, b, c, d), (k, w) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = q >> 32 ^ b ^ k, q % 2**32, p >> 32 ^ d ^ w, p % 2**32
        k, w = (k + 0x9E3779B9) % 2**32, (w + 0xBB67AE85) % 2**32
    return [a, b, c, d]


@emulated
def test_the_bits_are_those_of_philox(generator):
    # The known answers that the paper's authors publish.
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([2**32 - 1] * 4, [2**32 - 1] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    seed, offset = 0x1234567890ABCDEF, 2**33 + 5
    made = generator(PHILOX, seed=seed)
    made("setGeneratorOffset", offset)
    want = [
        philox([(offset + i) % 2**32, (offset + i) >> 32, 0, PHILOX], [seed % 2**32, seed >> 32])[0] for i in range(9)
    ]
    assert made.bits(9).tolist() == want


# ---- what is refused ----


@emulated
def test_normal_numbers_come_in_pairs(generator):
    out, handle = cupy.zeros(3, np.float64), ctypes.c_void_p(generator().handle)
    library = ctypes.CDLL("libcurand.so.10")  # CuPy's module refuses such a call by itself
    to, three = ctypes.c_void_p(out.data.ptr), ctypes.c_size_t(3)
    for suffix, number in (("", ctypes.c_float), ("Double", ctypes.c_double)):
        for name in ("Normal", "LogNormal"):
            call = getattr(library, f"curandGenerate{name}{suffix}")
            assert call(handle, to, three, number(0), number(1)) == LENGTH_NOT_MULTIPLE
            assert call(handle, to, ctypes.c_size_t(2), number(0), number(1)) == 0
    assert out[2] == 0


def test_what_a_generator_does_not_have(generator):
    out, made = cupy.zeros(4, np.uint64), generator()
    assert made.status("generateLongLong", out.data.ptr, 4) == TYPE_ERROR
    assert made.status("generatePoisson", out.data.ptr, 4, 0.0) == OUT_OF_RANGE
    assert generator(MERSENNE).status("setGeneratorOffset", 1) == TYPE_ERROR
    assert (out == 0).all()


@emulated
@pytest.mark.parametrize("kind", [0, 99, 200, 201, 202, 203, 204, 1000])
def test_other_generators_are_not_there(kind):
    from cupy_backends.cuda.libs import curand

    with pytest.raises(curand.CURANDError) as raised:
        curand.createGenerator(kind)
    assert raised.value.status == TYPE_ERROR


def test_orders_are_taken(generator):
    made = generator(XORWOW, seed=1)
    for order in (100, 101, 102):  # best, default, seeded
        made("setGeneratorOrdering", order)
    assert made.status("setGeneratorOrdering", 17) in (TYPE_ERROR, OUT_OF_RANGE)
    assert made.module.getVersion() >= 10000


# ---- CuPy's own functions ----


def test_random_arrays_of_cupy():
    cupy.random.seed(11)
    first = cupy.random.rand(1000), cupy.random.randn(999), cupy.random.randint(0, 7, 1000)
    cupy.random.seed(11)
    again = cupy.random.rand(1000), cupy.random.randn(999), cupy.random.randint(0, 7, 1000)
    for x, y in zip(first, again, strict=True):
        assert (x == y).all()
    uniform, normal, whole = (x.get() for x in first)
    assert stats.kstest(uniform, "uniform").pvalue > UNLIKELY
    assert stats.kstest(normal, "norm").pvalue > UNLIKELY
    assert stats.chisquare(np.bincount(whole, minlength=7)).pvalue > UNLIKELY


# ---- streams ----


@emulated
def test_a_captured_generator_goes_on(generator):
    made, library = generator(PHILOX, seed=3), ctypes.CDLL("libcurand.so.10")
    whole = made.bits(30)
    made("setGeneratorOffset", 0)
    first, rest = made.bits(10), cupy.zeros(10, np.uint32)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    made("setStream", stream.ptr)
    found = []
    with stream:
        stream.begin_capture()
        assert (
            library.curandGenerate(ctypes.c_void_p(made.handle), ctypes.c_void_p(rest.data.ptr), ctypes.c_size_t(10))
            == 0
        )
        graph = stream.end_capture()
        for _ in range(2):
            graph.launch()
            found.append(rest.get(stream=stream))
    assert (np.concatenate([first, *found]) == whole).all()


HEAD = """
from cupy_backends.cuda.libs import curand
"""


def printed_by(code, **settings):
    return in_a_process(HEAD + textwrap.dedent(code), **settings)


@emulated
def test_late_numbers_are_there_when_somebody_waits():
    printed = printed_by(
        """
        out, more = cupy.zeros(10, np.uint32), cupy.zeros(10, np.uint32)
        cupy.cuda.Device().synchronize()
        generator = curand.createGenerator(161)
        curand.setPseudoRandomGeneratorSeed(generator, 5)
        stream, other = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
        with stream:
            curand.generate(generator, out.data.ptr, 10)
            curand.generate(generator, more.data.ptr, 10)
            curand.setPseudoRandomGeneratorSeed(generator, 6)  # for what comes after
        print((out.get(stream=other) == 0).all())
        stream.synchronize()
        first = np.concatenate([out.get(stream=other), more.get(stream=other)])
        curand.setPseudoRandomGeneratorSeed(generator, 5)
        again = cupy.zeros(20, np.uint32)
        cupy.cuda.Device().synchronize()
        with stream:
            curand.generate(generator, again.data.ptr, 20)
        print((again.get(stream=stream) == first).all(), len(set(first.tolist())))
        """,
        late=True,
    )
    assert printed == ["True", "True", "20"]


@emulated
def test_memory_of_the_host_breaks_the_device():
    printed = printed_by(
        """
        import os
        out = np.zeros(4, np.uint32)
        generator = curand.createGenerator(100)
        try:
            curand.generate(generator, out.ctypes.data, 4)
        except curand.CURANDError as error:
            print(error.status)
        try:
            cupy.cuda.Device().synchronize()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            print(error.status, flush=True)
        os._exit(0 if not out.any() else 1)
        """
    )
    assert printed == ["201", "700"]
