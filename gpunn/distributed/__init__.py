"""Several processes that work on one training: ranks, started by ``mpirun``, that reduce, send and gather arrays.

MPI (the extra ``mpi``: mpi4py) starts the ranks and moves NumPy arrays. CuPy arrays go by NCCL where CuPy has it and
each rank has a GPU of its own, else over MPI by way of pinned memory of the host. Without ``mpirun`` there is one rank,
and nothing of this is imported.

>>> import numpy as np
>>> from gpunn import distributed
>>> world = distributed.init()  # the same program on every rank: mpirun -n 4 python train.py
>>> gradient = np.full(3, world.rank + 1, np.float32)
>>> world.all_reduce(gradient, "mean")  # of 4 ranks: 2.5, on each of them
array([1., 1., 1.], dtype=float32)
>>> f"rank {world.rank} of {world.size} on {world.device}"
'rank 0 of 1 on cpu'

A reduction adds the ranks' values in the order of the ranks, each element by itself. So every rank has the same bits,
and so do two runs with as many ranks; and they do not depend on how an array is cut into pieces:
:meth:`World.reduce_scatter` gives those of :meth:`World.all_reduce`. Sums and means of float16 and bfloat16 are formed
in float32, and rounded once. (On NCCL they are what NCCL makes them.)

:class:`SyncBatchNorm` normalises by the batches of all ranks, and :func:`convert` puts it into a model. What ranks
exchange that hold parts of one model, forward and backward, is in :mod:`gpunn.distributed.functional`.
"""

from gpunn.distributed.buckets import Buckets
from gpunn.distributed.line import Pending
from gpunn.distributed.norm import SyncBatchNorm, apart, convert, synchronised
from gpunn.distributed.sharded import Sharded
from gpunn.distributed.state import on_first, share_state
from gpunn.distributed.world import World, current, init, started

__all__ = [
    "Buckets",
    "Pending",
    "Sharded",
    "SyncBatchNorm",
    "World",
    "apart",
    "convert",
    "current",
    "init",
    "on_first",
    "share_state",
    "started",
    "synchronised",
]
