"""The differentiable exchange: gradients on two ranks against those of one process that holds everything."""

import re

import numpy as np
import pytest
from ranks import needs_mpirun, run_ranks

from gpunn import distributed, tensor
from gpunn.distributed import functional as DF
from gpunn.errors import DtypeError, ShapeError

# A layer whose outputs are shared out, one whose inputs are, and one that is held by all, behind each other.
GRADIENTS = """
    import ml_dtypes, numpy as np
    from gpunn import distributed, tensor
    from gpunn import functional as F
    from gpunn.distributed import functional as DF

    world = distributed.init()
    n, rank = world.size, world.rank
    rng = np.random.default_rng(0)
    shapes = {"x": (3, 5), "a": (4 * n, 5), "b": (2 * n, 4 * n), "c": (6, 2 * n), "d": (3, 6)}
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5), (np.float16, 2e-2), (ml_dtypes.bfloat16, 1e-1)):
        whole = {name: (rng.normal(size=shape) / 2).astype(dtype) for name, shape in shapes.items()}

        def own(name, a):
            return np.split(a, n)[rank] if name in "ab" else np.split(a, n, 1)[rank] if name == "c" else a

        def leaves(part):
            return {name: tensor(part(name, a), requires_grad=True) for name, a in whole.items()}

        one = leaves(lambda _, a: a)
        y = F.linear(F.tanh(F.linear(F.tanh(F.linear(one["x"], one["a"])), one["b"])), one["c"])
        loss = (F.tanh(y) * one["d"]).sum()
        loss.backward()

        mine = leaves(own)
        h = F.tanh(F.linear(DF.copy(mine["x"], world), mine["a"]))
        h = F.tanh(F.linear(DF.all_gather(h, world, axis=1), mine["b"]))  # goes on as parts
        z = DF.reduce(F.linear(h, mine["c"]), world)
        again = (F.tanh(z) * mine["d"]).sum()
        again.backward()

        def assert_near(a, b, what):
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), (dtype, what, a, b)

        assert_near(z.data, y.data, "y")
        assert_near(again.data, loss.data, "loss")
        for name, leaf in mine.items():
            assert_near(leaf.grad, own(name, one[name].grad), name)
            assert leaf.grad.dtype == dtype

    for axis in range(-3, 3):  # replicas: each has the whole gradient
        every = rng.normal(size=(n, 2, 3, 4))
        x = tensor(every[rank], requires_grad=True)
        y = DF.all_gather(x, world, axis, replicated=True)
        whole = np.concatenate(list(every), axis)
        assert np.array_equal(y.data, whole)
        (y * whole).sum().backward()
        assert np.array_equal(x.grad, every[rank]), axis
    print("equal")
"""


@pytest.mark.distributed
@needs_mpirun
@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_gradients_are_those_of_one_process(count):
    assert run_ranks(count, GRADIENTS).out.split() == ["equal"] * count


@pytest.mark.distributed
@pytest.mark.slow
@needs_mpirun
def test_a_rank_that_goes_back_by_another_way_ends_all():
    ended = run_ranks(
        2,
        """
        import numpy as np
        from gpunn import distributed, tensor
        from gpunn.distributed import functional as DF

        world = distributed.init()
        x = tensor(np.ones(2), requires_grad=world.rank == 0)
        w = tensor(np.ones(2), requires_grad=True)
        (DF.reduce(DF.copy(x, world) * w, world)).sum().backward()
        world.barrier()
        """,
        code=None,
    )
    assert ended.code == 2
    assert len(re.findall(r"^gpunn: .*all ranks must call the same", ended.err, re.MULTILINE)) == 1


def test_one_rank_exchanges_with_itself():
    world = distributed.init()
    x = tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    for function in (DF.copy, DF.reduce, lambda x, world: DF.all_gather(x, world, 1)):
        x.grad = None
        y = function(x, world)
        y.backward(np.full((2, 3), 2.0))
        assert np.array_equal(y.data, x.data)
        assert (x.grad == 2).all()


def test_a_replica_is_the_same_memory():
    x = tensor(np.ones(2), requires_grad=True)
    y = DF.copy(x, distributed.init()) * x
    x.data[...] = 3
    x.mark_changed()
    with pytest.raises(Exception, match="changed in place"):
        y.backward(np.ones(2))


@pytest.mark.parametrize("function", [DF.copy, DF.reduce, DF.all_gather])
def test_what_is_no_array_is_refused(function):
    with pytest.raises(DtypeError, match=f"{function.__name__}: "):
        function([1.0], distributed.init())


def test_an_axis_that_x_has_not_is_refused():
    with pytest.raises(ShapeError, match="all_gather: axis must be one of x's, got axis=1, shape="):
        DF.all_gather(np.ones(2), distributed.init(), 1)
