"""AlexNet: its shapes, its orders, and its towers on two devices, which for want of GPUs are pretended ones."""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import pytest

from gpunn import backend, models, nn, optim, tensor
from gpunn import functional as F
from gpunn.backend import manual_seed, random_generator
from gpunn.errors import ArgumentError, DeviceError
from gpunn.models.alexnet import Exchange, Response

SMALL = {"size": 67, "channels": (8, 12, 16, 16, 12), "hidden": 24}  # maps of 15, 7, 3, 3, 3 and 1
BIASED = {"conv2", "conv4", "conv5", "fc6", "fc7"}


def relative(actual, expected):
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def spread_out(net):
    """Larger weights than the paper's: its small ones leave the logits of a small network near 0."""
    for parameter in net.parameters():
        with backend.use_device(parameter.device):
            parameter.data *= 8
    return net


@pytest.mark.slow
def test_shapes_and_counts_at_full_size(rng):
    """One image of 227×227 through the one network and through the towers: shapes, outputs, every gradient."""
    one = models.alexnet(towers=2, generator=random_generator(0))
    two = models.alexnet(towers=2, devices=("cpu", "cpu"), generator=random_generator(0))
    assert sum(p.size for p in one.parameters()) == sum(p.size for p in two.parameters()) == 60_965_224
    whole = one.state_dict()
    for name, array in models.merge_towers(two.state_dict()).items():
        np.testing.assert_array_equal(array, whole[name])
    # In float32 the towers round otherwise than the groups, and where two maxima of a window are that close another one
    # wins: the gradient then jumps. In float64 none are.
    for parameter in (*one.parameters(), *two.parameters()):
        parameter.data = parameter.data.astype(np.float64)
    blocks = (one.conv1, one.response1, one.conv2, one.response2, one.conv3, one.conv4, one.conv5, one.pool)
    seen = [watched(module) for module in blocks]
    x = rng.standard_normal((1, 3, 227, 227))
    manual_seed(4)
    y = one(tensor(x))  # in training: the same masks of dropout for the same seed
    assert [shapes[0][-1] for shapes in seen] == [55, 27, 27, 13, 13, 13, 13, 6]
    manual_seed(4)
    z = two(tensor(x))
    assert relative(z.data, y.data) < 1e-5
    for output in (y, z):
        F.cross_entropy(output, np.array([7])).backward()
    for name, parameter in one.named_parameters():
        halves = [p.grad for tower, p in both(two, name)]
        assert relative(np.concatenate(halves), parameter.grad) < 1e-5, name


def watched(module):
    """The list to which ``module`` adds the shape of each of its outputs."""
    shapes, forward = [], module.forward
    module.forward = lambda x: (shapes.append((y := forward(x)).shape), y)[1]
    return shapes


def both(two, name):
    """The parameters of the towers that are the halves of ``name``."""
    towers = dict(two.named_parameters())
    return [(t, towers[f"tower{t}.{name}"]) for t in (0, 1) if f"tower{t}.{name}" in towers]


