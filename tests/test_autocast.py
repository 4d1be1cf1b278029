"""autocast: what computes in which dtype, and that gradients come back to float32."""

import threading
import warnings

import numpy as np
import pytest
from test_functional import FUNCTIONS
from test_methods import METHODS

import gpunn
from gpunn import Tensor, autocast, backend, cuda, nn, no_grad, optim, tensor
from gpunn import functional as F
from gpunn.backend import half_dtype, random_generator
from gpunn.data import digits
from gpunn.errors import ArgumentError, DtypeError, PackageError
from gpunn.models import lenet
from gpunn.train import evaluate

HALVES = {name: half_dtype("test", name) for name in ("fp16", "bf16")}
EPS = {"fp16": 2**-10, "bf16": 2**-7}

IN_HALF = {
    "linear", "bilinear", "matmul", "einsum", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "prelu", "rnn", "lstm", "gru", "rnn_cell", "lstm_cell", "gru_cell", "__matmul__", "__imatmul__",
    "dot", "outer", "scaled_dot_product_attention", "affine_grid",
}  # fmt: skip
IN_FLOAT32 = {
    "cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "nll_loss", "kl_div", "mse_loss",
    "l1_loss", "huber_loss", "smooth_l1_loss", "hinge_embedding_loss", "multi_margin_loss", "cosine_embedding_loss",
    "cosine_similarity", "softmax", "log_softmax", "logsumexp", "batch_norm", "layer_norm", "group_norm",
    "instance_norm", "local_response_norm", "exp", "log", "sqrt", "softplus", "sigmoid",
    "logsigmoid", "softmin", "gumbel_softmax", "normalize", "pairwise_distance", "rms_norm", "margin_ranking_loss",
    "triplet_margin_loss", "triplet_margin_with_distance_loss", "soft_margin_loss", "multilabel_margin_loss",
    "multilabel_soft_margin_loss", "poisson_nll_loss", "gaussian_nll_loss", "ctc_loss",
    "__pow__", "__rpow__", "__ipow__", "sum", "mean", "prod", "var", "std", "cumsum",
    "acos", "asin", "cosh", "sinh", "tan", "expm1", "log1p", "log2", "log10", "reciprocal", "rsqrt", "pow", "norm",
    "cumprod", "trace", "lp_pool1d", "lp_pool2d", "lp_pool3d",
}  # fmt: skip
# float64 arrays beside the argument, or a cast to float64.
EVERY = {name: case for name, case in {**FUNCTIONS, **METHODS}.items() if name not in ("__rmatmul__", "astype")}


@pytest.fixture(params=HALVES)
def half(request):
    return request.param


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=[pytest.mark.gpu, pytest.mark.slow])])
def device(request):
    return request.param


def name_of(case):
    return case.split(",")[0].split(" ")[0]


@pytest.mark.parametrize("case", EVERY)
def test_every_function_and_method_computes_where_it_should(case, half, device, rng):
    function, shapes = EVERY[case]
    for dtype in (np.dtype(np.float32), HALVES[half]):
        arrays = [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]
        leaves = [tensor(a, requires_grad=True, device=device) for a in arrays]
        with autocast(half):
            y = function(*leaves)
        y = y[-1] if isinstance(y, list | tuple) else y
        name = name_of(case)
        wanted = HALVES[half] if name in IN_HALF else np.dtype(np.float32) if name in IN_FLOAT32 else dtype
        assert y.dtype == wanted
        y.backward(backend.asarray(np.ones(y.shape, y.dtype), y.device))
        assert {leaf.grad.dtype for leaf in leaves if leaf.grad is not None} == {dtype}


def test_the_names_above_are_functions_and_methods():
    assert {*F.__all__, *vars(Tensor)} >= IN_HALF | IN_FLOAT32


@pytest.mark.parametrize("case", [case for case in FUNCTIONS if name_of(case) in IN_HALF | IN_FLOAT32])
def test_plain_arrays_follow_too(case, half, rng):
    function, shapes = FUNCTIONS[case]
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    with autocast(half):
        plain, recorded = function(*arrays), function(*map(tensor, arrays))
    assert isinstance(plain, np.ndarray | np.generic)
    assert plain.dtype == recorded.dtype
    np.testing.assert_array_equal(plain, recorded.data)


