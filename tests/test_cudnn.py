"""gpunn.interop.cudnn: each call against gpunn's functions and PyTorch's, on NumPy and on CuPy, and its errors."""

import re
from pathlib import Path

import numpy as np
import pytest
from oracles import assert_close
from runners import CUPY, moved

import gpunn
from gpunn import backend, tensor
from gpunn import functional as F
from gpunn.errors import ArgumentError, DeviceError, DtypeError, GraphError, ShapeError
from gpunn.interop import cudnn

TUNING = {"auto_tune": True, "tensor_core": "auto"}
ACTIVATIONS = {
    cudnn.CUDNN_ACTIVATION_SIGMOID: F.sigmoid,
    cudnn.CUDNN_ACTIVATION_RELU: F.relu,
    cudnn.CUDNN_ACTIVATION_TANH: F.tanh,
    cudnn.CUDNN_ACTIVATION_CLIPPED_RELU: lambda x: F.relu(x).clip(None, 0.75),
    cudnn.CUDNN_ACTIVATION_ELU: lambda x: F.elu(x, 0.75),
    cudnn.CUDNN_ACTIVATION_IDENTITY: lambda x: x.copy(),
}
RECURRENT = {"RNN": (cudnn.CUDNN_RNN_TANH, 1), "LSTM": (cudnn.CUDNN_LSTM, 4), "GRU": (cudnn.CUDNN_GRU, 3)}


@pytest.fixture(params=["numpy", CUPY])
def put(request):
    """What puts NumPy arrays where the calls are to compute."""
    where = moved if request.param == "cupy" else lambda arrays: arrays
    return lambda *arrays: where(arrays[0] if len(arrays) == 1 else arrays)


def same(actual, expected, terms=40):
    assert_close(backend.to_cpu(actual), backend.to_cpu(expected), terms)


def with_gradients(function, arrays, gy):
    """``function(*arrays)``, and its gradients."""
    leaves = [tensor(a, requires_grad=True) for a in arrays]
    y = function(*leaves)
    y.backward(gy)
    return y.data, [leaf.grad for leaf in leaves]


def drawn_convolution(rng, rank):
    groups = int(rng.integers(1, 3))
    kernel, stride, pad, dilation = (
        tuple(map(int, rng.integers(a, b, rank))) for a, b in ((1, 4), (1, 3), (0, 3), (1, 3))
    )
    x = rng.standard_normal((2, 2 * groups, *rng.integers(6, 9, rank)))
    w = rng.standard_normal((3 * groups, 2, *kernel))
    return x, w, rng.standard_normal(3 * groups), (pad, stride, dilation, groups)


@pytest.mark.parametrize(("rank", "dtype"), [(1, "float32"), (2, "float64"), (2, "float32"), (3, "float64")])
@pytest.mark.parametrize("layout", [cudnn.CUDNN_TENSOR_NCHW, cudnn.CUDNN_TENSOR_NHWC])
def test_convolutions(put, rng, rank, dtype, layout):
    function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    *arrays, (pad, stride, dilation, groups) = drawn_convolution(rng, rank)
    x, w, b = (a.astype(dtype) for a in arrays)
    y = function(x, w, b, stride, pad, dilation, groups)
    gy = rng.standard_normal(y.shape).astype(dtype)
    _, (gx, gw) = with_gradients(lambda x, w: function(x, w, None, stride, pad, dilation, groups), [x, w], gy)

    def laid(a):
        return np.ascontiguousarray(np.moveaxis(a, 1, -1)) if layout else a

    settings, how = (pad, stride, dilation, groups), {"d_layout": layout, "w_layout": layout} | TUNING
    out = [put(np.full_like(laid(a), np.nan)) for a in (y, gx, gw)]
    at = put(laid(x), laid(w), b, laid(gy))
    assert cudnn.convolution_forward(*at[:3], out[0], *settings, **how) is None
    cudnn.convolution_backward_data(at[1], at[3], None, out[1], *settings, deterministic=False, **how)
    cudnn.convolution_backward_filter(at[0], at[3], out[2], *settings, deterministic=True, **how)
    for actual, expected in zip(out, (y, gx, gw), strict=True):
        assert actual.dtype == dtype
        same(actual, laid(expected), 200)


