import numpy as np
import optimizers
import oracles
import pytest

from gpunn import cuda
from gpunn.cpu import onednn
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError
from gpunn.ops import optimizer
from gpunn.ops.optimizer import adam
from gpunn.ops.shared import chunks

RULES = {
    "sgd": (optimizer.sgd_step, 0, {"lr": 0.1}),
    "sgd with weight decay": (optimizer.sgd_step, 0, {"lr": 0.1, "weight_decay": 0.3}),
    "momentum": (optimizer.sgd_step, 1, {"lr": 0.1, "momentum": 0.9}),
    "momentum and weight decay": (optimizer.sgd_step, 1, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3}),
    "nesterov": (optimizer.sgd_step, 1, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (optimizer.adam_step, 2, {"lr": 0.1}),
    "adam late": (
        optimizer.adam_step,
        2,
        {"steps": 70, "lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3},
    ),
    "adamw": (optimizer.adam_step, 2, {"steps": 3, "lr": 0.1, "weight_decay": 0.3, "decoupled": True}),
    "nadam": (optimizer.nadam_step, 2, {"lr": 0.1}),
    "nadam late": (optimizer.nadam_step, 2, {"steps": 90, "lr": 0.1, "weight_decay": 0.3, "momentum_decay": 0.1}),
    "nadam of one momentum": (optimizer.nadam_step, 2, {"steps": 9, "lr": 0.1, "momentum_decay": 0.0}),
    "radam, not divided": (optimizer.radam_step, 2, {"steps": 5, "lr": 0.1, "weight_decay": 0.3}),
    "radam, rectified": (optimizer.radam_step, 2, {"steps": 6, "lr": 0.1, "eps": 1e-3}),
    "adagrad": (optimizer.adagrad_step, 1, {"steps": 3, "lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.3}),
    "adadelta": (optimizer.adadelta_step, 2, {"lr": 0.7, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.3}),
    "rmsprop": (optimizer.rmsprop_step, 1, {"lr": 0.1}),
    "rmsprop with momentum": (optimizer.rmsprop_step, 2, {"alpha": 0.9, "momentum": 0.8, "weight_decay": 0.3}),
    "rmsprop centered": (optimizer.rmsprop_step, 2, {"alpha": 0.9, "eps": 1e-3, "centered": True}),
    "rmsprop with all": (
        optimizer.rmsprop_step,
        3,
        {"lr": 0.1, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.3, "momentum": 0.8, "centered": True},
    ),
}
AWKWARD = {  # the length, and where each array starts in its buffer: packs of 16 bytes need one offset for all
    "one": (1, (0,)), "fewer than a pack": (3, (0,)), "whole packs": (64, (0,)), "a tail": (67, (0,)),
    "a head": (67, (3,)), "a head alone": (2, (1,)), "blocks": (2500, (1,)), "none": (0, (0,)),
    "offsets that differ": (67, (0, 1, 2, 3, 0)),
}  # fmt: skip


def arguments(rng, name, length=67, starts=(0,), dtype=np.float32):
    """p, g and the states of a rule in the order of its arguments, as views into longer buffers, and its settings."""
    function, states, settings = RULES[name]
    arrays = []
    for number in range(2 + states):
        buffer = np.full(length + 8, 7, dtype)
        view = buffer[starts[number % len(starts)] :][:length]
        view[...] = rng.standard_normal(length)
        arrays.append(view)
    if "adam" in function.__name__:
        arrays[3] **= 2
        settings = {"steps": 1, **settings}
    if function in (optimizer.adagrad_step, optimizer.adadelta_step):
        for state in arrays[2:]:
            state **= 2
    if function is optimizer.rmsprop_step:
        arrays[2][...] = 0.5 + sum(a**2 for a in arrays[2:])  # above m^2
        if "momentum" in settings and "centered" not in settings:
            arrays.insert(3, None)
    if name.startswith("sgd"):
        arrays.append(None)
    return function, arrays, settings


def copies(arrays):
    return [None if a is None else a.copy() for a in arrays]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("length", "starts"), AWKWARD.values(), ids=AWKWARD.keys())
@pytest.mark.parametrize("name", RULES)
def test_a_step_is_the_naive_loop(run, name, length, starts, dtype, rng):
    function, arrays, settings = arguments(rng, name, length, starts, dtype)
    expected = optimizers.element_rule(getattr(optimizers, function.__name__), arrays, **settings)
    results = run(function, *arrays, **settings)
    assert len(results) == len(expected)
    for actual, wanted in zip(results, expected, strict=True):
        assert actual.dtype == dtype
        oracles.assert_close(actual, wanted, 4)


@pytest.mark.parametrize("name", RULES)
def test_only_the_given_elements_change_and_in_place(name, rng):
    ways = [onednn.engine("numpy"), cuda.emulate(), *([] if onednn.found()[0] is None else [onednn.engine("onednn")])]
    for way in ways:
        function, arrays, settings = arguments(rng, name, 21, (1,))
        before = copies(arrays)
        with way:
            results = function(*arrays, **settings)
        assert all(any(r is a for a in arrays) for r in results)
        assert (arrays[0] != before[0]).all()
        np.testing.assert_array_equal(arrays[1], before[1])
        for array in arrays:
            if array is not None:
                np.testing.assert_array_equal(array.base[:1], 7)
                np.testing.assert_array_equal(array.base[22:], 7)


@pytest.mark.parametrize("number", [0, 2])
def test_gradient_descent_does_not_write_to_what_is_read_only(number):
    held = [bytes(4 * 40_000) for _ in range(3)]  # so many elements that oneDNN takes them
    arrays = [np.frombuffer(each, np.float32) for each in held]
    arrays = [a if i == number else a.copy() for i, a in enumerate(arrays)]
    arrays[1] += 1
    with pytest.raises(ValueError, match="read-only"):
        optimizer.sgd_step(*arrays, lr=0.1, momentum=0.9)
    assert not any(held[number])


@pytest.mark.parametrize("name", RULES)
def test_every_start_and_a_wide_index_give_the_same_bits(name, rng, monkeypatch):
    function, arrays, settings = arguments(rng, name, 67)
    with cuda.emulate():
        expected = function(*copies(arrays), **settings)
        for starts in ((1,), (3,), (0, 1, 2, 3, 0), (0,)):
            if starts == (0,):
                monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
            moved = arguments(rng, name, 67, starts)[1]
            for view, array in zip(moved, arrays, strict=True):
                if view is not None:
                    view[...] = array
            for actual, wanted in zip(function(*moved, **settings), expected, strict=True):
                np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize("name", RULES)
def test_blocks_of_the_cpu_give_the_same_bits(name, rng, monkeypatch):
    function, given, settings = arguments(rng, name, 67)
    expected = function(*copies(given), **settings)
    for size in ("_BLOCK_BYTES", "_PART_BYTES", "_WORTH_THREADS", "_FEW"):
        monkeypatch.setattr(chunks, size, 80)
    for actual, wanted in zip(function(*given, **settings), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize("name", RULES)
def test_half_precision_computes_and_keeps_its_states_in_float32(run, name, rng):
    function, arrays, settings = arguments(rng, name)
    arrays[:2] = [a.astype(np.float16) for a in arrays[:2]]
    wide = [None if a is None else a.astype(np.float32) for a in arrays]
    expected = function(*wide, **settings)
    p, *states = run(function, *arrays, **settings)
    np.testing.assert_array_equal(p, expected[0].astype(np.float16))
    for actual, wanted in zip(states, expected[1:], strict=True):
        np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize("name", RULES)
def test_half_precision_takes_a_gradient_in_float32(name, rng):
    function, arrays, settings = arguments(rng, name)
    half = [arrays[0].astype(np.float16), *arrays[1:]]
    expected = function(half[0].astype(np.float32), *copies(arrays[1:]), **settings)
    for actual, wanted in zip(function(*half, **settings), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted.astype(actual.dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(1,), (7, 1, 0, 53, 2), (67,), (0,)])
def test_lamb_is_the_naive_loop_over_each_parameter(run, sizes, dtype, rng):
    p, g, m, v = rng.standard_normal((4, sum(sizes))).astype(dtype)
    v **= 2
    p[:1] = 0  # in one case all of a parameter
    settings = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}
    results = run(optimizer.lamb_step, p.copy(), g, m.copy(), v.copy(), 3, list(sizes), **settings)
    ends = np.cumsum(sizes)
    for end, size in zip(ends, sizes, strict=True):
        part = slice(end - size, end)
        if size:
            expected = optimizers.lamb_step(p[part], g[part], m[part], v[part], 3, **settings)
            for actual, wanted in zip(results, expected, strict=True):
                assert actual.dtype == dtype
                oracles.assert_close(actual[part], wanted, size)


def test_lamb_of_zeros_and_of_not_a_number(run):
    zeros = np.zeros((4, 3), np.float32)
    for result in run(optimizer.lamb_step, *zeros, 1, [3]):
        np.testing.assert_array_equal(result, 0)
    p, g = np.ones((2, 4), np.float32)
    g[1] = np.nan
    p = run(optimizer.lamb_step, p, g, *np.zeros((2, 4), np.float32), 1, [2, 2])[0]
    np.testing.assert_array_equal(np.isnan(p), [True, True, False, False])  # of a length nothing is known


def test_lamb_in_half_precision_computes_in_float32(run, rng):
    p, g, m, v = rng.standard_normal((4, 9)).astype(np.float32)
    v **= 2
    half, g = p.astype(np.float16), g.astype(np.float16)
    wide = run(optimizer.lamb_step, half.astype(np.float32), g.astype(np.float32), m.copy(), v.copy(), 2, [5, 4])
    results = run(optimizer.lamb_step, half, g, m, v, 2, [5, 4])
    for actual, wanted in zip(results, wide, strict=True):
        np.testing.assert_array_equal(actual, wanted.astype(actual.dtype))


def test_the_series_of_nadam_is_its_product(rng):
    for _ in range(50):
        decay, steps = 10 ** rng.uniform(-5, 1), int(rng.integers(1, 5000))
        product = np.prod(1 - 0.5 * 0.96 ** (np.arange(1, steps + 1) * decay))
        series = adam._shrinkage(0.96**decay, steps)
        np.testing.assert_allclose(series, product, rtol=1e-10, atol=1e-300, err_msg=f"{decay=} {steps=}")


def test_not_a_number_is_not_hidden(run):
    for name in RULES:
        function, arrays, settings = arguments(np.random.default_rng(0), name, 5)
        arrays[1][2] = np.nan
        p = run(function, *arrays, **settings)[0]
        np.testing.assert_array_equal(np.isnan(p), [False, False, True, False, False])


def test_centered_stays_a_number_where_the_variance_rounds_below_0(run):
    # A constant gradient: s - m^2 is 0 up to rounding, on either side of it.
    p, g = np.ones(50, np.float32), np.linspace(0.1, 3, 50).astype(np.float32)
    m = g.copy()
    s = np.nextafter(m * m, 0)
    p, _, m = run(optimizer.rmsprop_step, p, g, s, m, None, 1e-9, centered=True)
    assert np.isfinite(p).all()


def test_errors_name_rule_and_values(run):
    p, g, v = np.ones((3, 4))
    with pytest.raises(ShapeError, match=r"sgd_step: g must have shape \(4,\), got shape=\(3,\)"):
        run(optimizer.sgd_step, p, g[:3], v, 0.1)
    with pytest.raises(ShapeError, match=r"sgd_step: p must have shape \(4,\), got shape=\(2, 2\)"):
        run(optimizer.sgd_step, p.reshape(2, 2), g, v, 0.1)
    with pytest.raises(DtypeError, match="adam_step: arrays must have one dtype"):
        run(optimizer.adam_step, p, g, v, v.astype(np.float32), 1)
    with pytest.raises(DtypeError, match="adam_step: m must be float32 for float16 p, got dtype='float16'"):
        run(optimizer.adam_step, *np.ones((4, 4), np.float16), 1)
    with pytest.raises(DtypeError, match="p must be a floating array, got dtype='int64'"):
        run(optimizer.sgd_step, np.ones(4, int), g, v, 0.1)
    with pytest.raises(ArgumentError, match="adam_step: steps must be at least 1, got steps=0"):
        run(optimizer.adam_step, p, g, v, v.copy(), 0)
    with pytest.raises(ArgumentError, match="adagrad_step: steps must be at least 1, got steps=-1"):
        run(optimizer.adagrad_step, p, g, v, -1)
    rule = r"lamb_step: sizes must add up to the length of p, got sizes=\[2, 1\], length=4"
    with pytest.raises(ArgumentError, match=rule):
        run(optimizer.lamb_step, p, g, v, v.copy(), 1, [2, 1])
    with pytest.raises(ArgumentError, match=r"sgd_step: momentum needs the velocity v, got momentum=0\.9"):
        run(optimizer.sgd_step, p, g, None, 0.1, 0.9)
    with pytest.raises(ArgumentError, match="rmsprop_step: centered needs the mean m, got centered=True"):
        run(optimizer.rmsprop_step, p, g, v, centered=True)
    with pytest.raises(ArgumentError, match=r"rmsprop_step: momentum needs the velocity v, got momentum=0\.5"):
        run(optimizer.rmsprop_step, p, g, v, momentum=0.5)


def test_an_array_with_gaps_is_refused():
    p, g = np.ones(8)[::2], np.ones(4)
    for emulated in (False, True):
        rule = r"p must be contiguous, as it is changed in place, got strides=\(16,\)"
        with cuda.emulate() if emulated else np.errstate(), pytest.raises(ArgumentError, match=rule):
            optimizer.sgd_step(p, g, None, 0.1)


@pytest.mark.gpu
def test_arrays_of_two_devices_are_refused():
    from gpunn import backend

    with pytest.raises(DeviceError, match="arrays must all be NumPy's or all be CuPy's"):
        optimizer.sgd_step(backend.to_gpu(np.ones(4)), np.ones(4), None, 0.1)