def test_it_is_what_casts_by_hand_give(half, rng):
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 4), (3, 4), (3,)))
    gradients = []
    for by_hand in (True, False):
        leaves = [tensor(a, requires_grad=True) for a in (x, w, b)]
        if by_hand:
            y = F.linear(*(leaf.astype(HALVES[half]) for leaf in leaves))
            loss = F.mse_loss(y.astype(np.float32), tensor(np.ones((5, 3), np.float32)))
        else:
            with autocast(half):
                loss = F.mse_loss(F.linear(*leaves), tensor(np.ones((5, 3), np.float32)))
        assert loss.dtype == np.float32
        loss.backward()
        gradients.append([leaf.grad for leaf in leaves])
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def test_float32_beside_a_half_type_is_float32(half):
    wide, narrow = tensor(np.float32([1, 2]), requires_grad=True), tensor(np.asarray([0.5, 4], HALVES[half]))
    with autocast(half):
        results = [
            *(wide + narrow, narrow - wide, wide * narrow, narrow / wide, narrow * wide.data, F.maximum(wide, narrow)),
            *(F.minimum(narrow, wide), F.where(narrow > wide, narrow, wide), F.concatenate([wide, narrow])),
            F.stack([narrow, wide]),
        ]
        assert {y.dtype for y in results} == {np.dtype(np.float32)}
        assert {(narrow + narrow).dtype, (2 * narrow).dtype, F.relu(narrow).dtype} == {HALVES[half]}
        assert (narrow > wide).data.tolist() == [False, True]
        images = np.ones((1, 4, 6, 6), HALVES[half])
        assert F.bias_relu_pool_lrn(images, np.ones(4, np.float32)).dtype == np.float32
    with pytest.raises(DtypeError, match="add: operands must have one dtype"):
        wide + narrow


def test_the_two_half_types_meet_in_float32():
    a, b = (tensor(np.ones(2, dtype)) for dtype in HALVES.values())
    with autocast("bf16"):
        assert (a + b).dtype == np.float32
        assert F.matmul(a, b).dtype == HALVES["bf16"]


def test_float64_is_left_alone(half):
    x = tensor(np.ones((2, 3)))
    with autocast(half):
        assert F.linear(x, tensor(np.ones((4, 3)))).dtype == np.float64
        assert F.softmax(x).dtype == np.float64
        with pytest.raises(DtypeError, match="linear: arrays must have one dtype"):
            F.linear(x, tensor(np.ones((4, 3), np.float32)))
        with pytest.raises(DtypeError, match="add: operands must have one dtype, got a='float64', b='float32'"):
            x + tensor(np.ones(3, np.float32))


def test_contexts_nest_and_end():
    x = tensor(np.ones((1, 1), np.float32))
    seen = []
    with autocast("bf16"):
        with autocast("fp16"):
            assert (x @ x).dtype == np.float16
            with autocast(None):
                assert (x @ x).dtype == np.float32
            with pytest.raises(ZeroDivisionError), autocast(None):
                raise ZeroDivisionError
            assert (x @ x).dtype == np.float16
        assert (x @ x).dtype == HALVES["bf16"]
        thread = threading.Thread(target=lambda: seen.append((x @ x).dtype))
        thread.start()
        thread.join()
    assert [*seen, (x @ x).dtype] == [np.float32, np.float32]


def test_names_that_are_none(monkeypatch):
    with pytest.raises(ArgumentError, match="autocast: .* one of bf16, fp16, got name='fp32'"), autocast("fp32"):
        pass
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    with pytest.raises(PackageError, match=r"autocast: bf16 needs ml_dtypes .*\[train\]"), autocast("bf16"):
        pass
    with autocast("fp16"):  # needs no package
        assert (tensor([[1.0]]) @ tensor([[1.0]])).dtype == np.float16


def test_a_parameter_used_without_and_with_a_gradient_in_one_context(half):
    """What a cache of the casts gets wrong: the first use is not recorded, and a step changes the parameter."""
    w, x = tensor([[2.0]], requires_grad=True), tensor([[3.0]])
    with autocast(half):
        with no_grad():
            F.linear(x, w)
        F.linear(x, w).sum().backward()
        np.testing.assert_array_equal(w.grad, [[3]])
        optim.SGD([w], lr=0.5).step()
        assert F.linear(x, w).item() == 1.5
        (F.linear(x, w) + F.linear(x, w)).sum().backward()
    np.testing.assert_array_equal(w.grad, [[9]])


