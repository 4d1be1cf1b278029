"""The layer of bags of rows; see :mod:`gpunn.ops.linear.bag`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from gpunn import functional as F
from gpunn.backend import asarray
from gpunn.errors import ShapeError, check
from gpunn.functional.record import raw
from gpunn.nn.linear import Embedding
from gpunn.ops.linear.bag import Mode
from gpunn.tensor import Tensor


class EmbeddingBag(Embedding):
    """The mean, sum or maximum of the learned vectors of each bag of integers: :func:`gpunn.functional.embedding_bag`.

    Parameter: ``weight`` (num_embeddings, embedding_dim), as that of :class:`Embedding`.

    >>> EmbeddingBag(10, 3)(np.array([1, 2, 4, 1]), np.array([0, 3])).shape
    (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: Mode = "mean",
        sparse: bool = False,
        _weight: Any = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        _freeze: bool = False,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        how = max_norm, norm_type, scale_grad_by_freq, sparse, _weight, _freeze
        super().__init__(num_embeddings, embedding_dim, padding_idx, *how, generator=generator, dtype=dtype)
        self.mode: Mode = mode
        self.include_last_offset = include_last_offset

    @classmethod
    def from_pretrained(  # type: ignore[override]  # PyTorch's order of the settings
        cls,
        embeddings: Any,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: Mode = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Self:
        """A layer with the rows of ``embeddings`` (V, D), which training leaves as they are if ``freeze``.

        >>> EmbeddingBag.from_pretrained([[1.0, 2.0], [3.0, 4.0]])(np.array([[0, 1]])).tolist()
        [[2.0, 3.0]]
        """
        values = asarray(raw(embeddings))
        check(values.ndim == 2, ShapeError, "EmbeddingBag", "embeddings must have 2 dimensions", shape=values.shape)
        how = max_norm, norm_type, scale_grad_by_freq, mode, sparse, values, include_last_offset, padding_idx
        return cls(len(values), values.shape[1], *how, _freeze=freeze)

    def forward(self, indices: Any, offsets: Any = None, per_sample_weights: Any = None) -> Tensor:
        return F.embedding_bag(
            indices,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )
