"""CuPy's Fourier transforms against NumPy's and SciPy's, on a GPU and on the emulated device."""

import itertools

import numpy as np
import pytest
import scipy.fft

from gpunn.cuda import device

cupy = pytest.importorskip("cupy")

pytestmark = [pytest.mark.gpu, pytest.mark.slow]  # the quick calls of test_calls.py have some of each

emulated = pytest.mark.skipif(device._running is None, reason="looks into the emulated device")

DTYPES = "fdFD"
SHAPES = [(1,), (8,), (7,), (4, 6), (2, 1, 3), (5, 3, 4), (2, 3, 2, 4)]
NORMS = [None, "ortho", "forward"]


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=shape)
    if dtype in "FD":
        found = found + 1j * rng.normal(size=shape)
    return found.astype(dtype)


def close(got, want, dtype):
    got = cupy.asnumpy(got)
    assert got.shape == want.shape
    assert got.dtype.char == (dtype.upper() if want.dtype.kind == "c" else dtype.lower())
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(got, want, rtol=0, atol=20 * np.finfo(dtype).eps * scale)


def exact(a):
    return a.astype(np.result_type(a, "d"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", "CF")
def test_one_axis(shape, order, dtype):
    a = numbers(shape, dtype)
    on_device = cupy.asarray(a, order=order)
    names = ["fft", "ifft"] + (["irfft", "hfft"] if dtype in "FD" else ["rfft", "ihfft"])
    for name, axis, n, norm in itertools.product(names, range(len(shape)), (None, 4, 9), NORMS):
        if n is None and shape[axis] == 1 and name in ("irfft", "hfft"):
            continue  # it would have no numbers
        settings = {"axis": axis, "n": n, "norm": norm}
        want = getattr(np.fft, name)(exact(a), **settings)
        close(getattr(cupy.fft, name)(on_device, **settings), want, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", "CF")
def test_several_axes(shape, order, dtype):
    a = numbers(shape, dtype)
    on_device = cupy.asarray(a, order=order)
    names = ["fftn", "ifftn"] + (["irfftn"] if dtype in "FD" else ["rfftn"])
    every = [axes for k in range(1, len(shape) + 1) for axes in itertools.permutations(range(len(shape)), k)]
    for name, axes in itertools.product(names, [None, *every[:20]]):
        if name == "irfftn" and shape[axes[-1] if axes else -1] == 1:
            continue
        for norm in NORMS[:2]:
            want = getattr(np.fft, name)(exact(a), axes=axes, norm=norm)
            close(getattr(cupy.fft, name)(on_device, axes=axes, norm=norm), want, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_axes_of_other_sizes(dtype):
    a = numbers((3, 4, 6), dtype)
    for name in ("fft2", "ifft2", "irfft2" if dtype in "FD" else "rfft2"):
        for sizes in (None, (4, 4), (5, 7)):
            want = getattr(np.fft, name)(exact(a), sizes)
            close(getattr(cupy.fft, name)(cupy.asarray(a), sizes), want, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_does_not_lie_together(dtype):
    a = numbers((6, 8, 4), dtype)
    close(cupy.fft.fft(cupy.asarray(a)[::2, ::-1, 1:], axis=1), np.fft.fft(exact(a)[::2, ::-1, 1:], axis=1), dtype)
    close(cupy.fft.fftn(cupy.asarray(a).transpose(2, 0, 1)), np.fft.fftn(exact(a).transpose(2, 0, 1)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(8,), (3, 6)])
def test_there_and_back(shape, dtype):
    a = cupy.asarray(numbers(shape, dtype))
    back = cupy.fft.irfft(cupy.fft.rfft(a)) if dtype in "fd" else cupy.fft.ifft(cupy.fft.fft(a))
    close(back, a.get(), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_to_transform(dtype):
    a = cupy.zeros((0, 4), dtype)
    assert cupy.fft.fft(a).shape == (0, 4)
    with pytest.raises(ValueError, match="FFT data points"):
        cupy.fft.fft(cupy.zeros((4, 0), dtype))


def test_whole_numbers_become_double():
    a = np.arange(12).reshape(3, 4)
    close(cupy.fft.fftn(cupy.asarray(a)), np.fft.fftn(a), "D")
    close(cupy.fft.rfft(cupy.asarray(a)), np.fft.rfft(a), "D")


@pytest.mark.parametrize("dtype", DTYPES)
def test_scipys_interface(dtype):
    import cupyx.scipy.fft as cufft

    a = numbers((4, 6), dtype)
    with scipy.fft.set_backend(cufft):
        close(scipy.fft.fft(cupy.asarray(a)), np.fft.fft(exact(a)), dtype)
    for name in ("fft", "ifftn", "fft2"):
        close(getattr(cufft, name)(cupy.asarray(a)), getattr(scipy.fft, name)(exact(a)), dtype)
    if dtype in "fd":
        for name in ("dct", "idct", "dst", "idst", "dctn"):
            for kind in (2, 3):
                want = getattr(scipy.fft, name)(exact(a), type=kind)
                close(getattr(cufft, name)(cupy.asarray(a), type=kind), want, dtype)


@pytest.mark.parametrize("dtype", "FD")
def test_in_the_place_of_the_input(dtype):
    import cupyx.scipy.fft as cufft

    a = numbers((4, 6), dtype)
    on_device = cupy.asarray(a)
    got = cufft.fft(on_device, overwrite_x=True)
    close(got, np.fft.fft(exact(a)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [0, 1, (0, 1)])
def test_a_plan_of_ones_own(axes, dtype):
    from cupyx.scipy.fft import get_fft_plan
    from cupyx.scipy.fftpack import fft, fftn

    a = numbers((4, 6), dtype)
    if dtype in "fd":
        plan = get_fft_plan(cupy.asarray(a), axes=axes, value_type="R2C")
        one, several, ones, manys = cupy.fft.rfft, cupy.fft.rfftn, np.fft.rfft, np.fft.rfftn
    else:
        plan = get_fft_plan(cupy.asarray(a), axes=axes)
        one, several, ones, manys = cupy.fft.fft, cupy.fft.fftn, np.fft.fft, np.fft.fftn
    is_several = isinstance(axes, tuple)
    with plan:
        got = several(cupy.asarray(a), axes=axes) if is_several else one(cupy.asarray(a), axis=axes)
    close(got, manys(exact(a), axes=axes) if is_several else ones(exact(a), axis=axes), dtype)
    if dtype in "FD":
        settings = {"axes": axes} if is_several else {"axis": axes}
        close((fftn if is_several else fft)(cupy.asarray(a), plan=plan, **settings), got.get(), dtype)


@pytest.mark.parametrize("fft_type", ["C2C", "Z2Z"])
def test_numbers_that_are_embedded(fft_type):
    """A batch of 2 of 3 by 4 numbers, in arrays with 5 by 6 places of which every second counts."""
    from cupy.cuda import cufft

    dtype = "F" if fft_type == "C2C" else "D"
    a = numbers((2, 3, 6, 2), dtype)
    out = cupy.zeros((2, 3, 5, 1), dtype)
    plan = cufft.PlanNd((3, 4), (3, 6), 2, 36, (3, 5), 1, 15, getattr(cufft, f"CUFFT_{fft_type}"), 2, "C", 1, None)
    for direction, transform in ((cufft.CUFFT_FORWARD, np.fft.fft2), (cufft.CUFFT_INVERSE, np.fft.ifft2)):
        plan.fft(cupy.asarray(a), out, direction)
        want = transform(exact(a)[:, :, :4, 0])
        close(out[:, :, :4, 0], want * (12 if direction == cufft.CUFFT_INVERSE else 1), dtype)
        assert (out[:, :, 4] == 0).all()


@pytest.mark.parametrize("dtype", "fd")
def test_real_numbers_in_the_place_of_complex_ones(dtype):
    """cuFFT pads the rows of real numbers when input and output are the same."""
    from cupy.cuda import cufft

    a = numbers((3, 6), dtype)
    padded = cupy.zeros((3, 8), dtype)
    padded[:, :6] = cupy.asarray(a)
    there, back = (cufft.CUFFT_R2C, cufft.CUFFT_C2R) if dtype == "f" else (cufft.CUFFT_D2Z, cufft.CUFFT_Z2D)
    cufft.PlanNd((3, 6), None, 1, 18, None, 1, 12, there, 1, "C", 1, 4).fft(padded, padded, cufft.CUFFT_FORWARD)
    close(padded.view(dtype.upper()), np.fft.rfft2(exact(a)), dtype)
    cufft.PlanNd((3, 6), None, 1, 12, None, 1, 18, back, 1, "C", 1, 6).fft(padded, padded, cufft.CUFFT_INVERSE)
    close(padded[:, :6] / 18, a, dtype)


def test_the_cache_of_plans():
    from cupy.fft.config import get_plan_cache

    cache = get_plan_cache()
    cache.clear()
    a = cupy.asarray(numbers((4, 16), "D"))
    cupy.fft.fft(a)
    assert cache.get_curr_size() == 1
    assert cache.get_curr_memsize() >= 0
    cupy.fft.fft(a)
    assert cache.get_curr_size() == 1
    cupy.fft.fft(a, 8)
    assert cache.get_curr_size() == 2
    cache.clear()
    assert cache.get_curr_size() == 0


def test_wrong_plans_are_refused():
    from cupy.cuda import cufft

    with pytest.raises(cufft.CuFFTError, match="CUFFT_INVALID_SIZE"):
        cufft.Plan1d(0, cufft.CUFFT_C2C, 1)
    with pytest.raises(cufft.CuFFTError):
        cufft.Plan1d(4, 1, 1)
    plan = cufft.Plan1d(4, cufft.CUFFT_C2C, 1)
    with pytest.raises(ValueError, match="shape"):
        plan.check_output_array(cupy.zeros(4, "F"), cupy.zeros(5, "F"))
    with pytest.raises(ValueError, match="dtype"):
        plan.check_output_array(cupy.zeros(4, "F"), cupy.zeros(4, "D"))
    assert cufft.get_current_plan() is None
    with plan:
        assert cufft.get_current_plan() is plan
    assert cufft.get_current_plan() is None


def test_work_is_in_the_order_of_its_stream():
    a = numbers((8, 32), "D")
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        on_device = cupy.asarray(a) + 1
        found = cupy.fft.fft(on_device)
        on_device[...] = 0
        found *= 2
    stream.synchronize()
    close(found, 2 * np.fft.fft(a + 1), "D")


@emulated
def test_a_transform_in_a_graph():
    """A graph transforms what lies in memory when it is launched."""
    a, out = cupy.zeros((2, 8), "D"), cupy.zeros((2, 8), "D")
    from cupy.cuda import cufft

    plan = cufft.Plan1d(8, cufft.CUFFT_Z2Z, 2)
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        plan.fft(a, out, cufft.CUFFT_FORWARD)
        graph = stream.end_capture()
        assert not out.get().any()
        for seed in (1, 2):
            given = numbers((2, 8), "D", seed)
            a.set(given)
            graph.launch(stream)
            close(out.get(), np.fft.fft(given), "D")


@emulated
def test_what_is_not_served_is_refused_by_name():
    from cupy.cuda import cufft

    with pytest.raises(NotImplementedError, match="several devices"):
        cufft.Plan1d(64, cufft.CUFFT_C2C, 1, devices=[0, 0])
    with pytest.raises(NotImplementedError, match="XtPlanNd"):
        cufft.XtPlanNd((4,), None, 1, 4, "E", None, 1, 4, "E", 1, "E", order="C", last_axis=0, last_size=None)
    for name in ("setCallback", "setJITCallback", "multi_gpu_execC2C"):
        with pytest.raises(NotImplementedError, match=f"cuFFT: {name} is not served by the emulated device"):
            getattr(cufft, name)(1)