@pytest.mark.parametrize("held", [np.float32, np.float16])
def test_running_statistics_are_changed_in_place(held, half, rng):
    for layer, shape in ((nn.BatchNorm1d(3), (5, 3)), (nn.InstanceNorm1d(3, track_running_stats=True), (5, 3, 4))):
        for buffer in (layer.running_mean, layer.running_var):
            buffer.data = buffer.data.astype(held)
        x = tensor((rng.standard_normal(shape) + 7).astype(HALVES[half]))
        with autocast(half):
            y = layer(x)
        assert y.dtype == np.float32
        assert layer.running_mean.dtype == held
        np.testing.assert_allclose(layer.running_mean.data, [0.7] * 3, atol=0.2)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_recurrent_layers(kind, half, device, rng):
    layer = getattr(nn, kind)(3, 4, num_layers=2, bidirectional=True, generator=random_generator(0)).to(device)
    x = backend.asarray(rng.standard_normal((5, 2, 3)).astype(np.float32), device)
    results = []
    for name in (None, half):
        layer.zero_grad()
        with autocast(name):
            y, _ = layer(tensor(x))
        assert y.dtype == (np.float32 if name is None else HALVES[half])
        y.backward(backend.asarray(np.ones(y.shape, y.dtype), y.device))
        assert {p.grad.dtype for p in layer.parameters()} == {np.dtype(np.float32)}
        results.append([np.float32(y.numpy()), *(backend.to_cpu(p.grad) for p in layer.parameters())])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=16 * EPS[half] * max(1, np.abs(a).max()))


def network(generator=None):
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, generator=generator), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 2, generator=generator), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 2 * 2, 10, generator=generator),
    )  # fmt: skip


def training_step(model, x, half, device):
    """The loss and gradients of a step, as NumPy arrays."""
    model.to(device).zero_grad()
    with autocast(half):
        loss = F.cross_entropy(model(tensor(x, device=device)), backend.asarray(np.arange(6), device))
        loss.backward()
    assert {a.dtype for a in (loss.data, *(p.grad for p in model.parameters()))} == {np.dtype(np.float32)}
    return [backend.to_cpu(a) for a in (loss.data, *(p.grad for p in model.parameters()))]


@pytest.mark.gpu
def test_on_the_gpu_a_step_is_that_of_the_cpu(half, rng):
    model, x = network(random_generator(0)), rng.standard_normal((6, 1, 8, 8)).astype(np.float32)
    for a, b in zip(*(training_step(model, x, half, device) for device in ("cpu", "gpu")), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=8 * EPS[half] * max(1, np.abs(a).max()))


@pytest.mark.slow
def test_through_the_kernels_and_without(half, rng):
    model, x = network(random_generator(0)), rng.standard_normal((6, 1, 8, 8)).astype(np.float32)
    results = []
    for context in (cuda.emulate(), autocast(half)):
        model.zero_grad()
        with context, autocast(half):
            loss = F.cross_entropy(model(tensor(x)), np.arange(6))
        with autocast(half):  # the backward pass does not ask
            loss.backward()
        results.append([loss.data, *(p.grad for p in model.parameters())])
    assert {a.dtype for a in results[0]} == {np.dtype(np.float32)}
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=8 * EPS[half] * max(1, np.abs(a).max()))


def test_half_arrays_reach_the_tensor_cores_whatever_matmul_precision_says(half, monkeypatch):
    files, launch = [], cuda.launch
    monkeypatch.setattr(cuda, "launch", lambda file, *rest: (files.append(file), launch(file, *rest)))
    x, w = np.ones((1, 2, 5, 5), np.float32), np.ones((3, 2, 3, 3), np.float32)
    for name in ("fp32", "tf32"):
        with cuda.emulate(), backend.matmul_precision(name), autocast(half):
            assert F.conv2d(x, w).dtype == HALVES[half]
    assert set(files) == {"conv_mma.cu"}


