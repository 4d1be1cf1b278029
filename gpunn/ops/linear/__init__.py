"""Maps of vectors, forward and backward: affine, bilinear, the cosine of an angle, rows of a table.

    affine        y = x W^T + b, x (..., in), W (out, in)         bilinear      y[n,k] = x1[n] A[k] x2[n] + b[k]
    cosine        x1 . x2 / (|x1| |x2|)                           embedding     y = W[indices]
    distance      |x1 - x2|, x / |x|                              bag           sums, means, maxima of rows of a table

Each file has the rules and the sources.
"""

from gpunn.ops.linear.affine import linear, linear_backward_b, linear_backward_w, linear_backward_x
from gpunn.ops.linear.bilinear import bilinear, bilinear_backward_w, bilinear_backward_x1
from gpunn.ops.linear.cosine import cosine_similarity, cosine_similarity_backward_x1
from gpunn.ops.linear.distance import normalize, normalize_backward, pairwise_distance, pairwise_distance_backward
from gpunn.ops.linear.embedding import embedding, embedding_backward, embedding_renorm

__all__ = [
    "bilinear",
    "bilinear_backward_w",
    "bilinear_backward_x1",
    "cosine_similarity",
    "cosine_similarity_backward_x1",
    "embedding",
    "embedding_backward",
    "embedding_renorm",
    "linear",
    "linear_backward_b",
    "linear_backward_w",
    "linear_backward_x",
    "normalize",
    "normalize_backward",
    "pairwise_distance",
    "pairwise_distance_backward",
]
