"""Attention, and the layers of a transformer made of it."""

import copy
import pickle
from functools import partial

import agreement
import numpy as np
import pytest

import gpunn.functional as F
from gpunn import nn, tensor
from gpunn.backend import random_generator
from gpunn.casting import autocast
from gpunn.errors import ArgumentError, DtypeError, ShapeError


def naive(q, k, v, mask):
    """Of one head, query by query; the mask is added."""
    y = np.zeros((len(q), v.shape[1]))
    for number, each in enumerate(q):
        scores = [each @ key / np.sqrt(q.shape[1]) + shift for key, shift in zip(k, mask[number], strict=True)]
        weights = np.exp(np.array(scores) - max(scores)) if max(scores) > -np.inf else np.zeros(len(scores))
        y[number] = sum(w * row for w, row in zip(weights, v, strict=True)) / max(weights.sum(), 1e-300)
    return y


@pytest.mark.parametrize("kind", ["none", "booleans", "floats", "causal", "one is blind"])
def test_each_query_weighs_the_values(run, kind, rng):
    q, k, v = rng.standard_normal((3, 5)), rng.standard_normal((6, 5)), rng.standard_normal((6, 2))
    seen = {"causal": np.tri(3, 6) > 0, "none": np.ones((3, 6), bool)}.get(kind, rng.random((3, 6)) < 0.7)
    seen[1] &= kind != "one is blind"
    shifts = rng.standard_normal((3, 6)) if kind == "floats" else np.where(seen, 0, -np.inf)
    mask = {"none": None, "causal": None, "floats": shifts}.get(kind, seen)
    for dtype in (np.float64, np.float32, np.float16):
        given = None if mask is None else mask if mask.dtype == bool else mask.astype(dtype)
        cast = [a.astype(dtype) for a in (q, k, v)]
        y = run(F.scaled_dot_product_attention, *cast, given, is_causal=kind == "causal")
        assert y.dtype == dtype
        np.testing.assert_allclose(y, naive(q, k, v, shifts), rtol=0, atol=16 * np.finfo(dtype).eps)


def test_a_blind_query_leaves_the_gradients_finite():
    q, k, v = (tensor(np.ones((2, 3)), requires_grad=True) for _ in range(3))
    mask = np.array([[True, True], [False, False]])
    for each in (mask, np.where(mask, 0.0, -np.inf)):
        F.scaled_dot_product_attention(q, k, v, each).sum().backward()
        assert all(np.isfinite(leaf.grad).all() for leaf in (q, k, v))


