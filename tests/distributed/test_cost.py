"""The formulas of ``gpunn.distributed.cost`` against cases worked out by hand, and the schedule against a plain one."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from gpunn.backend import random_generator
from gpunn.distributed.cost import (
    Bucket,
    Layer,
    Link,
    Network,
    Step,
    at_batch,
    buckets,
    fit,
    half_ring,
    plan,
    ring,
    slowest,
    tree,
)  # fmt: skip
from gpunn.errors import ArgumentError

GB = 1e9


# ---- collectives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "ranks", "bandwidth", "latency", "seconds"),
    [
        (8e9, 2, 1 * GB, 0.0, 8.0),  # a half there, a half back
        (8e9, 4, 1 * GB, 0.0, 12.0),
        (0, 4, 1 * GB, 0.5, 3.0),  # 6 messages
        (4e9, 4, 2 * GB, 0.5, 6.0),
        (1e9, 1, 1 * GB, 1.0, 0.0),
    ],
)
def test_ring(size, ranks, bandwidth, latency, seconds):
    assert (
        ring(size, ranks, Link(bandwidth, latency)) == seconds == 2 * half_ring(size, ranks, Link(bandwidth, latency))
    )


def played_ring(size, ranks, link):
    """The time at which all ranks of a ring have all pieces, message by message."""
    ready = [[Fraction(0)] * ranks for _ in range(ranks)]  # of each piece on each rank
    free = [Fraction(0)] * ranks  # each rank's sender
    lasts = Fraction(link.latency) + Fraction(size) / ranks / Fraction(link.bandwidth)
    for turn in range(2 * (ranks - 1)):
        arrived = {}
        for rank in range(ranks):
            piece = (rank - turn) % ranks
            free[rank] = max(free[rank], ready[rank][piece]) + lasts
            arrived[rank, piece] = free[rank]
        for (rank, piece), at in arrived.items():
            ready[(rank + 1) % ranks][piece] = at
    return max(itertools.chain(*ready))


@pytest.mark.parametrize("ranks", [2, 3, 4, 7, 8])
def test_ring_message_by_message(ranks):
    link = Link(2.0**30, 2.0**-10)
    assert ring(2**20, ranks, link) == pytest.approx(float(played_ring(2**20, ranks, link)), rel=1e-12)


def test_tree():
    assert tree(4e9, 8, Link(2 * GB, 0.25)) == 4 + 6 * 0.25
    assert tree(0, 5, Link(GB, 1.0)) == 6.0  # three levels, up and down
    assert tree(1e9, 1, Link(GB, 1.0)) == 0.0


def test_ring_is_for_large_arrays_and_tree_for_small_ones():
    network = Network(Link(10 * GB, 5e-6))
    for size, faster in ((1e3, tree), (1e10, ring)):
        assert network.all_reduce(size, 64) == faster(size, 64, network.link)
    for algorithm, way in (("ring", ring), ("tree", tree)):
        assert Network(network.link, algorithm=algorithm).all_reduce(1e6, 64) == way(1e6, 64, network.link)


def test_nodes():
    network = Network(Link(1 * GB, 0.5), per_node=4, inner=Link(4 * GB, 0.25), algorithm="ring")
    # within: 3 messages and 3/4 of 8 GB at 4 GB/s, twice; between two nodes: 2 messages and 8 GB at 1 GB/s
    assert network.all_reduce(8e9, 8) == 2 * (0.75 + 1.5) + (1.0 + 8.0)
    assert network.reduce_scatter(8e9, 8) == (0.75 + 1.5) + (0.5 + 4.0)
    assert network.all_reduce(8e9, 4) == 4.5
    assert network.all_reduce(8e9, 2) == 2 * (0.25 + 1.0)
    assert network.all_reduce(8e9, 1) == 0


def test_fit_finds_the_link():
    generator = random_generator(0)
    for ranks, (name, way) in itertools.product((2, 4, 16), (("ring", ring), ("tree", tree))):
        link = Link(float(generator.uniform(1e8, 1e10)), float(generator.uniform(1e-6, 1e-4)))
        times = [(size, way(size, ranks, link)) for size in (1e2, 1e4, 1e6, 1e9)]
        found = fit(ranks, times, name)
        assert found.bandwidth == pytest.approx(link.bandwidth, rel=1e-6)
        assert found.latency == pytest.approx(link.latency, rel=1e-6)
        noisy = fit(ranks, [(size, seconds * generator.uniform(0.9, 1.1)) for size, seconds in times], name)
        assert noisy.bandwidth == pytest.approx(link.bandwidth, rel=0.25)


def test_fit_has_no_latency_below_zero():
    assert fit(2, [(1e6, 0.9e-3), (1e8, 0.1), (1e9, 1.0)]).latency == 0.0


def test_slowest_against_draws():
    generator = random_generator(0)
    for ranks in (1, 2, 4, 64):
        drawn = generator.standard_normal((20_000, ranks)).max(axis=1).mean()
        assert slowest(ranks) == pytest.approx(float(drawn), abs=0.04)


# ---- a step ---------------------------------------------------------------------------------------------------------

MILLION = 1_000_000
STEP = Step(10, 1.0, (Layer("a", 1 * MILLION, 2.0), Layer("b", 0, 1.0), Layer("c", 3 * MILLION, 1.0)), update=0.5)


def test_buckets_fill_in_the_order_of_backward():
    assert buckets(STEP, 12 * MILLION) == [Bucket(2.0, 12 * MILLION), Bucket(5.0, 4 * MILLION)]
    assert buckets(STEP, 12 * MILLION + 1) == [Bucket(5.0, 16 * MILLION)]
    assert buckets(STEP, 1) == [Bucket(2.0, 12 * MILLION), Bucket(5.0, 4 * MILLION)]
    assert buckets(Step(1, 1.0, (Layer("a", 0, 1.0),))) == []


def test_at_batch_goes_by_both_steps():
    few = Step(1, 2.0, (Layer("a", 5, 1.0), Layer("b", 5, 1.0), Layer("c", 5, 3.0)), update=0.5, activations=100)
    many = Step(3, 4.0, (Layer("a", 5, 1.0), Layer("b", 5, 6.0), Layer("c", 5, 2.0)), update=0.4, activations=200)
    found = at_batch(few, many, 9)
    assert (found.batch, found.forward, found.update, found.activations) == (9, 10.0, 0.4, 500.0)
    # b would have begun below 0, c would have become less
    assert [layer.backward for layer in found.layers] == [1.0, 18.0, 2.0]
    assert at_batch(few, many, 3) == many


def test_lasting_keeps_the_shares():
    longer = STEP.lasting(2 * STEP.seconds)
    assert (longer.forward, longer.update, longer.seconds) == (2.0, 1.0, 11.0)
    assert [layer.backward for layer in longer.layers] == [4.0, 2.0, 2.0]


# ---- a plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_by_hand():
    # two ranks: a bucket takes size/bandwidth: 12 MB take 4 s from 2 to 6, 4 MB take 4/3 s from 6; backward ends at 5
    found = plan(STEP, 2, Network(Link(3e6)), bucket=12 * MILLION)
    assert found.communication == pytest.approx(16 / 3)
    assert (found.exposed, found.hidden) == (pytest.approx(7 / 3), pytest.approx(3.0))
    assert found.seconds == pytest.approx(5.5 + 7 / 3)
    assert found.efficiency == pytest.approx(5.5 / (5.5 + 7 / 3))
    assert found.samples_per_second == pytest.approx(20 / (5.5 + 7 / 3))
    assert found.waiting == 0


def test_without_overlap_all_is_exposed():
    found = plan(STEP, 2, Network(Link(3e6)), bucket=12 * MILLION, overlap=False)
    assert (found.communication, found.exposed) == (pytest.approx(16 / 3), pytest.approx(16 / 3))
    assert found.hidden == pytest.approx(0.0)


def test_one_rank_is_the_step_alone():
    for settings in ({}, {"sharded": True}, {"overlap": False}, {"spread": 0.1}):
        found = plan(STEP, 1, Network(Link(1.0, 1.0)), **settings)
        assert (found.seconds, found.efficiency, found.communication, found.exposed) == (5.5, 1.0, 0.0, 0.0)


def test_sharded_by_hand():
    # four ranks: 3/4 of the bytes are scattered and 3/4 gathered, behind backward; the update takes a quarter
    found = plan(STEP, 4, Network(Link(12e6)), bucket=12 * MILLION, sharded=True)
    assert found.communication == found.exposed == pytest.approx(0.75 * 16 / 12 * 2)
    assert found.compute == pytest.approx(5.0 + 0.5 / 4)
    assert found.seconds == pytest.approx(found.compute + 2.0)


def test_all_wait_for_the_slowest():
    found = plan(STEP, 8, Network(Link(1e12)), spread=0.1)
    assert found.waiting == pytest.approx(0.1 * slowest(8) * 5.0)
    assert found.seconds == pytest.approx(5.5 + found.waiting, rel=1e-4)


def test_memory():
    step = Step(10, 1.0, STEP.layers, activations=123.0)
    for sharded, states, kept in ((False, 2, 32e6), (True, 2, 8e6), (False, 1, 16e6), (True, 0, 0)):
        memory = plan(step, 4, Network(Link(1e9)), sharded=sharded, states=states).memory
        assert (memory.parameters, memory.gradients, memory.states) == (16e6, 16e6, kept)
        assert memory.total == 32e6 + kept + 123


def test_as_dict_adds_up():
    found = plan(STEP, 4, Network(Link(3e6, 1e-3)), spread=0.05).as_dict()
    assert found["seconds"] == pytest.approx(found["compute"] + found["waiting"] + found["exposed"])
    assert found["communication"] == pytest.approx(found["hidden"] + found["exposed"])
    assert found["memory_bytes"] == sum(found["memory"].values())


def played(step, bucket, cost):
    """What ``plan`` finds, by small steps of time: (communication, exposed)."""
    tick = Fraction(1, 64)
    computing = [(Fraction(layer.backward), layer.parameters * 4) for layer in reversed(step.layers)]
    now, total, spent, end = Fraction(step.forward), Fraction(0), Fraction(0), None
    waiting, left, pending = [], Fraction(0), 0
    while computing or waiting or left > 0:
        while computing and spent >= computing[0][0]:
            spent -= computing[0][0]
            pending += computing.pop(0)[1]
            if pending >= bucket or (not computing and pending):
                waiting.append(pending)
                pending = 0
            if not computing:
                end = now
        if left <= 0 and waiting:
            left = Fraction(cost(waiting.pop(0)))
            total += left
        if not (computing or waiting or left > 0):
            break
        now, spent, left = now + tick, spent + tick, left - tick
    return float(total), float(now - end)


@pytest.mark.parametrize("seed", range(10))
def test_the_schedule_against_a_clock_that_ticks(seed):
    generator = random_generator(seed)
    count = int(generator.integers(1, 8))
    layers = tuple(
        Layer(str(i), int(generator.integers(0, 9)) * 1024, int(generator.integers(0, 16)) / 64) for i in range(count)
    )
    step = Step(1, 0.25, layers)
    bucket = int(generator.integers(1, 40_000))
    link = Link(float(2 ** generator.integers(14, 20)))  # with two ranks a message lasts a whole number of ticks
    total, exposed = played(step, bucket, lambda size: size / link.bandwidth)
    found = plan(step, 2, Network(link, algorithm="ring"), bucket=bucket)
    assert found.communication == pytest.approx(total, abs=1e-9)
    assert found.exposed == pytest.approx(exposed, abs=count / 64)  # a tick a bucket at most


def test_more_ranks_are_never_more_efficient():
    generator = random_generator(1)
    for _ in range(20):
        layers = tuple(Layer(str(i), int(generator.integers(MILLION)), float(generator.random())) for i in range(5))
        network = Network(Link(float(generator.uniform(1e6, 1e9)), float(generator.uniform(0, 1e-3))))
        plans = [plan(Step(8, 0.3, layers), 2**k, network, spread=0.02) for k in range(13)]
        assert np.all(np.diff([each.efficiency for each in plans]) <= 1e-12)
        assert all(0 <= each.hidden <= each.communication for each in plans)


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Link(0), "Link: bandwidth must be above 0 and finite, got bandwidth=0"),
        (lambda: Link(math.nan), "Link: bandwidth must be above 0 and finite, got bandwidth=nan"),
        (lambda: Link("1"), "Link: bandwidth must be a number, got bandwidth='1'"),
        (lambda: Link(1.0, -1), "Link: latency must be at least 0 and finite, got latency=-1"),
        (lambda: ring(1, 0, Link(1.0)), "all_reduce: ranks must be an integer of at least 1, got ranks=0"),
        (lambda: tree(-1, 2, Link(1.0)), "all_reduce: size must be at least 0, got size=-1"),
        (lambda: Network(Link(1.0), 2), "Network: nodes of several ranks, and only they, have an inner link, got"),
        (
            lambda: Network(Link(1.0), 1, Link(1.0)),
            "Network: nodes of several ranks, and only they, have an inner link",
        ),
        (lambda: Network(Link(1.0), algorithm="star"), "Network: algorithm must be one of auto, ring, tree, got"),
        (
            lambda: Network(Link(1.0), 4, Link(1.0)).all_reduce(1, 6),
            "Network: ranks must fill their nodes, or fit into one, got ranks=6, per_node=4",
        ),
        (lambda: fit(1, [(1, 1), (2, 2)]), "fit: ranks must be an integer of at least 2, got ranks=1"),
        (lambda: fit(2, [(1, 1), (1, 2)]), "fit: there must be two sizes or more, and times above 0, got"),
        (lambda: fit(2, [(1, 2), (9e9, 1)], "star"), "fit: algorithm must be ring or tree, got algorithm='star'"),
        (lambda: fit(2, [(1e3, 1.0), (1e9, 0.1)]), "fit: larger messages must take longer, got"),
        (lambda: Step(0, 1.0, ()), "Step: batch must be an integer of at least 1, got batch=0"),
        (lambda: Step(1, -1.0, ()), "Step: forward must be at least 0, got forward=-1.0"),
        (lambda: Step(1, 0.0, ()), "Step: a step must take some time, got"),
        (lambda: STEP.lasting(0), "Step: the time of a step must be above 0 and finite, got seconds=0"),
        (lambda: at_batch(STEP, STEP, 3), "at_batch: more must have more samples than fewer, got fewer=10, more=10"),
        (lambda: at_batch(Step(1, 1.0, ()), STEP, 3), "at_batch: both must be steps of the same layers"),
        (lambda: buckets(STEP, 0), "buckets: size must be an integer of at least 1, got size=0"),
        (lambda: plan(STEP, 0, Network(Link(1.0))), "plan: ranks must be an integer of at least 1, got ranks=0"),
        (lambda: plan(STEP, 2, Network(Link(1.0)), states=-1), "plan: states must be an integer of at least 0"),
        (lambda: plan(STEP, 2, Network(Link(1.0)), spread=1), "plan: spread must be at least 0 and below 1, got"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ArgumentError) as raised:
        make()
    assert str(raised.value).startswith(message)
