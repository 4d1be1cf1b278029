"""AlexNet with a tower on each of two ranks, against the two towers in one process."""

import re
import sys

import numpy as np
import pytest
from ranks import needs_mpirun, run_ranks

from gpunn import checkpoint, distributed, models, optim
from gpunn.backend import default_generator, manual_seed, random_generator
from gpunn.errors import ArgumentError, ShapeError

# What both programs share: five steps of momentum, with the loss, the logits and all gradients of each.
STEPS = """
    import sys
    import numpy as np
    from gpunn import backend, checkpoint, distributed, models, optim, tensor
    from gpunn import functional as F

    SMALL = {"size": 67, "channels": (8, 12, 16, 16, 12), "hidden": 24, "classes": 5, "dtype": np.float32}
    SETTINGS = {"small": SMALL, "full": {"size": 227, "classes": 1000, "dtype": np.float64}}

    def made(settings, **more):
        settings = dict(settings)
        dtype = settings.pop("dtype")
        backend.manual_seed(0)
        net = models.alexnet(towers=2, generator=backend.random_generator(1), **settings, **more)
        for name, parameter in net.named_parameters():  # the paper's small weights leave small networks near 0
            with backend.use_device(parameter.device):
                if settings["size"] == 67:
                    parameter.data *= 8
                parameter.data = parameter.data.astype(dtype)
        return net, optim.SGD(net.named_parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def batches(settings, count=4, steps=5):
        rng = backend.random_generator(2)
        for _ in range(steps):
            x = rng.standard_normal((count, 3, settings["size"], settings["size"])).astype(settings["dtype"])
            yield x, rng.integers(settings["classes"], size=count)

    def step(net, optimizer, x, labels, buckets=None, pairs=1):
        optimizer.zero_grad()
        leaf = tensor(x, requires_grad=True)
        y = net(leaf)
        loss = F.cross_entropy(y, backend.asarray(labels, y.device))
        if buckets is not None:
            buckets.begin()
        loss.backward(whole=None if buckets is None else buckets.add)
        if buckets is not None:
            buckets.finish(pairs)
        found = {name: backend.to_cpu(p.grad).copy() for name, p in net.named_parameters()}
        optimizer.step()
        return {"y": y.numpy(), "loss": loss.numpy(), "x": leaf.grad}, found

    def assert_near(actual, expected, what, tolerance=1e-5):
        assert actual.shape == expected.shape, what
        least = np.abs(expected).max()
        assert least > 0, what
        assert np.abs(actual - expected).max() <= tolerance * least, (what, np.abs(actual - expected).max() / least)
"""

EQUAL = (
    STEPS
    + """
    settings, device, count = SETTINGS[sys.argv[1]], sys.argv[2], int(sys.argv[3])
    world = distributed.init(device)
    with backend.use_device(world.device):
        one, two = made(settings), made(settings, world=world)
        assert sum(p.size for p in two[0].parameters()) < 0.6 * sum(p.size for p in one[0].parameters())
        for number, batch in enumerate(batches(settings, count)):
            states, found = [], []
            for net, optimizer in (one, two):
                backend.manual_seed(number)
                found.append(step(net, optimizer, *batch))
            (expected, gradients), (actual, own) = found
            for name, value in expected.items():
                assert_near(actual[name], value, name)
            for name, gradient in models.gather_towers(own, world).items():
                assert_near(gradient, gradients[name], name)
                assert_near(own[name], models.tower_state(gradients, world)[name], name)
            for a, b in zip(one, two):
                theirs = {k: backend.to_cpu(v) if hasattr(v, "ndim") else v for k, v in a.state_dict().items()}
                mine = models.gather_towers(b.state_dict(), world)
                assert mine.keys() == theirs.keys()
                for name, value in theirs.items():
                    if isinstance(value, np.ndarray) and value.ndim:
                        assert_near(mine[name], value, name)
                    else:
                        assert mine[name] == value, name
        assert two[0].device == world.device
    replica = np.ascontiguousarray(own["fc8.weight"])
    assert len({a.tobytes() for a in world.all_gather(replica)}) == 1  # equal bits
    print("equal")
"""
)