def test_a_transposed_convolution_adds_its_bias(put, rng):
    x, w, b = (rng.standard_normal(s) for s in ((2, 3, 4, 4), (3, 2, 3, 3), (2,)))
    at, out = put(x, w, b), put(np.empty((2, 2, 8, 8)))
    cudnn.convolution_backward_data(at[1], at[0], at[2], out, (1, 1), (2, 2), (1, 1), 1, deterministic=True, **TUNING)
    same(out, F.conv_transpose2d(x, w, b, 2, 1, 1))


@pytest.mark.parametrize(("mode", "cover"), [(0, False), (0, True), (1, False), (2, False), (3, True)])
def test_pooling(put, rng, mode, cover):
    x, ksize, stride, pad = rng.standard_normal((2, 3, 7, 8)), (3, 2), (2, 2), (1, 1)

    def pooled(x):
        if mode in (cudnn.CUDNN_POOLING_MAX, cudnn.CUDNN_POOLING_MAX_DETERMINISTIC):
            return F.max_pool2d(x, ksize, stride, pad, ceil_mode=cover)
        include = mode == cudnn.CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING
        return F.avg_pool2d(x, ksize, stride, pad, count_include_pad=include)

    gy = rng.standard_normal(pooled(x).shape)
    y, (gx,) = with_gradients(pooled, [x], gy)
    x, out, gy = put(x, np.empty_like(y), gy)
    assert cudnn.pooling_forward(x, out, ksize, stride, pad, mode) is out
    same(out, y)
    same(cudnn.pooling_backward(x, out, gy, ksize, stride, pad, mode), gx)


@pytest.mark.parametrize("mode", ACTIVATIONS)
def test_activations(put, rng, mode):
    x, gy = rng.standard_normal((2, 4, 5))
    y, (gx,) = with_gradients(ACTIVATIONS[mode], [x], gy)
    at, gy = put(x, gy)
    out = cudnn.activation_forward(at, mode, 0.75)
    same(out, y)
    same(cudnn.activation_backward(at, out, gy, mode, 0.75), gx)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(put, rng, axis):
    x, gy = rng.standard_normal((2, 3, 4, 5))
    for algorithm, function in ((0, F.softmax), (1, F.softmax), (cudnn.CUDNN_SOFTMAX_LOG, F.log_softmax)):
        y, (gx,) = with_gradients(lambda x, f=function: f(x, axis), [x], gy)
        out = cudnn.softmax_forward(put(x), axis, algorithm)
        same(out, y)
        same(cudnn.softmax_backward(out, put(gy), axis, algorithm), gx)


