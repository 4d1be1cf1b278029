"""What gpunn was asked to do, a test for each row of the texts that describe it, named after the row.

Each row that a CUDA kernel serves is also tested through the emulated kernels; on a machine with a GPU, on CuPy.
"""

from __future__ import annotations

import contextlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from runners import CUPY

import gpunn
from gpunn import backend, cuda, nn, optim, tensor
from gpunn import functional as F
from gpunn.models import CharacterModel, SequenceClassifier, SequenceDecoder, alexnet, split_towers
from gpunn.testing import check_gradients


@pytest.fixture(params=["numpy", "emulated", CUPY])
def place(request):
    """Where a row is computed: ``place.array`` puts numbers there, ``place.numpy`` brings them back."""
    device = "gpu" if request.param == "cupy" else "cpu"
    with cuda.emulate() if request.param == "emulated" else contextlib.nullcontext():
        yield SimpleNamespace(
            device=device,
            array=lambda x, dtype=np.float64: backend.asarray(np.asarray(x, dtype), device),
            numpy=lambda x: backend.to_cpu(x.data if isinstance(x, gpunn.Tensor) else x),
        )


def close(actual, expected, places: int) -> bool:
    """``actual`` is ``expected`` as it is printed, to ``places`` decimals."""
    return bool(np.all(np.abs(np.asarray(actual) - np.asarray(expected)) <= 0.5 * 10.0**-places))


# ---- feed-forward networks ------------------------------------------------------------------------------------------


def test_neuron_layer_batch(rng):
    """z = W x + b, a = g(z). The texts put the examples in columns, gpunn in rows: Z = X W^T + b."""
    w1, b1, w2, b2 = (rng.standard_normal(shape) for shape in ((4, 3), (4,), (2, 4), (2,)))
    x = [1.0, 2.0, 3.0]

    def neuron(weights, bias, inputs):
        return 1 / (1 + math.exp(-(sum(w * v for w, v in zip(weights, inputs, strict=True)) + bias)))

    hidden = [neuron(w1[i], b1[i], x) for i in range(4)]
    outputs = [neuron(w2[i], b2[i], hidden) for i in range(2)]

    model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2), nn.Sigmoid())
    for parameter, value in zip(model.parameters(), (w1, b1, w2, b2), strict=True):
        parameter.data = value
    np.testing.assert_allclose(model(np.array([x])).data, [outputs], rtol=1e-13)
    batch = rng.standard_normal((5, 3))
    alone = [model(batch[i : i + 1]).data for i in range(5)]
    np.testing.assert_allclose(model(batch).data, np.concatenate(alone), rtol=1e-13)


def test_activations():
    assert close(F.sigmoid(np.array([2.0])), 0.8808, 4)
    assert F.relu(np.array([-1.0])).item() == 0
    assert close(F.softmax(np.array([1.0, 2.0, 3.0])), (0.0900, 0.2447, 0.6652), 4)
    x = np.array([-2.0, -0.3, 0.4, 1.5])
    np.testing.assert_allclose(F.tanh(x), [math.tanh(v) for v in x])
    np.testing.assert_allclose(F.leaky_relu(x, 0.1), [-0.2, -0.03, 0.4, 1.5])
    derivatives = {
        F.sigmoid: lambda v: math.exp(-v) / (1 + math.exp(-v)) ** 2,
        F.tanh: lambda v: 1 - math.tanh(v) ** 2,
        F.relu: lambda v: float(v > 0),
        F.leaky_relu: lambda v: 1.0 if v > 0 else 0.01,
    }
    for function, derivative in derivatives.items():
        t = tensor(x, requires_grad=True)
        function(t).sum().backward()
        np.testing.assert_allclose(t.grad, [derivative(v) for v in x], rtol=1e-12)
    check_gradients(F.softmax, [x])


def test_activations_picture(tmp_path):
    from gpunn.recipes.drawings import draw_activations

    draw_activations(tmp_path / "activations.png")
    with Image.open(tmp_path / "activations.png") as image:
        assert image.format == "PNG"
        assert len(image.getcolors(1 << 24)) > 50