@pytest.mark.distributed
@needs_mpirun
def test_a_tower_a_rank_trains_as_both_in_one_process():
    """Five steps with dropout: outputs, loss, gradients, parameters and momentum."""
    assert run_ranks(2, EQUAL, "small", "cpu", 4).out.split() == ["equal"] * 2


@pytest.mark.distributed
@pytest.mark.slow
@needs_mpirun
def test_a_tower_a_rank_at_full_size():
    """In float64: in float32 the towers round otherwise than the groups, and another maximum of a window may win."""
    assert run_ranks(2, EQUAL, "full", "cpu", 1, limit=900).out.split() == ["equal"] * 2


@pytest.mark.distributed
@pytest.mark.slow
@needs_mpirun
def test_a_tower_on_each_of_two_emulated_gpus():
    pytest.importorskip("cupy")
    device = (sys.executable, "-m", "gpunn.cuda.device", "--devices", "2", "--", sys.executable)
    assert run_ranks(2, EQUAL, "small", "gpu", 2, before=device, limit=300).out.split() == ["equal"] * 2


# Pairs of ranks with other images each; the mean of the gradients is that of one process with all images.
PAIRS = (
    STEPS
    + """
    world = distributed.init()
    pairs = world.size // 2
    pair = world.split(world.rank // 2, world.rank)
    same = world.split(world.rank % 2, world.rank)
    settings = SMALL | {"dropout": 0}  # the masks of half a batch are not those of the whole
    one, two = made(settings), made(settings, world=pair)

    buckets = distributed.Buckets(same, two[0].parameters(), 1 << 12)  # they are under way beside the exchanges

    for x, labels in batches(settings, 2 * pairs):
        expected, gradients = step(*one, x, labels)
        mine = np.arange(2 * pairs).reshape(pairs, 2)[world.rank // 2]
        actual, own = step(*two, x[mine], labels[mine], buckets, pairs)
        assert_near(actual["y"], expected["y"][mine], "y")
        assert_near(actual["x"] / pairs, expected["x"][mine], "x")  # each pair has a loss of its own
        assert_near(same.all_reduce(actual["loss"], "mean"), expected["loss"], "loss")
        for name, gradient in models.gather_towers(own, pair).items():
            assert_near(gradient, gradients[name], name)
    for name, array in models.gather_towers(two[0].state_dict(), pair).items():
        assert_near(array, one[0].state_dict()[name], name)
        assert len({a.tobytes() for a in same.all_gather(two[0].state_dict()[name])}) == 1, name
    print("equal")
"""
)


@pytest.mark.distributed
@pytest.mark.slow
@needs_mpirun
def test_pairs_of_ranks_are_data_parallel():
    assert run_ranks(4, PAIRS).out.split() == ["equal"] * 4


# A training of five steps: the first ones on one process, the others on two ranks; or the other way round.
RESUMED = (
    STEPS
    + """
    world, (first, last) = distributed.init(), map(int, sys.argv[2:4])
    net, optimizer = made(SMALL, **({"world": world} if world.size > 1 else {}))
    if first:
        state, moments = checkpoint.load_checkpoint(sys.argv[1]).values()
        net.load_state_dict(models.tower_state(state, world))
        optimizer.load_state_dict(models.tower_state(moments, world))
    for number, batch in enumerate(batches(SMALL)):
        if first <= number < last:
            backend.manual_seed(number)
            step(net, optimizer, *batch)
    state = {"model": net.state_dict(), "optimizer": optimizer.state_dict()}
    state = {name: models.gather_towers(each, world) for name, each in state.items()}
    if world.rank == 0:
        checkpoint.save_checkpoint(state, sys.argv[1])
"""
)


@pytest.mark.distributed
@pytest.mark.slow
@needs_mpirun
@pytest.mark.parametrize("ranks", [(1, 2), (2, 1)])
def test_a_checkpoint_goes_from_one_process_to_two_ranks_and_back(ranks, tmp_path):
    run_ranks(1, RESUMED, "whole", 0, 5, folder=tmp_path)
    run_ranks(ranks[0], RESUMED, "part", 0, 2, folder=tmp_path)
    run_ranks(ranks[1], RESUMED, "part", 2, 5, folder=tmp_path)
    whole, part = (checkpoint.load_checkpoint(tmp_path / name) for name in ("whole", "part"))
    for name, state in whole.items():
        assert part[name].keys() == state.keys()
        for key, value in state.items():
            if np.ndim(value):
                assert np.abs(part[name][key] - value).max() <= 1e-5 * np.abs(value).max(), key
            else:
                assert part[name][key] == value


