"""Initial values of parameters, drawn on the CPU so that every device starts from the same numbers.

The functions that end in ``_`` have PyTorch's names and arguments: they write into a tensor, a parameter of a layer for
instance, and return it. An optimizer made before continues from the new values. Random numbers are drawn from
``generator``, without it from the default one (:func:`gpunn.manual_seed`), in float64, and rounded to the tensor's
dtype.

>>> import gpunn
>>> layer = gpunn.nn.Linear(4, 3)
>>> _ = kaiming_normal_(layer.weight, nonlinearity="relu")
>>> _ = constant_(layer.bias, 0)
>>> layer.bias.data.tolist()
[0.0, 0.0, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from gpunn.backend import asarray, generator_or_default
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check, check_number, check_sizes
from gpunn.nn.module import Parameter
from gpunn.tensor import Tensor

Filled = TypeVar("Filled", bound=Tensor)


def uniform_fan_in(
    shape: tuple[int, ...], fan_in: int, generator: np.random.Generator | None = None, dtype: Any = np.float32
) -> Parameter:
    """A new parameter, uniform over ``(-1/sqrt(fan_in), 1/sqrt(fan_in))``: what the layers begin with.

    It is the default of PyTorch's layers, with a third of the variance of :func:`lecun_uniform_`.

    >>> import gpunn
    >>> weight = uniform_fan_in((3, 4), fan_in=4, generator=gpunn.backend.random_generator(0))
    >>> weight.shape, bool((abs(weight.data) <= 0.5).all())
    ((3, 4), True)
    """
    bound = fan_in**-0.5
    return uniform_(Parameter(np.empty(shape, dtype)), -bound, bound, generator)


# ---- given distributions -------------------------------------------------------------------------------------------


def constant_(tensor: Filled, val: float) -> Filled:
    """Every element ``val``: zeros and ones among others.

    >>> import gpunn
    >>> constant_(gpunn.tensor([1.0, 2.0]), 0)
    tensor([0., 0.], dtype=float32)
    """
    return _write(tensor, np.full(_shape("constant_", tensor), val, np.float64))


def zeros_(tensor: Filled) -> Filled:
    """Every element 0.

    >>> import gpunn
    >>> zeros_(gpunn.tensor([1.0, 2.0]))
    tensor([0., 0.], dtype=float32)
    """
    return constant_(tensor, 0.0)


def ones_(tensor: Filled) -> Filled:
    """Every element 1.

    >>> import gpunn
    >>> ones_(gpunn.tensor([0.0, 2.0]))
    tensor([1., 1.], dtype=float32)
    """
    return constant_(tensor, 1.0)


def eye_(tensor: Filled) -> Filled:
    """A matrix with 1 on its diagonal and 0 elsewhere: a linear layer then gives what it gets.

    >>> import gpunn
    >>> eye_(gpunn.nn.Linear(3, 2).weight).data.tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    shape = _shape("eye_", tensor)
    check(len(shape) == 2, ShapeError, "eye_", "tensor must be a matrix", shape=shape)
    return _write(tensor, np.eye(shape[0], shape[1]))