def test_losses(place):
    assert F.mse_loss(place.array([2.0]), place.array([3.0])).item() == 1
    assert close(F.binary_cross_entropy(place.array([0.9]), place.array([1.0])).item(), 0.1054, 4)
    logits = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    categorical = F.cross_entropy(place.array(logits), place.array([2, 0], np.int64)).item()
    assert categorical == pytest.approx((-math.log(math.exp(3) / sum(map(math.exp, (1, 2, 3)))) + math.log(3)) / 2)


def test_backpropagation():
    """y = (0.8, 0.2), out = (0.6, 0.3): E = sum (y - out)^2 = 0.05, and each delta as it is written there."""
    y, out = np.array([[0.8, 0.2]]), np.array([[0.6, 0.3]])
    x, hidden = np.array([[1.0, 2.0, 3.0]]), np.array([[0.2, 0.4, 0.6, 0.8]])
    z2 = tensor(np.log(out / (1 - out)), requires_grad=True)  # sigmoid(z2) is out
    error = ((F.sigmoid(z2) - y) ** 2).sum()
    assert error.item() == pytest.approx(0.05)
    (error * 0.5).backward()  # the texts' delta is that of half the error
    delta_out = z2.grad
    assert close(delta_out, [[-0.048, 0.021]], 3)
    np.testing.assert_allclose(delta_out, (out - y) * out * (1 - out))

    # delta_hid = W2^T delta_out times the sigmoid's derivative; W1 -= lr delta_hid x^T, with W1 4x3 and W2 2x4.
    w1, w2, lr = tensor(np.full((4, 3), 0.1), requires_grad=True), np.arange(8.0).reshape(2, 4), 0.5
    z1 = F.linear(x, w1, np.log(hidden / (1 - hidden))[0] - 0.6)  # x w1^T is 0.6, so sigmoid(z1) is hidden
    np.testing.assert_allclose(F.sigmoid(z1).data, hidden)
    F.linear(F.sigmoid(z1), w2).backward(delta_out)
    delta_hid = (w2.T @ delta_out.T) * (hidden * (1 - hidden)).T  # (4, 1): a column, as in the texts
    np.testing.assert_allclose(w1.grad, delta_hid @ x)
    stepped = w1.data - lr * (delta_hid @ x)
    optim.SGD([w1], lr=lr).step()
    np.testing.assert_allclose(w1.data, stepped)


def test_initialisation():
    generator = backend.random_generator(0)
    fan_in, fan_out = 200, 300

    def weight():
        return nn.Linear(fan_in, fan_out).weight

    draws = {
        "random": (nn.init.normal_(weight(), std=0.01, generator=generator), 0.01),
        "Xavier": (nn.init.xavier_normal_(weight(), generator=generator), math.sqrt(2 / (fan_in + fan_out))),
        "He": (nn.init.kaiming_normal_(weight(), nonlinearity="relu", generator=generator), math.sqrt(2 / fan_in)),
    }
    for name, (drawn, deviation) in draws.items():
        values = drawn.data.astype(np.float64)
        # 60,000 draws: the deviation is known to 1/sqrt(2 n) = 0.3 %, the mean to deviation / sqrt(n); four of each.
        assert values.std() == pytest.approx(deviation, rel=4 * 0.003), name
        assert abs(values.mean()) < 4 * deviation / math.sqrt(values.size), name


@pytest.mark.parametrize("rate", ["too small", "right", "too large"])
def test_optimizers_gradient_descent(rate):
    """On E = x^2 a step multiplies x by 1 - 2 lr: slow for a small lr, and never settled for one above 1."""
    lr = {"too small": 0.001, "right": 0.3, "too large": 1.0}[rate]
    x = tensor(np.array([1.0]), requires_grad=True)
    sgd = optim.SGD([x], lr=lr)
    for _ in range(50):
        sgd.zero_grad()
        (x * x).sum().backward()
        sgd.step()
    assert x.item() == pytest.approx((1 - 2 * lr) ** 50)
    assert {"too small": 0.9 < x.item() < 1, "right": abs(x.item()) < 1e-9, "too large": abs(x.item()) == 1}[rate]


