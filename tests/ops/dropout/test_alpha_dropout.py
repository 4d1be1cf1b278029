import numpy as np
import pytest

from gpunn import functional as F
from gpunn import nn, tensor
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, ShapeError
from gpunn.ops.dropout import alpha, dropout

KINDS = pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
LOW = -1.7580993408473766


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@KINDS
def test_what_is_kept_is_as_dropout_has_it(run, name, dtype, rng):
    x, gy = (rng.standard_normal((3, 5, 4)).astype(dtype) for _ in range(2))
    channels = name[0] == "f"
    kept = dropout(np.ones((3, 5) if channels else x.shape, dtype), 0.3, 7) > 0
    kept = kept[..., None] if channels else kept
    found = run(lambda x: alpha.kept_elements(name, x, 0.3, 7, channels), x)
    np.testing.assert_array_equal(found, kept)
    scale = 1 / np.sqrt(0.7 * (1 + 0.3 * LOW**2))
    y = run(alpha.alpha_dropout, x, 0.3, kept)
    assert y.dtype == dtype
    tolerance = 4 * np.finfo(dtype).eps
    dropped = np.where(kept, np.float64(x), LOW)
    np.testing.assert_allclose(y, scale * (dropped - LOW * 0.3), rtol=tolerance, atol=tolerance)
    gx = run(alpha.alpha_dropout_backward, gy, 0.3, kept)
    np.testing.assert_allclose(gx, np.where(kept, scale * np.float64(gy), 0), rtol=tolerance, atol=tolerance)


@KINDS
def test_mean_and_variance_stay_and_the_ends_are_exact(run, name):
    function, layer = getattr(F, name), {"a": nn.AlphaDropout, "f": nn.FeatureAlphaDropout}[name[0]]
    x = random_generator(1).standard_normal((200, 100, 2))
    for p in (0.2, 0.5, 0.9):
        y = run(lambda x, p=p: function(x, p, True, generator=random_generator(2)), x)
        assert abs(y.mean()) < 0.05
        assert abs(y.var() - 1) < 0.05
    np.testing.assert_array_equal(layer(0.9, generator=random_generator(2))(x), y)
    x[0, 0] = np.inf
    np.testing.assert_array_equal(function(x, 0, True), x)
    assert not function(x, 1, True).any()
    assert function(x) is x
    assert layer().eval()(x) is x
    leaf = tensor(x, requires_grad=True)
    function(leaf, 1.0, True).sum().backward()
    assert not leaf.grad.any()
    assert function(x[:0], 0.5, True).shape == (0, 100, 2)


def test_errors_name_rule_and_values():
    with pytest.raises(ArgumentError, match="alpha_dropout: p must be a probability, 0 to 1, got p=1.5"):
        F.alpha_dropout(np.ones(3), 1.5, True)
    with pytest.raises(ShapeError, match=r"feature_alpha_dropout: x must have at least .* \(N, C\), got shape=\(3,\)"):
        F.feature_alpha_dropout(np.ones(3), 0.5, True)
    with pytest.raises(ArgumentError, match="FeatureAlphaDropout: p must be a probability"):
        nn.FeatureAlphaDropout(-1)


@pytest.mark.peer("alpha_dropout", "feature_alpha_dropout")
@KINDS
def test_matches_pytorch(name):
    """PyTorch draws other elements; with those it is the same."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x, p = rng.uniform(0.1, 2, (4, 5, 3)), float(rng.choice([0.0, 0.1, 0.5, 0.9, 1.0]))
        leaf = torch.tensor(x, requires_grad=True)
        expected = getattr(torch.nn.functional, name)(leaf, p, True)
        expected.backward(torch.tensor(x))
        kept = leaf.grad.numpy() > 0
        np.testing.assert_allclose(alpha.alpha_dropout(x, p, kept), expected.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(alpha.alpha_dropout_backward(x, p, kept), leaf.grad.numpy(), rtol=1e-12)
