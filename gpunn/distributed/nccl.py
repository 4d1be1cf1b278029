"""Collectives on flat CuPy arrays by NVIDIA's NCCL, as CuPy binds it; MPI starts it.

The calls are those of :class:`gpunn.distributed.mpi.Mpi`; each is put on the current stream, and not waited for. It
has not run on GPUs yet: the tests have a module in its place that does the same by MPI.

Source: the API of NCCL, https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html.
"""

from __future__ import annotations

import warnings
from typing import Any

from gpunn.distributed.mpi import Mpi

_DTYPES = {
    "float16": "FLOAT16", "bfloat16": "BFLOAT16", "float32": "FLOAT32", "float64": "FLOAT64", "int8": "INT8",
    "uint8": "UINT8", "int32": "INT32", "uint32": "UINT32", "int64": "INT64", "uint64": "UINT64", "bool": "UINT8",
}  # fmt: skip
_REDUCE = {"sum": "SUM", "mean": "SUM", "max": "MAX", "min": "MIN"}


def library() -> Any:
    """``cupy.cuda.nccl``, or None where CuPy finds no NCCL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy's, that there is none
        from cupy.cuda import nccl
    return nccl if nccl.available else None


class Nccl:
    """The collectives of the ranks of ``mpi``, each with the current GPU, which no other rank has."""

    def __init__(self, mpi: Mpi) -> None:
        self._nccl = library()
        self.size = mpi.size
        made = self._nccl.get_unique_id() if mpi.rank == 0 else None
        self._comm = self._nccl.NcclCommunicator(mpi.size, mpi.all_gather_objects(made)[0], mpi.rank)

    def takes(self, array: Any) -> bool:
        """Not 16 bit integers, nor bfloat16 where CuPy has no name for it."""
        return hasattr(self._nccl, f"NCCL_{_DTYPES.get(array.dtype.name)}")

    def all_reduce(self, flat: Any, op: str) -> None:
        at, stream = flat.data.ptr, _stream()
        self._comm.allReduce(at, at, flat.size, self._dtype(flat), self._op(op), stream)
        self._finish(flat, op)

    def reduce_scatter(self, flat: Any, out: Any, op: str) -> None:
        buffers = flat.data.ptr, out.data.ptr
        self._comm.reduceScatter(*buffers, out.size, self._dtype(flat), self._op(op), _stream())
        self._finish(out, op)

    def broadcast(self, flat: Any, root: int) -> None:
        at = flat.data.ptr
        self._comm.broadcast(at, at, flat.nbytes, self._nccl.NCCL_UINT8, root, _stream())

    def all_gather(self, flat: Any, out: Any) -> None:
        self._comm.allGather(flat.data.ptr, out.data.ptr, flat.nbytes, self._nccl.NCCL_UINT8, _stream())

    def _dtype(self, x: Any) -> Any:
        return getattr(self._nccl, f"NCCL_{_DTYPES[x.dtype.name]}")

    def _op(self, op: str) -> Any:
        return getattr(self._nccl, f"NCCL_{_REDUCE[op]}")

    def _finish(self, x: Any, op: str) -> None:
        if op == "mean":
            x /= self.size


def _stream() -> int:
    import cupy

    pointer: int = cupy.cuda.get_current_stream().ptr
    return pointer
