"""Optimizers whose states the ranks share out, against the same optimizers without."""

from pathlib import Path

import pytest
from ranks import needs_mpirun, run_ranks

TESTS = Path(__file__).parents[1]
ranks = pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
several = [pytest.mark.distributed, needs_mpirun]

BEGIN = """
    import sys, numpy as np
    sys.path.insert(0, sys.argv[1])
    from gpunn import distributed, optim, tensor
    from optimizers import FIFTY

    world = distributed.init()
    SHAPES = [(7, 5), (3,), (0, 4), (), (11,), (2, 3, 2), (6, 9), (0,)]
    LATE, ALONE, NEVER = 3, 4, 5  # what has a gradient in every second step, on the last rank only, never

    def parameters(dtype=np.float32, shapes=SHAPES):
        rng = np.random.default_rng(1)
        return [tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in shapes]

    def gradients(ps, step, rank, scale=1.0):
        rng = np.random.default_rng([step, rank])
        for number, p in enumerate(ps):
            g = rng.normal(size=p.shape) + 0.3 * np.asarray(p.data, np.float64)
            absent = number == LATE and step % 2 or number == ALONE and rank + 1 < world.size or number == NEVER
            p.grad = None if absent else np.asarray(scale * g, p.dtype)

    def reduced(ps, step, scale=1.0):
        "The mean gradient, added up in the order of the ranks."
        total = [None] * len(ps)
        for rank in range(world.size):
            gradients(ps, step, rank, scale)
            for number, p in enumerate(ps):
                if p.grad is not None:
                    before = 0 if total[number] is None else total[number]
                    total[number] = before + p.grad.astype(np.float32)
        for p, g in zip(ps, total):
            p.grad = None if g is None else np.asarray(g / np.float32(world.size), np.float32)

    def sharded_steps(opt, ps, steps, start=0):
        for step in range(start, start + steps):
            opt.zero_grad()
            gradients(ps, step, world.rank)
            opt.reduce_gradients()
            opt.step()

    def equal(a, b):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()

    def check_equal(one, other, ps, qs, what):
        assert all(equal(p.data, q.data) for p, q in zip(ps, qs)), what
        a, b = one.state_dict(), other.state_dict()
        assert a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a), what
"""

RULES = (
    BEGIN
    + """
    cases = dict(FIFTY)
    cases |= {
        "adam with l1": (optim.Adam, {"l1": 0.1, "maximize": True, "amsgrad": True}),
        "adamw with l2": (optim.AdamW, {"l2": 0.1, "weight_decay": 0.1}),
        "dampened": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
        "adafactor": (optim.Adafactor, {"lr": 0.1}),
        "rprop": (optim.Rprop, {}),
    }
    for name, (make, settings) in cases.items():
        ps, qs = parameters(), parameters()
        grouped = lambda rs: [{"params": rs[:6]}, {"params": rs[6:], "lr": 0.02}]
        one, other = make(grouped(ps), **settings), make(grouped(qs), **settings)
        one = distributed.Sharded(one, world)
        for step in range(20):
            if step == 10:
                for opt in (one, other):
                    opt.groups[0]["lr"] = 0.01
            sharded_steps(one, ps, 1, step)
            reduced(qs, step)
            other.step()
        check_equal(one, other, ps, qs, name)
        if step % 2:  # gradients that are reduced already
            reduced(ps, 20), reduced(qs, 20)
            one.step(), other.step()
            check_equal(one, other, ps, qs, name)
    matrices = [(4, 3), (2, 9), (5, 5), (1, 1), (3, 2), (2, 2)]
    ps, qs = parameters(shapes=matrices), parameters(shapes=matrices)
    one, other = distributed.Sharded(optim.Muon(ps), world), optim.Muon(qs)
    for step in range(5):
        sharded_steps(one, ps, 1, step)
        reduced(qs, step)
        other.step()
    check_equal(one, other, ps, qs, "Muon")
    print("equal")
"""
)


@pytest.mark.distributed
@needs_mpirun
@ranks
def test_every_rule_gives_the_bits_that_it_gives_without_sharding(count):
    assert run_ranks(count, RULES, TESTS).out.split() == ["equal"] * count