@pytest.mark.parametrize("kind", [optim.Adam, optim.RMSprop], ids=["Adam", "RMSprop"])
def test_optimizers(kind, place):
    """The first step of each, written out, and that it finds a minimum."""
    start, gradient = np.array([1.0, -2.0]), np.array([2.0, -4.0])
    x = tensor(place.array(start), requires_grad=True)
    optimizer = kind([x], lr=0.01)
    first = {
        optim.Adam: start - 0.01 * gradient / (np.abs(gradient) + 1e-8),
        optim.RMSprop: start - 0.01 * gradient / (np.sqrt(0.01 * gradient**2) + 1e-8),
    }[kind]
    for step in range(1000):
        optimizer.zero_grad()
        (x * x).sum().backward()
        optimizer.step()
        if step == 0:
            np.testing.assert_allclose(place.numpy(x), first)
    assert np.abs(place.numpy(x)).max() < 0.02


def test_regularisation(place):
    """Loss + l1 sum |w| adds l1 sign(w) to the gradient, loss + l2 sum w^2 adds 2 l2 w; dropout turns units off."""
    start = np.array([[1.0, -2.0], [0.5, 0.0]])
    for settings, gradient in (({"l1": 0.1}, 0.1 * np.sign(start)), ({"l2": 0.1}, 0.2 * start)):
        weight = tensor(place.array(start), requires_grad=True)
        optimizer = optim.SGD([weight], lr=1.0, **settings)
        (weight * 0).sum().backward()
        optimizer.step()
        np.testing.assert_allclose(place.numpy(weight), start - gradient)
    backend.manual_seed(0)
    x = place.array(np.ones(100_000), np.float32)
    off = place.numpy(F.dropout(x, 0.3)) == 0
    # 100,000 units: the share that is off is known to sqrt(0.3 * 0.7 / n) = 0.0015; four of those.
    assert off.mean() == pytest.approx(0.3, abs=0.006)
    assert place.numpy(F.dropout(x, 0.3))[~off].size
    np.testing.assert_array_equal(place.numpy(F.dropout(x, 0.3, training=False)), 1)


def test_batch_normalisation(place, rng):
    x, weight, bias = rng.standard_normal((6, 3)) * 4 + 7, np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, -1.0])
    layer = nn.BatchNorm1d(3)
    layer.weight.data, layer.bias.data = place.array(weight), place.array(bias)
    for held in (layer.running_mean, layer.running_var):
        held.data = place.array(place.numpy(held))
    expected = weight * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) + bias
    np.testing.assert_allclose(place.numpy(layer(place.array(x))), expected, rtol=1e-9)


def test_the_two_circles_problem(tmp_path):
    """Five dense layers, ReLU inside, a sigmoid at the end, binary cross entropy; curves and a film of the surface."""
    from gpunn.recipes.circles import Options, network, train_circles

    layers = [type(child).__name__ for _, child in network(16).named_children()]
    assert layers == ["Linear", "ReLU"] * 4 + ["Linear", "Sigmoid"]
    folder, summary = train_circles(Options(epochs=15, lr=0.02), tmp_path / "run")
    assert summary["test_accuracy"] >= 0.995
    with Image.open(folder / "surface.gif") as film:
        assert film.n_frames > 10
    assert (folder / "curves.png").stat().st_size > 10_000


# ---- convolutional networks -----------------------------------------------------------------------------------------


