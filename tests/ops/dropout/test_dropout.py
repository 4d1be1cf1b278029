import numpy as np
import oracles
import pytest
from runners import WITH_KERNEL, Runner

import gpunn
from gpunn import cuda, functional, nn
from gpunn.cuda import source
from gpunn.cuda.emulator import RawKernel
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import dropout

RAW_STREAM = """
extern "C" __global__ void stream(unsigned long long* y, unsigned long long a, unsigned long long b,
                                  unsigned long long c, unsigned long long d, unsigned long long key0,
                                  unsigned long long key1) {
  const PhiloxBlock block = philox4x64({{a + threadIdx.x, b, c, d}}, key0, key1);
  for (int i = 0; i < 4; i++) y[4 * threadIdx.x + i] = block.word[i];
}
"""

AWKWARD = {
    "one element": (1,),
    "no image": (0, 4, 3, 3),
    "no dimensions": (),
    "prime": (7, 13, 11),
    "a multiple of four": (4, 8),
    "more than one block": (1027,),
    "images": (3, 5, 4, 3),
}


def assert_equal_bits(actual, expected):
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(np.atleast_1d(actual).view(np.uint8), np.atleast_1d(expected).view(np.uint8))


@pytest.mark.parametrize("key", [0, 1, 2**64 - 1, 2**64, 0x0123456789ABCDEF_FEDCBA9876543210])
@pytest.mark.parametrize("counter", [0, 5, 2**40, 2**64 + 1, 0x1111_2222333344445555_6666777788889999_AAAABBBBCCCCDDDD])
def test_the_raw_stream_is_numpys(key, counter):
    words = [np.uint64((counter + 1) >> 64 * i & 2**64 - 1) for i in range(4)]
    keys = [np.uint64(key >> 64 * i & 2**64 - 1) for i in range(2)]
    y = np.zeros(40, np.uint64)
    RawKernel(source.flatten("philox.cuh") + RAW_STREAM, "stream")((1,), (10,), (y, *words, *keys))
    np.testing.assert_array_equal(y, np.random.Philox(key=key, counter=counter).random_raw(40))


def naive_mask(count, p, key, offset):
    raw = np.random.Philox(key=key, counter=offset).random_raw(count).tolist() if count else []
    return np.array([(word >> 11) / 2**53 >= p for word in raw], bool)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("shape", AWKWARD.values(), ids=AWKWARD.keys())
def test_forward_is_the_naive_loop(run, shape, p, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    y = run(dropout.dropout, x, p, 99, 3)
    scale = gpunn.backend.accumulation_dtype(dtype).type(1 / (1 - p) if p < 1 else 0)
    expected = np.where(naive_mask(x.size, p, 99, 3).reshape(shape), x * scale, 0).astype(dtype)
    assert_equal_bits(y, expected)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 1), (3, 7, 5, 4), (2, 2, 13, 11), (2, 0, 3, 3)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_whole_channels_are_the_naive_loop(run, shape, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    keep = naive_mask(shape[0] * shape[1], 0.4, 5, 0).reshape(shape[:2])[:, :, None, None]
    scale = gpunn.backend.accumulation_dtype(dtype).type(1 / 0.6)
    assert_equal_bits(run(dropout.dropout2d, x, 0.4, 5), np.where(keep, x * scale, 0).astype(dtype))


@pytest.mark.parametrize("size", [1_000_000, 1_000_003, 999_999, 262_145])
@pytest.mark.parametrize("seed", [0, 1, 2**63 + 11])
def test_the_mask_is_the_same_bits_on_every_backend(run, size, seed):
    x = np.ones(size, np.float32)
    y = run(dropout.dropout, x, 0.37, seed)
    mask = np.random.Generator(np.random.Philox(key=seed)).random(size) >= 0.37
    np.testing.assert_array_equal(y != 0, mask)
    assert abs(mask.mean() - 0.63) < 5 * np.sqrt(0.63 * 0.37 / size)  # the binomial's deviation


def test_the_mask_does_not_depend_on_the_dtype(run):
    masks = [run(dropout.dropout, np.ones(1001, dtype), 0.5, 17) != 0 for dtype in (np.float16, np.float32, np.float64)]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])


