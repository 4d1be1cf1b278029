"""Weights of other libraries: their formulas, written out here, and gpunn's layers, loaded, give the same."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import weights_case

from gpunn import functional as F
from gpunn import models, nn
from gpunn.checkpoint import save_weights
from gpunn.errors import ArgumentError, FileError
from gpunn.interop import load_state
from gpunn.interop.weights_files import read_arrays
from gpunn.tensor import no_grad


def drawn(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def run(model, *xs):
    with no_grad(), model.evaluating():
        y = model(*xs)
    y = y[0] if isinstance(y, tuple) else y
    return getattr(y, "data", y)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


# ---- one layer of each library -------------------------------------------------------------------------------------
# A case: gpunn's layer, an input (channels first), their arrays, and their formula on the input with channels last.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def last(x):
    return np.moveaxis(x, 1, -1)


def correlated(x, kernel, groups=1):
    """Channels last, HWIO: y[n, i, j, o] = sum x[n, i + a, j + b, c] kernel[a, b, c, o], no padding."""
    height, width, inputs, outputs = kernel.shape
    n, h, w, _ = x.shape
    y = np.zeros((n, h - height + 1, w - width + 1, outputs), np.float64)
    each = outputs // groups
    for a in range(height):
        for b in range(width):
            part = x[:, a : a + y.shape[1], b : b + y.shape[2]]
            for g in range(groups):
                own = part[..., g * inputs : (g + 1) * inputs]
                y[..., g * each : (g + 1) * each] += own @ kernel[a, b, :, g * each : (g + 1) * each]
    return y


def spread(x, kernel):
    """Each element times the kernel (H, W, in, out), added up where they overlap; stride 2, no padding."""
    n, h, w, _ = x.shape
    y = np.zeros((n, 2 * (h - 1) + kernel.shape[0], 2 * (w - 1) + kernel.shape[1], kernel.shape[3]), np.float64)
    for i in range(h):
        for j in range(w):
            y[:, 2 * i : 2 * i + kernel.shape[0], 2 * j : 2 * j + kernel.shape[1]] += np.einsum(
                "nc,abco->nabo", x[:, i, j], kernel
            )
    return y


def steps(x, cell, size):
    """A recurrent layer over x (T, N, in), from zeros; ``cell(x, state) -> (output, state)``."""
    state = (np.zeros((x.shape[1], size)),) * 2
    outputs = []
    for each in x:
        h, state = cell(each, state)
        outputs.append(h)
    return np.stack(outputs)


def lstm_step(i, f, g, o, c):
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, (h, c)


IMAGE, WIDE, ROWS = drawn(2, 4, 5, 6), drawn(2, 3, 4, 5), drawn(4, 2, 3)
H = 5


def keras_lstm(w):
    def cell(x, state):
        i, f, c, o = np.split(x @ w["kernel"] + state[0] @ w["recurrent_kernel"] + w["bias"], 4, 1)
        return lstm_step(i, f, c, o, state[1])

    return lambda x: steps(x, cell, H)


def keras_gru(w, after):
    def cell(x, state):
        h = state[0]
        b, own = w["bias"] if after else (w["bias"], np.zeros(3 * H))
        xz, xr, xh = np.split(x @ w["kernel"] + b, 3, 1)
        uz, ur, uh = np.split(w["recurrent_kernel"], 3, 1)
        bz, br, bh = np.split(own, 3)
        z, r = sigmoid(xz + h @ uz + bz), sigmoid(xr + h @ ur + br)
        hh = np.tanh(xh + (r * (h @ uh + bh) if after else (r * h) @ uh))
        h = z * h + (1 - z) * hh
        return h, (h, h)

    return lambda x: steps(x, cell, H)


def simple(wx, wh, b):
    def cell(x, state):
        h = np.tanh(x @ wx + state[0] @ wh + b)
        return h, (h, h)

    return lambda x: steps(x, cell, H)


def flax_lstm(w):
    def cell(x, state):
        i, f, g, o = (x @ w[f"i{k}/kernel"] + state[0] @ w[f"h{k}/kernel"] + w[f"h{k}/bias"] for k in "ifgo")
        return lstm_step(i, f, g, o, state[1])

    return lambda x: steps(x, cell, H)


def reset_after(of_x, of_h):
    """``of_x(x)`` and ``of_h(h)`` give r, z and n's parts."""

    def cell(x, state):
        h = state[0]
        (xr, xz, xn), (hr, hz, hn) = of_x(x), of_h(h)
        r, z = sigmoid(xr + hr), sigmoid(xz + hz)
        h = (1 - z) * np.tanh(xn + r * hn) + z * h
        return h, (h, h)

    return lambda x: steps(x, cell, H)


def flax_gru(w):
    return reset_after(
        lambda x: [x @ w[f"i{k}/kernel"] + w[f"i{k}/bias"] for k in "rzn"],
        lambda h: [h @ w["hr/kernel"], h @ w["hz/kernel"], h @ w["hn/kernel"] + w["hn/bias"]],
    )


def mlx_lstm(w):
    def cell(x, state):
        i, f, g, o = np.split(x @ w["Wx"].T + state[0] @ w["Wh"].T + w["bias"], 4, 1)
        return lstm_step(i, f, g, o, state[1])

    return lambda x: steps(x, cell, H)


def mlx_gru(w):
    extra = np.concatenate([np.zeros(2 * H), w["bhn"]])
    return reset_after(
        lambda x: np.split(x @ w["Wx"].T + w["b"], 3, 1), lambda h: np.split(h @ w["Wh"].T + extra, 3, 1)
    )


def chainer_lstm(w):
    def cell(x, state):
        y = x @ w["upward/W"].T + w["upward/b"] + state[0] @ w["lateral/W"].T
        a, i, f, o = np.moveaxis(y.reshape(len(y), H, 4), 2, 0)
        return lstm_step(i, f, a, o, state[1])

    return lambda x: steps(x, cell, H)


def chainer_gru(w):
    def cell(x, state):
        h = state[0]

        def linear(gate, v):
            return v @ w[f"{gate}/W"].T + w[f"{gate}/b"]

        r, z = sigmoid(linear("W_r", x) + linear("U_r", h)), sigmoid(linear("W_z", x) + linear("U_z", h))
        h = (1 - z) * h + z * np.tanh(linear("W", x) + linear("U", r * h))
        return h, (h, h)

    return lambda x: steps(x, cell, H)


def n_step_lstm(w):
    def cell(x, state):
        i, f, o, a = (x @ w[f"0/w{k}"].T + w[f"0/b{k}"] + state[0] @ w[f"0/w{k + 4}"].T + w[f"0/b{k + 4}"]
                      for k in range(4))  # fmt: skip
        return lstm_step(i, f, a, o, state[1])

    return lambda x: steps(x, cell, H)


