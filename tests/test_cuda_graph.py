"""Captured steps: what a replay computes is what a step without graphs does."""

import contextlib
import gc
import json

import numpy as np
import oracles
import pytest
from optimizers import ROWS

from gpunn import backend, nn, optim, tensor
from gpunn import functional as F
from gpunn.cuda import capture
from gpunn.errors import ArgumentError, CaptureError, DeviceError, TrainingError
from gpunn.models import lenet, mlp
from gpunn.observer import Observer
from gpunn.train import Callback, Profile, Trainer, captured

pytestmark = pytest.mark.gpu

CLASSES = 3


@pytest.fixture(autouse=True, scope="module")
def _frozen():
    """Each capture collects garbage, and would look for it among all that the test run holds."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.fixture
def captures(monkeypatch):
    """The number of graphs that are made, and of launches of graphs."""
    counts = {"graphs": 0, "replays": 0}

    def counted(name, function):
        def call(*args, **settings):
            result = function(*args, **settings)
            counts[name] += 1
            return result

        return call

    monkeypatch.setattr(capture.Arena, "capture", counted("graphs", capture.Arena.capture))
    monkeypatch.setattr(capture.Captured, "replay", counted("replays", capture.Captured.replay))
    return counts


def batches(shape, count=6, last=2, seed=1):
    rng = np.random.default_rng(seed)
    made = [(rng.standard_normal(shape).astype(np.float32), rng.integers(CLASSES, size=shape[0])) for _ in range(count)]
    return [*made, tuple(a[:last] for a in made[0])] if last else made


class Run:
    """A trainer on the GPU, made alike for every run, and what is left of its run."""

    def __init__(self, case, cuda_graph, data=None, loss=None, callbacks=(), device="gpu"):
        make_model, make_optimizer, shape, settings = CASES[case]
        self.model = make_model().to(device)
        self.optimizer = make_optimizer(self.model.parameters())
        given = batches(shape) if data is None else data
        settings = {name: make(self) for name, make in settings.items()}
        self.ema = settings.get("ema")
        self.loss = loss or self.cross_entropy
        self.trainer = Trainer(
            self.model, self.optimizer, [tuple(backend.to_gpu(a, device) for a in batch) for batch in given],
            lambda batch: self.loss(batch), cuda_graph=cuda_graph, callbacks=callbacks, **settings,
        )  # fmt: skip

    def cross_entropy(self, batch):
        x, y = batch
        return F.cross_entropy(self.model(tensor(x)), y), len(x)

    def epochs(self, count):
        self.trainer.run(count)
        return self

    def state(self):
        """All that training changed, as NumPy arrays and numbers."""
        state = {f"model.{k}": backend.to_cpu(v) for k, v in self.model.state_dict().items()}
        for k, v in self.optimizer.state_dict().items():
            state[f"optimizer.{k}"] = backend.to_cpu(v) if backend.is_array(v) else np.asarray(v)
        for n, (_, p) in enumerate(self.model.named_parameters()):
            state[f"grad {n}"] = backend.to_cpu(p.grad)
        if self.ema is not None:
            state |= {f"ema.{k}": backend.to_cpu(v) for k, v in self.ema.state_dict().items() if k != "decay"}
        state["losses"] = np.array([record["train_loss"] for record in self.trainer.records])
        for name, generator in self.trainer._random.generators().items():
            words = generator.bit_generator.state
            state[f"random.{name}"] = np.array([*words["state"]["counter"], words["buffer_pos"]])
        return state


def network(dropout=0.3):
    backend.manual_seed(5)
    return mlp((5, 8, CLASSES), dropout=dropout, generator=backend.random_generator(0))


def convolutions():
    g = backend.random_generator(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, generator=g), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout2d(0.3, generator=backend.random_generator(3)), nn.Conv2d(6, 4, 1, bias=False, generator=g),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, CLASSES, generator=g),
    )  # fmt: skip


def enlarged():
    g = backend.random_generator(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, generator=g), nn.PixelShuffle(2), nn.Upsample((3, 5), mode="bilinear"), nn.LPPool2d(2, 2, 1),
        nn.Flatten(), nn.Linear(8, CLASSES, generator=g),
    )  # fmt: skip


def weights_and_biases(parameters):
    parameters = list(parameters)
    return [{"params": parameters[::2]}, {"params": parameters[1::2], "weight_decay": 0.0}]


CASES = {
    "SGD with momentum, a schedule of both": (
        network,
        lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
        (6, 5),
        {"schedule": lambda run: optim.schedule.OneCycleLR(run.optimizer, 0.2, 40)},
    ),
    "Adam, limits, averages": (
        network,
        lambda p: optim.Adam(p, lr=0.05, l2=0.01),
        (6, 5),
        {
            "schedule": lambda run: optim.schedule.ExponentialLR(run.optimizer, 0.9),
            "clip_norm": lambda run: 0.3,
            "clip_value": lambda run: 0.2,
            "ema": lambda run: optim.EMA(run.model.named_parameters(), 0.8),
        },
    ),
    "LeNet, AdamW": (
        lambda: lenet(1, 8, CLASSES, backend.random_generator(0)),
        lambda p: optim.AdamW(p, lr=0.01),
        (4, 1, 8, 8),
        {},
    ),
    "enlarged images": (enlarged, lambda p: optim.SGD(p, lr=0.01), (4, 1, 5, 4), {}),
    "channels, two groups, RMSprop": (
        convolutions,
        lambda p: optim.RMSprop(weights_and_biases(p), lr=0.01, momentum=0.5, centered=True, weight_decay=0.1),
        (4, 2, 4, 4),
        {"schedule": lambda run: optim.schedule.StepLR(run.optimizer, 3, 0.5)},
    ),
} | {
    row.make.__name__: (network, lambda p, row=row: row.make(p, **row.captured), (6, 5), {})
    for row in ROWS
    if row.captured is not None
}
SIMPLE = "SGD with momentum, a schedule of both"


def assert_same_bits(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


class Neighbours(Callback):
    """Takes memory between steps, keeps some and gives some back: what a graph uses must not be among it.

    It does so on the stream of the graph: to a stream CuPy gives again what was given back on it. ``freeing`` has CuPy
    free what it keeps unused, as when memory runs out.
    """

    def __init__(self, freeing=True):
        self.kept, self.freeing = [], freeing

    def on_step(self, trainer, loss):
        import cupy

        if self.freeing:
            cupy.get_default_memory_pool().free_all_blocks()
        stream = trainer._captured._arena._stream if trainer._captured else contextlib.nullcontext()
        with stream:
            for size in (*[1 << 6] * 8, *[1 << 8] * 4, 1 << 10, 1 << 16):
                cupy.full(size, np.nan, np.float32)
                self.kept.append(cupy.full(size, len(self.kept), np.float32))

    def check(self):
        for number, x in enumerate(self.kept):
            x.device.synchronize()
            assert (x == number).all(), "a graph wrote to the memory of others"


# ---- the same as without graphs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_replays_give_what_steps_give(case, captures, monkeypatch):
    """To the bit what the same kernels give step by step; up to rounding what the kernels without graphs give."""
    neighbours = Neighbours()
    replayed = Run(case, cuda_graph=True, callbacks=[neighbours]).epochs(3).state()
    neighbours.check()
    assert captures == {"graphs": 2, "replays": 2 * (3 * 6 - captured.WARM_UP)}  # of whole batches; last ones have none
    plain = Run(case, cuda_graph=False).epochs(3).state()
    monkeypatch.setattr(captured, "WARM_UP", 1000)
    rehearsed = Run(case, cuda_graph=True).epochs(3).state()
    assert captures["graphs"] == 2
    assert_same_bits(replayed, rehearsed)
    for name, value in plain.items():
        # Products of up to 64 terms in another order; what differs by that is divided by roots that can be as small.
        close = 1e-3 if value.dtype.kind == "f" else 0
        np.testing.assert_allclose(replayed[name], value, rtol=close, atol=close * 0.1, err_msg=name)


@pytest.mark.parametrize("current", ["gpu:0", "gpu:1"])
def test_a_run_on_the_second_gpu_gives_what_one_on_the_first_gives(current, captures):
    if backend.gpu_count() < 2:
        pytest.skip("needs two GPUs")
    case = "Adam, limits, averages"
    expected = Run(case, cuda_graph=True).epochs(2).state()
    with backend.use_device(current):
        state = Run(case, cuda_graph=True, device="gpu:1").epochs(2).state()
    assert captures["graphs"] == 4
    assert_same_bits(state, expected)


def test_what_changes_between_steps_is_seen_if_it_were_held(monkeypatch):
    """The comparison above fails if the numbers of the captured step were those of every replay."""
    right = Run(SIMPLE, cuda_graph=True).epochs(3).state()
    write = capture.Captured._write
    for kept in (np.uint64, np.float32):  # the keys of dropout; the numbers of the optimizer

        def hold(self, number, values, kept=kept):
            if values.dtype != kept or self._graph is None:
                write(self, number, values)

        with monkeypatch.context() as held:
            held.setattr(capture.Captured, "_write", hold)
            wrong = Run(SIMPLE, cuda_graph=True).epochs(3).state()
        assert np.abs(right["model.0.weight"] - wrong["model.0.weight"]).max() > 1e-3
        np.testing.assert_array_equal(right["random.default"], wrong["random.default"])


def test_a_replay_launches_nothing_by_itself():
    launches, count = [], 0

    class Launches(Observer):
        def around_launch(self, file, kernel, args, run):
            nonlocal count
            count += 1
            return run

    class Counting(Callback):
        def on_step(self, trainer, loss):
            launches.append(count)

    with Launches():
        Run(SIMPLE, cuda_graph=True, data=batches((6, 5), 8, None), callbacks=[Counting()]).epochs(1)
    assert (np.diff(launches)[:3] > 0).all()  # rehearsed, and captured
    assert (np.diff(launches)[3:] == 0).all()


def test_a_run_goes_on_bit_for_bit():
    """In another process there are no graphs at first: rehearsed and captured steps give the same bits."""
    case = "channels, two groups, RMSprop"
    data = batches((4, 2, 4, 4), 6, None)
    whole = Run(case, cuda_graph=True, data=data).epochs(4)
    for steps in (1, 2):
        first = Run(case, cuda_graph=True, data=data).epochs(steps)
        second = Run(case, cuda_graph=True, data=data)
        second.model.load_state_dict(first.model.state_dict())
        second.optimizer.load_state_dict(first.optimizer.state_dict())
        second.trainer.schedule.load_state_dict(first.trainer.schedule.state_dict())
        second.trainer._random.load_state_dict(first.trainer._random.state_dict())
        second.epochs(4 - steps)
        expected, actual = whole.state(), second.state()
        del expected["losses"], actual["losses"]
        assert_same_bits(actual, expected)


def test_the_memory_of_a_graph_is_its_own(cupy, monkeypatch):
    """What is captured comes from the arena; if it did not, a graph would write to what others have meanwhile."""
    with monkeypatch.context() as watched:
        watched.setattr(capture, "_allocate", lambda size: pytest.fail("the arena is not used"))
        with pytest.raises(pytest.fail.Exception, match="the arena is not used"):
            Run(SIMPLE, cuda_graph=True).epochs(1)
    monkeypatch.setattr(cupy.cuda, "using_allocator", lambda allocator: contextlib.nullcontext())
    neighbours = Neighbours(freeing=False)  # a graph that uses freed memory may end the process
    with contextlib.suppress(TrainingError):
        Run(SIMPLE, cuda_graph=True, callbacks=[neighbours]).epochs(1)
    with pytest.raises(AssertionError, match="a graph wrote to the memory of others"):
        neighbours.check()


def test_settings_that_a_graph_holds_make_new_graphs(captures):
    def change(trainer):
        if trainer.step == 6:
            trainer.optimizer.groups[0]["l1"] = 0.1
        if trainer.step == 14:
            trainer.model[2].eval()  # dropout, up to the end of the epoch

    class Change(Callback):
        def on_step(self, trainer, loss):
            change(trainer)

    data = batches((6, 5), 20, None)
    replayed = Run(SIMPLE, cuda_graph=True, data=data, callbacks=[Change()]).epochs(1)
    assert captures["graphs"] == 6
    plain = Run(SIMPLE, cuda_graph=False, data=data, callbacks=[Change()]).epochs(1)
    for name, value in plain.state().items():
        np.testing.assert_allclose(replayed.state()[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("memory", [False, True])
def test_a_profile_leaves_captures_alone(memory, captures, tmp_path):
    """An event in a captured stream is a node of the graph, and has no time."""
    data = batches((6, 5), 8, None)
    profiling = Profile(tmp_path, steps=(1, 8), memory=memory)
    profiled = Run(SIMPLE, cuda_graph=True, data=data, callbacks=[profiling]).epochs(1)
    assert captures["graphs"] == 2
    plain = Run(SIMPLE, cuda_graph=True, data=data).epochs(1)
    for name, value in plain.state().items():
        np.testing.assert_array_equal(profiled.state()[name], value, err_msg=name)
    found = json.loads((tmp_path / "trace.json").read_text())["otherData"]
    assert found["clock"] == "CUDA events"
    assert {layer["calls"] for layer in found["layers"]} == {captured.WARM_UP}


def test_a_batch_that_differs_in_more_than_its_arrays_gets_no_graph(captures):
    data = [(*batch, np.float32(n)) for n, batch in enumerate(batches((6, 5), 8, None))]
    run = Run(SIMPLE, cuda_graph=True, data=[batch[:2] for batch in data])
    run.trainer.data = [{"x": x, "y": y, "name": str(n)} for n, (x, y) in enumerate(run.trainer.data)]
    run.loss = lambda batch: run.cross_entropy((batch["x"], batch["y"]))
    run.epochs(1)
    assert captures["graphs"] == 0
    run.trainer.data = [{**batch, "name": "one"} for batch in run.trainer.data]
    run.epochs(2)
    assert captures["graphs"] == 2


def test_the_gradients_left_by_a_replay_are_those_that_moved_the_weights():
    """After the limits, as without graphs."""
    case, data = "Adam, limits, averages", batches((6, 5), 8, None)
    replayed, plain = (Run(case, graphs, data).epochs(1).state() for graphs in (True, False))
    for n in range(4):
        assert np.abs(plain[f"grad {n}"]).max() <= 0.2
        np.testing.assert_allclose(replayed[f"grad {n}"], plain[f"grad {n}"], rtol=1e-3, atol=1e-5)


def test_batches_may_begin_anywhere_and_parameters_be_many(captures, monkeypatch):
    """Where a batch begins decides which kernel reads it; CuPy joins more than eight arrays by a list of addresses."""

    def deep():
        backend.manual_seed(5)
        return nn.Sequential(nn.Dropout(0.1), *mlp((8, *[8] * 5, CLASSES), generator=backend.random_generator(0)))

    _, *others, settings = CASES["Adam, limits, averages"]
    monkeypatch.setitem(CASES, "deep", (deep, *others, settings))
    run = Run("deep", cuda_graph=True, data=[])
    for number, (x, y) in enumerate(batches((6, 8), 8, None)):
        whole = backend.to_gpu(np.concatenate([np.zeros(number % 5 + 1, np.float32), x.ravel()]))
        run.trainer.data.append((whole[number % 5 + 1 :].reshape(x.shape), backend.to_gpu(y)))
    run.epochs(1)
    assert captures["replays"] == 2 * (8 - captured.WARM_UP)


# ---- what is wrong --------------------------------------------------------------------------------------------------


def test_what_no_graph_is_for_is_refused_at_once():
    model = network()
    rule = r"cuda_graph needs parameters on one GPU: .*, got devices=\['cpu'\]"
    with pytest.raises(ArgumentError, match=rule):
        Trainer(model, optim.SGD(model.parameters()), [], lambda batch: None, cuda_graph=True)
    model.to("gpu")
    with pytest.raises(ArgumentError, match=r"a step of one batch: .*, got accumulate=2"):
        Trainer(model, optim.SGD(model.parameters()), [], lambda batch: None, cuda_graph=True, accumulate=2)


def test_batches_must_be_on_the_gpu():
    run = Run(SIMPLE, cuda_graph=True)
    run.trainer.data = batches((6, 5))
    with pytest.raises(DeviceError, match=r"every array of a batch on the GPU: .*, got batch='cpu', model='gpu:0'"):
        run.epochs(1)


def reads(run, x, y):
    loss = F.cross_entropy(run.model(tensor(x)), y)
    return loss if float(loss) < 1e9 else loss * 2


def copies(run, x, y):
    return F.cross_entropy(run.model(tensor(x)), y, weight=backend.to_gpu(np.ones(CLASSES, np.float32)))


def multiplies(run, x, y):
    y2 = F.einsum("ij,jk->ik", tensor(x), tensor(x).T)
    return F.cross_entropy(run.model(tensor(x)), y) + y2.sum() * 0


def draws(run, x, y):
    return F.cross_entropy(run.model(tensor(x)), y) * (1 + float(backend.default_generator().random()))


OTHER = backend.random_generator(9)


def drops_elsewhere(run, x, y):
    return F.cross_entropy(F.dropout(run.model(tensor(x)), 0.5, generator=OTHER), y)


REFUSED = {
    reads: r"__float__\(\) \(tensor.py, line \d+\) cannot be captured \(.*D2H.*\): read nothing back on the way",
    copies: r"to_gpu\(\) \(backend.py, line \d+\) cannot be captured \(.*H2D.*\): copy nothing to the GPU on the way",
    multiplies: r"einsum\(\) \(einsum.py, line \d+\) cannot be captured \(.*cuBLAS.*\): of NVIDIA's libraries",
    draws: "a step may draw random numbers for dropout alone",
    drops_elsewhere: "dropout must draw from the default generator, one that a module holds, or one of Trainer",
}


@pytest.mark.parametrize("loss", REFUSED, ids=lambda loss: loss.__name__)
def test_a_loss_that_cannot_be_captured_is_told_and_where(loss, cupy):
    run = Run(SIMPLE, cuda_graph=True)
    before = {name: backend.to_cpu(value).copy() for name, value in run.model.state_dict().items()}
    run.loss = lambda batch: (loss(run, *batch), len(batch[0]))
    with pytest.raises(CaptureError, match=REFUSED[loss]):
        run.epochs(1)
    assert not cupy.cuda.get_current_stream().is_capturing()
    for name, value in before.items():
        np.testing.assert_array_equal(backend.to_cpu(run.model.state_dict()[name]), value)


class ByHand(optim.Optimizer):
    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1}, 0.0, 0.0, None)

    def states(self, settings):
        return {}

    def update(self, part, settings):
        p = part.p
        p -= settings["lr"] * part.g


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (ByHand, "the optimizer must compute by kernels of this library, .*, got optimizer='ByHand'"),
        (optim.LAMB, "lamb_step: it cannot be captured in a CUDA graph: LAMB has no kernel of its own"),
    ],
)
def test_optimizers_without_kernels_are_refused(optimizer, message):
    run = Run(SIMPLE, cuda_graph=False)
    trainer = Trainer(run.model, optimizer(run.model.parameters()), run.trainer.data, run.loss, cuda_graph=True)
    with pytest.raises(CaptureError, match=message):
        trainer.run(1)


class Replacing(nn.Module):
    """Keeps what it saw in a new array each time."""

    def __init__(self):
        self.seen = nn.Buffer(np.zeros((), np.float32))

    def forward(self, x):
        self.seen.data = self.seen.data + 1
        return x


def test_modules_that_replace_their_buffers_are_refused():
    run = Run(SIMPLE, cuda_graph=True)
    run.model.append(Replacing().to("gpu"))
    with pytest.raises(CaptureError, match="a forward pass must change the buffers of its modules in place"):
        run.epochs(1)


def test_a_class_out_of_range_is_told_by_the_replay_that_meets_it(captures):
    data = batches((6, 5), 8, None)
    data[6][1][2] = CLASSES
    run = Run(SIMPLE, cuda_graph=True, data=data)
    with pytest.raises(ArgumentError, match="cross_entropy: target must lie in 0 to 2 .*, got target=3, row=2"):
        run.epochs(1)
    assert captures["replays"] == 7  # two of each step, and one of the last


@pytest.mark.parametrize("where", ["in a rehearsal", "in a replay"])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_as_without_graphs(what, where):
    bad = {"in a rehearsal": 1, "in a replay": 6}[where]
    data, messages = batches((6, 5), 8, None), []
    data[bad][0][0, 0] = np.nan if what == "loss" else 0
    for graphs in (False, True):
        run = Run(SIMPLE, cuda_graph=graphs, data=data)
        if what == "gradient":  # that of a root at 0

            def root(batch, run=run):
                return ((run.model(tensor(batch[0])) * tensor(batch[0][:1, :1])) ** 2).sum() ** 0.5, 6

            run.loss = root
        with pytest.raises(TrainingError) as caught:
            run.epochs(1)
        messages.append(str(caught.value))
        np.testing.assert_array_equal(run.state()["model.0.weight"], network().state_dict()["0.weight"])
    assert messages[0] == messages[1]
    assert ("training loss" if what == "loss" else "gradient is not finite") in messages[0]


def test_an_arena_without_room_says_so(cupy, monkeypatch):
    pool, memory, refused = cupy.get_default_memory_pool(), cupy.cuda.Memory, []

    def scarce(size):
        if pool.free_bytes() >= 8 << 20:
            refused.append(size)
            raise cupy.cuda.runtime.CUDARuntimeError(2)  # cudaErrorMemoryAllocation
        return memory(size)

    run = Run(SIMPLE, cuda_graph=True)
    with monkeypatch.context() as patched:
        patched.setattr(cupy.cuda, "Memory", scarce)
        with cupy.cuda.Stream():
            cupy.empty(1 << 20)  # given back to this stream, where nobody takes a part of it
        run.epochs(1)  # what the usual pool keeps unused is given back for it
        assert refused
    run.loss = lambda batch: (cupy.empty(1 << 50, np.uint8), 1)
    with pytest.raises(DeviceError, match=r"no memory for \d+ bytes more .*: take smaller batches, or no graph"):
        run.epochs(2)


# ---- the parts ------------------------------------------------------------------------------------------------------


def test_live_values_are_renewed_and_the_hosts_part_must_fit(cupy):
    arena = capture.Arena("gpu:0")
    total, numbers = cupy.zeros(1, np.float32), iter(np.float32([[2], [30]]))
    host = {"rate": 0.5}

    def work():
        total.__iadd__(capture.live(total, np.float32([1]), lambda: next(numbers)))
        total.__iadd__(capture.live(total, np.float32([host["rate"]])))

    arena.rehearse(work)
    assert total.item() == 1.5
    work_captured, _ = arena.capture(work)
    assert total.item() == 1.5
    work_captured.replay(first=True)
    assert total.item() == 3
    host["rate"] = 0.25
    work_captured.replay(lambda: capture.live(total, np.float32([host["rate"]])))
    assert total.item() == 5.25
    for repeat in (lambda: None, lambda: [capture.live(total, np.float32([1])) for _ in range(2)]):
        numbers = iter(np.float32([[2]]))
        with pytest.raises(CaptureError, match="the host repeats other work than was captured"):
            work_captured.replay(repeat)
    numbers = iter(np.float32([[2]]))
    with pytest.raises(CaptureError, match="the host repeats other work .*, got dtype='float64'"):
        work_captured.replay(lambda: capture.live(total, np.float64([1])))


def test_failed_work_leaves_no_memory_behind_and_the_graphs_as_they_are(cupy):
    total, pool = cupy.zeros(1, np.float32), cupy.get_default_memory_pool()

    def room():
        gc.collect()
        pool.free_all_blocks()
        return cupy.cuda.runtime.memGetInfo()[0]

    def failing():
        x = cupy.ones(1 << 20, np.float32)
        assert cupy.cuda.runtime.memGetInfo()[0] < before
        x += 1
        raise ZeroDivisionError

    def work():
        total.__iadd__(cupy.ones(1, np.float32) + 1)

    def fail_at(take):
        with contextlib.suppress(ZeroDivisionError):
            take(failing)

    before = 1 << 62
    fail_at(capture.Arena("gpu:0").rehearse)  # also compiles and loads the kernels
    capture.Arena("gpu:0").rehearse(work)
    arena, before = capture.Arena("gpu:0"), room()
    fail_at(arena.rehearse)
    assert room() >= before  # more where what earlier tests left goes meanwhile
    arena.rehearse(work)
    captured, _ = arena.capture(work)
    fail_at(arena.rehearse)
    fail_at(arena.capture)
    captured.replay(first=True)
    assert total.item() == 6
    captured = None  # and with it the memory that its graph may have used
    assert room() >= before


def test_what_an_array_shares_with_a_pool_goes_when_it_goes(cupy):
    """A block of a pool may be split between an array that somebody still has and what is unused."""
    cupy.ones(1, np.float32)
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    before = cupy.cuda.runtime.memGetInfo()[0]
    arena, kept = capture.Arena("gpu:0"), []

    def work():
        cupy.empty(1 << 20, np.float32)  # which leaves a large block unused, of which the next takes a part
        kept.append(cupy.empty(1 << 10, np.float32))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        arena.rehearse(work)
    assert cupy.cuda.runtime.memGetInfo()[0] < before
    kept.clear()
    gc.collect()
    arena.rehearse(lambda: None)
    assert cupy.cuda.runtime.memGetInfo()[0] >= before


def test_more_live_values_than_there_is_room_for_are_refused(cupy):
    arena = capture.Arena("gpu:0")
    x = cupy.zeros(1, np.float32)
    with pytest.raises(CaptureError, match="the captured work has too many values that change, got room=65536"):
        arena.capture(lambda: capture.live(x, np.zeros(20000, np.float32)))


def test_rounding_of_captured_products_is_that_of_a_sum(rng):
    """The tolerance of linear layers, between a run with graphs and one without."""
    layer = nn.Linear(200, 30, generator=backend.random_generator(0)).to("gpu")
    x = backend.to_gpu(rng.standard_normal((17, 200)).astype(np.float32))
    with capture.rehearsing():
        y = layer(x)
    oracles.assert_close(backend.to_cpu(y.data), backend.to_cpu(layer(x).data), 200)


REFUSED_BY_CUPY = {
    "read": (lambda x: float(x.sum()), "read nothing back on the way"),
    "copied": (lambda x: x + backend.to_gpu(np.ones(4, np.float32)), "copy nothing to the GPU on the way"),
    "cuBLAS": (lambda x: x.reshape(2, 2) @ x.reshape(2, 2), "of NVIDIA's libraries CuPy lets none be captured"),
}


@pytest.mark.parametrize("what", REFUSED_BY_CUPY)
def test_what_cupy_refuses_in_a_capture_is_told(cupy, what):
    """And afterwards the arena can capture again."""
    work, message = REFUSED_BY_CUPY[what]
    x, arena = cupy.arange(4, dtype=np.float32), capture.Arena("gpu:0")
    arena.rehearse(lambda: work(x))
    with pytest.raises(CaptureError, match=message):
        arena.capture(lambda: work(x))
    arena.rehearse(lambda: x * 2)
    graph, y = arena.capture(lambda: x * 2)
    graph.replay(first=True)
    np.testing.assert_array_equal(backend.to_cpu(y), [0, 2, 4, 6])
