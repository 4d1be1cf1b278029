"""The networks: their parameter counts as published, and PyTorch's results with the same weights."""

from __future__ import annotations

import numpy as np
import pytest

from gpunn import models, nn, tensor
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError

PUBLISHED = {
    "alexnet": (lambda: models.alexnet(), 62_378_344),
    "alexnet, two towers": (lambda: models.alexnet(towers=2), 60_965_224),
    "vgg11": (models.vgg11, 132_863_336),
    "vgg16": (models.vgg16, 138_357_544),
    "resnet18": (models.resnet18, 11_689_512),
    "resnet50": (models.resnet50, 25_557_032),
    "squeezenet 1.0": (lambda: models.squeezenet(version="1.0"), 1_248_424),
    "squeezenet 1.1": (models.squeezenet, 1_235_496),
    "lenet5": (models.lenet5, 61_706),
    "lenet5, 32×32": (lambda: models.lenet5(32), 61_706),
    "lenet": (models.lenet, 53_002),
    "mlp": (lambda: models.mlp((784, 300, 100, 10)), 266_610),
}


class Undrawn:
    """A generator of zeros: what is only counted need not be drawn."""

    def uniform(self, low, high, size):
        return 0.0

    def normal(self, mean, std, size):
        return 0.0


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts(name, monkeypatch):
    make, count = PUBLISHED[name]
    monkeypatch.setattr(nn.init, "generator_or_default", lambda generator: Undrawn())
    assert sum(parameter.size for parameter in make().parameters()) == count


SMALL = {
    "mlp": (lambda **g: models.mlp((7, 6, 5), nn.Tanh, **g), (7,)),
    "lenet5": (lambda **g: models.lenet5(28, 5, **g), (1, 28, 28)),
    "lenet5, 32×32": (lambda **g: models.lenet5(32, 5, **g), (1, 32, 32)),
    "vgg11": (lambda **g: models.vgg11(5, size=64, width=2, hidden=6, dropout=0, in_channels=1, **g), (1, 64, 64)),
    "vgg16": (lambda **g: models.vgg16(5, size=32, width=2, hidden=6, dropout=0, **g), (3, 32, 32)),
    "resnet18": (lambda **g: models.resnet18(5, width=4, **g), (3, 65, 70)),
    "resnet50": (lambda **g: models.resnet50(5, width=2, in_channels=1, **g), (1, 64, 64)),
    "squeezenet 1.0": (lambda **g: models.squeezenet(5, "1.0", dropout=0, **g), (3, 47, 50)),
    "squeezenet 1.1": (lambda **g: models.squeezenet(5, dropout=0, in_channels=1, **g), (1, 46, 33)),
}
ALEXNET = {"size": 67, "channels": (8, 12, 16, 16, 12), "hidden": 24, "dropout": 0}
for towers in (1, 2):
    for order in (False, True):
        chosen = ALEXNET | {"towers": towers, "norm_before_pool": order}
        SMALL[f"alexnet {towers} {order}"] = (lambda chosen=chosen, **g: models.alexnet(5, **chosen, **g), (3, 67, 67))


@pytest.mark.parametrize("name", SMALL)
def test_one_generator_draws_one_network(name):
    make, _ = SMALL[name]
    one, same, other = (make(generator=random_generator(seed)).state_dict() for seed in (1, 1, 2))
    assert all((one[key] == same[key]).all() for key in one)
    assert any((one[key] != other[key]).any() for key in one)


@pytest.mark.parametrize("name", SMALL)
def test_float32_stays_and_every_parameter_learns(name, rng):
    make, shape = SMALL[name]
    net = make(generator=random_generator(0))
    y = net(tensor(rng.standard_normal((4, *shape)).astype(np.float32)))
    assert (y.shape, y.dtype) == ((4, 5), np.float32)
    y.backward(rng.standard_normal(y.shape).astype(np.float32))
    for key, parameter in net.named_parameters():
        assert parameter.grad.dtype == np.float32
        assert np.abs(parameter.grad).max() > 0, key
    assert net.eval()(np.zeros((1, *shape), np.float32)).shape == (1, 5)


