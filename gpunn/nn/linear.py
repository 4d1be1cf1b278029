"""Layers that map vectors: fully connected, bilinear, the cosine, rows of a table; see :mod:`gpunn.ops.linear`."""

from __future__ import annotations

from math import prod
from numbers import Integral
from typing import Any, Self

import numpy as np

from gpunn import functional as F
from gpunn.backend import asarray, generator_or_default
from gpunn.errors import ArgumentError, ShapeError, check, check_sizes
from gpunn.functional.record import Given, raw
from gpunn.nn.calls import Pair, Plain
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module, Parameter, ndim_of
from gpunn.ops.shared.checks import check_shape
from gpunn.spelling import spelled
from gpunn.tensor import Tensor


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

    @property
    def in_features(self) -> int:
        """The length of an input vector."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """The length of an output vector."""
        return self.weight.shape[0]

    def forward(self, x: Given) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Flatten(Plain):
    """The axes from ``start_dim`` to ``end_dim`` as one: (N, ...) to (N, everything else) unless others are given.

    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 3, 4, 5))).shape, Flatten(0, -2)(np.zeros((2, 3, 4, 5))).shape
    ((2, 60), (24, 5))
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        whole = isinstance(start_dim, Integral) and isinstance(end_dim, Integral)
        rule = "start_dim and end_dim must be integers"
        check(whole, ArgumentError, "Flatten", rule, start_dim=start_dim, end_dim=end_dim)
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        count = max(ndim_of(self, x), 1)
        inside = -count <= min(self.start_dim, self.end_dim) and max(self.start_dim, self.end_dim) < count
        first, last = self.start_dim % count, self.end_dim % count
        rule = "start_dim and end_dim must be axes of x, in this order"
        given = {"start_dim": self.start_dim, "end_dim": self.end_dim, "shape": x.shape}
        check(inside and first <= last, ShapeError, "Flatten", rule, **given)
        return x.reshape(*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :])


class Unflatten(Plain):
    """Splits ``axis`` into axes of ``sizes``, one of which may be -1.

    >>> import numpy as np
    >>> Unflatten(1, (3, -1, 5))(np.zeros((2, 60))).shape
    (2, 3, 4, 5)
    """

    @spelled
    def __init__(self, axis: int, sizes: tuple[int, ...]) -> None:
        check(isinstance(axis, Integral), ArgumentError, "Unflatten", "axis must be an integer", axis=axis)
        whole = isinstance(sizes, tuple | list) and all(isinstance(size, Integral) for size in sizes)
        check(whole, ArgumentError, "Unflatten", "sizes must be a tuple of integers", sizes=sizes)
        self.axis, self.sizes = axis, tuple(sizes)

    @property
    def dim(self) -> int:
        """``axis``, by PyTorch's name."""
        return self.axis

    @property
    def unflattened_size(self) -> tuple[int, ...]:
        """``sizes``, by PyTorch's name."""
        return self.sizes

    def forward(self, x: Any) -> Any:
        valid = -ndim_of(self, x) <= self.axis < x.ndim
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

    @property
    def in1_features(self) -> int:
        """The length of the first input vector."""
        return self.weight.shape[1]

    @property
    def in2_features(self) -> int:
        """The length of the second input vector."""
        return self.weight.shape[2]

    @property
    def out_features(self) -> int:
        """The length of an output vector."""
        return self.weight.shape[0]

    def forward(self, x1: Any, x2: Any) -> Tensor:
        return F.bilinear(x1, x2, self.weight, self.bias)


class CosineSimilarity(Pair):
    """The cosines of the angles between the vectors of two arrays along ``axis``.

    >>> import numpy as np
    >>> CosineSimilarity()(np.array([[3.0, 0.0]]), np.array([[5.0, 0.0]])).tolist()
    [1.0]
    """

    @spelled
    def __init__(self, axis: int = 1, eps: float = 1e-8) -> None:
        self.axis, self.eps = axis, eps

    @property
    def dim(self) -> int:
        """``axis``, by PyTorch's name."""
        return self.axis

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.cosine_similarity(x1, x2, self.axis, self.eps)


class Embedding(Module):
    """A learned vector for each of ``num_embeddings`` integers: indices of any shape to that shape and (D,).

    Parameter: ``weight`` (num_embeddings, embedding_dim), drawn from the standard normal distribution, or ``_weight``,
    which ``_freeze`` keeps as it is (see :meth:`from_pretrained`). The row ``padding_idx`` starts as zeros and gets no
    gradient; the other settings are those of :func:`gpunn.functional.embedding`.

    >>> Embedding(10, 3)(np.array([[1, 2], [4, 1]])).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        op = "Embedding"
        check_sizes(op, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        check(not sparse, ArgumentError, op, "gradients are whole arrays, so sparse must be False", sparse=sparse)
        sizes = (num_embeddings, embedding_dim)
        if padding_idx is not None:
            rule = f"padding_idx must lie in {-num_embeddings} to {num_embeddings - 1}"
            inside = isinstance(padding_idx, Integral) and -num_embeddings <= padding_idx < num_embeddings
            check(inside, ArgumentError, op, rule, padding_idx=padding_idx)
            padding_idx = int(padding_idx) % num_embeddings
        if _weight is None:
            values = generator_or_default(generator).standard_normal(sizes).astype(dtype)
            if padding_idx is not None:
                values[padding_idx] = 0
        else:
            values = asarray(raw(_weight)).copy()
            check_shape(op, "_weight", values, sizes)
        self.weight, self.padding_idx = Parameter(values), padding_idx
        self.weight.requires_grad = not _freeze
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """A layer with the rows of ``embeddings`` (V, D), which training leaves as they are if ``freeze``.

        The other settings are those of the layer.

        >>> Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])(np.array([1])).tolist()
        [[3.0, 4.0]]
        """
        values = asarray(raw(embeddings))
        check(values.ndim == 2, ShapeError, "Embedding", "embeddings must have 2 dimensions", shape=values.shape)
        rows, size = values.shape
        return cls(rows, size, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, values, freeze)

    @property
    def num_embeddings(self) -> int:
        """The number of vectors."""
        return self.weight.shape[0]

    @property
    def embedding_dim(self) -> int:
        """The length of a vector."""
        return self.weight.shape[1]

    def forward(self, indices: Any) -> Tensor:
        how = self.max_norm, self.norm_type, self.scale_grad_by_freq
        return F.embedding(indices, self.weight, self.padding_idx, *how)