def test_a_head_serves_several_queries(rng):
    q, k, v = rng.standard_normal((2, 6, 3, 4)), *rng.standard_normal((2, 2, 2, 5, 4))
    y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    for head in range(6):
        one = F.scaled_dot_product_attention(q[:, head], k[:, head // 3], v[:, head // 3])
        np.testing.assert_allclose(y[:, head], one, rtol=1e-12)


def test_dropped_weights_are_those_of_the_generator(rng):
    q, k, v = rng.standard_normal((3, 5)), rng.standard_normal((6, 5)), np.eye(6)
    y = F.scaled_dot_product_attention(q, k, v, None, 0.4, generator=random_generator(1))
    whole = F.scaled_dot_product_attention(q, k, v)
    np.testing.assert_allclose(y, F.dropout(whole, 0.4, generator=random_generator(1)))


ROWS = np.ones((3, 4))
REFUSED = {
    "a vector": (lambda: attend(ROWS[0]), ShapeError, r"must have at least 2 dimensions, .* got query=\(4,\), key="),
    "sizes": (lambda: attend(ROWS[:, :2]), ShapeError, r"must have one size E, got query=\(3, 2\), key=\(3, 4\)"),
    "a mask of integers": (
        lambda: attend(mask=np.ones((3, 3), int)),
        DtypeError,
        "of booleans, or of the dtype of que",
    ),
    "shape of a mask": (lambda: attend(mask=np.ones((2, 3))), ShapeError, r"attn_mask must broadcast to \(..., 3, 3\)"),
    "a mask beside": (lambda: attend(mask=np.eye(3), is_causal=True), ArgumentError, "must be None where is_causal is"),
    "heads": (lambda: attend(np.ones((3, 2, 4)), enable_gqa=True), ShapeError, "must be a multiple of those of key"),
    "dropout": (lambda: attend(dropout_p=2.0), ArgumentError, "p must be a probability, 0 to 1, got p=2.0"),
    "scale": (lambda: attend(scale="1"), ArgumentError, "scale must be a number, got scale='1'"),
}


def attend(q=ROWS, mask=None, **settings):
    return F.scaled_dot_product_attention(q, ROWS, ROWS, mask, **settings)


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_rule_and_values(name):
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()


# ---- layers ----------------------------------------------------------------------------------------------------------

X = np.ones((5, 2, 6), np.float32)
HEADS = partial(nn.MultiheadAttention, 6, 2)
WRONG = {
    "heads": (lambda: nn.MultiheadAttention(6, 4), ArgumentError, "num_heads must divide embed_dim, got num_heads=4"),
    "dropout": (lambda: HEADS(dropout=2), ArgumentError, "MultiheadAttention: p must be a probability"),
    "size": (lambda: HEADS()(X[..., :5], X, X), ShapeError, r"query must have the dimensions \(length, N, 6\), got"),
    "batch": (lambda: HEADS()(X, X[:, :1], X[:, :1]), ShapeError, "must have one batch, key and value one length"),
    "no batch": (lambda: HEADS()(X[:, 0], X, X), ShapeError, r"key must have the dimensions \(length, 6\), got"),
    "causal": (lambda: HEADS()(X, X, X, is_causal=True), ArgumentError, "is_causal says what attn_mask is: give it"),
    "mask": (lambda: HEADS()(X, X, X, attn_mask=X[0] > 0), ShapeError, r"attn_mask must have shape \(5, 5\) or \(4, 5"),
    "padding": (lambda: HEADS()(X, X, X, X[:, 0] > 0), ShapeError, r"key_padding_mask must have shape \(2, 5\), got"),
    "dtype": (lambda: HEADS()(X, X, X, attn_mask=np.eye(5)), DtypeError, "of booleans, or of the dtype of query, got"),
    "lists": (lambda: HEADS()([[1.0]], X, X), DtypeError, "MultiheadAttention: query must be a NumPy or CuPy"),
    "activation": (
        lambda: nn.TransformerEncoderLayer(6, 2, 3, activation="tanh"),
        ArgumentError,
        'must be "relu", "ge',
    ),
    "layers": (lambda: nn.TransformerEncoder(nn.ReLU(), 0), ArgumentError, "num_layers must be an integer of at least"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_of_layers(name):
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call()


def test_what_a_layer_holds():
    own, other = HEADS(), nn.MultiheadAttention(6, 2, bias=False, kdim=3, vdim=6, add_bias_kv=True)
    assert list(own.state_dict()) == ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    weights = [f"{name}_proj_weight" for name in "qkv"]
    assert list(other.state_dict()) == [*weights, "bias_k", "bias_v", "out_proj.weight"]
    with pytest.raises(TypeError, match="MultiheadAttention: bias_k can become another Parameter or None"):
        own.bias_k = np.zeros((1, 1, 6))
    assert not own.in_proj_bias.data.any()
    assert not own.out_proj.bias.data.any()
    bound = np.sqrt(6 / (6 + 18))
    assert 0.8 * bound < abs(own.in_proj_weight.data).max() <= bound


def test_dropout_is_that_of_training():
    layer, mask = HEADS(dropout=0.5, generator=random_generator(0)), np.zeros((5, 5), bool)
    _, weights = layer(X, X, X, attn_mask=mask)
    assert not weights.data.all()
    y, weights = layer.eval()(X, X, X, attn_mask=mask)
    np.testing.assert_allclose(weights.data, 0.2, rtol=1e-6)
    np.testing.assert_array_equal(y.data, layer(X, X, X, need_weights=False)[0].data)


def test_under_autocast_the_products_are_half():
    layer = nn.TransformerEncoderLayer(6, 2, 8, 0.0)
    layer(X, nn.Transformer.generate_square_subsequent_mask(5)).sum().backward()
    exact = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    with autocast("fp16"):
        y = layer(X, nn.Transformer.generate_square_subsequent_mask(5))
        assert HEADS()(X, X, X)[0].dtype == np.float16
    y.sum().backward()
    for p, right in zip(layer.parameters(), exact, strict=True):
        assert p.grad.dtype == np.float32
        np.testing.assert_allclose(p.grad, right, atol=0.02 * max(1, abs(right).max()))


def test_copies_of_a_layer_begin_alike_and_learn_apart():
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8), 2, nn.LayerNorm(6))
    first, second = (layer.linear1.weight for layer in net.layers)
    np.testing.assert_array_equal(first.data, second.data)
    assert first is not second
    assert "layers.1.self_attn.out_proj.weight" in net.state_dict()
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(again.eval()(X).data, net.eval()(X).data)


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def drawn_masks(rng, length, source, examples, heads):
    """What may be given as masks, in the form of a layer: True where nobody looks."""
    hidden = [rng.random(shape) < 0.3 for shape in ((length, source), (examples * heads, length, source))]
    floats = [rng.standard_normal((length, source)), np.where(hidden[0], -np.inf, 0.0)]
    return [None, *hidden, *floats][int(rng.integers(0, 5))]


@pytest.mark.peer("scaled_dot_product_attention")
def test_attention_matches_pytorch(run):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        length, source, size, out, heads, times = map(int, rng.integers(1, 5, 6))
        leading = tuple(map(int, rng.integers(1, 3, seed % 3)))
        shapes = [(*leading, heads, length, size), (*leading, heads, source, size), (*leading, heads, source, out)]
        settings = {"scale": None if seed % 2 else 0.7, "is_causal": seed % 5 == 0}
        if seed % 7 == 0 and leading:
            shapes[0], settings["enable_gqa"] = (*leading, heads * times, length, size), True
        mask = drawn_masks(rng, length, source, 1, 1)
        settings |= {"attn_mask": None} if settings["is_causal"] or mask is None else {}
        arrays = [rng.standard_normal(shape) for shape in shapes]
        constants = [] if "attn_mask" in settings else [~mask if mask.dtype == bool else mask]
        both = agreement.both(torch, "scaled_dot_product_attention", **settings)
        agreement.assert_agrees(run, torch, *both, arrays, constants, where=f"{seed=} {shapes} {settings}")


def several(result):
    return result if isinstance(result, tuple) else (result,)


def gradients_agree(own, theirs, inputs, torch, where, **settings):
    """The results of both layers, and the gradients of their parameters and inputs, for the same numbers."""
    own.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    leaves = [tensor(a, requires_grad=True) for a in inputs]
    others = [torch.tensor(a, requires_grad=True) for a in inputs]
    y, *more = several(own(*leaves, **settings))
    given = {name: torch.tensor(v) if isinstance(v, np.ndarray) else v for name, v in settings.items()}
    wanted, *further = several(theirs(*others, **given))
    close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9, err_msg=where)
    for a, b in zip([y, *more], [wanted, *further], strict=True):
        assert (a is None) == (b is None), where
        if a is not None:
            close(a.data, b.detach().numpy())
    gy = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(gy)
    wanted.backward(torch.tensor(gy))
    if np.isfinite(y.data).all():
        named = dict(theirs.named_parameters())
        for a, b in [*((p, named[name]) for name, p in own.named_parameters()), *zip(leaves, others, strict=True)]:
            close(a.grad, b.grad.numpy())


@pytest.mark.peer("MultiheadAttention")
@pytest.mark.parametrize("seed", range(30))
def test_heads_are_pytorchs(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    length, source, examples, heads, size, kdim, vdim = map(int, rng.integers(1, 5, 7))
    e = heads * size
    names = "bias", "add_bias_kv", "add_zero_attn", "batch_first"
    flags = dict(zip(names, map(bool, rng.integers(0, 2, 4)), strict=True))
    flags |= {"kdim": kdim, "vdim": vdim} if seed % 2 else {}
    own = nn.MultiheadAttention(e, heads, dtype=np.float64, **flags)
    theirs = torch.nn.MultiheadAttention(e, heads, dtype=torch.float64, **flags)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    sizes = [(length, e), (source, own.kdim), (source, own.vdim)]
    inputs = [rng.standard_normal((rows, examples, columns)) for rows, columns in sizes]
    inputs = [a[:, 0] if seed % 5 == 0 else a.swapaxes(0, 1).copy() if flags["batch_first"] else a for a in inputs]
    settings = {"need_weights": bool(seed % 3), "average_attn_weights": bool(seed % 4)}
    settings["attn_mask"] = drawn_masks(rng, length, source, 1 if seed % 5 == 0 else examples, heads)
    if seed % 3 == 1 and (settings["attn_mask"] is None or settings["attn_mask"].dtype == bool):
        settings["key_padding_mask"] = rng.random(source if seed % 5 == 0 else (examples, source)) < 0.3
    gradients_agree(own, theirs, inputs, torch, f"{seed=} {flags} {settings}", **settings)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.peer("TransformerEncoderLayer", "TransformerDecoderLayer", "Transformer")
@pytest.mark.parametrize("seed", range(12))
def test_the_layers_of_a_transformer_are_pytorchs(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    first, norm_first, bias = (bool(seed & bit) for bit in (1, 2, 4))
    flags = {"dropout": 0.0, "batch_first": first, "norm_first": norm_first, "bias": bias, "layer_norm_eps": 1e-3}
    flags |= {"d_model": 6, "nhead": 3, "dim_feedforward": 5, "activation": "gelu" if seed % 3 else "relu"}
    source, target = (rng.standard_normal((2, n, 6) if first else (n, 2, 6)) for n in (4, 3))
    hidden, causal = rng.random((2, 4)) < 0.3, np.triu(np.full((3, 3), -np.inf), 1)
    kinds = {
        "TransformerEncoderLayer": ([source], {"src_key_padding_mask": hidden}),
        "TransformerDecoderLayer": ([target, source], {"tgt_mask": causal, "tgt_is_causal": True}),
        "Transformer": ([source, target], {"tgt_mask": causal, "memory_key_padding_mask": hidden}),
    }
    for name, (inputs, settings) in kinds.items():
        more = {"num_encoder_layers": 1, "num_decoder_layers": 2} if name == "Transformer" else {}
        theirs = getattr(torch.nn, name)(**flags, **more, dtype=torch.float64)
        own = getattr(nn, name)(**flags, **more, dtype=np.float64)
        gradients_agree(own, theirs, inputs, torch, f"{name} {seed=}", **settings)