def dirac_(tensor: Filled, groups: int = 1) -> Filled:
    """The filters (K, C, *kernel) of a convolution that gives what it gets, as far as there are channels.

    Filter k of each of ``groups`` is 1 at the middle of channel k, and 0 elsewhere. An odd kernel with padding "same"
    leaves a picture as it was.

    >>> import gpunn
    >>> dirac_(gpunn.nn.Conv1d(2, 2, 3).weight).data.tolist()
    [[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    op, shape = "dirac_", _shape("dirac_", tensor)
    check(3 <= len(shape) <= 5, ShapeError, op, "tensor must be filters of a convolution, 3 to 5 axes", shape=shape)
    check_sizes(op, groups=groups)
    check(shape[0] % groups == 0, ShapeError, op, "groups must divide the filters", groups=groups, shape=shape)
    values = np.zeros(shape)
    each = shape[0] // groups
    for group in range(groups):
        for channel in range(min(each, shape[1])):
            values[(group * each + channel, channel, *(size // 2 for size in shape[2:]))] = 1
    return _write(tensor, values)


def sparse_(tensor: Filled, sparsity: float, std: float = 0.01, generator: np.random.Generator | None = None) -> Filled:
    """A matrix of normal values of that standard deviation, the share ``sparsity`` of each column 0, rounded up.

    Source: Martens 2010, "Deep learning via Hessian-free optimization".

    >>> import gpunn
    >>> int((sparse_(gpunn.nn.Linear(3, 10).weight, 0.25).data == 0).sum())
    9
    """
    op, shape = "sparse_", _shape("sparse_", tensor)
    check(len(shape) == 2, ShapeError, op, "tensor must be a matrix", shape=shape)
    check(0 <= sparsity <= 1, ArgumentError, op, "sparsity must be from 0 to 1", sparsity=sparsity)
    _check_std(op, std)
    generator = generator_or_default(generator)
    values = generator.normal(0.0, std, shape)
    zeros = math.ceil(sparsity * shape[0])
    for column in range(shape[1]):
        values[generator.permutation(shape[0])[:zeros], column] = 0
    return _write(tensor, values)


def uniform_(tensor: Filled, a: float = 0.0, b: float = 1.0, generator: np.random.Generator | None = None) -> Filled:
    """Values uniform over ``[a, b)``.

    >>> import gpunn
    >>> bool((uniform_(gpunn.tensor([0.0] * 9), 2, 3).data >= 2).all())
    True
    """
    shape = _shape("uniform_", tensor)
    check(-math.inf < a <= b < math.inf, ArgumentError, "uniform_", "a must be at most b, both finite", a=a, b=b)
    generator = generator_or_default(generator)
    return _write(tensor, _in_parts(shape, tensor.dtype, lambda size: generator.uniform(a, b, size)))


def normal_(
    tensor: Filled, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None
) -> Filled:
    """Normal values of the given mean and standard deviation.

    >>> import gpunn
    >>> normal_(gpunn.tensor([0.0, 0.0]), mean=3, std=0)
    tensor([3., 3.], dtype=float32)
    """
    shape = _shape("normal_", tensor)
    _check_std("normal_", std)
    generator = generator_or_default(generator)
    return _write(tensor, _in_parts(shape, tensor.dtype, lambda size: generator.normal(mean, std, size)))


def trunc_normal_(
    tensor: Filled,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: np.random.Generator | None = None,
) -> Filled:
    """Normal values, each drawn again until it lies in ``[a, b]``; mean and std are those before the cut.

    >>> import gpunn
    >>> bool((abs(trunc_normal_(gpunn.tensor([0.0] * 99), std=1, a=-1, b=1).data) <= 1).all())
    True

    Raises ArgumentError if [a, b] holds less than 1 % of the normal distribution.
    """
    op = "trunc_normal_"
    shape = _shape(op, tensor)
    check(0 < std < math.inf, ArgumentError, op, "std must be above 0 and finite", std=std)
    below, within = (math.erf((end - mean) / (std * math.sqrt(2))) / 2 for end in (a, b))
    rule = "[a, b] must hold at least 1 % of the distribution"
    check(within - below >= 0.01, ArgumentError, op, rule, a=a, b=b, mean=mean, std=std)
    generator = generator_or_default(generator)
    values = generator.normal(mean, std, shape)
    while (outside := (values < a) | (values > b)).any():
        values[outside] = generator.normal(mean, std, int(outside.sum()))
    # A dtype of few bits may round up to its neighbour beyond the bound.
    return _write(tensor, values)


# ---- variances that keep a signal's size through a layer -------------------------------------------------------------

_GAINS = {"linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "sigmoid": 1.0}
_GAINS |= {"conv_transpose1d": 1.0, "conv_transpose2d": 1.0, "conv_transpose3d": 1.0}
_GAINS |= {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights before ``nonlinearity`` are larger, to make up for what it takes from the signal.

    1 for ``"linear"``, ``"conv1d"`` to ``"conv_transpose3d"`` and ``"sigmoid"``, 5/3 for ``"tanh"``, sqrt(2) for
    ``"relu"``, 3/4 for ``"selu"``, and ``sqrt(2 / (1 + param^2))`` for ``"leaky_relu"``, param its slope, 0.01 if not
    given.

    >>> round(calculate_gain("relu"), 4)
    1.4142
    """
    known = (*_GAINS, "leaky_relu")
    rule = f"nonlinearity must be one of {', '.join(known)}"
    check(nonlinearity in known, ArgumentError, "calculate_gain", rule, nonlinearity=nonlinearity)
    if nonlinearity == "leaky_relu":
        check_number("calculate_gain", param=0.01 if param is None else param)
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    return _GAINS[nonlinearity]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs each output of a weight of ``shape`` has, and how many outputs each input.

    For a linear layer (out, in); for a convolution (K, C/groups, *kernel), each times the size of the kernel. For a
    transposed convolution (C, K/groups, *kernel) the two are exchanged, as in PyTorch.

    >>> fans((3, 4)), fans((16, 8, 3, 3))
    ((4, 3), (72, 144))
    """
    rule = "a weight must have two axes or more: (out, in, *kernel)"
    check(len(shape) >= 2, ShapeError, "fans", rule, shape=shape)
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def xavier_uniform_(tensor: Filled, gain: float = 1.0, generator: np.random.Generator | None = None) -> Filled:
    """Uniform values of variance ``gain^2 2 / (fan_in + fan_out)``. Source: Glorot and Bengio 2010.

    >>> import gpunn
    >>> layer = gpunn.nn.Linear(4, 2)
    >>> bool((abs(xavier_uniform_(layer.weight).data) <= 1).all())  # the bound is sqrt(6 / (4 + 2))
    True
    """
    return _uniform("xavier_uniform_", tensor, gain * math.sqrt(2 / _sum_of_fans(tensor)), generator)


def xavier_normal_(tensor: Filled, gain: float = 1.0, generator: np.random.Generator | None = None) -> Filled:
    """Normal values of variance ``gain^2 2 / (fan_in + fan_out)``. Source: Glorot and Bengio 2010.

    >>> import gpunn
    >>> xavier_normal_(gpunn.nn.Linear(4, 2).weight).shape
    (2, 4)
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2 / _sum_of_fans(tensor)), generator)


