"""``gpunn.distributed.cost`` against real runs: 1, 2 and 4 ranks on a link that is slow on purpose.

Each rank trains a network cut into stages, whose gradients are reduced behind the backward of the stages before them,
or when backward is done. What the plan goes by is measured with as many ranks, which share the cores of this machine:
the times of the stages while nothing is sent, and of a few all-reduces, to which a link is fitted.

``PYTHONPATH=tests python3 tests/distributed/test_plan_runs.py`` prints the measured beside the planned times.
"""

import json

import pytest
from ranks import needs_mpirun, run_ranks

from gpunn.distributed.cost import Layer, Link, Network, Plan, Step, fit, plan

pytestmark = [pytest.mark.distributed, pytest.mark.slow, needs_mpirun]

LINK = 100e6  # bytes a second

RUN = """
    import json, sys, time
    import numpy as np
    from gpunn import distributed, nn, tensor
    from gpunn.backend import random_generator

    world = distributed.init(link=float(sys.argv[1]))
    generator = random_generator(0)
    stages = [nn.Sequential(nn.Linear(768, 768, generator=generator), nn.ReLU()) for _ in range(6)]
    x = generator.standard_normal((1024, 768), dtype=np.float32)

    def step(mode):
        clock = [time.perf_counter()]
        kept, y = [], x
        for stage in stages:
            given = tensor(y, requires_grad=True)
            kept.append((given, stage(given)))
            y = kept[-1][1].data
        clock.append(time.perf_counter())
        gy, flats, under_way = y / y.size, [], []
        for stage, (given, out) in zip(reversed(stages), reversed(kept)):
            stage.zero_grad()
            out.backward(gy)
            gy = given.grad
            flats.append(np.concatenate([p.grad.ravel() for p in stage.parameters()]))
            if mode == "overlap":
                under_way.append(world.start_all_reduce(flats[-1], "mean"))
            clock.append(time.perf_counter())
        for each in under_way:
            each.wait()
        if mode == "behind":
            for flat in flats:
                world.all_reduce(flat, "mean")
        begun = time.perf_counter()
        for stage, flat in zip(reversed(stages), flats):
            for p, part in zip(stage.parameters(), np.split(flat, [768 * 768])):
                p.data -= 0.01 * part.reshape(p.shape)
        done = time.perf_counter()
        return [*np.diff(clock), done - begun, done - clock[0]]

    def reduced(count):
        begun = time.perf_counter()
        world.all_reduce(np.zeros(count, np.float32))
        return [time.perf_counter() - begun]

    jobs = {mode: (step, mode) for mode in ("alone", "overlap", "behind")}
    jobs |= {4 * count: (reduced, count) for count in (10_000, 100_000, 768 * 769)}
    times = {name: [] for name in jobs}
    for turn in range(10):  # in turns: what else this machine does is in all of them
        for name, (job, given) in jobs.items():
            world.barrier()
            times[name].append(job(given))
    medians = {name: np.median(world.all_gather(np.array(each[1:])), axis=(0, 1)) for name, each in times.items()}
    found = {"parameters": 768 * 769, "stages": medians["alone"].tolist()}
    found |= {mode: float(medians[mode][-1]) for mode in ("overlap", "behind")}
    found["all_reduce"] = [(name, float(each[0])) for name, each in medians.items() if not isinstance(name, str)]
    if world.rank == 0:
        print(json.dumps(found))
"""


def compared(ranks: int) -> dict[str, tuple[float, Plan]]:
    """The measured seconds of a step, and its plan, with and without overlap."""
    found = json.loads(run_ranks(ranks, RUN, LINK, limit=300).out)
    forward, *backward, update, _ = found["stages"]
    layers = tuple(Layer(str(i), found["parameters"], lasts) for i, lasts in enumerate(reversed(backward)))
    step = Step(1024, forward, layers, update)
    network = Network(fit(ranks, found["all_reduce"]) if ranks > 1 else Link(LINK), algorithm="ring")
    ways = {"overlap": True, "behind": False}
    return {way: (found[way], plan(step, ranks, network, bucket=1, overlap=ways[way])) for way in ways}


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_step_takes_as_long_as_planned(ranks):
    found = compared(ranks)
    for measured, planned in found.values():
        assert planned.seconds == pytest.approx(measured, rel=0.2)
    assert ranks == 1 or found["overlap"][0] < found["behind"][0]


if __name__ == "__main__":
    for ranks in (1, 2, 4):
        for way, (measured, planned) in compared(ranks).items():
            times = f"measured {1e3 * measured:6.1f} ms  planned {1e3 * planned.seconds:6.1f} ms"
            print(f"{ranks} ranks, {way:<7}  {times}  of it exposed {1e3 * planned.exposed:6.1f} ms")
