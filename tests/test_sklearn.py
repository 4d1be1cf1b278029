import copy
import os
import pickle
import pickletools
import subprocess
import sys
from functools import partial

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import gpunn
from gpunn import nn, optim
from gpunn.backend import default_generator, random_generator, use_generator
from gpunn.errors import ArgumentError, PackageError, ShapeError, TrainingError
from gpunn.sklearn import NeuralClassifier, NeuralRegressor
from gpunn.sklearn.base import ACTIVATIONS, OPTIMIZERS, _stream
from gpunn.sklearn.examples import distinct, split


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a", "b"] * 3, "y must be numbers, not texts, got first=.*'a'"),
        (np.array(["1", "2"] * 3), "y must be numbers, not texts, got first=.*'1'"),
        (np.array([1.0, "2"] * 3, object), "y must be numbers, not texts"),
        (np.array([b"1"] * 6), "y must be numbers, not texts"),
        (np.arange(6).astype("M8[D]"), "y must be numbers, got dtype='datetime64.D.'"),
    ],
)
def test_targets_of_a_regressor_are_numbers(y, message):
    X = np.arange(12.0).reshape(6, 2)
    for fit in (NeuralRegressor(epochs=1).fit, NeuralRegressor().partial_fit):
        with pytest.raises(ArgumentError, match=f"NeuralRegressor: {message}"):
            fit(X, y)


BOTH = pytest.mark.parametrize("kind", [NeuralClassifier, NeuralRegressor])


@pytest.mark.slow
@parametrize_with_checks([NeuralClassifier(epochs=8), NeuralRegressor(epochs=8)])
def test_conventions(estimator, check):
    check(estimator)


def test_conventions_of_the_array_api():
    """The one check that scikit-learn skips unless SciPy was told so before its import."""
    code = """
from sklearn.utils.estimator_checks import check_array_api_input
from gpunn.sklearn import NeuralClassifier, NeuralRegressor
for kind in NeuralClassifier, NeuralRegressor:
    check_array_api_input(kind.__name__, kind(), array_namespace="numpy", expect_only_array_outputs=False)
print("passed")
"""
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "passed\n", done.stderr


def small(n=40, features=3, seed=0):
    """Inputs, and classes or numbers that follow from them, each row different."""
    rng = random_generator(seed)
    X = rng.normal(size=(n, features))
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def predicted(estimator, X):
    return estimator.predict_proba(X) if isinstance(estimator, NeuralClassifier) else estimator.predict(X)


def net_with_dropout(n_features, n_outputs):
    hidden = nn.Linear(n_features, 16)
    return nn.Sequential(hidden, nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, n_outputs))


def convolutional(n_features, n_outputs):
    images = nn.Unflatten(1, (1, 8, 8))
    features = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(images, *features, nn.Linear(8 * 4 * 4, n_outputs))


# ---- learning ------------------------------------------------------------------------------------------------------


def test_digits_by_cross_validation_in_a_pipeline():
    X, y = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), NeuralClassifier(epochs=20, random_state=0))
    scores = cross_val_score(model, X, y, cv=StratifiedKFold(3, shuffle=True, random_state=0))
    assert scores.mean() > 0.96, scores


def test_a_convolutional_net_learns_digits():
    X, y = load_digits(return_X_y=True)
    train, test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    model = NeuralClassifier(module=convolutional, epochs=12, lr=5e-3, random_state=0).fit(train, y_train)
    assert model.score(test, y_test) > 0.93


@pytest.mark.slow
def test_regression_on_diabetes_is_as_good_as_least_squares():
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import LinearRegression

    X, y = load_diabetes(return_X_y=True)
    network = NeuralRegressor((8,), epochs=60, weight_decay=0.03, random_state=0)
    scaled = TransformedTargetRegressor(make_pipeline(StandardScaler(), network), transformer=StandardScaler())
    assert cross_val_score(scaled, X, y).mean() > cross_val_score(LinearRegression(), X, y).mean() - 0.05


def test_a_linear_regressor_reaches_the_weighted_least_squares():
    rng = random_generator(1)
    X, weight = rng.normal(size=(60, 3)), rng.uniform(0.1, 3, 60)
    y = X @ rng.normal(size=(3, 2)) + rng.normal(size=(60, 2)) + 1
    model = NeuralRegressor((), optimizer="sgd", lr=0.2, epochs=200, batch_size=60, random_state=0)
    found = model.fit(X, y, weight).predict(X)
    A, root = np.hstack([X, np.ones((60, 1))]), np.sqrt(weight)[:, None]
    best = A @ np.linalg.lstsq(A * root, y * root, rcond=None)[0]
    # The residue after convergence is float32's rounding: 1e-7 times the condition of a small problem.
    np.testing.assert_allclose(found, best, atol=1e-4)
    loss = (weight[:, None] * (y - best) ** 2).sum() / weight.sum() / 2
    assert model.loss_curve_[-1] == pytest.approx(loss, rel=1e-4)