@pytest.mark.distributed
@needs_mpirun
@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("models.alexnet(towers=2, world=world, dropout=world.rank / 2, **small)", "alexnet's settings must be"),
        (
            "models.alexnet(towers=2, world=world, generator=backend.random_generator(world.rank), **small)",
            "alexnet's first weights, from equal seeds, must be the same on all ranks, got rank 0: ",
        ),
        pytest.param(
            "backend.manual_seed(0); net = models.alexnet(towers=2, world=world, **small); "
            "backend.manual_seed(world.rank); net(np.zeros((1, 3, 67, 67), np.float32))",
            "the next random number, for dropout (manual_seed), must be",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "backend.manual_seed(0); net = models.alexnet(towers=2, world=world, **small); "
            "x = np.zeros((1, 3, 67, 67), np.float32); net(x); backend.default_generator().random(world.rank); "
            "[net(x) for _ in range(16)]",
            "the next random number, for dropout (manual_seed), must be",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "net = models.alexnet(towers=2, world=world, generator=backend.random_generator(0), **small); "
            "net.eval(); net(np.zeros((1 + world.rank, 3, 67, 67), np.float32))",
            "all ranks must call the same, got rank 0: ",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_ranks_that_disagree_end_with_one_message(program, message):
    start = "import numpy as np\nfrom gpunn import backend, distributed, models\nworld = distributed.init()\n"
    small = 'small = {"size": 67, "channels": (8, 12, 16, 16, 12), "hidden": 24}\n'
    ended = run_ranks(2, start + small + program, code=None)
    assert ended.code == 2
    assert len(re.findall(f"^gpunn: .*{re.escape(message)}", ended.err, re.MULTILINE)) == 1, ended.err


SMALL = {"size": 67, "channels": (8, 12, 16, 16, 12), "hidden": 24}


def test_one_rank_holds_both_towers():
    manual_seed(0)
    one = models.alexnet(5, towers=2, generator=random_generator(1), **SMALL)
    two = models.alexnet(5, towers=2, generator=random_generator(1), world=distributed.init(), **SMALL)
    for name, array in one.state_dict().items():
        assert np.array_equal(two.state_dict()[name], array), name
    x = random_generator(2).standard_normal((2, 3, 67, 67)).astype(np.float32)
    results = []
    for net in (one, two):
        manual_seed(3)
        results.append(net(x).data)
    assert np.array_equal(*results)


def test_the_generator_goes_on_as_with_one_process():
    left = []
    for more in ({}, {"world": distributed.init()}):
        manual_seed(4)
        models.alexnet(5, towers=2, **more, **SMALL)
        left.append(default_generator().integers(1 << 60))
    assert left[0] == left[1]


def test_errors():
    world = distributed.init()
    with pytest.raises(ArgumentError, match="alexnet: world needs towers=2 and no devices, got towers=1"):
        models.alexnet(world=world)
    with pytest.raises(ArgumentError, match="world needs towers=2 and no devices"):
        models.alexnet(towers=2, devices=("cpu", "cpu"), world=world)
    net = models.alexnet(5, towers=2, world=world, **SMALL)
    numbered = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for function in (models.tower_state, models.gather_towers):
        rule = "the optimizer's parameters must have names: give it net.named_parameters"
        with pytest.raises(ArgumentError, match=f"{function.__name__}: {rule}"):
            function(numbered.state_dict(), world)


def test_a_state_without_halves_is_refused():
    class Two:
        rank, size = 1, 2

    state = models.tower_state({"conv1.bias": np.arange(4), "fc8.bias": np.arange(3), "lr": 3}, Two())
    assert {name: np.asarray(value).tolist() for name, value in state.items()} == {
        "conv1.bias": [2, 3], "fc8.bias": [0, 1, 2], "lr": 3,
    }  # fmt: skip
    with pytest.raises(ShapeError, match=r"tower_state: conv1.bias must have outputs for each tower, got shape=\(3,\)"):
        models.tower_state({"conv1.bias": np.arange(3)}, Two())
