"""``gpunn.distributed.cost`` against real runs: 1, 2 and 4 ranks on a link that is slow on purpose.

Each rank trains a network whose gradients are reduced while backward goes on, or when it is done. What the plan goes by
is measured with as many ranks, which share the cores of this machine, in turns with what it plans: a step in which
nothing is sent, and a few all-reduces, to which a link is fitted.

``PYTHONPATH=tests python3 tests/distributed/plan_runs.py``, on a machine that does nothing else, prints the measured
beside the planned times, and ends with 1 where they differ by more than 20 %.
"""

import json
import sys

from ranks import run_ranks

from gpunn.distributed.cost import Layer, Link, Network, Plan, Step, fit, plan

LINK = 100e6  # bytes a second

BATCH, FEATURES, LAYERS, BUCKET = 1024, 768, 6, 1 << 20  # a layer fills a bucket

RUN = """
    import json, sys, time
    import numpy as np
    import gpunn
    from gpunn import distributed, nn, optim, tensor
    from gpunn.backend import random_generator

    link, batch, features, layers, bucket = float(sys.argv[1]), *map(int, sys.argv[2:])
    world = distributed.init(link=link)
    generator = random_generator(0)
    stages = [nn.Sequential(nn.Linear(features, features, generator=generator), nn.ReLU()) for _ in range(layers)]
    network = nn.Sequential(*stages)
    optimizer = optim.SGD(network.parameters(), lr=0.01)
    buckets = distributed.Buckets(world, network.parameters(), bucket)
    x = tensor(generator.standard_normal((batch, features), dtype=np.float32))

    def step(mode):
        begun = time.perf_counter()
        optimizer.zero_grad()
        loss = (network(x) ** 2).mean()
        if mode == "alone":
            loss.backward()
        else:
            buckets.begin()
            loss.backward(whole=buckets.add if mode == "overlap" else None)
            buckets.finish(world.size)
        ready = time.perf_counter()
        optimizer.step()
        done = time.perf_counter()
        return [done - ready, done - begun]

    def profiled(mode):
        with gpunn.profile(network) as profile:
            update, whole = step(mode)
        sums = {layer.name: layer.backward_seconds for layer in profile.layers}
        return [*(sums[str(i)] for i in range(layers)), update, whole]

    def reduced(count):
        begun = time.perf_counter()
        world.all_reduce(np.zeros(count, np.float32))
        return [time.perf_counter() - begun]

    parameters = features * (features + 1)
    jobs = {"profiled": (profiled, "alone"), "overlap": (step, "overlap"), "behind": (step, "behind")}
    jobs |= {4 * count: (reduced, count) for count in (10_000, 100_000, parameters)}
    times = {name: [] for name in jobs}
    for turn in range(10):  # in turns: what else this machine does is in all of them
        for name, (job, given) in jobs.items():
            world.barrier()
            times[name].append(job(given))
    medians = {name: np.median(world.all_gather(np.array(each[1:])), axis=(0, 1)) for name, each in times.items()}
    found = {"parameters": parameters, "profiled": medians["profiled"].tolist()}
    found |= {mode: float(medians[mode][-1]) for mode in ("overlap", "behind")}
    found["all_reduce"] = [(name, float(each[0])) for name, each in medians.items() if not isinstance(name, str)]
    if world.rank == 0:
        print(json.dumps(found))
"""


def compared(ranks: int) -> dict[str, tuple[float, Plan]]:
    """The measured seconds of a step, and its plan, with and without overlap."""
    found = json.loads(run_ranks(ranks, RUN, LINK, BATCH, FEATURES, LAYERS, BUCKET, limit=300).out)
    *backward, update, whole = found["profiled"]
    layers = tuple(Layer(str(i), found["parameters"], lasts) for i, lasts in enumerate(backward))
    step = Step(BATCH, whole - update - sum(backward), layers, update)
    network = Network(fit(ranks, found["all_reduce"]) if ranks > 1 else Link(LINK), algorithm="ring")
    ways = {"overlap": True, "behind": False}
    return {way: (found[way], plan(step, ranks, network, bucket=BUCKET, overlap=ways[way])) for way in ways}


def main() -> int:
    worst = 0.0
    for ranks in (1, 2, 4):
        for way, (measured, planned) in compared(ranks).items():
            worst = max(worst, abs(planned.seconds / measured - 1))
            times = f"measured {1e3 * measured:6.1f} ms  planned {1e3 * planned.seconds:6.1f} ms"
            print(f"{ranks} ranks, {way:<7}  {times}  of it exposed {1e3 * planned.exposed:6.1f} ms")
    return int(worst > 0.2)


if __name__ == "__main__":
    sys.exit(main())
