"""All collectives on two and four ranks, against what NumPy makes of all their arrays."""

import pytest
from ranks import needs_mpirun, run_ranks

pytestmark = [pytest.mark.distributed, needs_mpirun]

EVERY = """
    import itertools
    import ml_dtypes, numpy as np
    from gpunn import distributed

    world = distributed.init()
    n, half = world.size, (np.float16, ml_dtypes.bfloat16)

    def drawn(shape, dtype):
        every = np.random.default_rng(0).normal(0, 9, (n, *shape))
        return (every > 0 if dtype is bool else abs(every) if dtype is np.uint8 else every).astype(dtype)

    def reduced(every, op):
        if op in ("max", "min"):
            return np.asarray(getattr(every, op)(0))
        y = np.asarray(every[0], np.float32 if every.dtype in half else every.dtype)
        for row in every[1:]:
            y = y + row
        return np.asarray(y / n if op == "mean" else y).astype(every.dtype)

    dtypes = [np.float32, np.float64, *half, np.int32, np.int64, np.uint8, bool]
    shapes = [(), (0,), (1,), (2, 3, 5), (4097,), (65537,)]
    for dtype, shape in itertools.product(dtypes, shapes):
        every = drawn(shape, dtype)
        mine = np.asarray(every[world.rank])
        ops = ["max", "min"] + ["sum"] * (dtype is not bool) + ["mean"] * (np.dtype(dtype).kind in "fV")
        for op in ops:
            x = mine.copy()
            given = world.all_reduce(x, op)
            assert given is x and x.shape == shape and x.dtype == dtype
            assert x.tobytes() == reduced(every, op).tobytes(), (dtype, shape, op)
            started = world.start_all_reduce(mine.copy(), op)
            assert started.wait().tobytes() == x.tobytes() and started.done
            long = np.resize(every, (n, mine.size * n))
            piece = world.reduce_scatter(long[world.rank], op)
            assert piece.tobytes() == np.split(reduced(long, op), n)[world.rank].tobytes(), (dtype, shape, op)
        for root in range(n):
            x = mine.copy()
            assert world.broadcast(x, root) is x and x.tobytes() == every[root].tobytes()
        gathered = world.all_gather(mine)
        assert gathered.shape == every.shape and gathered.tobytes() == every.tobytes()
    assert (world.all_gather(np.arange(6).reshape(2, 3).T)[n - 1] == np.arange(6).reshape(2, 3).T).all()

    assert world.gather_objects({"rank": world.rank}, 1) == ([{"rank": r} for r in range(n)], None)[world.rank != 1]
    assert world.broadcast_object([world.rank] * (1 + world.rank), 1) == [1, 1]
    world.agree("the seed", 3)
    world.barrier()

    backwards = world.split(0, n - world.rank)
    assert (backwards.rank, backwards.size) == (n - 1 - world.rank, n)
    assert backwards.all_gather(np.array(world.rank)).tolist() == list(range(n))[::-1]
    pairs = world.split(world.rank // 2, world.rank)
    assert pairs.all_reduce(np.array([world.rank])).tolist() == [world.rank // 2 * 4 + 1]
    print("equal")
"""


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_collective_gives_what_numpy_gives(count):
    assert run_ranks(count, EVERY).out.split() == ["equal"] * count