@pytest.mark.parametrize("case", ["spatial", "nhwc", "per activation", "rows"])
def test_batch_normalization(put, rng, case):
    x, gy = rng.standard_normal((2, 4, 3, 2, 5))
    channels = {"spatial": 3, "nhwc": 5, "per activation": 30, "rows": 5}[case]
    mode = cudnn.CUDNN_BATCHNORM_PER_ACTIVATION if case == "per activation" else cudnn.CUDNN_BATCHNORM_SPATIAL
    shape = (1, 3, 2, 5) if case == "per activation" else (channels,)
    settings = (case != "rows", mode, False, int(case == "nhwc"))

    def rows(a):
        """The array as one that F.batch_norm takes."""
        if case == "nhwc":
            return a.transpose(0, 3, 1, 2)
        return {"spatial": a, "per activation": a.reshape(4, 30), "rows": a.reshape(-1, 5)}[case]

    def back(a):
        return a.transpose(0, 2, 3, 1) if case == "nhwc" else a.reshape(x.shape)

    gamma, beta, mean = (rng.standard_normal(channels) for _ in range(3))
    var = rng.random(channels) + 0.5
    expected = mean.copy(), var.copy()
    y, gradients = with_gradients(
        lambda x, g, b: F.batch_norm(x, *expected, g, b, True, 0.25, 1e-3), [rows(x), gamma, beta], rows(gy)
    )
    x0, gy0, *at = put(x, gy, *(a.reshape(shape) for a in (gamma, beta, mean, var)))
    out, batch_mean, inv_std = cudnn.batch_normalization_forward_training(x0, *at, None, None, 1e-3, 0.75, *settings)
    same(out, back(y))
    for actual, running in zip(at[2:], expected, strict=True):
        same(actual.reshape(-1), running)
    for statistics in ((batch_mean, inv_std), (None, None)):
        results = cudnn.batch_normalization_backward(x0, at[0], gy0, *statistics, 1e-3, *settings)
        for actual, right in zip(results, (back(gradients[0]), *gradients[1:]), strict=True):
            same(actual.reshape(right.shape), right)
    inference = cudnn.batch_normalization_forward_inference(x0, *at, 1e-3, *settings[:2], settings[3])
    same(inference, back(F.batch_norm(rows(x), *expected, gamma, beta, False, 0.1, 1e-3)))
    given = batch_mean * 0, inv_std * 0
    again = cudnn.batch_normalization_forward_training_ex(x0, *at, *given, 1e-3, 0.75, *settings)
    assert again[0] is None
    same(again[1], out)
    same(given[0], batch_mean)
    same(given[1], inv_std)


def test_batch_normalization_of_half_floats_has_statistics_of_float32(put, rng):
    x = rng.standard_normal((8, 3)).astype(np.float16)
    at = put(x, *(np.full(3, v, np.float16) for v in (1, 0, 0, 1)))
    y, mean, inv_std = cudnn.batch_normalization_forward_training(*at, None, None, 1e-5, 0.9, False, 1, False)
    assert (y.dtype, mean.dtype, inv_std.dtype, at[3].dtype) == (np.float16, np.float32, np.float32, np.float16)
    right = F.batch_norm(x.astype(np.float32), training=True)
    np.testing.assert_allclose(backend.to_cpu(y), right, atol=2e-3)


def test_dropout(put):
    x = put(np.ones((3, 400)))
    states, others = cudnn.DropoutStates(None, 7), cudnn.DropoutStates(cudnn.get_handle(), 7)
    space, y = states.forward(None, x, 0.25)
    again = others.forward(None, x, 0.25)[1]
    assert (y == again).all()
    assert not (y == states.forward(None, x, 0.25)[1]).all()
    assert (states.backward(None, x, 0.25, space) == y).all()
    kept = backend.to_cpu(y)
    assert set(np.unique(kept)) == {0, 1 / 0.75}
    assert abs((kept == 0).mean() - 0.25) < 0.05


def drawn_recurrent(rng, gates, directions, layers):
    """Sizes, the packed weights, x, the states and the gradients of one net; and its weights one by one."""
    size, hidden = 3, 2
    lengths = sorted(map(int, rng.integers(1, 4, 4)), reverse=True)
    shapes = []
    for layer in range(layers):
        inputs = hidden * directions if layer else size
        shapes += [(gates * hidden, inputs), (gates * hidden, hidden)] * directions
    weights = [rng.standard_normal(s) for s in (*shapes, *[(gates * hidden,)] * (2 * layers * directions))]
    w = np.concatenate([a.ravel() for a in weights])
    states = [rng.standard_normal((layers * directions, lengths[0], hidden)) for _ in range(4)]
    x = rng.standard_normal((sum(lengths), size))
    return lengths, weights, w, x, states, rng.standard_normal((sum(lengths), hidden * directions))