def test_convolution(place, rng):
    x, w = rng.standard_normal((1, 1, 6, 6)), rng.standard_normal((1, 1, 3, 3))
    y = F.conv2d(place.array(x), place.array(w), place.array([0.5]))
    assert y.shape == (1, 1, 4, 4)
    dots = [[(w[0, 0] * x[0, 0, i : i + 3, j : j + 3]).sum() + 0.5 for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(place.numpy(y)[0, 0], dots, rtol=1e-12)
    np.testing.assert_allclose(place.numpy(F.relu(y))[0, 0], np.maximum(dots, 0), rtol=1e-12)
    for size, window, padding, stride in ((7, 3, 1, 2), (227, 11, 0, 4), (5, 2, 1, 3)):
        image, kernel = np.zeros((1, 1, size, size)), np.zeros((1, 1, window, window))
        side = (size - window + 2 * padding) // stride + 1
        y = F.conv2d(place.array(image), place.array(kernel), stride=stride, padding=padding)
        assert y.shape == (1, 1, side, side)


def test_convolution_local_connections_and_shared_weights():
    """An output depends on its receptive field alone, and a moved image gives a moved output."""
    w = np.ones((1, 1, 3, 3))
    image = np.zeros((1, 1, 8, 8))
    image[0, 0, 3, 4] = 1
    reached = np.argwhere(F.conv2d(image, w)[0, 0])
    assert reached.min(0).tolist() == [1, 2]
    assert reached.max(0).tolist() == [3, 4]
    moved = np.roll(image, 1, axis=3)
    np.testing.assert_array_equal(F.conv2d(moved, w)[..., 1:], F.conv2d(image, w)[..., :-1])


def test_pooling(place):
    x = place.array(np.arange(25.0).reshape(1, 1, 5, 5))
    assert place.numpy(F.max_pool2d(x, 2)).tolist() == [[[[6, 8], [16, 18]]]]
    assert place.numpy(F.avg_pool2d(x, 2)).tolist() == [[[[3, 5], [13, 15]]]]
    assert place.numpy(F.max_pool2d(x, 3, stride=2)).tolist() == [[[[12, 14], [22, 24]]]]  # windows overlap


def test_fully_connected_head(rng):
    maps = rng.standard_normal((2, 3, 4, 4))
    w, b = rng.standard_normal((5, 48)), rng.standard_normal(5)
    layer = nn.Linear(48, 5)
    layer.weight.data, layer.bias.data = w, b
    y = nn.Sequential(nn.Flatten(), layer, nn.ReLU())(maps)
    np.testing.assert_allclose(y.data, np.maximum(maps.reshape(2, 48) @ w.T + b, 0))


def test_LRN(place, rng):
    a, k, n, alpha, beta = rng.standard_normal((2, 8, 3, 3)) * 20, 2.0, 5, 1e-4, 0.75
    expected = np.empty_like(a)
    for i in range(8):
        near = a[:, max(0, i - n // 2) : min(7, i + n // 2) + 1]
        expected[:, i] = a[:, i] / (k + alpha * (near**2).sum(1)) ** beta
    b = F.local_response_norm(place.array(a), n, alpha=alpha, beta=beta, k=k, alpha_mode="sum")
    np.testing.assert_allclose(place.numpy(b), expected, rtol=1e-12)


def test_AlexNet(rng):
    """(227 - 11 + 0)/4 + 1 = 55; (55 - 3)/2 + 1 = 27; the shapes of every block, and the number of parameters."""
    model = alexnet(towers=2, generator=backend.random_generator(0))
    assert sum(p.size for p in model.parameters()) == 60_965_224
    assert (227 - 11 + 0) // 4 + 1 == 55
    assert (55 - 3) // 2 + 1 == 27
    summary = model.summary((3, 227, 227))
    shapes = [
        *("(N, 96, 55, 55)", "(N, 96, 27, 27)", "(N, 256, 27, 27)", "(N, 256, 13, 13)", "(N, 384, 13, 13)"),
        *("(N, 256, 6, 6)", "(N, 4096)", "(N, 1000)"),
    ]
    places = [summary.index(shape) for shape in shapes]
    assert places == sorted(places)


@pytest.mark.parametrize("norm_before_pool", [False, True], ids=["conv-ReLU-pool-LRN", "conv-ReLU-LRN-pool"])
def test_the_two_towers(norm_before_pool, place, rng):
    """Two devices and one device with groups=2 give the same outputs and gradients."""
    small = {"classes": 5, "channels": (8, 16, 16, 16, 12), "hidden": 24, "size": 67, "dropout": 0.0}
    settings = {**small, "norm_before_pool": norm_before_pool, "towers": 2}
    whole = alexnet(**settings, generator=backend.random_generator(0)).to(place.device)
    split = alexnet(**settings, devices=(place.device, place.device))
    split.load_state_dict(split_towers(whole.state_dict()))
    x, gy = place.array(rng.standard_normal((3, 3, 67, 67))), None
    results = []
    for model in (whole, split):
        for parameter in model.parameters():  # in float32 a window may have another maximum, where two nearly tie
            parameter.data = parameter.data.astype(np.float64)
        y = model(tensor(x))
        gy = place.array(rng.standard_normal(y.shape)) if gy is None else gy
        y.backward(gy)
        results.append((place.numpy(y), {name: place.numpy(p.grad) for name, p in model.named_parameters()}))
    (y_whole, of_whole), (y_split, of_split) = results
    np.testing.assert_allclose(y_split, y_whole, rtol=0, atol=1e-5 * np.abs(y_whole).max())
    of_whole = split_towers(of_whole)
    assert of_whole.keys() == of_split.keys()
    for name, gradient in of_whole.items():
        np.testing.assert_allclose(of_split[name], gradient, rtol=0, atol=1e-5 * np.abs(gradient).max(), err_msg=name)


# ---- recurrent networks ---------------------------------------------------------------------------------------------


def recurrent(kind, place, **settings):
    """A layer of 3 inputs and 4 units in float64, with its weights as NumPy arrays."""
    layer = kind(3, 4, **settings)
    for parameter in layer.parameters():
        parameter.data = place.array(place.numpy(parameter))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return layer, [place.numpy(getattr(layer, name)) for name in names]


def logistic(x):
    return 1 / (1 + np.exp(-x))


def test_simple_RNN(place, rng):
    """h_t = f(U x_t + W h_{t-1} + b), y_t = g(V h_t + c), unfolded through time."""
    layer, (u, w, b_ih, b_hh) = recurrent(nn.RNN, place)
    v, c = rng.standard_normal((2, 4)), rng.standard_normal(2)
    x = rng.standard_normal((6, 1, 3))  # (T, N, features)
    h, expected = np.zeros(4), []
    for t in range(6):
        h = np.tanh(u @ x[t, 0] + w @ h + b_ih + b_hh)
        expected.append(logistic(v @ h + c))
    output, last = layer(place.array(x))
    y = F.sigmoid(F.linear(output, place.array(v), place.array(c)))
    np.testing.assert_allclose(place.numpy(y)[:, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(place.numpy(last)[0, 0], h, rtol=1e-12)


@pytest.mark.parametrize("shape", ["many to many", "many to one", "one to many"])
def test_shapes_of_use(shape, rng):
    """What goes in and comes out, and that each output depends on what it should depend on, and no more."""
    generator = backend.random_generator(0)
    if shape == "many to many":
        model = CharacterModel("abc", hidden_size=8, generator=generator)
        read = np.array([[0, 1, 2, 1, 0]])
        logits, _ = model(read)
        assert logits.shape == (1, 5, 3)
        other, _ = model(np.array([[0, 1, 2, 1, 2]]))
        np.testing.assert_array_equal(logits.data[:, :4], other.data[:, :4])  # the future is not seen
        assert np.abs(logits.data[:, 4] - other.data[:, 4]).max() > 1e-3
    elif shape == "many to one":
        model = SequenceClassifier(3, 8, 4, generator=generator)
        x = rng.standard_normal((2, 6, 3)).astype(np.float32)
        leaf = tensor(x, requires_grad=True)
        logits = model(leaf)
        assert logits.shape == (2, 4)
        logits.sum().backward()
        assert (np.abs(leaf.grad).sum(2) > 0).all()  # every step is read
    else:
        model = SequenceDecoder(5, 8, 4, generator=generator)
        features = rng.standard_normal((3, 5)).astype(np.float32)
        symbols = model.decode(features, 6)
        assert symbols.shape == (3, 6)
        assert model(features, symbols).shape == (3, 6, 4)


def test_LSTM(place, rng):
    layer, (w_ih, w_hh, b_ih, b_hh) = recurrent(nn.LSTM, place)
    x = rng.standard_normal((5, 1, 3))
    h, c = np.zeros(4), np.zeros(4)
    for t in range(5):
        i, f, g, o = np.split(w_ih @ x[t, 0] + b_ih + w_hh @ h + b_hh, 4)
        c = logistic(f) * c + logistic(i) * np.tanh(g)  # what is forgotten, what is taken in
        h = logistic(o) * np.tanh(c)
    _, (last_h, last_c) = layer(place.array(x))
    np.testing.assert_allclose(place.numpy(last_h)[0, 0], h, rtol=1e-12)
    np.testing.assert_allclose(place.numpy(last_c)[0, 0], c, rtol=1e-12)


@pytest.mark.parametrize("reset_after", [True, False], ids=["reset after the product", "before, as in the texts"])
def test_GRU(reset_after, place, rng):
    layer, (w_ih, w_hh, b_ih, b_hh) = recurrent(nn.GRU, place, reset_after=reset_after)
    x = rng.standard_normal((5, 1, 3))
    h = np.zeros(4)
    for t in range(5):
        xr, xz, xn = np.split(w_ih @ x[t, 0] + b_ih, 3)
        (wr, wz, wn), (br, bz, bn) = np.split(w_hh, 3), np.split(b_hh, 3)
        r, z = logistic(xr + wr @ h + br), logistic(xz + wz @ h + bz)
        candidate = np.tanh(xn + (r * (wn @ h + bn) if reset_after else wn @ (r * h) + bn))
        h = (1 - z) * candidate + z * h
    _, last = layer(place.array(x))
    np.testing.assert_allclose(place.numpy(last)[0, 0], h, rtol=1e-12)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_vanishing_and_exploding_gradients(kind):
    """The gradient of a loss at the end with respect to the state after each of 64 steps, and clipping."""
    from gpunn.recipes.gradients import Reader, norms_through_time

    (images, labels), _ = gpunn.data.digits(0)
    pixels, labels = images[:64].reshape(64, 64, 1), labels[:64]
    norms = norms_through_time(Reader(kind, 32, backend.random_generator(0)), pixels, labels)
    assert len(norms) == 64
    if kind == "RNN":
        assert norms[0] < 1e-9 * norms[-1], "it vanishes"
    else:
        assert norms[0] > 1e-3 * norms[-1], "open gates pass it on"
    large = Reader("large RNN", 32, backend.random_generator(0))
    exploded = norms_through_time(large, pixels, labels)
    assert exploded[0] > 20 * exploded[-1], "it explodes"
    before = optim.clip_grad_norm(large.parameters(), 1.0)
    after = math.sqrt(sum(float((p.grad.astype(np.float64) ** 2).sum()) for p in large.parameters()))
    assert before > 1
    assert after == pytest.approx(1.0, rel=1e-5)


# ---- image processing -----------------------------------------------------------------------------------------------


def test_skeletonization(place):
    """Peeling leaves lines one pixel wide, inside the shape, as connected as it was."""
    from skimage.measure import label

    image = np.zeros((40, 40), bool)
    image[4:36, 6:14] = image[16:24, 6:34] = True
    skeleton = place.numpy(F.skeletonize(backend.asarray(image, place.device)))
    assert 0 < skeleton.sum() < image.sum() / 4
    assert not (skeleton & ~image).any()
    assert label(image, connectivity=2).max() == label(skeleton, connectivity=2).max() == 1
    wide = sum(skeleton[i : 40 - 1 + i, j : 40 - 1 + j].astype(int) for i in (0, 1) for j in (0, 1))
    assert wide.max() < 4  # nowhere a square of two by two pixels
    np.testing.assert_array_equal(F.skeletonize(skeleton), skeleton)  # nothing is left to peel
