"""Each function gives plain arrays for plain arrays, and tensors with the right gradients for tensors."""

import numpy as np
import pytest
from runners import WITH_KERNEL, Runner

import gpunn.functional as F
from gpunn import Tensor, no_grad, tensor

IMAGES, FILTERS, BIAS = (2, 4, 6, 5), (6, 2, 3, 3), (6,)
FUNCTIONS = {
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, 2, 1, 1, 2), [IMAGES, FILTERS, BIAS]),
    "conv2d without bias": (lambda x, w: F.conv2d(x, w, groups=2), [IMAGES, FILTERS]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1), [IMAGES]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), [IMAGES]),
    "local_response_norm": (lambda x: F.local_response_norm(x, 5, 0.5, alpha_mode="sum"), [IMAGES]),
    "linear": (F.linear, [(3, 4), (5, 4), (5,)]),
    "linear without bias": (F.linear, [(3, 4), (5, 4)]),
    "relu": (F.relu, [(3, 4)]),
    "sigmoid": (F.sigmoid, [(3, 4)]),
    "tanh": (F.tanh, [(3, 4)]),
    "softmax": (lambda x: F.softmax(x, 0), [(3, 4)]),
    "log_softmax": (F.log_softmax, [(3, 4)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, np.array([0, 3, 1])), [(3, 4)]),
}  # fmt: skip


@pytest.fixture(params=FUNCTIONS.keys())
def case(request, rng):
    function, shapes = FUNCTIONS[request.param]
    return function, [rng.standard_normal(shape) for shape in shapes]


def test_plain_arrays_in_plain_arrays_out(run, case):
    function, arrays = case
    plain = run(function, *arrays)
    assert isinstance(plain, np.ndarray | np.generic)
    recorded = function(*(tensor(a) for a in arrays))
    assert isinstance(recorded, Tensor)
    assert not recorded.requires_grad
    np.testing.assert_allclose(plain, recorded.data, rtol=1e-12, atol=1e-12)


def gradients(function, arrays, direction):
    leaves = [tensor(a, requires_grad=True) for a in arrays]
    function(*leaves).backward(direction)
    return tuple(leaf.grad for leaf in leaves)


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_gradient_is_the_directional_difference(name, case, rng):
    function, arrays = case
    run = Runner(name)
    gy = np.asarray(rng.standard_normal(np.shape(function(*arrays))))
    for number, gradient in enumerate(run(lambda *a: gradients(function, a[:-1], a[-1]), *arrays, gy)):
        direction = rng.standard_normal(gradient.shape)

        def moved(step, number=number, direction=direction):
            return function(*arrays[:number], arrays[number] + step * direction, *arrays[number + 1 :])

        change = ((moved(1e-6) - moved(-1e-6)) * gy).sum() / 2e-6
        np.testing.assert_allclose((gradient * direction).sum(), change, rtol=1e-5, atol=1e-7)


def test_only_what_needs_a_gradient_gets_one(case):
    function, arrays = case
    leaves = [tensor(a, requires_grad=number == 0) for number, a in enumerate(arrays)]
    y = function(*leaves)
    y.backward(np.ones(y.shape))
    assert leaves[0].grad is not None
    assert all(leaf.grad is None for leaf in leaves[1:])
    with no_grad():
        assert not function(*leaves).requires_grad


def test_indices_of_max_pooling():
    x = np.float32([[[[1, 5], [7, 3]]]])
    y, indices = F.max_pool2d(tensor(x), 2, return_indices=True)
    assert (y.item(), indices.item(), indices.dtype) == (7, 2, np.int64)