@BOTH
def test_grid_search_and_clone(kind):
    X, y = small()
    search = GridSearchCV(kind(epochs=5, random_state=0), {"lr": [1e-6, 0.05], "hidden_layer_sizes": [(8,), ()]}, cv=2)
    assert search.fit(X, y).best_params_["lr"] == 0.05
    copied = clone(search.best_estimator_)
    assert not hasattr(copied, "module_")
    np.testing.assert_array_equal(predicted(copied.fit(X, y), X), predicted(search.best_estimator_, X))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_lowers_the_loss(optimizer):
    X, y = small()
    curve = NeuralClassifier((8,), optimizer=optimizer, lr=0.01, epochs=10, random_state=0).fit(X, y).loss_curve_
    assert curve[-1] < curve[0], curve


@pytest.mark.parametrize("activation", [*ACTIVATIONS, nn.Hardsigmoid])
def test_each_activation_lowers_the_loss(activation):
    X, y = small()
    curve = NeuralClassifier((8,), activation, lr=0.01, epochs=10, random_state=0).fit(X, y).loss_curve_
    assert curve[-1] < curve[0], curve


def test_optimizer_and_weight_decay_reach_the_training():
    X, y = small()
    settings = {"hidden_layer_sizes": (4,), "epochs": 5, "random_state": 0}
    plain = NeuralRegressor(optimizer="sgd", lr=0.005, **settings).fit(X, y)
    momentum = NeuralRegressor(optimizer=partial(optim.SGD, momentum=0.9), lr=0.005, **settings).fit(X, y)
    decayed = NeuralRegressor(optimizer="sgd", lr=0.005, weight_decay=10.0, **settings).fit(X, y)
    assert momentum.loss_curve_[-1] < plain.loss_curve_[-1]
    norms = [np.abs(model.module_[0].weight.data).sum() for model in (plain, decayed)]
    assert norms[1] < 0.8 * norms[0]


def test_verbose_prints_a_line_each_epoch(capsys):
    X, y = small()
    model = NeuralRegressor(epochs=2, early_stopping=True, verbose=True, random_state=0).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    held = model.validation_loss_curve_
    assert lines == [f"epoch {n + 1}: loss {model.loss_curve_[n]:.6g}, validation loss {held[n]:.6g}" for n in range(2)]


# ---- early stopping ------------------------------------------------------------------------------------------------


@BOTH
def test_early_stopping_keeps_the_best_epoch(kind):
    rng = random_generator(2)
    X, y = rng.normal(size=(50, 8)), rng.integers(0, 2, 50)  # nothing to learn: the validation loss soon rises
    settings = {"hidden_layer_sizes": (32,), "lr": 0.01, "early_stopping": True, "validation_fraction": 0.3}
    model = kind(**settings, patience=3, random_state=0).fit(X, y)
    held = model.validation_loss_curve_
    best = int(np.argmin(held))
    assert model.n_iter_ == len(held) == len(model.loss_curve_) == best + 1 + 3 < 100
    shorter = kind(**settings, patience=3, random_state=0, epochs=best + 1).fit(X, y)
    np.testing.assert_array_equal(predicted(model, X), predicted(shorter, X))


def test_the_validation_loss_is_weighted():
    """Against the formula, on the examples that are held back: here the epoch changes nothing."""
    X, y = small()
    weight = random_generator(1).uniform(0.1, 3, 40)
    model = NeuralRegressor(
        lr=0.0, optimizer="sgd", epochs=1, early_stopping=True, validation_fraction=0.3, random_state=0, batch_size=5
    ).fit(X, y, weight)
    _, held = split(
        "x", distinct(*(a.astype(np.float32) for a in (X, y[:, None])), weight), 0.3, False, _stream(model._seed, 1)
    )
    expected = np.average((model.predict(held.x) - held.target[:, 0]) ** 2, weights=held.weight)
    assert len(held) == 12
    assert model.validation_loss_curve_ == [pytest.approx(expected, rel=1e-5)]


