"""In place of CuPy's ``nccl``, on the emulated device, whose memory is that of the CPU: the same calls, done by MPI."""

import ctypes
import sys
from types import ModuleType
from typing import Any

import numpy as np

DTYPES = ["int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]
OPS = ["SUM", "PROD", "MAX", "MIN"]

calls: list[tuple[Any, ...]] = []
"""The name, and what is no pointer."""


def array(pointer: int, count: int, dtype: int) -> np.ndarray:
    size = count * np.dtype(DTYPES[dtype]).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(pointer), DTYPES[dtype])


class NcclCommunicator:
    def __init__(self, ndev: int, commId: tuple[int, ...], rank: int) -> None:
        from mpi4py import MPI

        assert (len(commId), ndev) == (128, MPI.COMM_WORLD.size)
        assert MPI.COMM_WORLD.allgather(commId) == [commId] * ndev
        self._comm, self._ops = MPI.COMM_WORLD.Dup(), [MPI.SUM, MPI.PROD, MPI.MAX, MPI.MIN]
        assert self._comm.rank == rank

    def _begin(self, name: str, stream: int, *settings: Any) -> None:
        import cupy

        assert stream not in (0, 1, 2), "not a stream of its own"
        calls.append((name, *settings))
        cupy.cuda.runtime.streamSynchronize(stream)

    def allReduce(self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int) -> None:
        self._begin("allReduce", stream, count, DTYPES[datatype], OPS[op])
        sent = array(sendbuf, count, datatype).copy()
        self._comm.Allreduce(sent, array(recvbuf, count, datatype), self._ops[op])

    def reduceScatter(self, sendbuf: int, recvbuf: int, recvcount: int, datatype: int, op: int, stream: int) -> None:
        self._begin("reduceScatter", stream, recvcount, DTYPES[datatype], OPS[op])
        sent = array(sendbuf, recvcount * self._comm.size, datatype)
        self._comm.Reduce_scatter_block(sent, array(recvbuf, recvcount, datatype), self._ops[op])

    def broadcast(self, sendbuff: int, recvbuff: int, count: int, datatype: int, root: int, stream: int) -> None:
        self._begin("broadcast", stream, count, DTYPES[datatype], root)
        assert sendbuff == recvbuff
        self._comm.Bcast(array(recvbuff, count, datatype), root)

    def allGather(self, sendbuf: int, recvbuf: int, count: int, datatype: int, stream: int) -> None:
        self._begin("allGather", stream, count, DTYPES[datatype])
        every = array(recvbuf, count * self._comm.size, datatype)
        self._comm.Allgather(array(sendbuf, count, datatype), every)


def install() -> None:
    import cupy

    module: Any = ModuleType("cupy.cuda.nccl")
    module.available, module.NcclCommunicator = True, NcclCommunicator
    module.get_unique_id = lambda: tuple(np.random.default_rng().integers(-128, 128, 128).tolist())
    for names in (DTYPES, OPS):
        for number, name in enumerate(names):
            setattr(module, f"NCCL_{name.upper()}", number)
    sys.modules["cupy.cuda.nccl"] = cupy.cuda.nccl = module
