"""Layers that map vectors: fully connected, bilinear, the cosine, rows of a table; see :mod:`gpunn.ops.linear`."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.backend import default_generator
from gpunn.errors import ArgumentError, ShapeError, check, check_sizes
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module, Parameter


class Linear(Module):
    """``y = x W^T + b``, from (..., in_features) to (..., out_features).

    Parameters: ``weight`` (out_features, in_features), ``bias`` (out_features,).

    >>> import numpy as np
    >>> Linear(4, 3)(np.zeros((2, 4), np.float32)).shape
    (2, 3)
    """

    _places = (("bias", Parameter),)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.weight = uniform_fan_in((out_features, in_features), in_features, generator, dtype)
        self.bias = uniform_fan_in((out_features,), in_features, generator, dtype) if bias else None

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)


class Flatten(Module):
    """(N, ...) to (N, everything else in one axis).

    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """

    def forward(self, x: Any) -> Any:
        return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))


class Unflatten(Module):
    """Splits ``axis`` into axes of ``sizes``, one of which may be -1.

    >>> import numpy as np
    >>> Unflatten(1, (3, -1, 5))(np.zeros((2, 60))).shape
    (2, 3, 4, 5)
    """

    def __init__(self, axis: int, sizes: tuple[int, ...]) -> None:
        self.axis, self.sizes = axis, tuple(sizes)

    def forward(self, x: Any) -> Any:
        valid = -x.ndim <= self.axis < x.ndim
        check(valid, ShapeError, "Unflatten", "axis must be one of x's", axis=self.axis, shape=x.shape)
        axis, known = self.axis % x.ndim, int(np.prod([size for size in self.sizes if size != -1], dtype=np.int64))
        free = self.sizes.count(-1)
        fits = known == x.shape[axis] if not free else free == 1 and known > 0 and x.shape[axis] % known == 0
        check(fits, ShapeError, "Unflatten", "sizes must multiply to axis", sizes=self.sizes, axis=x.shape[axis])
        sizes = tuple(x.shape[axis] // known if size == -1 else size for size in self.sizes)
        return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])


class Bilinear(Module):
    """``y[n, k] = sum_ij x1[n, i] w[k, i, j] x2[n, j] + b[k]``, from (..., I) and (..., J) to (..., K).

    Parameters: ``weight`` (out_features, in1_features, in2_features), ``bias`` (out_features,).

    >>> Bilinear(4, 3, 2)(np.zeros((5, 4), np.float32), np.zeros((5, 3), np.float32)).shape
    (5, 2)
    """

    _places = (("bias", Parameter),)

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        check_sizes("Bilinear", in1_features=in1_features, in2_features=in2_features, out_features=out_features)
        shape = (out_features, in1_features, in2_features)
        self.weight = uniform_fan_in(shape, in1_features, generator, dtype)
        self.bias = uniform_fan_in((out_features,), in1_features, generator, dtype) if bias else None

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.bilinear(x1, x2, self.weight, self.bias)


class CosineSimilarity(Module):
    """The cosines of the angles between the vectors of two arrays along ``axis``.

    >>> import numpy as np
    >>> CosineSimilarity()(np.array([[3.0, 0.0]]), np.array([[5.0, 0.0]])).tolist()
    [1.0]
    """

    def __init__(self, axis: int = 1, eps: float = 1e-8) -> None:
        self.axis, self.eps = axis, eps

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.cosine_similarity(x1, x2, self.axis, self.eps)


class Embedding(Module):
    """A learned vector for each of ``num_embeddings`` integers: indices of any shape to that shape and (D,).

    Parameter: ``weight`` (num_embeddings, embedding_dim), drawn from the standard normal distribution. The row
    ``padding_idx`` starts as zeros and gets no gradient.

    >>> Embedding(10, 3)(np.array([[1, 2], [4, 1]])).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        check_sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        sizes = (num_embeddings, embedding_dim)
        values = (generator or default_generator()).standard_normal(sizes).astype(dtype)
        if padding_idx is not None:
            rule = f"padding_idx must lie in {-num_embeddings} to {num_embeddings - 1}"
            inside = isinstance(padding_idx, Integral) and -num_embeddings <= padding_idx < num_embeddings
            check(inside, ArgumentError, "Embedding", rule, padding_idx=padding_idx)
            values[padding_idx] = 0
        self.weight, self.padding_idx = Parameter(values), padding_idx

    def forward(self, indices: Any) -> Any:
        return F.embedding(indices, self.weight, self.padding_idx)