def n_step_gru(w):
    return reset_after(
        lambda x: [x @ w[f"0/w{k}"].T + w[f"0/b{k}"] for k in range(3)],
        lambda h: [h @ w[f"0/w{k}"].T + w[f"0/b{k}"] for k in range(3, 6)],
    )


def several(**shapes):
    return {name.replace("__", "/"): drawn(*shape, seed=k) for k, (name, shape) in enumerate(shapes.items())}


def normed(mean, var, scale, bias, eps=1e-5):
    return lambda x: (x - mean) / np.sqrt(var + eps) * scale + bias


def positive(arrays, name):
    return arrays | {name: np.abs(arrays[name])}


def gates(names, inputs, biased):
    """Flax's dense layers, one for each gate."""
    arrays = {f"{gate}/kernel": drawn(inputs if gate[0] == "i" else H, H, seed=k) for k, gate in enumerate(names)}
    return arrays | {f"{gate}/bias": drawn(H, seed=20 + k) for k, gate in enumerate(biased)}


NORM = ("mean", "var", "scale", "bias")
CASES = {
    ("keras", "dense"): lambda: (
        nn.Linear(3, 4), ROWS, w := several(kernel=(3, 4), bias=(4,)), lambda x: x @ w["kernel"] + w["bias"]),
    ("keras", "conv2d"): lambda: (
        nn.Conv2d(4, 6, (2, 3)), IMAGE, w := several(kernel=(2, 3, 4, 6), bias=(6,)),
        lambda x: correlated(x, w["kernel"]) + w["bias"]),
    ("keras", "conv2d of groups"): lambda: (
        nn.Conv2d(4, 6, 2, groups=2), IMAGE, w := several(kernel=(2, 2, 2, 6), bias=(6,)),
        lambda x: correlated(x, w["kernel"], 2) + w["bias"]),
    ("keras", "depthwise_conv2d"): lambda: (
        nn.Conv2d(4, 8, 2, groups=4, bias=False), IMAGE, w := several(depthwise_kernel=(2, 2, 4, 2)),
        lambda x: np.concatenate([correlated(x[..., c : c + 1], w["depthwise_kernel"][:, :, c : c + 1])
                                  for c in range(4)], -1)),
    ("keras", "conv2d_transpose"): lambda: (
        nn.ConvTranspose2d(3, 4, (2, 3), 2), WIDE, w := several(kernel=(2, 3, 4, 3), bias=(4,)),
        lambda x: spread(x, w["kernel"].swapaxes(2, 3)) + w["bias"]),
    ("keras", "batch_normalization"): lambda: (
        nn.BatchNorm2d(4), IMAGE,
        w := positive(several(gamma=(4,), beta=(4,), moving_mean=(4,), moving_variance=(4,)), "moving_variance"),
        normed(w["moving_mean"], w["moving_variance"], w["gamma"], w["beta"])),
    ("keras", "embedding"): lambda: (
        nn.Embedding(7, 3), np.array([[1, 6], [0, 1]]), w := several(embeddings=(7, 3)), lambda i: w["embeddings"][i]),
    ("keras", "lstm"): lambda: (
        nn.LSTM(3, H), ROWS, w := several(kernel=(3, 4 * H), recurrent_kernel=(H, 4 * H), bias=(4 * H,)),
        keras_lstm(w)),
    ("keras", "gru"): lambda: (
        nn.GRU(3, H), ROWS, w := several(kernel=(3, 3 * H), recurrent_kernel=(H, 3 * H), bias=(2, 3 * H)),
        keras_gru(w, True)),
    ("keras", "gru, reset before"): lambda: (
        nn.GRU(3, H, reset_after=False), ROWS,
        w := several(kernel=(3, 3 * H), recurrent_kernel=(H, 3 * H), bias=(3 * H,)), keras_gru(w, False)),
    ("keras", "simple_rnn"): lambda: (
        nn.RNN(3, H), ROWS, w := several(kernel=(3, H), recurrent_kernel=(H, H), bias=(H,)),
        simple(w["kernel"], w["recurrent_kernel"], w["bias"])),
    ("flax", "Dense_0"): lambda: (
        nn.Linear(3, 4), ROWS, w := several(kernel=(3, 4), bias=(4,)), lambda x: x @ w["kernel"] + w["bias"]),
    ("flax", "Conv_0"): lambda: (
        nn.Conv2d(4, 6, (2, 3)), IMAGE, w := several(kernel=(2, 3, 4, 6), bias=(6,)),
        lambda x: correlated(x, w["kernel"]) + w["bias"]),
    ("flax", "ConvTranspose_0"): lambda: (
        # A correlation of x with zeros between and around, as jax.lax.conv_transpose says.
        nn.ConvTranspose2d(3, 4, (2, 3), 2), WIDE, w := several(kernel=(2, 3, 3, 4), bias=(4,)),
        lambda x: correlated(dilated(x, (2, 3)), w["kernel"]) + w["bias"]),
    ("flax", "BatchNorm_0"): lambda: (
        nn.BatchNorm2d(4), IMAGE, w := positive(several(mean=(4,), var=(4,), scale=(4,), bias=(4,)), "var"),
        normed(*(w[name] for name in NORM))),
    ("flax", "Embed_0"): lambda: (
        nn.Embedding(7, 3), np.array([[1, 6], [0, 1]]), w := several(embedding=(7, 3)), lambda i: w["embedding"][i]),
    ("flax", "OptimizedLSTMCell_0"): lambda: (
        nn.LSTM(3, H), ROWS, w := gates(["ii", "if", "ig", "io", "hi", "hf", "hg", "ho"], 3, ["hi", "hf", "hg", "ho"]),
        flax_lstm(w)),
    ("flax", "GRUCell_0"): lambda: (
        nn.GRU(3, H), ROWS, w := gates(["ir", "iz", "in", "hr", "hz", "hn"], 3, ["ir", "iz", "in", "hn"]), flax_gru(w)),
    ("flax", "SimpleCell_0"): lambda: (
        nn.RNN(3, H), ROWS, w := gates(["i", "h"], 3, ["i"]), simple(w["i/kernel"], w["h/kernel"], w["i/bias"])),
    ("mlx", "linear"): lambda: (
        nn.Linear(3, 4), ROWS, w := several(weight=(4, 3), bias=(4,)), lambda x: x @ w["weight"].T + w["bias"]),
    ("mlx", "conv"): lambda: (
        nn.Conv2d(4, 6, (2, 3)), IMAGE, w := several(weight=(6, 2, 3, 4), bias=(6,)),
        lambda x: correlated(x, w["weight"].transpose(1, 2, 3, 0)) + w["bias"]),
    ("mlx", "conv_transpose"): lambda: (
        nn.ConvTranspose2d(3, 4, (2, 3), 2), WIDE, w := several(weight=(4, 2, 3, 3), bias=(4,)),
        lambda x: spread(x, w["weight"].transpose(1, 2, 3, 0)) + w["bias"]),
    ("mlx", "lstm"): lambda: (
        nn.LSTM(3, H), ROWS, w := several(Wx=(4 * H, 3), Wh=(4 * H, H), bias=(4 * H,)), mlx_lstm(w)),
    ("mlx", "lstm of old versions"): lambda: (
        nn.LSTM(3, H), ROWS, w := several(Wx=(3, 4 * H), Wh=(H, 4 * H), bias=(4 * H,)),
        mlx_lstm(w | {"Wx": w["Wx"].T, "Wh": w["Wh"].T})),
    ("mlx", "gru"): lambda: (
        nn.GRU(3, H), ROWS, w := several(Wx=(3 * H, 3), Wh=(3 * H, H), b=(3 * H,), bhn=(H,)), mlx_gru(w)),
    ("mlx", "rnn"): lambda: (
        nn.RNN(3, H), ROWS, w := several(Wxh=(H, 3), Whh=(H, H), bias=(H,)),
        simple(w["Wxh"].T, w["Whh"].T, w["bias"])),
    ("chainer", "linear"): lambda: (
        nn.Linear(3, 4), ROWS, w := several(W=(4, 3), b=(4,)), lambda x: x @ w["W"].T + w["b"]),
    ("chainer", "conv"): lambda: (
        nn.Conv2d(4, 6, (2, 3)), IMAGE, w := several(W=(6, 4, 2, 3), b=(6,)),
        lambda x: correlated(x, w["W"].transpose(2, 3, 1, 0)) + w["b"]),
    ("chainer", "deconv"): lambda: (
        nn.ConvTranspose2d(3, 4, (2, 3), 2), WIDE, w := several(W=(3, 4, 2, 3), b=(4,)),
        lambda x: spread(x, w["W"].transpose(2, 3, 0, 1)) + w["b"]),
    ("chainer", "bn"): lambda: (
        nn.BatchNorm2d(4), IMAGE,
        (w := positive(several(avg_mean=(4,), avg_var=(4,), gamma=(4,), beta=(4,)), "avg_var")) | {"N": np.array(7)},
        normed(w["avg_mean"], w["avg_var"], w["gamma"], w["beta"])),
    ("chainer", "lstm"): lambda: (
        nn.LSTM(3, H), ROWS, w := several(upward__W=(4 * H, 3), upward__b=(4 * H,), lateral__W=(4 * H, H)),
        chainer_lstm(w)),
    ("chainer", "gru"): lambda: (
        nn.GRU(3, H, reset_after=False), ROWS,
        w := several(W_r__W=(H, 3), W_r__b=(H,), U_r__W=(H, H), U_r__b=(H,), W_z__W=(H, 3), W_z__b=(H,), U_z__W=(H, H),
                     U_z__b=(H,), W__W=(H, 3), W__b=(H,), U__W=(H, H), U__b=(H,)), chainer_gru(w)),
    ("chainer", "nsteplstm"): lambda: (
        nn.LSTM(3, H), ROWS, w := {f"0/{k}": v for k, v in several(
            **{f"w{k}": (H, 3 if k < 4 else H) for k in range(8)}, **{f"b{k}": (H,) for k in range(8)}).items()},
        n_step_lstm(w)),
    ("chainer", "nstepgru"): lambda: (
        nn.GRU(3, H), ROWS, w := {f"0/{k}": v for k, v in several(
            **{f"w{k}": (H, 3 if k < 3 else H) for k in range(6)}, **{f"b{k}": (H,) for k in range(6)}).items()},
        n_step_gru(w)),
}  # fmt: skip