def test_warnings_of_overflow_are_numpys():
    x = tensor(np.float32([[1e6]]))
    with autocast("fp16"), pytest.warns(RuntimeWarning, match="overflow encountered in cast"):
        F.linear(x, x)
    with autocast("bf16"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert F.linear(x, x).item() == pytest.approx(1e12, rel=0.02)


def test_the_context_is_of_the_package():
    assert gpunn.autocast is autocast


# ---- against PyTorch -------------------------------------------------------------------------------------------------


def torch_network(torch, model, dtype):
    t = torch.nn
    twin = t.Sequential(
        t.Conv2d(1, 6, 3), t.BatchNorm2d(6), t.ReLU(), t.MaxPool2d(2), t.Conv2d(6, 8, 2), t.ReLU(), t.Flatten(),
        t.Linear(32, 10),
    ).to(dtype)  # fmt: skip
    with torch.no_grad():
        for theirs, ours in zip(twin.parameters(), model.parameters(), strict=True):
            theirs.copy_(torch.tensor(ours.data))
    return twin


@pytest.mark.peer("autocast")
def test_errors_are_not_above_those_of_pytorch():
    """bfloat16 on the CPU: loss and gradients against float64, over several networks and batches."""
    torch = pytest.importorskip("torch")
    errors = {"ours": [], "theirs": []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        model = network(random_generator(seed))
        x, labels = rng.standard_normal((16, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 16)
        with autocast("bf16"):
            loss = F.cross_entropy(model(tensor(x)), labels)
        loss.backward()
        found = {"ours": [np.float64(loss.data), *(np.float64(p.grad) for p in model.parameters())]}
        for name, dtype in (("theirs", torch.float32), ("exact", torch.float64)):
            twin = torch_network(torch, model, dtype)
            with torch.autocast("cpu", torch.bfloat16, enabled=name == "theirs"):
                theirs = torch.nn.functional.cross_entropy(twin(torch.tensor(x, dtype=dtype)), torch.tensor(labels))
            theirs.backward()
            found[name] = [theirs.detach().double().numpy(), *(p.grad.double().numpy() for p in twin.parameters())]
        # The bias before a batch norm has a gradient of 0.
        kept = [number for number, a in enumerate(found["exact"]) if np.linalg.norm(a) > 1e-9]
        for name, of in errors.items():
            of.append(
                [np.linalg.norm(found[name][n] - found["exact"][n]) / np.linalg.norm(found["exact"][n]) for n in kept]
            )
    ours, theirs = (np.sqrt(np.square(errors[name]).mean(0)) for name in ("ours", "theirs"))
    assert (ours > 1e-4).all(), "bfloat16 was not used"
    assert (ours <= 2 * theirs).all(), (ours, theirs)


@pytest.mark.peer("autocast")
@pytest.mark.parametrize("name", ["linear", "matmul", "conv1d", "conv2d", "conv3d", "conv_transpose2d"])
def test_what_pytorch_computes_in_half(name, rng):
    torch = pytest.importorskip("torch")
    assert name in IN_HALF
    function = torch.matmul if name == "matmul" else getattr(torch.nn.functional, name)
    _, shapes = FUNCTIONS[name if name == "matmul" else f"{name} without bias" if name == "linear" else name]
    x, w = (torch.ones(shape) for shape in (((2, 4, 6, 5), (4, 3, 3, 2)) if "transpose" in name else shapes[:2]))
    w = torch.ones(6, x.shape[1], *w.shape[2:]) if name in ("conv1d", "conv2d", "conv3d") else w
    with torch.autocast("cpu", torch.bfloat16):
        assert function(x, w).dtype == torch.bfloat16


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("emulated", [False, True], ids=["numpy", "emulated"])
def test_evaluation_under_autocast_is_near_float32(emulated, half):
    """For who wants measures in the half type: evaluate follows the context that it is called in."""
    _, (x, y) = digits(0)
    model = lenet(generator=random_generator(0))
    count = 32 if emulated else len(x)
    wide = evaluate(model, x[:count], y[:count])
    context = cuda.emulate() if emulated else autocast(half)
    with context, autocast(half):
        narrow = evaluate(model, x[:count], y[:count])
    assert narrow.loss != wide.loss
    assert abs(narrow.loss - wide.loss) <= 4 * EPS[half]
