"""The embedding layer; see :mod:`gpunn.ops.embedding`."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.backend import default_generator
from gpunn.errors import ArgumentError, check, check_sizes
from gpunn.nn.module import Module, Parameter


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