@pytest.mark.peer("rnn", "lstm", "gru")
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_nets_are_pytorchs(name, rng):
    torch = pytest.importorskip("torch")
    mode, gates = RECURRENT[name]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        directions, layers = 1 + seed % 2, 1 + seed // 2 % 3
        lengths, weights, w, x, (h, c, gh, gc), gy = drawn_recurrent(rng, gates, directions, layers)
        net = getattr(torch.nn, name)(3, 2, layers, bidirectional=directions == 2, dtype=torch.float64)
        matrices, biases = weights[: len(weights) // 2], weights[len(weights) // 2 :]
        order = [a for at in range(0, len(matrices), 2) for a in (*matrices[at : at + 2], *biases[at : at + 2])]
        with torch.no_grad():
            for parameter, value in zip(net.parameters(), order, strict=True):
                parameter[...] = torch.from_numpy(value)
        leaves = [torch.from_numpy(a).requires_grad_() for a in (x, h, c)]
        packed = torch.nn.utils.rnn.PackedSequence(leaves[0], torch.tensor(lengths))
        is_lstm = name == "LSTM"
        y, ends = net(packed, (leaves[1], leaves[2]) if is_lstm else leaves[1])
        ends = ends if is_lstm else (ends,)
        outputs, gradients = [y.data, *ends], [gy, gh, gc][: 2 + is_lstm]
        torch.autograd.backward(outputs, [torch.from_numpy(g) for g in gradients])

        states = cudnn.DropoutStates(None, 0)
        c, gc = (c, gc) if is_lstm else (None, None)
        how = (states, directions - 1, mode)
        space, *results = cudnn.rnn_forward_training(*how, h, c, w, x, lengths)
        inference = cudnn.rnn_forward_inference(*how, h, c, w, x, lengths)
        right = [ends[0], ends[1] if is_lstm else None, y.data]
        for given in (results, inference):
            for actual, expected in zip(given, right, strict=True):
                assert (actual is None) == (expected is None)
                if actual is not None:
                    same(actual, expected.detach().numpy())
        dhx, dcx, dxs = cudnn.rnn_backward_data(*how, h, c, w, x, results[2], space, gh, gc, gy, lengths)
        dw = cudnn.rnn_backward_weights(*how, x, h, results[2], w, space, lengths)
        of = dict(zip(map(id, order), (p.grad.numpy() for p in net.parameters()), strict=True))
        same(dw, np.concatenate([of[id(a)].ravel() for a in weights]), 400)
        same(dxs, leaves[0].grad.numpy(), 100)
        same(dhx, leaves[1].grad.numpy(), 100)
        if is_lstm:
            same(dcx, leaves[2].grad.numpy(), 100)


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_nets_drop_between_layers_in_training_alone(put, name):
    rng = np.random.default_rng(0)
    mode, gates = RECURRENT[name]
    lengths, _, w, x, (h, c, gh, gc), gy = drawn_recurrent(rng, gates, 2, 2)
    w, x, h, gh, gy = put(w, x, h, gh, gy)
    c, gc = put(c, gc) if name == "LSTM" else (None, None)
    states = cudnn.DropoutStates(None, 0)
    states.set_dropout_ratio(0.5)
    how = (states, cudnn.CUDNN_BIDIRECTIONAL, mode)
    space, hy, _, ys = cudnn.rnn_forward_training(*how, h, c, w, x, lengths)
    _, _, plain = cudnn.rnn_forward_inference(*how, h, c, w, x, lengths)
    assert not (ys == plain).all()
    with pytest.raises(GraphError, match="cudnn.rnn_backward_weights: rnn_backward_data must be called before it"):
        cudnn.rnn_backward_weights(*how, x, h, ys, w, space, lengths)
    first = cudnn.rnn_backward_data(*how, h, c, w, x, ys, space, gh, gc, gy, lengths)
    again = cudnn.rnn_backward_data(*how, h, c, w, x, ys, space, gh, gc, gy, lengths)
    assert (first[2] == again[2]).all()
    assert cudnn.rnn_backward_weights(*how, x, h, ys, w, space, lengths).shape == w.shape
    assert hy.shape == h.shape


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("directions", [1, 2])
def test_padded_sequences_are_computed_as_packed_ones(put, rng, name, directions):
    mode, gates = RECURRENT[name]
    lengths, _, w, *_ = drawn_recurrent(rng, gates, directions, 2)
    lengths, steps = np.array([2, 4, 1, 4]), 5
    h, c, gh, gc = rng.standard_normal((4, 2 * directions, 4, 2))
    x, gy = rng.standard_normal((steps, 4, 3)), rng.standard_normal((steps, 4, 2 * directions))
    order = [1, 3, 0, 2]  # longest first
    inside = [(step, n) for step in range(4) for n in order if step < lengths[n]]
    sizes = [4, 3, 2, 2]

    def rows(a):
        return np.stack([a[at] for at in inside])

    how = (cudnn.DropoutStates(None, 0), directions - 1, mode)
    w0, h0, x0, gh0, gy0 = put(w, h[:, order], rows(x), gh[:, order], rows(gy))
    w1, h1, x1, gh1, gy1 = put(w, h, x, gh, gy)
    c0, c1, gc0, gc1 = put(c[:, order], c, gc[:, order], gc) if name == "LSTM" else [None] * 4
    space, *right = cudnn.rnn_forward_training(*how, h0, c0, w0, x0, sizes)
    right += cudnn.rnn_backward_data(*how, h0, c0, w0, x0, right[2], space, gh0, gc0, gy0, sizes)
    right.append(cudnn.rnn_backward_weights(*how, x0, h0, right[2], w0, space, sizes))
    space, *given = cudnn.rnn_forward_training_ex(*how, h1, c1, w1, x1, lengths)
    same(cudnn.rnn_forward_inference_ex(*how, h1, c1, w1, x1, lengths)[2], given[2])
    given += cudnn.rnn_backward_data_ex(*how, h1, c1, w1, x1, given[2], space, gh1, gc1, gy1, lengths)
    given.append(cudnn.rnn_backward_weights_ex(*how, x1, h1, given[2], w1, space, lengths))
    for number, (actual, expected) in enumerate(zip(given, right, strict=True)):
        assert (actual is None) == (expected is None) == (name != "LSTM" and number in (1, 4))
        if actual is not None:
            actual = backend.to_cpu(actual)
            same({2: rows, 5: rows, 6: np.copy}.get(number, lambda a: a[:, order])(actual), expected)
            assert number not in (2, 5) or not actual[lengths[0] :, 0].any()


X, W = np.ones((1, 2, 4, 4), np.float32), np.ones((3, 2, 3, 3), np.float32)
Y = np.empty((1, 3, 2, 2), np.float32)


def convolve(x=X, w=W, b=None, y=Y, pad=(0, 0), groups=1, **settings):
    cudnn.convolution_forward(x, w, b, y, pad, (1, 1), (1, 1), groups, **TUNING | settings)


def fixed(y):
    y.flags.writeable = False
    return y


REFUSED = [
    (lambda: convolve(y=np.empty((1, 3, 3, 3), "f4")), ShapeError, r"y must have shape \(1, 3, 2, 2\)"),
    (lambda: convolve(y=Y.astype("f8")), DtypeError, "must have one dtype, got x='float32', W='float32', y='float64'"),
    (lambda: convolve(x=X.astype(int)), DtypeError, "x must be a floating array"),
    (lambda: convolve(y=fixed(Y.copy())), ArgumentError, "y is written, and must not be read-only"),
    (lambda: convolve(groups=2), ShapeError, "groups must divide out_channels"),
    (lambda: convolve(x=np.ma.masked_array(X)), DtypeError, "x must be a plain array, got type='MaskedArray'"),
    (lambda: convolve(x=X.astype(">f4")), DtypeError, r"byte order: x.astype\('float32'\)"),
    (lambda: convolve(x=X.tolist()), DtypeError, "x must be a NumPy or CuPy array"),
    (lambda: convolve(tensor_core="yes"), ArgumentError, 'tensor_core must be "always", "auto" or "never"'),
    (lambda: convolve(d_layout=2), ArgumentError, "the layout of x must be CUDNN_TENSOR_NCHW"),
    (lambda: pool(mode=4), ArgumentError, "mode must be CUDNN_POOLING_MAX"),
    (lambda: pool(mode=1), ShapeError, r"y must have shape \(1, 2, 2, 2\)"),
    (lambda: cudnn.activation_forward(X, 6), ArgumentError, "mode must be one of CUDNN_ACTIVATION_SIGMOID"),
    (lambda: cudnn.softmax_forward(X, 1, 3), ArgumentError, "algorithm must be one of CUDNN_SOFTMAX_FAST"),
    (lambda: normalize([np.ones(3, "f4")] * 4), ShapeError, r"gamma must have 2 elements, got shape=\(3,\)"),
    (lambda: cudnn.batch_normalization_backward(X, X, X, X, None, 1e-5, True, 1), ArgumentError, "must both be arrays"),
    (lambda: cudnn.DropoutStates(None, 0).forward(None, X, 1.5), ArgumentError, "p must be a probability"),
    (
        lambda: cudnn.rnn_forward_inference_ex(None, 0, 3, None, None, None, X[0], [4, 5]),
        ArgumentError,
        "4 numbers from",
    ),
    (lambda: recur(np.ones(7)), ShapeError, r"w must have 36 elements, got shape=\(7,\)"),
]


def pool(mode):
    cudnn.pooling_forward(X, X, (2, 2), (2, 2), (0, 0), mode)


def normalize(of_channels):
    cudnn.batch_normalization_forward_inference(X, *of_channels, 1e-5, True, cudnn.CUDNN_BATCHNORM_SPATIAL)


def pad(lengths):
    cudnn.rnn_forward_inference_ex(None, 0, cudnn.CUDNN_GRU, None, None, None, X[0], lengths)


def recur(w):
    cudnn.rnn_forward_inference(
        None, cudnn.CUDNN_UNIDIRECTIONAL, cudnn.CUDNN_GRU, np.ones((1, 1, 2)), None, w, np.ones((3, 2)), [1, 1, 1]
    )


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED)
def test_what_does_not_fit_is_refused_in_words(call, kind, words):
    with pytest.raises(kind, match=words) as error:
        call()
    assert str(error.value).startswith(("cudnn.", "conv2d:", "dropout:"))