@pytest.mark.parametrize("norm_before_pool", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_two_towers_are_the_network_in_groups(norm_before_pool, training, rng):
    settings = SMALL | {"norm_before_pool": norm_before_pool}
    one = spread_out(models.alexnet(5, towers=2, generator=random_generator(1), **settings)).train(training)
    two = models.alexnet(5, towers=2, devices=("cpu", "cpu"), **settings).train(training)
    two.load_state_dict(models.split_towers(one.state_dict()))
    x, outputs, gradients = rng.standard_normal((3, 3, 67, 67)).astype(np.float32), [], []
    for net in (one, two):
        manual_seed(2)
        leaf = tensor(x, requires_grad=True)
        y = net(leaf)
        outputs.append(y.data)
        F.cross_entropy(y, np.array([0, 4, 2])).backward()
        gradients.append({name: p.grad for name, p in net.named_parameters()} | {"x": leaf.grad})
    assert relative(outputs[1], outputs[0]) < 1e-5
    merged = models.merge_towers({name: g for name, g in gradients[1].items() if name != "x"})
    for name, gradient in (merged | {"x": gradients[1]["x"]}).items():
        assert np.abs(gradient).max() > 0, name
        assert relative(gradient, gradients[0][name]) < 1e-5, name
    if training:  # and the masks matter
        manual_seed(3)
        assert relative(two(tensor(x)).data, outputs[1]) > 1e-3


def exchanges(n):
    """Shapes of what goes from one tower to the other, and to which, for a batch of ``n`` and the sizes of SMALL."""
    image, logits = [((n, 3, 67, 67), 1)], [((n, 12), 0)]
    between = [(shape, target) for shape in ((n, 6, 3, 3), (n, 6), (n, 12)) for target in (0, 1)]
    return image + between + logits


def test_what_is_exchanged_and_where(monkeypatch, rng):
    """On two CPU devices the same code runs: each transfer is asked for, though nothing needs to move."""
    asked = []
    real = F.to_device
    monkeypatch.setattr(F, "to_device", lambda x, device: (asked.append((x.shape, device)), real(x, device))[1])
    net = models.alexnet(5, towers=2, devices=("cpu", "cpu"), **SMALL)
    net(rng.standard_normal((2, 3, 67, 67)).astype(np.float32))
    # Every exchange also asks for what is there already.
    expected = [shape for shape, _ in exchanges(2) for _ in range(2)]
    assert asked == [(shape, "cpu") for shape in expected]


# ---- pretended devices ----------------------------------------------------------------------------------------------

current = ["gpu:0"]


class Placed(np.ndarray):
    """A NumPy array on a pretended GPU. As with CuPy, what it is computed with must be on the current device."""

    def __array_finalize__(self, source):
        self.place = getattr(source, "place", current[-1])

    def __array_ufunc__(self, function, method, *inputs, out=None, **settings):
        return apply(getattr(function, method), inputs, settings | ({"out": out} if out else {}))

    def __array_function__(self, function, types, args, settings):
        return apply(function, args, settings)

    def __setitem__(self, key, value):
        here([self, value])
        super().__setitem__(key, value)

    def copy(self, order="C"):
        return here([super().copy(order)])[0]

    def astype(self, *args, **settings):
        return here([super().astype(*args, **settings)])[0]


def here(arrays):
    for a in arrays:
        assert getattr(a, "place", current[-1]) == current[-1], f"{a.shape} is on {a.place}, not on {current[-1]}"
    return arrays


def apply(function, args, settings):
    def plain(a):
        if isinstance(a, tuple | list):
            return type(a)(map(plain, a))
        return here([a])[0].view(np.ndarray) if isinstance(a, Placed) else a

    result = function(*plain(args), **{name: plain(value) for name, value in settings.items()})
    if isinstance(result, list):
        return [a.view(Placed) for a in result]
    return result.view(Placed) if isinstance(result, np.ndarray) else result


@pytest.fixture
def devices(monkeypatch):
    """Two pretended GPUs in place of the functions of gpunn.backend; the transfers between them, as they happen."""
    transfers = []

    @contextlib.contextmanager
    def on(device):
        current.append(device)
        yield
        current.pop()

    def asarray(x, device=None, dtype=None):
        if getattr(x, "place", "cpu") == (device or getattr(x, "place", "cpu")):
            return x
        moved = np.array(x).view(Placed)
        moved.place = device
        if isinstance(x, Placed):
            transfers.append((x.shape, x.place, device))
        return moved

    pretended = {
        "check_device": lambda device: device,
        "device_of": lambda x: getattr(x, "place", "cpu"),
        "device_context": lambda x: on(getattr(x, "place", current[-1])),
        "use_device": on,
        "asarray": asarray,
    }
    for name, function in pretended.items():
        real = getattr(backend, name)
        for module in [m for key, m in sys.modules.items() if key.startswith("gpunn")]:
            if getattr(module, name, None) is real:
                monkeypatch.setattr(module, name, function)
    for name, make in {name: getattr(np, name) for name in ("empty", "zeros", "ones", "full", "arange")}.items():
        monkeypatch.setattr(np, name, lambda *args, make=make, **settings: make(*args, **settings).view(Placed))
    monkeypatch.setattr(np, "asarray", np.asanyarray)
    monkeypatch.setattr(np, "ascontiguousarray", lambda x, dtype=None: x.astype(dtype or x.dtype, "C", copy=False))
    return transfers


def test_each_tower_stays_on_its_device(devices, rng):
    """Forward and backward, nothing is computed with an array of the other device, and only the exchange moves any."""
    where = ["gpu:0", "gpu:1"]
    net = models.alexnet(5, towers=2, devices=tuple(where), generator=random_generator(1), **SMALL)
    assert net.devices == tuple(where)
    devices.clear()
    x = rng.standard_normal((2, 3, 67, 67)).astype(np.float32).view(Placed)
    leaf = tensor(x, requires_grad=True)
    y = net(leaf)
    assert y.device == "gpu:0"
    forward = list(devices)
    assert forward == [(shape, where[1 - target], where[target]) for shape, target in exchanges(2)]
    y.backward(np.ones((2, 5), np.float32))
    # What went there comes back as a gradient.
    assert sorted(devices[len(forward) :]) == sorted((shape, there, origin) for shape, origin, there in forward)
    assert leaf.grad.place == "gpu:0"
    for device, tower in zip(where, net.towers, strict=True):
        assert {p.device for p in tower.parameters()} == {p.grad.place for p in tower.parameters()} == {device}
    assert {a.place for name, a in net.state_dict().items() if name.startswith("tower1.")} == {"gpu:1"}


@pytest.mark.gpu
def test_on_two_gpus_the_towers_are_those_of_the_cpu(rng):
    """Three steps with momentum, whose optimizers and gradients stay on the device of their tower."""
    if backend.gpu_count() < 2:
        pytest.skip("needs two GPUs")
    x, results = rng.standard_normal((2, 3, 67, 67)).astype(np.float32), []
    for devices in (("cpu", "cpu"), ("gpu:0", "gpu:1")):
        net = models.alexnet(5, towers=2, devices=devices, dropout=0, generator=random_generator(1), **SMALL)
        spread_out(net)
        optimizers = [optim.SGD(tower.parameters(), lr=0.01, momentum=0.9) for tower in net.towers]
        averages = [optim.EMA(tower.parameters(), 0.5) for tower in net.towers]
        for _ in range(3):
            net.zero_grad()
            y = net(tensor(x, device=devices[0]))
            assert y.device == devices[0]
            F.cross_entropy(y, backend.asarray(np.arange(2), devices[0])).backward()
            for device, tower in zip(devices, net.towers, strict=True):
                assert {backend.device_of(p.grad) for p in tower.parameters()} == {device}
            for tower, optimizer, ema in zip(net.towers, optimizers, averages, strict=True):
                optim.clip_grad_norm(tower.parameters(), 10)
                optim.clip_grad_value(tower.parameters(), 1)
                optimizer.step()
                ema.update()
                optimizer.load_state_dict(optimizer.state_dict())
                ema.load_state_dict(ema.state_dict())
        for device, tower in zip(devices, net.towers, strict=True):
            assert {p.device for p in tower.parameters()} == {device}
        results.append([y.numpy(), *(backend.to_cpu(a) for a in net.state_dict().values())])
        for ema in averages:
            with ema.averages():
                results[-1] += [backend.to_cpu(a).copy() for a in net.state_dict().values()]
    for a, b in zip(*results, strict=True):
        assert relative(b, a) < 1e-4  # sums of some hundred products of float32, three steps long


def test_the_pretended_devices_refuse_what_cupy_refuses(devices):
    a = np.zeros(3)
    b = backend.asarray(a, "gpu:1")
    for wrong in (lambda: a + b, lambda: b + b, lambda: np.concatenate([b]), b.copy, lambda: a.__setitem__(0, b)):
        with pytest.raises(AssertionError, match="is on gpu:1, not on gpu:0"):
            wrong()
    with backend.use_device("gpu:1"):
        assert (b + b).place == "gpu:1"


# ---- the parts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("norm_before_pool", [False, True])
def test_response_is_its_parts(towers, norm_before_pool, run, rng):
    x = 20 * rng.standard_normal((2, 12, 9, 8)).astype(np.float32)
    norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0, "sum")
    pool = nn.MaxPool2d(3, 2)
    halves = np.split(np.maximum(x, 0), towers, axis=1)
    parts = [pool(norm(own)) if norm_before_pool else norm(pool(own)) for own in halves]
    response = Response(towers, norm_before_pool)
    np.testing.assert_allclose(run(response, x), np.concatenate(parts, 1), rtol=1e-5)


