"""The checks must catch what they are for: a wrong gradient, a kink, a backend that differs."""

import numpy as np
import pytest

import gpunn.functional as F
from gpunn import Tensor, backend, cuda, optim, tensor
from gpunn.backend import half_dtype
from gpunn.errors import ArgumentError, BackendError, DtypeError, GradientError
from gpunn.tensor import record
from gpunn.testing import check_gradients, compare_backends, descent


@pytest.fixture
def x(rng):
    return rng.standard_normal((3, 4))


def product(wrong=(1, 1)):
    """``a * b`` whose gradients are off by factors."""

    def f(a, b):
        p, q = a.data, b.data
        return record(p * q, (a, b), lambda gy, needs: (gy * q * wrong[0], gy * p * wrong[1]))

    return f


# ---- gradients -----------------------------------------------------------------------------------------------------


def test_right_gradients_pass(x, rng):
    w = rng.standard_normal((4, 2))
    check_gradients(product(), [x, x + 1])
    check_gradients(lambda x, w: F.softmax(F.tanh(x @ w), 0), [tensor(x), w], directions=5, seed=3)
    check_gradients(lambda x: (x.max(1), x.argmax(1), x.sum()), [x])
    check_gradients(lambda x: tensor(2.0, dtype=np.float64) * tensor([1.0], dtype=np.float64), [x])
    check_gradients(lambda x: x, [np.float64(2)])
    check_gradients(lambda x: x.sum(), [np.zeros((0, 3))])


@pytest.mark.parametrize("number", [0, 1])
def test_a_wrong_gradient_is_located(x, number):
    wrong = (1.001, 1) if number == 0 else (1, 1.001)
    with pytest.raises(GradientError, match=rf"the gradient is wrong, got input={number}, direction=0, expected=") as e:
        check_gradients(product(wrong), [x, x + 1])
    numbers = str(e.value).split("expected=")[1].split(", got=")
    assert float(numbers[1]) / float(numbers[0]) == pytest.approx(1.001, rel=1e-6)


def test_a_gradient_that_is_wrong_in_one_element_is_found(rng):
    def f(x):
        def backward(gy, needs):
            gx = 2 * gy * x.data
            gx[7, 3] *= -1
            return (gx,)

        return record(x.data**2, (x,), backward)

    with pytest.raises(GradientError, match="the gradient is wrong, got input=0"):
        check_gradients(f, [rng.standard_normal((50, 40))])


def test_a_gradient_that_never_arrives_is_wrong(x):
    with pytest.raises(GradientError, match=r"the gradient is wrong, got input=1, .* got=0\.0"):
        check_gradients(lambda a, b: a * b.detach(), [x, x + 1])
    with pytest.raises(GradientError, match=r"the gradient is wrong, got input=0, .* got=0\.0"):
        check_gradients(lambda a: a.detach(), [x])


def test_each_result_is_checked(x):
    with pytest.raises(GradientError, match="the gradient is wrong"):
        check_gradients(lambda a, b: (a + b, product((1, 2))(a, b)), [x, x + 1])


KINKS = {
    "relu": (F.relu, [0.0, 1.0]),
    "absolute value": (abs, [2.0, 0.0]),
    "a tie of maxima": (lambda x: x.max(), [1.0, 1.0]),
    "a bound of clip": (lambda x: x.clip(0, 1), [0.5, 1.0]),
    "a kink within the step": (F.relu, [1e-8, 1.0]),
    "a jump": (lambda x: F.where(x > 0, x + 1, x), [0.0, 1.0]),
}


@pytest.mark.parametrize(("f", "point"), KINKS.values(), ids=KINKS.keys())
def test_a_kink_is_told_from_a_wrong_gradient(f, point):
    with pytest.raises(
        GradientError, match=r"f is not differentiable within step: .* got input=1, direction=0, ahead="
    ):
        check_gradients(lambda a, b: a.sum() + f(b), [np.ones(3), np.array(point)])


@pytest.mark.parametrize("distance", [5e-6, 1e-3])
def test_a_kink_farther_than_the_small_step_does_no_harm(distance):
    check_gradients(F.relu, [np.array([distance, -distance])], seed=1)


def test_strong_curvature_is_no_kink():
    check_gradients(lambda x: 1 / x, [np.array([0.01, -0.02, 5.0])])
    check_gradients(F.exp, [np.array([12.0, -3.0])])


def test_large_and_small_inputs():
    for scale in (1e-3, 1e4, 1e8):
        point = scale * np.array([1.0, -2.0, 3.0])
        check_gradients(lambda x: x * x, [point])
        with pytest.raises(GradientError, match="wrong"):
            check_gradients(product((1, 1.01)), [point, point])


def test_values_that_are_not_finite_are_said(x):
    with np.errstate(all="ignore"), pytest.raises(GradientError, match="f and its gradient must be finite within step"):
        check_gradients(F.log, [np.array([1.0, 0.0])])
    with (
        np.errstate(all="ignore"),
        pytest.raises(GradientError, match=r"finite within step, got input=0, .* gradient=inf"),
    ):
        check_gradients(F.sqrt, [np.array([0.0])], directions=1, seed=3)


def test_a_function_that_draws_anew_is_said(x):
    generator = backend.random_generator(0)
    with pytest.raises(GradientError, match="the same values each time: let it make its random generator anew"):
        check_gradients(lambda x: F.dropout(x, 0.5, generator=generator), [x])
    check_gradients(lambda x: F.dropout(x, 0.5, generator=backend.random_generator(0)), [x])


