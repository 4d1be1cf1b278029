"""All collectives on CuPy arrays: two ranks, each on an emulated GPU."""

import sys

import pytest
from ranks import needs_mpirun, run_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.slow, needs_mpirun]

DEVICE = (sys.executable, "-m", "gpunn.cuda.device", "--devices", "2", "--late", "--", sys.executable)
ONE = (*DEVICE[:4], "1", *DEVICE[5:])

EVERY = """
    import itertools, sys
    import cupy, ml_dtypes, numpy as np
    import fake_nccl
    from gpunn import distributed

    how = sys.argv[1]
    if how == "nccl":
        fake_nccl.install()
    world = distributed.init("gpu", via=None if how == "nccl" else how)
    assert world.device == f"gpu:{world.rank}" and world.size == 2

    with cupy.cuda.Device(world.rank):
        for dtype, shape in itertools.product([np.float32, np.float16, np.int32, bool], [(), (0,), (3, 5), (70001,)]):
            every = np.random.default_rng(0).integers(0, 9, (2, *shape)).astype(dtype)
            mine = cupy.asarray(every[world.rank])
            for op in ("max",) if dtype is bool else ("sum", "max"):
                expected = np.asarray(every[0] + every[1] if op == "sum" else every.max(0))
                x = cupy.zeros_like(mine)
                x += mine  # is still to run when it is reduced
                assert world.all_reduce(x, op) is x
                assert (x.get() == expected).all() and x.dtype == dtype and x.device.id == world.rank
                with cupy.cuda.Stream(non_blocking=True):
                    y = cupy.zeros_like(mine)
                    y += mine
                    pending = world.start_all_reduce(y, op)
                assert (pending.wait().get() == expected).all()
                piece = world.reduce_scatter(cupy.resize(mine, mine.size * 2), op)
                resized = [np.resize(each, expected.size * 2) for each in every]
                whole = np.add(*resized) if op == "sum" else np.maximum(*resized)
                assert (piece.get() == np.split(whole, 2)[world.rank]).all() and piece.device.id == world.rank
            x = mine.copy()
            assert (world.broadcast(x, 1).get() == every[1]).all()
            assert (world.all_gather(mine).get() == every).all()
        half = world.all_reduce(cupy.asarray(np.array([world.rank + 1.0]).astype(ml_dtypes.bfloat16)), "mean")
        assert half.get().astype(float) == [1.5]
        assert world.all_reduce(cupy.asarray(np.float32([world.rank])), "mean").get() == [0.5]
        part = world.split(0, world.rank)
        assert part.all_reduce(cupy.asarray(np.float32([world.rank]))).get() == [1]
    assert world.all_reduce(np.ones(3)).tolist() == [2, 2, 2]
    print(sorted({call[0] for call in fake_nccl.calls}))
    if how == "nccl":
        assert ("allReduce", 70001, "float16", "MAX") in fake_nccl.calls
        assert ("reduceScatter", 15, "int32", "SUM") in fake_nccl.calls
        assert ("broadcast", 15 * 4, "uint8", 1) in fake_nccl.calls
        assert ("allGather", 15, "uint8") in fake_nccl.calls
"""


@pytest.mark.parametrize("how", ["host", "mpi", "nccl"])
def test_every_collective_takes_cupy_arrays(how):
    pytest.importorskip("cupy")
    names = ["allGather", "allReduce", "broadcast", "reduceScatter"] if how == "nccl" else []
    assert run_ranks(2, EVERY, how, before=DEVICE, limit=200).out.splitlines() == [str(names)] * 2


@pytest.mark.parametrize(
    ("before", "settings", "expected"),
    [
        (DEVICE, "via='nccl'", "DeviceError: init: rank 0 cannot use NCCL: CuPy finds none: pip install"),
        (ONE, "via='nccl'", "DeviceError: init: rank 0 cannot use NCCL: ranks 0, 1 share a GPU"),
        ((sys.executable,), "", "DeviceError: init: rank 0 has no GPU: "),
    ],
    ids=["none", "shared", "no GPU"],
)  # fmt: skip
def test_a_missing_nccl_or_gpu_is_said_once(before, settings, expected):
    pytest.importorskip("cupy")
    ended = run_ranks(2, f"from gpunn import distributed; distributed.init('gpu', {settings})", before=before, code=2)
    assert f"gpunn: all 2 ranks: {expected}" in ended.err
    assert ended.err.count("Traceback") == 1