def test_the_split_keeps_the_proportions_of_the_classes(rng):
    target = rng.permutation(np.repeat([0, 1, 2], [60, 30, 10]))
    examples = distinct(np.arange(100.0)[:, None], target, np.ones(100))
    train, validation = split("x", examples, 0.2, True, rng)
    assert np.bincount(validation.target).tolist() == [12, 6, 2]
    assert sorted([*train.x.ravel(), *validation.x.ravel()]) == list(range(100))


# ---- weights -------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("module", [None, net_with_dropout])
def test_weights_are_repetitions_bit_for_bit(kind, early_stopping, module):
    X, y = small(30)
    weight = random_generator(3).integers(0, 4, 30)
    order = random_generator(4).permutation(int(weight.sum()))
    model = kind(module=module, epochs=6, batch_size=7, early_stopping=early_stopping, random_state=0)
    weighted = clone(model).fit(X, y, weight)
    repeated = clone(model).fit(X.repeat(weight, axis=0)[order], y.repeat(weight)[order])
    assert weighted.loss_curve_ == repeated.loss_curve_
    np.testing.assert_array_equal(predicted(weighted, X), predicted(repeated, X))


def test_the_expected_loss_of_a_batch_is_the_weighted_mean():
    X, y = small(12)
    weight = np.arange(12) + 0.5
    model = NeuralRegressor((), lr=0.0, epochs=1, batch_size=5, random_state=0).fit(X, y, weight)
    expected = np.average((model.predict(X) - y) ** 2, weights=weight)
    assert model.loss_curve_[0] == pytest.approx(expected, rel=1e-5)


def test_classes_of_weight_zero_are_removed():
    X, y = small()
    y[:5] = 7
    model = NeuralClassifier(epochs=1, random_state=0).fit(X, y, (y != 7).astype(float))
    assert model.classes_.tolist() == [0, 1]


def test_equal_examples_are_merged_and_zeros_have_no_sign():
    X = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0], [0.0, 2.0]], np.float32)
    merged = distinct(X, np.array([[0.0], [-0.0], [1.0], [0.0]], np.float32), np.array([1.0, 2.0, 4.0, 8.0]))
    rows = sorted(zip(merged.x.tolist(), merged.target.tolist(), merged.weight.tolist(), strict=True))
    assert rows == [([0.0, 1.0], [0.0], 3.0), ([0.0, 1.0], [1.0], 4.0), ([0.0, 2.0], [0.0], 8.0)]


# ---- the same bits -------------------------------------------------------------------------------------------------


@BOTH
def test_random_state_decides_every_bit(kind):
    X, y = small()
    found = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        gpunn.manual_seed(seed)
        before = default_generator().bit_generator.state["state"]["counter"].tolist()
        found.append(kind(module=net_with_dropout, epochs=3, random_state=5).fit(X, y))
        assert default_generator().bit_generator.state["state"]["counter"].tolist() == before
    np.testing.assert_array_equal(predicted(found[0], X), predicted(found[1], X))
    assert found[0].loss_curve_ == found[1].loss_curve_
    other = kind(module=net_with_dropout, epochs=3, random_state=6).fit(X, y)
    assert other.loss_curve_ != found[0].loss_curve_


def test_each_epoch_draws_numbers_of_its_own():
    X, y = small()
    curve = NeuralRegressor(module=net_with_dropout, lr=0.0, epochs=3, random_state=0).fit(X, y).loss_curve_
    assert len(set(curve)) == 3


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_row_gives_the_same_beside_any_others(rng, activation):
    X = rng.normal(size=(75, 64))
    model = NeuralClassifier((50,), activation, epochs=1, random_state=0).fit(X, rng.integers(0, 3, 75))
    alone = np.concatenate([model.predict_proba(row[None]) for row in X])
    # Sums of 64 numbers in float64: 64 roundings of 1e-16. In float32 the difference is 1e-7.
    np.testing.assert_allclose(model.predict_proba(X), alone, rtol=1e-13)
    assert {parameter.dtype for parameter in model.module_.parameters()} == {np.dtype(np.float32)}


@BOTH
def test_predictions_are_what_the_network_gives(kind, rng):
    X, y = small()
    for module in (None, net_with_dropout):
        model = kind((9,), module=module, epochs=1, random_state=0).fit(X, y)
        with model.module_.evaluating():
            found = model.module_(X.astype(np.float32)).data
        expected = np.exp(found) / np.exp(found).sum(1, keepdims=True) if kind is NeuralClassifier else found[:, 0]
        np.testing.assert_allclose(predicted(model, X), expected, rtol=1e-5, atol=1e-6)