def dilated(x, kernel):
    """Zeros between the elements (stride 2), and around them as many as a correlation without padding needs."""
    n, h, w, c = x.shape
    wide = np.zeros((n, 2 * h - 1 + 2 * (kernel[0] - 1), 2 * w - 1 + 2 * (kernel[1] - 1), c))
    wide[:, kernel[0] - 1 : kernel[0] - 1 + 2 * h : 2, kernel[1] - 1 : kernel[1] - 1 + 2 * w : 2] = x
    return wide


@pytest.mark.parametrize(("library", "layer"), CASES, ids=lambda part: part)
def test_layer(library, layer):
    own, x, arrays, formula = CASES[library, layer]()
    dot = "." if library == "mlx" else "/"
    load_state(own, {f"{layer}{dot}{name.replace('/', dot)}": array for name, array in arrays.items()}, library)
    images = x.ndim == 4
    expected = formula(last(x) if images else x)
    close(run(own, x), np.moveaxis(expected, -1, 1) if images else expected)


# ---- whole models --------------------------------------------------------------------------------------------------


def keras_net():
    """A small network and Keras's arrays for it, by the names of its layers."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(), nn.Linear(6 * 2 * 3, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 5),
    )  # fmt: skip
    kernels = {"conv2d": (3, 3, 1, 4), "conv2d_1": (3, 3, 4, 6), "dense": (36, 5), "dense_1": (5, 5), "dense_2": (5, 5)}
    arrays = {f"{name}/kernel": 0.3 * drawn(*shape, seed=1) for name, shape in kernels.items()}
    arrays |= {f"{name}/bias": drawn(shape[-1], seed=k) for k, (name, shape) in enumerate(kernels.items())}
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    arrays |= {f"batch_normalization/{leaf}": np.abs(drawn(4, seed=k)) + 0.1 for k, leaf in enumerate(norm)}
    arrays["dense_2/kernel"] = arrays["dense_2/kernel"] * 0.5
    return net, arrays


def keras_run(w, x):
    """The formula of ``keras_net``, channels last."""
    h = correlated(last(x), w["conv2d/kernel"]) + w["conv2d/bias"]
    h = normed(*(w[f"batch_normalization/{k}"] for k in ("moving_mean", "moving_variance", "gamma", "beta")))(h)
    h = correlated(np.maximum(h, 0), w["conv2d_1/kernel"]) + w["conv2d_1/bias"]
    n, height, width, c = h.shape
    h = h[:, : height // 2 * 2, : width // 2 * 2].reshape(n, height // 2, 2, width // 2, 2, c).max((2, 4))
    h = np.tanh(h.reshape(n, -1) @ w["dense/kernel"] + w["dense/bias"])
    return (h @ w["dense_1/kernel"] + w["dense_1/bias"]) @ w["dense_2/kernel"] + w["dense_2/bias"]


X = drawn(2, 1, 8, 10)


class Functional(nn.Module):
    """The network without a Sequential that says what is flattened."""

    def __init__(self, layers):
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = x.reshape(len(x), -1) if isinstance(layer, nn.Flatten) else layer(x)
        return F.relu(x) - F.relu(-x)


def test_keras_in_order_and_flattened():
    net, arrays = keras_net()
    load_state(net, arrays, "keras")
    close(run(net, X), keras_run(arrays, X))
    other = Functional(keras_net()[0])
    with pytest.raises(
        ArgumentError, match="whether the layer of 'layers.7.weight' reads flattened maps.* pass example="
    ):
        load_state(other, arrays, "keras")
    load_state(other, arrays, "keras", example=X)
    close(run(other, X), keras_run(arrays, X))


class Heads(nn.Module):
    """Two dense layers on the same maps, one on their means, and what ``mixes`` makes of them."""

    def __init__(self, mixes=None):
        self.mean, self.conv = nn.Linear(6, 2), nn.Conv2d(3, 6, 2)
        self.norm, self.a, self.b = nn.BatchNorm1d(6 * 12), nn.Linear(6 * 12, 3), nn.Linear(6 * 12, 4)
        self.behind, self.mixes = nn.Linear(3, 6), mixes

    def forward(self, x):
        maps = F.relu(self.conv(x))
        flat = self.norm(F.tanh(maps.reshape(len(x), -1)))
        flat = flat if self.mixes is None else self.mixes(flat)
        return F.concatenate([self.behind(self.a(flat)), self.b(flat), self.mean(maps.mean((2, 3)))], 1)


def test_what_reads_flattened_maps():
    """Every layer that does, also a normalisation, and no other; what is not known is refused."""
    sizes = {"conv": (2, 2, 3, 6), "a": (72, 3), "b": (72, 4), "behind": (3, 6), "mean": (6, 2)}
    w = {f"{name}/kernel": 0.2 * drawn(*shape) for name, shape in sizes.items()}
    w |= {f"{name}/bias": drawn(shape[-1]) for name, shape in sizes.items()}
    w |= {f"norm/{leaf}": np.abs(drawn(72, seed=k)) for k, leaf in enumerate(
        ("gamma", "beta", "moving_mean", "moving_variance"))}  # fmt: skip
    maps = np.maximum(correlated(last(WIDE), w["conv/kernel"]) + w["conv/bias"], 0)
    norm = normed(*(w[f"norm/{k}"] for k in ("moving_mean", "moving_variance", "gamma", "beta")))
    flat = norm(np.tanh(maps.reshape(2, -1)))

    def dense(name, x):
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    heads = [dense("behind", dense("a", flat)), dense("b", flat), dense("mean", maps.mean((1, 2)))]
    net = Heads()
    load_state(net, w, "keras", example=WIDE)
    close(run(net, WIDE), np.concatenate(heads, 1))
    with pytest.raises(ArgumentError, match="whether the layer of 'mean.weight' reads"):
        load_state(net, w, "keras")
    for mixes, words in (
        (lambda x: x[:, ::-1], "mixed by Tensor.__getitem__ in Heads"),
        (lambda x: F.concatenate([x, 0 * x], 1)[:, :72], "mixed by concatenate"),
    ):
        with pytest.raises(ArgumentError, match=words):
            load_state(Heads(mixes), w, "keras", example=WIDE)


def test_flax_and_mlx():
    """The same network: two collections in Flax, places in a Sequential in MLX."""
    net, arrays = keras_net()
    flax = {"params": {}, "batch_stats": {"BatchNorm_0": {}}}
    words = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}
    mlx = {}
    for name, array in arrays.items():
        layer, leaf = name.split("/")
        kind, number = layer.partition("_")[::2] if layer[0] != "b" else ("batch", "")
        title = {"conv2d": "Conv", "dense": "Dense", "batch": "BatchNorm"}[kind] + f"_{number or 0}"
        stats = flax["batch_stats" if leaf.startswith("moving") else "params"].setdefault(title, {})
        stats[words.get(leaf, leaf)] = array
        place = {"conv2d": 0, "conv2d_1": 3, "dense": 7, "dense_1": 9, "dense_2": 10}.get(layer, 1)
        words_mlx = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        turned = np.moveaxis(array, -1, 0) if leaf == "kernel" else array
        mlx[f"layers.{place}.{words_mlx.get(leaf, leaf.replace('kernel', 'weight'))}"] = turned
    for tree, library in ((flax, "flax"), (mlx, "mlx")):
        net = keras_net()[0]
        load_state(net, tree, library)
        close(run(net, X), keras_run(arrays, X))
    other = Functional(keras_net()[0])
    load_state(other, mlx, "mlx", example=X)
    close(run(other, X), keras_run(arrays, X))


def test_an_order_that_is_not_known():
    """Flax sorts names: encoder and decoder have equal shapes, and which comes first nobody knows."""
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    arrays = {"params": {name: {"kernel": drawn(3, 3, seed=k), "bias": drawn(3, seed=k)}
                         for k, name in enumerate(("decoder", "encoder"))}}  # fmt: skip
    with pytest.raises(ArgumentError, match=r"in which order 'decoder', 'encoder' .* pass names="):
        load_state(net, arrays, "flax")
    load_state(net, arrays, "flax", names={"encoder": "0", "decoder": "1"})
    close(net[1].weight.data, arrays["params"]["decoder"]["kernel"].T)
    numbered = {f"params/Dense_{k}/kernel": drawn(3, 3, seed=k) for k in (10, 2)}
    load_state(net, numbered, "flax", strict=False)
    close(net[0].weight.data, numbered["params/Dense_2/kernel"].T)


def test_layers_in_both_directions():
    net = nn.LSTM(3, H, bidirectional=True)
    both = [several(kernel=(3, 4 * H), recurrent_kernel=(H, 4 * H), bias=(4 * H,)) for _ in range(2)]
    both[1] = {name: -array for name, array in both[1].items()}
    arrays = {
        f"bidirectional/{way}_lstm/lstm_cell/{name}": array
        for way, part in zip(("forward", "backward"), both, strict=True)
        for name, array in part.items()
    }
    load_state(net, arrays, "keras")
    expected = [keras_lstm(both[0])(ROWS), keras_lstm(both[1])(ROWS[::-1])[::-1]]
    close(run(net, ROWS), np.concatenate(expected, -1))


def test_all_that_differs_is_told():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    given = {"0.weight": drawn(3, 4), "0.bias": drawn(3), "1.weight": drawn(1, 3), "extra": drawn(2)}
    before = net.state_dict()
    message = (
        r"load_state: made for another network: '0.weight' is float32\[3, 4\], where float32\[3, 2\] is needed; "
        r"it lacks '1.bias', float32\[1\]; its 'extra', float32\[2\], is unknown here"
    )
    with pytest.raises(ArgumentError, match=message):
        load_state(net, given)
    assert all((before[name] == array).all() for name, array in net.state_dict().items())
    assert load_state(net, given, strict=False) == (["1.bias"], ["extra"], ["0.weight"])
    close(net[0].bias.data, given["0.bias"])


def test_a_first_part_of_names_is_dropped_or_another():
    net = nn.Sequential(nn.Linear(2, 3))
    load_state(net, {"module.0.weight": drawn(3, 2), "module.0.bias": drawn(3)}, names={"module": ""})
    load_state(net, {"body.dense.weight": drawn(3, 2, seed=1), "body.dense.bias": drawn(3)}, names={"body.dense": "0"})
    close(net[0].weight.data, drawn(3, 2, seed=1))


def test_floats_become_the_models():
    net = nn.Linear(2, 3)
    load_state(net, {"weight": drawn(3, 2).astype(np.float64), "bias": drawn(3).astype(np.float16)})
    assert net.weight.dtype == net.bias.dtype == np.float32
    with pytest.raises(ArgumentError, match="'bias' is int64"):
        load_state(net, {"weight": drawn(3, 2), "bias": np.zeros(3, np.int64)})


class Tied(nn.Module):
    def __init__(self):
        self.embedding, self.out = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.out.weight = self.embedding.weight


def test_weights_of_several_names():
    """PyTorch writes all of them, safetensors any one."""
    w = drawn(5, 3)
    for names in (("embedding.weight", "out.weight"), ("embedding.weight",), ("out.weight",)):
        model = Tied()
        assert load_state(model, dict.fromkeys(names, w)) == ([], [], [])
        close(model.out.weight.data, w)
        assert model.out.weight is model.embedding.weight
    differing = {"embedding.weight": w, "out.weight": w + 1}
    words = "'out.weight' and 'embedding.weight' are one here, and differ"
    with pytest.raises(ArgumentError, match=words):
        load_state(model, differing)
    assert load_state(model, differing, strict=False).mismatched == [words]
    layer = nn.Linear(3, 5, bias=False)
    load_state(layer, {"module.weight": w}, names={"module": ""})
    close(layer.weight.data, w)


def test_wrong_settings(tmp_path):
    with pytest.raises(ArgumentError, match="from_ must be torch, keras, flax, mlx, chainer, got from_='caffe'"):
        load_state(nn.Linear(2, 3), {}, "caffe")
    with pytest.raises(ArgumentError, match="file must be a path or a mapping"):
        load_state(nn.Linear(2, 3), [1])
    with pytest.raises(FileError, match="none.pt: cannot be read: No such file"):
        load_state(nn.Linear(2, 3), tmp_path / "none.pt")
    with pytest.raises(ArgumentError, match="names says '7' for 'd'"):
        load_state(nn.Linear(2, 3), {"d/kernel": drawn(2, 3)}, "keras", names={"d": "7"})
    gru = {"gru/kernel": drawn(3, 3 * H), "gru/recurrent_kernel": drawn(H, 3 * H), "gru/bias": drawn(3 * H)}
    with pytest.raises(ArgumentError, match="the form reset_after=False, the model's is not"):
        load_state(nn.GRU(3, H), gru, "keras")


# ---- files ---------------------------------------------------------------------------------------------------------


def test_numbered_variables_of_keras_3():
    """What a ``.weights.h5`` file holds; the layers are counted by class, the variables in the order of creation."""
    net, arrays = keras_net()
    order = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3}
    numbered = {
        f"layers/{name.split('/')[0]}/vars/{order[name.split('/')[1]]}": array for name, array in arrays.items()
    }
    numbered = dict(sorted(numbered.items()))
    numbered |= {"layers/dropout/seed_generator/vars/0": np.zeros(2), "optimizer/vars/0": np.zeros(())}
    load_state(net, numbered, "keras")
    close(run(net, X), keras_run(arrays, X))


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    net, arrays = keras_net()
    with h5py.File(tmp_path / "old.h5", "w") as store:
        weights = store.create_group("model_weights")
        layers = list(dict.fromkeys(name.split("/")[0] for name in arrays))
        weights.attrs["layer_names"] = [name.encode() for name in layers]
        for name, array in arrays.items():
            layer, leaf = name.split("/")
            weights[f"{layer}/{layer}/{leaf}:0"] = array
    load_state(net, tmp_path / "old.h5", "keras")
    close(run(net, X), keras_run(arrays, X))
    new = io.BytesIO()
    with h5py.File(new, "w") as store:
        store.create_dataset("layers/dense/vars/0", data=drawn(2, 3), compression="gzip")
        store["layers/dense/vars/1"] = drawn(3)
    with zipfile.ZipFile(tmp_path / "new.keras", "w") as made:
        made.writestr("model.weights.h5", new.getvalue())
        made.writestr("config.json", "{}")
    linear = nn.Linear(2, 3)
    load_state(linear, tmp_path / "new.keras", "keras")
    close(linear.weight.data, drawn(2, 3).T)

    def bomb(store):
        packed = store.create_dataset("d", (4,), "f4", chunks=(4,), compression="gzip")
        packed.id.write_direct_chunk((0,), zlib.compress(bytes(10**6)))

    def diamonds(store):
        group = store
        for _ in range(50):
            group = group.create_group("a")
        while group.name != "/":
            group, inner = group.parent, group
            group["b"] = inner

    for name, make in {
        "a chunk of 'd' does not unpack to 16 bytes": bomb,
        "'d' is packed by another method": lambda store: store.create_dataset("d", data=np.zeros(4), fletcher32=True),
        "is there by another name": diamonds,
        "a link": lambda store: store.__setitem__("dense", h5py.ExternalLink("old.h5", "/model_weights")),
        "lies in another file": lambda store: store.create_dataset("d", (2,), "f4", external=[("old.h5", 0, 8)]),
        "cannot hold": lambda store: store.create_dataset("d", (2**30,), "f4", chunks=(1024,)),
        "no array of numbers": lambda store: store.create_dataset("d", (2,), h5py.string_dtype()),
    }.items():
        with h5py.File(tmp_path / "bad.h5", "w") as store:
            make(store)
        with pytest.raises(FileError, match=f"bad.h5: .*{name}"):
            read_arrays(tmp_path / "bad.h5")


def test_msgpack(tmp_path):
    msgpack = pytest.importorskip("msgpack")

    def packed(array):
        return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))

    kernel, bias = drawn(2, 3), drawn(3)
    pieces = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 3},
              "chunks": {"0": packed(kernel.reshape(-1)[:4]), "1": packed(kernel.reshape(-1)[4:])}}  # fmt: skip
    tree = {"params": {"Dense_0": {"kernel": pieces, "bias": packed(bias)}}}
    (tmp_path / "w.msgpack").write_bytes(msgpack.packb(tree))
    linear = nn.Linear(2, 3)
    load_state(linear, tmp_path / "w.msgpack", "flax")
    close(linear.weight.data, kernel.T)
    (tmp_path / "w.msgpack").write_bytes(msgpack.packb({"params": msgpack.ExtType(5, b"")}))
    with pytest.raises(FileError, match=r"w.msgpack: .*an extension of type 5"):
        load_state(linear, tmp_path / "w.msgpack", "flax")


def test_npz_and_safetensors(tmp_path):
    linear = nn.Linear(3, 2)
    np.savez(
        tmp_path / "w.npz",
        **{"updater/model:main/predictor/l1/W": drawn(2, 3), "updater/model:main/predictor/l1/b": drawn(2)},
    )
    load_state(linear, tmp_path / "w.npz", "chainer", key="updater/model:main")
    close(linear.weight.data, drawn(2, 3))
    with pytest.raises(FileError, match="w.npz: .*nothing is called 'model'; it holds updater"):
        load_state(linear, tmp_path / "w.npz", "chainer", key="model")
    save_weights(linear, tmp_path / "w.safetensors")
    other = nn.Linear(3, 2)
    load_state(other, tmp_path / "w.safetensors")
    close(other.weight.data, linear.weight.data)
    (tmp_path / "w.safetensors").rename(tmp_path / "w.pt")
    with pytest.raises(FileError, match="w.pt: not what its name says, but safetensors"):
        load_state(other, tmp_path / "w.pt")


def read_pt(tmp_path, content, key=None):
    (tmp_path / "w.pt").write_bytes(content)
    return read_arrays(tmp_path / "w.pt", key)


def test_tensors_of_pt_files(tmp_path):
    """Every dtype, strides, offsets, shared storages, another byte order, an entry beside others, bfloat16."""
    arrays = {name: (10 * drawn(2, 3)).astype(name) for name in weights_case.STORAGES if name != "b1"}
    arrays["b1"] = drawn(2, 3) > 0
    for name, got in read_pt(tmp_path, weights_case.pt(arrays)).items():
        assert got.dtype == arrays[name].dtype
        np.testing.assert_array_equal(got, arrays[name])
    values = np.arange(12, dtype=np.float32)
    views = {
        "turned": weights_case.tensor("0", "FloatStorage", 12, (4, 3), (1, 4)),
        "part": weights_case.tensor("0", "FloatStorage", 12, (2, 2), (5, 2), 1),
        "repeated": weights_case.tensor("0", "FloatStorage", 12, (3, 2), (0, 1), 10),
        "number": weights_case.tensor("0", "FloatStorage", 12, (), (), 7),
        "empty": weights_case.tensor("0", "FloatStorage", 12, (0, 5), (5, 1), 12),
    }
    nested = weights_case.pickled({"epoch": weights_case.whole(3), "state_dict": weights_case.pickled(views)[2:-1]})
    got = read_pt(tmp_path, weights_case.archive(nested, {"0": values.tobytes()}), "state_dict")
    np.testing.assert_array_equal(got["turned"], values.reshape(3, 4).T)
    np.testing.assert_array_equal(got["part"], [[1, 3], [6, 8]])
    np.testing.assert_array_equal(got["repeated"], [[10, 11]] * 3)
    assert got["number"] == 7
    assert got["empty"].shape == (0, 5)
    swapped = weights_case.archive(weights_case.pickled(views), {"0": values.astype(">f4").tobytes()}, byteorder=b"big")
    np.testing.assert_array_equal(read_pt(tmp_path, swapped)["part"], [[1, 3], [6, 8]])
    half = {"x": weights_case.tensor("0", "BFloat16Storage", 2, (2,), (1,))}
    halves = np.array([1.5, -2], np.float32).view(np.uint32) >> 16
    content = weights_case.archive(weights_case.pickled(half), {"0": halves.astype("<u2").tobytes()})
    np.testing.assert_array_equal(read_pt(tmp_path, content)["x"].astype(np.float32), [1.5, -2])


class Danger:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was run')",)


def bad_pt():
    """Files that torch.save does not write for weights, with what the error says."""
    good = weights_case.tensor("0", "FloatStorage", 2, (2,), (1,))

    def held(**entries):
        return weights_case.archive(weights_case.pickled(entries), {"0": bytes(8)})

    def one(*arguments):
        return held(x=weights_case.tensor("0", "FloatStorage", *arguments))

    protocols = {
        f"code, protocol {p}": (weights_case.archive(pickle.dumps({"x": Danger()}, p), {}), r"holds code, '\w+.exec'")
        for p in range(6)
    }
    return protocols | {
        "an object": (held(x=b"ccollections\nOrderedDict\n)\x81"), "holds more than tensors: NEWOBJ"),
        "a state of a list": (held(x=b"](X\x01\0\0\0aK\x01db"), r"an object with a state \(BUILD\)"),
        "an extension": (held(x=b"\x82\x01"), "holds more than tensors: EXT1"),
        "a call of a text": (held(x=weights_case.text("f") + b")R"), "a call of 'str'"),
        "a tensor called": (held(x=good + b")R"), "a call of 'Stored'"),
        "arguments of an OrderedDict": (held(x=b"ccollections\nOrderedDict\n](K\x01ae\x85R"), "with other arguments"),
        "a dtype": (one(2, (2,), (1,)).replace(b"FloatStorage", b"QInt8Storage"), "CRC|holds code"),
        "beyond its storage": (one(2, (3,), (1,)), r"ends at element 2; its storage '0' declares 8 bytes and has 8"),
        "an offset beyond": (one(2, (2,), (1,), 1), "ends at element 2"),
        "below 0": (one(2, (2,), (-1,)), "describes a tensor in another way"),
        "2^60 of them": (one(2, (2**60,), (1,)), "ends at element"),
        "2^60 of one": (one(2, (2**60, 2**60), (0, 0)), "repeats a storage of 8 bytes too often"),
        "a storage that lies": (one(2**40, (2,), (1,)), "declares 4398046511104 bytes and has 8"),
        "no storage": (weights_case.archive(weights_case.pickled({"x": good}), {}), "it lacks the storage '0'"),
        "a list": (weights_case.archive(b"\x80\x02](K\x01e.", {}), "no dict of tensors, but a list; key="),
        "a tensor": (
            weights_case.archive(b"\x80\x02" + good + b".", {"0": bytes(8)}),
            "no dict of tensors, but a tensor",
        ),
        "entries": (held(epoch=weights_case.whole(3)), r"it holds 'epoch' \(int\); key="),
        "no end": (weights_case.archive(b"\x80\x02}", {}), "the pickle"),
        "an old file": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "before 1.6"),
        "a pickle": (pickle.dumps({"x": Danger()}), "nothing is unpickled"),
        "TorchScript": (zipped({"a/data.pkl": b"}.", "a/constants.pkl": b"]."}, zipfile.ZIP_DEFLATED), "TorchScript"),
        "another zip file": (zipped({"a.txt": b"hello"}), "without a data.pkl"),
        "packed": (zipped({"a/data.pkl": b"}." + bytes(1000)}, zipfile.ZIP_DEFLATED), "packed members"),
        "a long pickle": (zipped({"a/data.pkl": b"]" * (3 << 20)}), "longer than"),
        "a deep one": (zipped({"a/data.pkl": b"\x80\x02)" + b"\x85" * (1 << 20) + b"."}), "more than 600000 opcodes"),
        "nothing": (b"", "no whole file"),
    }


def test_files_larger_than_what_they_hold(tmp_path):
    """They are refused before they are read, and packed ones before they are unpacked."""
    zeros = io.BytesIO()
    np.savez_compressed(zeros, x=np.zeros(1 << 28, "i1"))
    (tmp_path / "w.npz").write_bytes(zeros.getvalue())
    packed = zipped({"model.weights.h5": bytes(1 << 28)}, zipfile.ZIP_DEFLATED)
    (tmp_path / "w.keras").write_bytes(packed)
    for name in ("w.npz", "w.keras"):
        with pytest.raises(FileError, match=f"{name}: declares 268435.* bytes"):
            read_arrays(tmp_path / name)
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    for name, start, words in (
        ("w.safetensors", b"", "cannot be read|its arrays end"),
        ("w.safetensors", struct.pack("<Q", 2**40) + b"{", "its header declares 1099511627776 bytes"),
        (
            "w.safetensors",
            struct.pack("<Q", len(header)) + header,
            "its arrays end at byte 66, the file at byte 3221225472",
        ),
        ("w.safetensors", struct.pack("<Q", 2) + b"[]", "its header is no JSON object"),
        ("w.safetensors", struct.pack("<Q", 2**20) + b"{", "cannot be read: JSONDecodeError"),
    ):
        (tmp_path / name).write_bytes(start)
        os.truncate(tmp_path / name, 3 << 30)
        with pytest.raises(FileError, match=f"{name}: .*({words})"):
            read_arrays(tmp_path / name)


def test_tensors_that_repeat_one_number_do_not_fill_memory(tmp_path):
    """A few bytes are a view of any size by strides of 0, of which other layers' weights would be put together."""
    shapes = {"l/kernel": (10**5, 4 * 10**4), "l/recurrent_kernel": (10**4, 4 * 10**4), "l/bias": (4 * 10**4,)}
    entries = {
        name: weights_case.tensor("0", "FloatStorage", 1, shape, (0,) * len(shape)) for name, shape in shapes.items()
    }
    (tmp_path / "w.pt").write_bytes(weights_case.archive(weights_case.pickled(entries), {"0": bytes(4)}))
    with pytest.raises(FileError, match="w.pt: .* repeats a storage of 4 bytes too often"):
        load_state(nn.Sequential(nn.LSTM(2, 3)), tmp_path / "w.pt", "keras", strict=False)