@pytest.mark.gpu
def test_arrays_of_two_devices(rng):
    if backend.gpu_count() < 2:
        pytest.skip("there is one GPU")
    x, w = rng.standard_normal((1, 2, 4, 4)), rng.standard_normal((3, 2, 3, 3))
    first, second = (backend.to_gpu(x, device) for device in ("gpu:0", "gpu:1"))
    w1, y1 = (backend.to_gpu(a, "gpu:1") for a in (w, np.empty((1, 3, 2, 2))))
    convolve(x=second, w=w1, y=y1)  # where they lie, not on the current device
    assert backend.device_of(cudnn.activation_forward(y1, cudnn.CUDNN_ACTIVATION_RELU)) == "gpu:1"
    same(y1, F.conv2d(x, w))
    with pytest.raises(DeviceError, match="arrays must be on one device, got x='gpu:0', W='gpu:1', y='gpu:1'"):
        convolve(x=first, w=w1, y=y1)
    with pytest.raises(DeviceError, match="arrays must all be NumPy's or all be CuPy's"):
        convolve(x=x, w=w1, y=y1)


def test_what_is_not_there_is_said():
    with pytest.raises(AttributeError, match="gpunn.interop.cudnn has no 'ctc_loss': gpunn/guide/cudnn.md says"):
        _ = cudnn.ctc_loss
    assert set(cudnn.__all__) <= set(dir(cudnn))


def test_the_page_of_the_guide_runs():
    page = (Path(gpunn.__file__).parent / "guide" / "cudnn.md").read_text(encoding="utf-8")
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", page, re.S | re.M):
        exec(code, names)
    assert np.array_equal(names["y"], F.conv2d(names["x"], names["W"], names["b"], 2, 2))
    assert names["dw"].shape == names["w"].shape
    functions = {name for name in cudnn.__all__ if not name.startswith("CUDNN_")}
    assert functions <= set(re.findall(r"`(\w+)`", page))