def test_initial_values_keep_the_size_of_the_signal(rng):
    """He's filters: with no normalisation, 13 convolutions neither blow up nor silence an image."""
    net = models.vgg16(5, size=32, width=16, hidden=16, generator=random_generator(0))
    maps = net.features(rng.standard_normal((4, 3, 32, 32)).astype(np.float32)).data
    assert 0.05 < maps.std() < 20
    filters = net.features[2].weight.data
    np.testing.assert_allclose(filters.std(), (2 / (16 * 9)) ** 0.5, rtol=0.05)


def test_errors():
    with pytest.raises(ArgumentError, match=r"VGG: depth must be one of \[11, 16\], got depth=12"):
        models.VGG(12)
    with pytest.raises(ArgumentError, match="VGG: size must be at least 32: .* got size=31"):
        models.vgg11(size=31)
    with pytest.raises(ArgumentError, match="SqueezeNet: version must be one of .* got version='2'"):
        models.squeezenet(version="2")
    with pytest.raises(ArgumentError, match="lenet5: size must be 28 or 32, got size=29"):
        models.lenet5(29)
    with pytest.raises(ArgumentError, match=r"mlp: there must be a size .* got sizes=\(3,\)"):
        models.mlp((3,))


def test_mlp_puts_activation_and_dropout_between():
    kinds = [type(layer).__name__ for layer in models.mlp((4, 3, 3, 2), nn.Sigmoid, dropout=0.2)]
    assert kinds == ["Linear", "Sigmoid", "Dropout", "Linear", "Sigmoid", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in models.mlp((4, 2), dropout=0.2)] == ["Linear"]


def test_summary_of_residual_blocks_and_fire_modules():
    text = models.resnet18(5, width=4).summary((3, 65, 65))
    names = [line.split()[0] for line in text.splitlines()]
    assert len(names) == 1 + (20 + 20 + 1) + 2 + 1  # header, convolutions and norms, fc, pools, total
    assert names[names.index("layer2.0.downsample.0") - 1] == "layer2.0.bn2"
    assert "layer4.1.bn2" in names
    assert "features.3.expand3x3" in models.squeezenet(5).summary((3, 33, 33))
    assert "(fc): Linear(weight=(5, 32), bias=(5,))" in repr(models.resnet18(5, width=4))


# ---- PyTorch --------------------------------------------------------------------------------------------------------