def zipped(members, method=zipfile.ZIP_STORED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as made:
        for name, values in members.items():
            made.writestr(name, values)
    return content.getvalue()


BAD = bad_pt()


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_weights(name, tmp_path):
    content, message = BAD[name]
    with pytest.raises(FileError, match=f"w.pt: .*(?:{message})"):
        read_pt(tmp_path, content)


# ---- PyTorch -------------------------------------------------------------------------------------------------------

TORCH = {
    "Linear": ((4, 3), (2, 4)), "Bilinear": ((4, 3, 2), (5, 4), (5, 3)),
    "Conv1d": ((4, 6, 3), (2, 4, 8)), "Conv2d": ((4, 6, 3), (2, 4, 6, 7)), "Conv3d": ((2, 3, 2), (2, 2, 4, 5, 4)),
    "ConvTranspose1d": ((4, 6, 3), (2, 4, 5)), "ConvTranspose2d": ((4, 6, 3), (2, 4, 5, 4)),
    "ConvTranspose3d": ((2, 3, 2), (1, 2, 3, 3, 2)),
    "BatchNorm1d": ((4,), (3, 4, 5)), "BatchNorm2d": ((4,), (3, 4, 5, 2)), "BatchNorm3d": ((4,), (2, 4, 2, 3, 2)),
    "InstanceNorm1d": ((4, 1e-5, 0.1, True, True), (3, 4, 5)), "InstanceNorm2d": ((4, 1e-5, 0.1, True), (3, 4, 5, 2)),
    "InstanceNorm3d": ((4, 1e-5, 0.1, True, True), (2, 4, 2, 3, 2)),
    "GroupNorm": ((2, 4), (3, 4, 5)), "LayerNorm": (((4, 5),), (3, 4, 5)),
    "RNN": ((3, 4, 2), (5, 2, 3)), "LSTM": ((3, 4, 2), (5, 2, 3)), "GRU": ((3, 4, 2), (5, 2, 3)),
    "PReLU": ((4,), (3, 4, 5)), "RMSNorm": (((4, 5), 1e-5), (3, 4, 5)),
    "MultiheadAttention": ((6, 2), (5, 2, 6), (4, 2, 6), (4, 2, 6)),
    "TransformerEncoderLayer": ((6, 2, 8), (5, 2, 6)), "TransformerDecoderLayer": ((6, 2, 8), (5, 2, 6), (4, 2, 6)),
    "Transformer": ((6, 2, 1, 1, 8), (5, 2, 6), (4, 2, 6)),
    "RNNCell": ((3, 4), (2, 3)), "LSTMCell": ((3, 4), (2, 3)), "GRUCell": ((3, 4), (2, 3)),
}  # fmt: skip


def saved(torch, path, peer):
    """Random values in every float parameter and buffer of a PyTorch module, and its state dict as a file."""
    for k, held in enumerate((*peer.parameters(), *peer.buffers())):
        if held.is_floating_point():
            held.data = torch.tensor(np.abs(drawn(*held.shape, seed=k)) * 0.3 + 0.05)
    torch.save(peer.state_dict(), path)
    return peer.eval()


def loaded_as(torch, own, peer, path, *xs):
    load_state(own, path)
    with torch.no_grad():
        expected = peer(*map(torch.tensor, xs))
    expected = expected[0] if isinstance(expected, tuple) else expected
    close(run(own, *xs), expected.numpy())


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.peer
@pytest.mark.parametrize("name", TORCH)
def test_layers_of_pytorch(name, tmp_path):
    torch = pytest.importorskip("torch")
    settings, *shapes = TORCH[name]
    peer = saved(torch, tmp_path / "w.pt", getattr(torch.nn, name)(*settings))
    loaded_as(torch, getattr(nn, name)(*settings), peer, tmp_path / "w.pt", *(drawn(*shape) for shape in shapes))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.peer
def test_embedding_both_directions_and_checkpoints_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pt"
    for name in ("Embedding", "EmbeddingBag"):
        peer = saved(torch, path, getattr(torch.nn, name)(7, 3))
        loaded_as(torch, getattr(nn, name)(7, 3), peer, path, np.array([[1, 6]]))
    peer = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 2)
    own = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 2)
    loaded_as(torch, own, saved(torch, path, peer), path, drawn(2, 5, 6))
    for more in ({}, {"proj_size": 2}):
        peer = saved(torch, path, torch.nn.LSTM(3, 4, 2, bidirectional=True, **more))
        loaded_as(torch, nn.LSTM(3, 4, 2, bidirectional=True, **more), peer, path, drawn(5, 2, 3))
    peer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(peer.parameters())
    peer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": peer.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": None}, path)
    own = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    load_state(own, path, key="model")
    assert own[1].num_batches_tracked.item() == 1
    with pytest.raises(FileError, match=r"w.pt: .*it holds 'model' \(dict\), 'optimizer' \(dict\), 'epoch' \(int\)"):
        load_state(own, path)
    torch.save(peer, path)
    with pytest.raises(FileError, match="holds code, 'torch.nn.modules.container.Sequential'"):
        load_state(own, path)
    torch.save(peer.state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(FileError, match="before 1.6"):
        load_state(own, path)


@pytest.mark.peer
def test_a_mapping_of_pytorchs_tensors():
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.Linear(3, 2), nn.Linear(3, 2)
    for named in (dict(theirs.named_parameters()), theirs.state_dict(), theirs.bfloat16().state_dict()):
        load_state(ours, named)
        close(ours.weight.data, named["weight"].detach().float().numpy())


@pytest.mark.peer
def test_tensors_that_pytorch_saves(tmp_path):
    """Dtypes, views that share a storage, strides, a Parameter, in dicts of both kinds and in several protocols."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pt"
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    kinds = (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
        "uint64", "bool", "complex64", "complex128",
    )  # fmt: skip
    tensors = {kind: base.to(getattr(torch, kind)) for kind in kinds}
    tensors |= {
        "turned": base.T, "part": base[1:3, ::2], "row": base[2], "number": base[1, 1], "empty": base[:0],
        "expanded": base[:1].expand(3, 6), "parameter": torch.nn.Parameter(base), "same": base,
    }  # fmt: skip
    for protocol in (2, 3, 4, 5):
        torch.save(tensors, path, pickle_protocol=protocol)
        found = read_arrays(path)
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype.name == str(tensor.dtype).removeprefix("torch.")
            np.testing.assert_array_equal(found[name].astype(complex), tensor.detach().to(torch.complex128).numpy())
    for wrong in (torch.zeros(2, dtype=torch.float8_e5m2), torch.view_as_complex(torch.ones(2, 2)).conj()):
        torch.save({"x": wrong}, path)
        with pytest.raises(FileError, match="dtype that NumPy lacks|holds code|with metadata"):
            read_arrays(path)


def torchvision(torch, name):
    """The networks as torchvision lays them out and names them, small."""
    t = torch.nn

    class Parts(t.Module):
        def __init__(self, features, classifier):
            super().__init__()
            self.features, self.classifier = features, classifier

        def forward(self, x):
            maps = self.features(x)
            return self.classifier(
                maps.flatten(1) if isinstance(self.classifier[1], t.Linear | t.ReLU) else maps
            ).flatten(1)

    if name == "alexnet":
        features = t.Sequential(
            t.Conv2d(3, 4, 11, 4, 2), t.ReLU(), t.MaxPool2d(3, 2), t.Conv2d(4, 8, 5, padding=2), t.ReLU(),
            t.MaxPool2d(3, 2), t.Conv2d(8, 8, 3, padding=1), t.ReLU(), t.Conv2d(8, 8, 3, padding=1), t.ReLU(),
            t.Conv2d(8, 4, 3, padding=1), t.ReLU(), t.MaxPool2d(3, 2),
        )  # fmt: skip
        classifier = t.Sequential(
            t.Dropout(), t.Linear(4, 16), t.ReLU(), t.Dropout(), t.Linear(16, 16), t.ReLU(), t.Linear(16, 5)
        )
        return Parts(features, classifier)
    layers, channels = [], 3
    for width in (4, "M", 8, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M"):
        layers += [t.MaxPool2d(2)] if width == "M" else [t.Conv2d(channels, width, 3, padding=1), t.ReLU()]
        channels = channels if width == "M" else width
    classifier = t.Sequential(
        t.Linear(32, 16), t.ReLU(), t.Dropout(), t.Linear(16, 16), t.ReLU(), t.Dropout(), t.Linear(16, 5)
    )
    return Parts(t.Sequential(*layers), classifier)


@pytest.mark.peer
def test_networks_of_torchvision(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pt"
    peer = saved(torch, path, torchvision(torch, "alexnet"))
    own = models.alexnet(5, size=63, padding=2, normalize=False, channels=(4, 8, 8, 8, 4), hidden=16)
    loaded_as(torch, own, peer, path, drawn(2, 3, 63, 63))
    with pytest.raises(FileError, match="its 'features.0.weight'"):  # it normalises: another network
        load_state(models.alexnet(5, size=67, channels=(4, 8, 8, 8, 4), hidden=16), path)
    peer = saved(torch, path, torchvision(torch, "vgg11"))
    own = models.VGG(11, classes=5, size=32, width=4, hidden=16)
    loaded_as(torch, own, peer, path, drawn(2, 3, 32, 32))


def test_names_of_torchvision():
    """Of each network the first, the last and some names between, as torchvision documents them."""
    names = {
        "resnet18": "conv1.weight bn1.weight bn1.running_mean bn1.num_batches_tracked layer1.0.conv1.weight fc.bias "
        "layer1.1.bn2.bias layer2.0.downsample.0.weight layer2.0.downsample.1.running_var layer4.1.conv2.weight",
        "resnet50": "layer1.0.conv3.weight layer1.0.bn3.bias layer1.0.downsample.1.weight layer3.5.conv2.weight",
        "vgg16": "features.0.weight features.28.bias classifier.0.weight classifier.3.bias classifier.6.weight",
        "squeezenet": "features.0.weight features.3.squeeze.weight features.12.expand3x3.bias classifier.1.weight",
    }
    small = {
        "resnet18": lambda: models.resnet18(5, width=4), "resnet50": lambda: models.resnet50(5, width=4),
        "vgg16": lambda: models.VGG(16, 5, size=32, width=4, hidden=8), "squeezenet": lambda: models.squeezenet(5),
    }  # fmt: skip
    counts = {"resnet18": 122, "resnet50": 320, "vgg16": 32, "squeezenet": 52}
    for name, wanted in names.items():
        state = small[name]().state_dict()
        assert set(wanted.split()) <= state.keys()
        assert len(state) == counts[name]