def test_thresholds_at_the_edge_are_those_of_random(run):
    # A number of the stream itself as p: u >= p keeps it, the next larger double drops it.
    u = np.random.Generator(np.random.Philox(key=3)).random(9)
    for i, p in enumerate(u):
        assert run(dropout.dropout, np.ones(9), p, 3)[i] != 0
        assert run(dropout.dropout, np.ones(9), np.nextafter(p, 1), 3)[i] == 0
        planes = np.ones((3, 3, 1, 2))
        assert run(dropout.dropout2d, planes, p, 3).reshape(9, 2)[i].all()
        assert not run(dropout.dropout2d, planes, np.nextafter(p, 1), 3).reshape(9, 2)[i].any()


def test_a_kept_mask_is_the_one_that_is_drawn(rng):
    x = rng.standard_normal((37, 11)).astype(np.float32)
    keep = dropout.dropout_mask(x, 0.3, key=5, offset=2)
    assert_equal_bits(dropout.dropout(x, 0.3, 5, 2, keep), dropout.dropout(x, 0.3, 5, 2))
    assert_equal_bits(dropout.dropout_backward(x, 0.3, 5, 2, keep), dropout.dropout_backward(x, 0.3, 5, 2))
    assert dropout.dropout(x, 0.3, 5, 2, ~keep)[keep.reshape(x.shape)].any() == np.False_
    with cuda.emulate():
        assert dropout.dropout_mask(x, 0.3, key=5) is None


def test_a_key_in_memory_is_that_key(rng):
    """As a kernel reads it: from an array, whose number may have changed since the last launch."""
    x, draws = rng.standard_normal((2, 3, 5, 4)).astype(np.float32), iter([7, 8])
    assert dropout.dropout_key(x, lambda: next(draws)) == 7
    with cuda.emulate():
        key = dropout.dropout_key(x, lambda: next(draws))
        assert (key.dtype, key.tolist()) == (np.uint64, [8])
        for number in (8, 2**64 - 1):
            key[0] = number
            assert_equal_bits(dropout.dropout(x, 0.4, key), dropout.dropout(x, 0.4, number))
            assert_equal_bits(dropout.dropout2d_backward(x, 0.4, key), dropout.dropout2d_backward(x, 0.4, number))
    assert_equal_bits(dropout.dropout(x, 0.4, np.array([5], np.uint64)), dropout.dropout(x, 0.4, 5))


@pytest.mark.parametrize("function", [dropout.dropout, dropout.dropout2d])
def test_backward_is_the_directional_difference(run, function, rng):
    backward = {dropout.dropout: dropout.dropout_backward, dropout.dropout2d: dropout.dropout2d_backward}[function]
    x = rng.standard_normal((3, 4, 5, 7))
    oracles.assert_gradient(lambda v: run(function, v, 0.3, 8, 1), lambda gy: run(backward, gy, 0.3, 8, 1), x, rng)


def test_offset_counts_blocks_of_four(run):
    whole = run(dropout.dropout, np.ones(103), 0.5, 4)
    assert_equal_bits(run(dropout.dropout, np.ones(103 - 4 * 9), 0.5, 4, 9), whole[4 * 9 :])


def test_probabilities_zero_and_one_are_exact(run):
    x = np.float32([1 / 3, -np.inf, np.nan, -0.0, 1e38])
    assert_equal_bits(run(dropout.dropout, x, 0.0, 1), x)
    assert_equal_bits(run(dropout.dropout, x, 1.0, 1), np.zeros(5, np.float32))


def test_misaligned_and_non_contiguous_arrays_are_read_right(run, rng):
    x = rng.standard_normal((12, 11)).astype(np.float32)
    for view in (x[1:], x.ravel()[1:1 + 64], x.T, x[:, ::2]):  # fmt: skip
        packed = view.copy("C")
        assert_equal_bits(run(dropout.dropout, view, 0.5, 2), dropout.dropout(packed, 0.5, 2))
    images = rng.standard_normal((2, 3, 5, 4)).transpose(1, 0, 3, 2)
    assert_equal_bits(run(dropout.dropout2d, images, 0.5, 2), dropout.dropout2d(images.copy("C"), 0.5, 2))


def test_wide_index_gives_the_same_bits(monkeypatch):
    x = np.random.default_rng(0).standard_normal((3, 5, 9, 11))
    with cuda.emulate():
        narrow = dropout.dropout(x, 0.5, 1), dropout.dropout2d(x, 0.5, 1)
        monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
        assert_equal_bits(dropout.dropout(x, 0.5, 1), narrow[0])
        assert_equal_bits(dropout.dropout2d(x, 0.5, 1), narrow[1])