def test_a_tower_sees_its_own_maps_only(rng):
    """A change of the second tower's conv1 reaches the first tower at conv3, and not before."""
    net = spread_out(models.alexnet(5, towers=2, **SMALL)).eval()
    x = rng.standard_normal((1, 3, 67, 67)).astype(np.float32)
    before = net.first_maps(x).data, net.conv3(net.first_maps(x)).data
    net.conv1.weight.data[4:] *= -1
    after = net.first_maps(x).data, net.conv3(net.first_maps(x)).data
    np.testing.assert_array_equal(after[0][:, :6], before[0][:, :6])
    assert (after[0][:, 6:] != before[0][:, 6:]).any()
    assert (after[1][:, :8] != before[1][:, :8]).any()


def test_initial_values_are_the_papers():
    net = models.alexnet(5, channels=(32, 64, 64, 64, 32), hidden=64, size=67, generator=random_generator(0))
    for name, parameter in net.named_parameters():
        layer, kind = name.split(".")
        if kind == "bias":
            assert set(parameter.data) == {float(layer in BIASED)}, name
        else:
            assert abs(parameter.data.mean()) < 0.003, name
            assert 0.009 < parameter.data.std() < 0.011, name


def test_weights_go_there_and_back():
    one = models.alexnet(5, towers=2, **SMALL)
    state = one.state_dict()
    split = models.split_towers(state)
    assert split["tower0.fc6.weight"].shape == split["tower1.fc6.weight"].shape == (12, 12)
    assert "tower1.fc8.weight" not in split
    back = models.merge_towers(split)
    assert back.keys() == state.keys()
    assert all((back[name] == array).all() for name, array in state.items())