def test_use_generator_holds_within_its_context_alone():
    gpunn.manual_seed(3)
    outer = default_generator()
    inner = random_generator(1)
    with use_generator(inner):
        assert default_generator() is inner
    assert default_generator() is outer


# ---- a part at a time ----------------------------------------------------------------------------------------------


@BOTH
def test_partial_fit_of_everything_is_an_epoch_of_fit(kind):
    X, y = small()
    classes = [[0, 1]] if kind is NeuralClassifier else []
    whole = kind(module=net_with_dropout, epochs=4, random_state=0).fit(X, y)
    parts = kind(module=net_with_dropout, random_state=0).partial_fit(X, y, *classes).partial_fit(X, y)
    parts = pickle.loads(pickle.dumps(parts))  # with the states of Adam
    parts.partial_fit(X, y).partial_fit(X, y)
    assert whole.loss_curve_ == parts.loss_curve_
    assert whole.n_iter_ == parts.n_iter_ == 4
    np.testing.assert_array_equal(predicted(whole, X), predicted(parts, X))


def test_partial_fit_takes_a_new_learning_rate():
    X, y = small()
    model = NeuralRegressor(lr=0.01, random_state=0).partial_fit(X, y)
    before = model.predict(X)
    np.testing.assert_array_equal(model.set_params(lr=0.0).partial_fit(X, y).predict(X), before)


def test_partial_fit_that_fails_leaves_the_network_as_it_was():
    X, y = small()
    model = NeuralRegressor(optimizer="sgd", random_state=0).partial_fit(X, y)
    before = model.predict(X)
    with pytest.raises(
        TrainingError, match="NeuralRegressor: Trainer: the .* at step [12] .*: try a smaller learning rate, or scale"
    ):
        model.set_params(lr=1e30).partial_fit(X, y)
    np.testing.assert_array_equal(model.predict(X), before)
    assert model.n_iter_ == 1


def test_a_fit_that_fails_is_no_fit():
    X, y = small()
    model = NeuralRegressor(random_state=0).fit(X, y)
    with pytest.raises(TrainingError):
        model.set_params(optimizer="sgd", lr=1e30).fit(X, y)
    with pytest.raises(NotFittedError):
        model.predict(X)


# ---- pickling ------------------------------------------------------------------------------------------------------


def through_joblib(estimator, folder):
    joblib.dump(estimator, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


@BOTH
@pytest.mark.parametrize("module", [None, net_with_dropout])
@pytest.mark.parametrize(
    "copied", [lambda e, _: pickle.loads(pickle.dumps(e)), lambda e, _: copy.deepcopy(e), through_joblib]
)
def test_copies_predict_the_same_bits(kind, module, copied, tmp_path):
    X, y = small()
    model = kind((7,), "tanh", module=module, epochs=2, random_state=0).fit(X, y)
    model.set_params(hidden_layer_sizes=(3,), module=None)  # what is fitted stays what it is
    again = copied(model, tmp_path)
    np.testing.assert_array_equal(predicted(again, X), predicted(model, X))
    assert again.module_ is not model.module_
    assert again.get_params()["hidden_layer_sizes"] == (3,)


def test_a_pickle_holds_the_weights_as_safetensors_and_no_arrays():
    pandas = pytest.importorskip("pandas")
    X, y = small()
    X, y = pandas.DataFrame(X, columns=["a", "b", "c"]), np.array(["no", "yes"])[y]
    content = pickle.dumps(NeuralClassifier(epochs=1, random_state=0).fit(X, y))
    modules = {str(word) for _, word, _ in pickletools.genops(content) if isinstance(word, str)}
    assert not [word for word in modules if word.startswith("numpy")]
    again = pickle.loads(content)
    assert again.classes_.tolist() == ["no", "yes"]
    assert again.feature_names_in_.tolist() == ["a", "b", "c"]
    from safetensors.numpy import load

    weights = load(again.__getstate__()["_weights"])
    np.testing.assert_array_equal(weights["module.0.weight"], again.module_[0].weight.data)
    assert "optimizer.parameters.0.weight.mean" in weights


# ---- what goes in --------------------------------------------------------------------------------------------------


def test_data_frames_are_taken_and_their_names_checked():
    pandas = pytest.importorskip("pandas")
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = NeuralClassifier(epochs=2, random_state=0).fit(X, y, pandas.Series(np.ones(len(y))))
    assert model.feature_names_in_.tolist() == X.columns.tolist()
    assert model.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns=lambda name: name.upper()))