def test_inputs_stay_as_they_are(x):
    given, before = tensor(x, requires_grad=True), x.copy()
    check_gradients(lambda a: a * a, [given])
    assert given.grad is None
    np.testing.assert_array_equal(x, before)


def test_bad_arguments(x):
    with pytest.raises(DtypeError, match="inputs must be float64 arrays .* got input=1, dtype='float32'"):
        check_gradients(product(), [x, x.astype(np.float32)])
    with pytest.raises(DtypeError, match="got input=0, type='float'"):
        check_gradients(lambda x: x, [1.0])
    with pytest.raises(DtypeError, match="results must be float64, as the inputs are, got result=0, dtype='float32'"):
        check_gradients(lambda x: x.astype(np.float32), [x])
    with pytest.raises(DtypeError, match="f must return Tensors: .* got result=1, type='ndarray'"):
        check_gradients(lambda x: (x, x.data), [x])
    for function in (check_gradients, compare_backends):
        with pytest.raises(
            ArgumentError, match="inputs must be a list, with one array for each argument .* type='ndarr"
        ):
            function(lambda x: x, x)
    with pytest.raises(ArgumentError, match="directions must be an integer of at least 1, got directions=0"):
        check_gradients(lambda x: x, [x], directions=0)


# ---- backends ------------------------------------------------------------------------------------------------------


def images(rng, dtype=np.float32):
    return rng.standard_normal((2, 3, 6, 5)).astype(dtype), rng.standard_normal((4, 3, 3, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_kernels_that_agree_pass(dtype, rng):
    differences = compare_backends(lambda x, w: F.max_pool2d(F.conv2d(x, w, padding=1), 2), images(rng, dtype))
    assert set(differences) == {"emulated", *(["cupy"] if backend.gpu_count() else [])}
    assert all(difference < 2e-3 for difference in differences.values())


def test_integer_inputs_and_results_are_taken(rng):
    x, target = rng.standard_normal((3, 4)).astype(np.float32), np.array([0, 3, 1])
    assert compare_backends(lambda x, t: (F.cross_entropy(x, t), x.argmax(1)), [tensor(x), target])["emulated"] < 1e-6


def off(result=1.0, gradient=1.0):
    """``2 x``, off by factors where kernels would run."""

    def f(x):
        emulated = cuda.takes(x.data)
        y = x.data * np.float32(2 * (result if emulated else 1))
        return x * 1, record(y, (x,), lambda gy, _: (gy * np.float32(2 * (gradient if emulated else 1)),))

    return f


def test_a_backend_that_differs_is_named(rng):
    x = rng.standard_normal(5).astype(np.float32)
    compare_backends(off(), [x])
    with pytest.raises(BackendError, match=r"result 1 differs from NumPy's, got backend='emulated', largest=0.0099"):
        compare_backends(off(result=1.01), [x])
    with pytest.raises(
        BackendError, match="gradient of input 0 differs from NumPy's, got backend='emulated', largest=0"
    ):
        compare_backends(off(gradient=1.01), [x])
    assert 0.009 < compare_backends(off(result=1.01), [x], tolerance=0.1)["emulated"] < 0.011


def other(emulated, numpy):
    return lambda x: tensor(emulated if cuda.takes(x.data) else numpy)


def test_nan_shape_and_number_of_results_must_agree():
    x, nan = np.ones(2, np.float32), np.float32([1, np.nan])
    compare_backends(other(nan, nan), [x])
    for pair in ((nan, x), (x, nan), (nan, np.float32([1, np.inf]))):
        with pytest.raises(BackendError, match="result 0 differs from NumPy's, got backend='emulated', largest=inf"):
            compare_backends(other(*pair), [x])
    with pytest.raises(
        BackendError, match=r"another shape or dtype, got .* numpy='\(2,\) float32', found='\(1,\) float32"
    ):
        compare_backends(other(x[:1], x), [x])
    with pytest.raises(BackendError, match="as many results as on NumPy, got backend='emulated', numpy=2, found=3"):
        compare_backends(lambda x: (x, x) if cuda.takes(x.data) else x, [x])


@pytest.mark.gpu
def test_cupy_is_compared(rng):
    def f(x, w):
        y = F.conv2d(x, w)
        return y * (1.01 if backend.device_of(y.data) != "cpu" else 1.0)

    with pytest.raises(BackendError, match="result 0 differs from NumPy's, got backend='cupy'"):
        compare_backends(f, images(rng))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, half_dtype("test", "bf16")], ids=str)
def test_cupy_gives_what_numpy_gives(dtype, rng):
    x, w = (np.asarray(rng.standard_normal(shape), dtype) for shape in ((4, 3), (5, 3)))
    found = compare_backends(lambda x, w: F.relu(F.linear(x, w)), [x, w])
    assert found.keys() == {"emulated", "cupy"}


def test_raw_arrays_are_refused(rng):
    with pytest.raises(DtypeError, match="f must return Tensors"):
        compare_backends(lambda x: x.data, [np.ones(2, np.float32)])
    assert isinstance(F.relu(tensor([1.0])), Tensor)


# ---- steps of an optimizer -----------------------------------------------------------------------------------------


def test_descent_follows_the_optimizer_with_its_settings():
    assert descent(optim.SGD, lr=0.1) == [0.8, 0.64, 0.512]
    assert descent(optim.SGD, 2, lr=0.1, l2=0.5, regularise=lambda name, p: True) == [0.7, 0.49]
    with pytest.raises(ArgumentError, match="descent: steps must be an integer of at least 1, got steps=0"):
        descent(optim.SGD, steps=0)
    with pytest.raises(ArgumentError, match="SGD: lr must be"):
        descent(optim.SGD, lr=-1)