def test_each_call_draws_a_new_mask_that_the_seed_decides():
    draw = lambda g: functional.dropout(np.ones(64), 0.5, generator=g)  # noqa: E731
    one, two = gpunn.backend.random_generator(7), gpunn.backend.random_generator(7)
    first = draw(one)
    assert_equal_bits(draw(two), first)
    assert (draw(one) != first).any()
    gpunn.manual_seed(7)
    assert_equal_bits(draw(None), first)


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_gradients_come_back_through_the_mask_of_the_forward_pass(name):
    def both(x):
        leaf = gpunn.tensor(x, requires_grad=True)
        y = nn.Dropout(0.25)(leaf) + nn.Dropout2d(0.25)(leaf)
        y.sum().backward()
        return y.data, leaf.grad

    y, gx = Runner(name)(both, np.ones((2, 9, 3, 5), np.float32))
    assert_equal_bits(gx, y)


def test_evaluation_is_the_identity():
    x = gpunn.tensor(np.ones((1, 2, 3, 3)))
    assert functional.dropout(x, 0.5, training=False) is x
    assert functional.dropout2d(x, 0.5, training=False) is x
    for layer in (nn.Dropout(0.9), nn.Dropout2d(0.9)):
        assert layer.eval()(x) is x
        assert layer.train()(x) is not x


def test_errors_name_rule_and_values(run):
    x = np.ones((2, 3))
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(ArgumentError, match=f"dropout: p must be a probability, 0 to 1, got p={p}"):
            run(dropout.dropout, x, p, 0)
    with pytest.raises(ArgumentError, match=r"Dropout2d: p must be a probability, 0 to 1, got p=2"):
        nn.Dropout2d(2)
    with pytest.raises(ArgumentError, match=r"key must be an integer from 0 to 2\*\*64 - 1, got key=-1"):
        run(dropout.dropout, x, 0.5, -1)
    with pytest.raises(ArgumentError, match=r"key must be an integer from 0 to 2\*\*64 - 1, got key=0.5"):
        run(dropout.dropout_backward, x, 0.5, 0.5)
    with pytest.raises(ArgumentError, match=r"key must hold one uint64, got dtype='int64', shape=\(2,\)"):
        run(dropout.dropout, x, 0.5, np.array([1, 2]))
    with pytest.raises(ArgumentError, match=r"offset must be an integer from 0 to 2\*\*63 - 1, got offset=92"):
        run(dropout.dropout, x, 0.5, 0, 2**63)
    with pytest.raises(DtypeError, match="x must be a floating array, got dtype='int64'"):
        run(dropout.dropout, np.ones(3, np.int64), 0.5, 0)
    with pytest.raises(ShapeError, match=r"dropout2d: x must have the 4 dimensions .*, got shape=\(2, 3\)"):
        run(dropout.dropout2d, x, 0.5, 0)


@pytest.mark.peer("dropout", "dropout1d", "dropout2d", "dropout3d")
@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("name", ["dropout", "dropout1d", "dropout2d", "dropout3d"])
def test_kept_values_and_gradients_match_pytorch(run, name, seed):
    """PyTorch's random numbers are others: of what both keep, values and gradients must be the same."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    rank = {"dropout1d": 3, "dropout3d": 5}.get(name, 4)
    shape, p = tuple(map(int, rng.integers(1, 7, rank))), float(rng.uniform(0, 0.9))
    x, gy = rng.uniform(1, 2, (2, *shape)).astype(np.float32)
    leaf = torch.tensor(x, requires_grad=True)
    y = getattr(torch.nn.functional, name)(leaf, p)
    y.backward(torch.tensor(gy))

    def both_ways(x, gy):
        own = gpunn.tensor(x, requires_grad=True)
        result = getattr(functional, name)(own, p, generator=gpunn.backend.random_generator(seed))
        result.backward(gy)
        return result.data, own.grad

    ours, gx = run(both_ways, x, gy)
    both = (y.detach().numpy() != 0) & (ours != 0)
    np.testing.assert_allclose(ours[both], y.detach().numpy()[both], rtol=3e-7)
    np.testing.assert_allclose(gx[both], leaf.grad.numpy()[both], rtol=3e-7)
    np.testing.assert_array_equal(gx != 0, ours != 0)
    if name != "dropout":  # channels stay or go as a whole, in both
        for kept in (ours != 0, y.detach().numpy() != 0):
            channels = kept.reshape(*shape[:2], -1)
            assert (channels.all(2) | ~channels.any(2)).all()
