"""The tables of ways: each way has the functions of its operation, and the last one takes whatever comes."""

import importlib
import inspect
import pkgutil
import re

import numpy as np
import pytest

import gpunn.ops
from gpunn import cuda
from gpunn.cpu import onednn
from gpunn.ops import conv, pool
from gpunn.ops.activation import onednn as eltwise
from gpunn.ops.conv import columns, ways
from gpunn.ops.linear import affine
from gpunn.ops.norm import layer
from gpunn.ops.pool import ways as pool_ways
from gpunn.ops.shared.routes import route

entropy = importlib.import_module("gpunn.ops.loss.cross_entropy")  # the package has a function of that name

MODULES = [importlib.import_module(name) for _, name, _ in pkgutil.walk_packages(gpunn.ops.__path__, "gpunn.ops.")]
TABLES = {
    f"{module.__name__}.ROUTES": module.ROUTES
    for module in MODULES
    if hasattr(module, "ROUTES") and "import ROUTES" not in inspect.getsource(module)
}
LACKING = {  # their `takes` says so
    "gpunn.ops.conv.pointwise": {"backward_w"},
    "gpunn.ops.conv.warpgroups": {"backward_x", "backward_w"},
}


def functions(way):
    """The public functions that a way defines, with the names of their parameters."""
    found = inspect.getmembers(way, inspect.isfunction)
    own = {name: function for name, function in found if function.__module__ == way.__name__ and name[0] != "_"}
    return {name: list(inspect.signature(function).parameters) for name, function in own.items()}


def called(table):
    """What is called of the ways of a table: in its own module, or in one that imports the table."""
    home = table.removesuffix(".ROUTES")
    sources = [inspect.getsource(m) for m in MODULES]
    users = [s for s in sources if f"from {home} import ROUTES" in s] + [
        inspect.getsource(importlib.import_module(home))
    ]
    return {name for source in users for name in re.findall(r"(?:route\(ROUTES[^)]*\)|\bway)\.(\w+)\(", source)}


@pytest.mark.parametrize("table", TABLES)
def test_ways_have_the_same_functions(table):
    *others, last = TABLES[table]
    wanted = called(table) | {"takes"}
    assert others
    assert len(wanted) > 1
    for way in others:
        for name in wanted - LACKING.get(way.__name__, set()):
            assert functions(way)[name] == functions(last)[name], f"{way.__name__}.{name}"


def test_every_table_is_seen():
    assert len(TABLES) >= 10
    assert "gpunn.ops.conv.ways.ROUTES" in TABLES


def test_the_first_way_that_takes_a_job_does_it(monkeypatch):
    class Doubled:
        """An engine that is new: a file and a row."""

        takes = staticmethod(lambda job, plan, x, fused: job == "forward" and plan.groups == 1)
        forward = staticmethod(lambda plan, x, w, b, relu: 2 * columns.forward(plan, x, w, b, relu))

    x, w = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3))
    plan = conv.plan(2, x.shape, w.shape)
    usual = conv.forward(plan, x, w), conv.backward_x(plan, np.ones(plan.y_shape), w)
    monkeypatch.setattr(ways, "ROUTES", (Doubled, *ways.ROUTES))
    np.testing.assert_array_equal(conv.forward(plan, x, w), 2 * usual[0])
    np.testing.assert_array_equal(conv.backward_x(plan, np.ones(plan.y_shape), w), usual[1])


def test_the_engine_follows_the_arrays():
    plan, x = conv.plan(2, (1, 2, 4, 4), (3, 2, 3, 3)), np.ones((1, 2, 4, 4), np.float32)
    chosen = lambda: route(ways.ROUTES, "forward", plan, x, False).__name__.rpartition(".")[2]  # noqa: E731
    with onednn.engine("numpy"):
        assert chosen() == "columns"
        with cuda.emulate():
            assert chosen() == "tiled"


def test_onednn_does_the_work_where_it_is_loaded():
    if reason := onednn.found()[1]:
        pytest.skip(reason)
    x, gy = np.ones((2, 16, 8, 8), np.float32), np.ones((2, 32, 6, 6), np.float32)
    plan = conv.plan(2, x.shape, (32, 16, 3, 3))
    for job, first in (("forward", x), ("backward_x", gy), ("backward_w", gy)):
        assert route(ways.ROUTES, job, plan, first, False).__name__ == "gpunn.ops.conv.onednn"
    with cuda.emulate():
        assert route(ways.ROUTES, "forward", plan, x, False).__name__ == "gpunn.ops.conv.tiled"
    for plan in (pool.max_plan(2, x.shape, 3, 2, 1), pool.avg_plan(2, x.shape, 2)):
        assert route(pool_ways.ROUTES, plan, x).__name__ == "gpunn.ops.pool.onednn"
    assert route(affine.ROUTES, 128**3, x).__name__ == "gpunn.ops.linear.affine_onednn"
    assert route(affine.ROUTES, 2 * 64 * 64, x).__name__ == "gpunn.ops.linear.affine_product"
    assert route(layer.ROUTES, x.reshape(32, 64)).__name__ == "gpunn.ops.norm.layer_onednn"
    assert route(entropy.ROUTES, np.ones((128, 300), np.float32)).__name__ == "gpunn.ops.loss.cross_entropy_onednn"
    assert eltwise.forward("relu", np.ones(1 << 18, np.float32)) is not None
    for name in ("sigmoid", "tanh", "gelu", "gelu, tanh", "silu"):
        assert eltwise.forward(name, x) is not None
        assert eltwise.backward(name, x, x) is not None
        assert eltwise.forward(name, x.astype(np.float64)) is None
    x[-1, -1, -1, -1] = -np.inf
    assert eltwise.forward("gelu", x) is None
    assert eltwise.backward("silu", x, x) is None
    assert eltwise.forward("tanh", x) is not None