def test_regression_gives_the_shape_of_y():
    X, y = small()
    for target in (y, y[:, None], np.stack([y, 1 - y], axis=1)):
        model = NeuralRegressor(epochs=1, random_state=0).fit(X, target)
        assert model.predict(X).shape == target.shape


def test_before_fit():
    with pytest.raises(NotFittedError, match="NeuralClassifier"):
        NeuralClassifier().predict([[1.0]])


def test_sparse_input_is_refused():
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match="[Ss]parse"):
        NeuralRegressor().fit(csr_array(np.eye(3)), np.arange(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be a sequence of integers of at least 1, got"),
        ({"hidden_layer_sizes": 3}, "hidden_layer_sizes must be a sequence"),
        ({"activation": "rely"}, "activation must be one of identity, relu, .* got activation='rely'"),
        ({"optimizer": "madam"}, "optimizer must be one of adadelta, .* got optimizer='madam'"),
        ({"epochs": 0}, "epochs must be an integer of at least 1, got epochs=0"),
        ({"batch_size": 1.5}, "batch_size must be an integer of at least 1, got batch_size=1.5"),
        ({"patience": 0}, "patience must be an integer of at least 1, got patience=0"),
        ({"validation_fraction": 1.0}, "validation_fraction must lie between 0 and 1, got"),
        ({"early_stopping": True, "validation_fraction": 0.01}, "validation_fraction must leave .* examples=40"),
        ({"module": 3}, "module must be None or a function of .* got module=3"),
        ({"module": lambda n_features, n_outputs: 3}, "module must build a gpunn.nn.Module, got built='int'"),
    ],
)
@BOTH
def test_wrong_settings(kind, settings, message):
    with pytest.raises(ArgumentError, match=f"{kind.__name__}: {message}"):
        kind(**settings).fit(*small())


def test_a_wrong_learning_rate_is_refused_by_the_optimizer():
    with pytest.raises(ArgumentError, match="Adam: lr must be at least 0"):
        NeuralClassifier(lr=-1.0).fit(*small())


def test_a_module_with_other_outputs():
    with pytest.raises(
        ShapeError, match=r"NeuralClassifier: the module must give outputs \(32, 2\), got shape=\(32, 5\)"
    ):
        NeuralClassifier(module=lambda n_features, n_outputs: nn.Linear(n_features, 5)).fit(*small())


@BOTH
@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (np.ones(3), ShapeError, r"sample_weight must have shape \(40,\), got shape=\(3,\)"),
        (-np.ones(40), ArgumentError, "sample weights must not be negative, got least="),
        (np.zeros(40), ArgumentError, "sample weights must not all be zero"),
    ],
)
def test_wrong_weights(kind, weight, error, message):
    with pytest.raises(error, match=f"{kind.__name__}: {message}"):
        kind().fit(*small(), weight)


def test_wrong_calls_of_partial_fit():
    X, y = small()
    with pytest.raises(ArgumentError, match="classes must be given at the first call of partial_fit"):
        NeuralClassifier().partial_fit(X, y)
    model = NeuralClassifier(random_state=0).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ArgumentError, match=r"classes must be those of the first call, \[0, 1\], got classes=\[0, 2\]"):
        model.partial_fit(X, y, classes=[0, 2])
    with pytest.raises(ArgumentError, match=r"y must hold the classes \[0, 1\], got unknown=\[5\]"):
        model.partial_fit(X, np.where(y == 0, 5, 1))
    with pytest.raises(ArgumentError, match="partial_fit has no early stopping"):
        model.set_params(early_stopping=True).partial_fit(X, y)
    regressor = NeuralRegressor(random_state=0).partial_fit(X, y)
    with pytest.raises(ShapeError, match=r"y must have shape \(40,\), as at the first call, got shape=\(40, 2\)"):
        regressor.partial_fit(X, np.stack([y, y], axis=1))


def test_numbers_too_large_for_float32():
    X, y = small()
    with pytest.raises(ValueError, match="too large"):
        NeuralRegressor().fit(X * 1e300, y)
    with pytest.raises(ArgumentError, match="y must fit into float32, got largest="):
        NeuralRegressor().fit(X, y * 1e300)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "gpunn.sklearn")
    with pytest.raises(PackageError, match=r"pip install .*\[train\]"):
        import gpunn.sklearn  # noqa: F401