def kaiming_uniform_(
    tensor: Filled,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> Filled:
    """Uniform values of variance ``gain^2 / fan``, with the gain of :func:`calculate_gain` (``a`` its param).

    ``mode`` is ``"fan_in"``, to keep the size of the signal, or ``"fan_out"``, that of the gradient. Source: He et al.
    2015, "Delving deep into rectifiers".

    >>> import gpunn
    >>> layer = gpunn.nn.Linear(6, 2)
    >>> bool((abs(kaiming_uniform_(layer.weight).data) <= 1).all())  # the bound is sqrt(2) sqrt(3 / 6)
    True
    """
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan("kaiming_uniform_", tensor, mode))
    return _uniform("kaiming_uniform_", tensor, std, generator)


def kaiming_normal_(
    tensor: Filled,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> Filled:
    """Normal values of variance ``gain^2 / fan``; see :func:`kaiming_uniform_`.

    >>> import gpunn
    >>> kaiming_normal_(gpunn.nn.Linear(4, 2).weight, mode="fan_out").shape
    (2, 4)
    """
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan("kaiming_normal_", tensor, mode))
    return normal_(tensor, 0.0, std, generator)


def lecun_uniform_(tensor: Filled, generator: np.random.Generator | None = None) -> Filled:
    """Uniform values of variance ``1 / fan_in``. Source: LeCun et al. 1998, "Efficient BackProp".

    >>> import gpunn
    >>> bool((abs(lecun_uniform_(gpunn.nn.Linear(3, 2).weight).data) <= 1).all())  # the bound is sqrt(3 / 3)
    True
    """
    return _uniform("lecun_uniform_", tensor, 1 / math.sqrt(_fan("lecun_uniform_", tensor, "fan_in")), generator)


def lecun_normal_(tensor: Filled, generator: np.random.Generator | None = None) -> Filled:
    """Normal values of variance ``1 / fan_in``, not truncated. Source: LeCun et al. 1998, "Efficient BackProp".

    >>> import gpunn
    >>> lecun_normal_(gpunn.nn.Linear(3, 2).weight).shape
    (2, 3)
    """
    return normal_(tensor, 0.0, 1 / math.sqrt(_fan("lecun_normal_", tensor, "fan_in")), generator)


def orthogonal_(tensor: Filled, gain: float = 1.0, generator: np.random.Generator | None = None) -> Filled:
    """``gain`` times a random matrix (out, everything else) whose rows, or columns if fewer, are orthonormal.

    It is uniformly distributed over such matrices. Source: Saxe et al. 2014.

    >>> import gpunn
    >>> w = orthogonal_(gpunn.nn.Linear(4, 2).weight).data
    >>> bool((abs(w @ w.T - np.eye(2)) < 1e-6).all())
    True
    """
    shape = _shape("orthogonal_", tensor)
    fans(shape)  # two axes or more
    rows, columns = shape[0], math.prod(shape[1:])
    drawn = generator_or_default(generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)  # of the two signs that QR leaves open: uniform
    return _write(tensor, gain * (q if rows >= columns else q.T).reshape(shape))


# ---- helpers -------------------------------------------------------------------------------------------------------


def _shape(op: str, tensor: Tensor) -> tuple[int, ...]:
    is_tensor = isinstance(tensor, Tensor)
    check(is_tensor, DtypeError, op, "takes a tensor, a layer's weight for instance", type=type(tensor).__name__)
    return tensor.shape


_PART = 1 << 15


def _in_parts(shape: tuple[int, ...], dtype: Any, draw: Callable[[int], Any]) -> Any:
    """The numbers of ``draw(size)``, a part at a time: the doubles that are drawn stay in the cache."""
    values = np.empty(shape, dtype)
    flat = values.reshape(-1)
    for start in range(0, flat.size, _PART):
        part = flat[start : start + _PART]
        part[...] = draw(part.size)
    return values


def _write(tensor: Filled, values: Any) -> Filled:
    tensor.data[...] = asarray(
        values.astype(tensor.dtype, copy=False), device=tensor.device
    )  # in place: it may be a view
    tensor.mark_changed()
    return tensor


def _check_std(op: str, std: float) -> None:
    check(0 <= std < math.inf, ArgumentError, op, "std must be at least 0 and finite", std=std)


def _uniform(op: str, tensor: Filled, std: float, generator: np.random.Generator | None) -> Filled:
    _check_std(op, std)
    bound = math.sqrt(3) * std
    return uniform_(tensor, -bound, bound, generator)


def _sum_of_fans(tensor: Tensor) -> int:
    return max(1, sum(fans(tensor.shape)))


def _fan(op: str, tensor: Tensor, mode: str) -> int:
    modes = ("fan_in", "fan_out")
    check(mode in modes, ArgumentError, op, "mode must be fan_in or fan_out", mode=mode)
    return max(1, fans(tensor.shape)[modes.index(mode)])