def in_torch(torch, name, net):
    """The same network of PyTorch's layers; its parameters have the same names."""
    t = torch.nn

    def layers(sequence):
        return t.Sequential(*map(layer, sequence))

    def layer(own):
        kind = type(own).__name__
        if kind == "Conv2d":
            k, c, *window = own.weight.shape
            channels = c * own.groups, k
            more = {"groups": own.groups, "bias": own.bias is not None}
            return t.Conv2d(*channels, tuple(window), own.stride, own.padding, **more)
        if kind == "Linear":
            return t.Linear(*own.weight.shape[::-1])
        if kind == "MaxPool2d":
            return t.MaxPool2d(own.kernel_size, own.stride, own.padding, ceil_mode=own.ceil_mode)
        if kind == "BatchNorm2d":
            return t.BatchNorm2d(own.weight.shape[0])
        if kind == "Fire":
            return Fire(own, "squeeze", "expand1x1", "expand3x3")
        if kind == "Sequential":
            return layers(own)
        if kind in ("BasicBlock", "Bottleneck"):
            return Block(own)
        simple = {"ReLU": t.ReLU, "Tanh": t.Tanh, "Flatten": t.Flatten}
        if kind in simple:
            return simple[kind]()
        return {
            "AvgPool2d": lambda: t.AvgPool2d(own.kernel_size),
            "Dropout": lambda: t.Dropout(own.p),
            "GlobalAvgPool2d": lambda: t.AdaptiveAvgPool2d(1),
        }[kind]()

    class Parts(t.Module):
        def __init__(self, own, *names):
            super().__init__()
            for name in names:
                setattr(self, name, layer(getattr(own, name)))

    class Fire(Parts):
        def forward(self, x):
            x = self.squeeze(x).relu()
            return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)

    class Block(t.Module):
        def __init__(self, own):
            super().__init__()
            self.count = 3 if type(own).__name__ == "Bottleneck" else 2
            for number in range(1, self.count + 1):
                setattr(self, f"conv{number}", layer(getattr(own, f"conv{number}")))
                setattr(self, f"bn{number}", layer(getattr(own, f"bn{number}")))
            self.downsample = None if own.downsample is None else layer(own.downsample)

        def forward(self, x):
            y = x
            for number in range(1, self.count + 1):
                y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
                y = y.relu() if number < self.count else y
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    class ResNet(Parts):
        def forward(self, x):
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))

    class TwoParts(t.Module):
        def __init__(self):
            super().__init__()
            self.features, self.classifier = layers(net.features), layers(net.classifier)

        def forward(self, x):
            maps = self.features(x)
            return self.classifier(maps.flatten(1) if "vgg" in name else maps).flatten(1)

    class AlexNet(Parts):
        def response(self, x):
            def norm(maps):
                towers = [
                    t.functional.local_response_norm(own, 5, 5e-4, 0.75, 2.0)
                    for own in maps.chunk(net.response1.towers, 1)
                ]
                return torch.cat(towers, 1)

            def pool(maps):
                return t.functional.max_pool2d(maps, 3, 2)

            return pool(norm(x.relu())) if net.response1.norm_before_pool else norm(pool(x.relu()))

        def forward(self, x):
            x = self.response(self.conv2(self.response(self.conv1(x))))
            x = self.conv5(self.conv4(self.conv3(x).relu()).relu()).relu()
            x = t.functional.max_pool2d(x, 3, 2).flatten(1)
            return self.fc8(self.fc7(self.fc6(x).relu()).relu())

    if "resnet" in name:
        return ResNet(net, "conv1", "bn1", "maxpool", "layer1", "layer2", "layer3", "layer4", "fc")
    if "alexnet" in name:
        return AlexNet(net, "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    return TwoParts() if hasattr(net, "features") else layers(net)


@pytest.mark.peer
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SMALL)
def test_pytorch(name, seed):
    """In float64, in training and in evaluation: outputs, gradients of x and of all parameters, running statistics."""
    torch = pytest.importorskip("torch")
    rng = random_generator(seed)
    make, shape = SMALL[name]
    net = make(generator=rng)
    for held in (*net.parameters(), *(b for _, b in net.named_buffers() if b.dtype == np.float32)):
        # Random biases and scales too; not so small that the logits are.
        held.data = held.data.astype(np.float64) + 0.05 * rng.standard_normal(held.shape)
    for key, buffer in net.named_buffers():
        if key.endswith("running_var"):
            buffer.data = np.abs(buffer.data)
    peer = in_torch(torch, name, net).double()
    peer.load_state_dict({key: torch.tensor(array) for key, array in net.state_dict().items()}, strict=True)
    for training in (True, False):
        net.train(training), peer.train(training), net.zero_grad(), peer.zero_grad()
        x = rng.standard_normal((int(rng.integers(2, 5)), *shape))
        leaf, peer_leaf = tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, expected = net(leaf), peer(peer_leaf)
        close(y.data, expected, (name, "output"))
        gy = rng.standard_normal(y.shape)
        y.backward(gy)
        expected.backward(torch.tensor(gy))
        close(leaf.grad, peer_leaf.grad, (name, "x"))
        gradients = {key: parameter.grad for key, parameter in peer.named_parameters()}
        for key, parameter in net.named_parameters():
            close(parameter.grad, gradients[key], (name, key))
        for key, buffer in peer.named_buffers():
            close(net.state_dict()[key], buffer, (name, key))


def close(actual, expected, what):
    """Float64, some twenty layers deep: rounding grows, but not to 1e-8 of the largest element."""
    expected = expected.detach().numpy()
    scale = max(float(np.abs(expected).max()), 1e-3)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-8 * scale, err_msg=str(what))