def test_summary_of_the_towers():
    text = models.alexnet(5, towers=2, devices=("cpu", "cpu"), **SMALL).summary((3, 67, 67))
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "Conv2d" in rows["tower1.conv3"]
    assert "(N, 8, 3, 3)" in rows["tower1.conv3"]
    assert "((N, 12, 3, 3), (N, 12, 3, 3))" in text
    assert [sum(name.startswith(part) for name in rows) for part in ("tower0", "tower1", "exchange")] == [11, 10, 1]
    one = models.alexnet(5, towers=2, **SMALL)
    size = sum(p.size for p in one.parameters())
    assert rows["total"].split()[-2:] == [f"{size:,}", f"{4 * size:,}"]


def test_exchange_joins_in_the_towers_order():
    a, b = np.zeros((1, 2), np.float32), np.ones((1, 3), np.float32)
    assert [y.tolist() for y in Exchange()([a, b])] == [[[0, 0, 1, 1, 1]]] * 2


def test_errors():
    with pytest.raises(ArgumentError, match="size must be at least 67, got size=66"):
        models.alexnet(size=66)
    with pytest.raises(ArgumentError, match="channels of five convolutions"):
        models.alexnet(channels=(8, 8))
    with pytest.raises(ArgumentError, match=r"must divide into the towers, got counts=\(8, 12, 16, 16, 12, 25\)"):
        models.alexnet(towers=2, **SMALL | {"hidden": 25})
    with pytest.raises(ArgumentError, match="must be 1 or 2 towers, got towers=3"):
        models.alexnet(towers=3)
    with pytest.raises(ArgumentError, match="devices need towers=2, got towers=1"):
        models.alexnet(devices=("cpu", "cpu"))
    with pytest.raises(ArgumentError, match="there must be two devices"):
        models.alexnet(towers=2, devices=("cpu",))
    if backend.why_no_gpu():
        with pytest.raises(DeviceError, match="device 'gpu:1'"):
            models.alexnet(towers=2, devices=("cpu", "gpu:1"))


def test_each_tower_has_its_optimizer(rng):
    """Three steps with momentum and weight decay leave the towers the halves of the network in groups."""
    one = spread_out(models.alexnet(5, towers=2, dropout=0, generator=random_generator(1), **SMALL))
    two = models.alexnet(5, towers=2, devices=("cpu", "cpu"), dropout=0, **SMALL)
    two.load_state_dict(models.split_towers(one.state_dict()))
    start = one.state_dict()
    for net, parts in ((one, [one]), (two, two.towers)):
        optimizers = [optim.SGD(part.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4) for part in parts]
        images = random_generator(2)
        for _ in range(3):
            net.zero_grad()
            x = images.standard_normal((4, 3, 67, 67)).astype(np.float32)
            F.cross_entropy(net(tensor(x)), np.arange(4)).backward()
            for optimizer in optimizers:
                optimizer.step()
    for name, array in models.merge_towers(two.state_dict()).items():
        assert relative(array, one.state_dict()[name]) < 1e-5, name
        assert (array != start[name]).any(), name
