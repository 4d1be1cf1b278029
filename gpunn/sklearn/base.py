"""What the classifier and the regressor have in common: settings, fitting, and pickling."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from gpunn import nn, optim
from gpunn.backend import (
    Array,
    check_device,
    check_not_masked,
    default_device,
    default_generator,
    use_device,
    use_generator,
)
from gpunn.checkpoint import pack, unpack
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import ArgumentError, ShapeError, TrainingError, check, fail
from gpunn.models import mlp
from gpunn.sklearn.examples import Examples, distinct, split
from gpunn.tensor import Tensor, tensor
from gpunn.train import Callback, EarlyStopping, Record, Trainer, predict

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "logistic": nn.Sigmoid,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    name.lower(): kind
    for name, kind in sorted(vars(optim).items(), key=lambda item: item[0].lower())
    if isinstance(kind, type)
    and issubclass(kind, optim.Optimizer)
    and kind not in (optim.Optimizer, optim.LBFGS, optim.Muon, optim.Rprop)
}
"""Those of :mod:`gpunn.optim` that take any parameters, batches and a weight decay, by their names in small letters."""


class _Network(NamedTuple):
    """How a fitted network was made; ``set_params`` may have changed the estimator since."""

    module: Callable[[int, int], nn.Module] | None
    hidden_layer_sizes: Sequence[int]
    activation: str | Callable[[], nn.Module]
    features: int
    outputs: int

    def computes_in_float64(self) -> bool:
        """True if only the library's own layers are in it, which do; others may hold float32 constants."""
        return self.module is None and isinstance(self.activation, str)

    def build(self, op: str, generator: np.random.Generator) -> nn.Module:
        with use_generator(generator):
            if self.module is None:
                activation = ACTIVATIONS[self.activation] if isinstance(self.activation, str) else self.activation
                return mlp((self.features, *self.hidden_layer_sizes, self.outputs), activation)
            built = self.module(self.features, self.outputs)
        kind = type(built).__name__
        check(isinstance(built, nn.Module), ArgumentError, op, "module must build a gpunn.nn.Module", built=kind)
        return built


_INITIAL, _SPLIT, _FIRST_EPOCH = 0, 1, 2


def _stream(seed: int, number: int) -> np.random.Generator:
    """The random numbers of initial values, of the split, or of an epoch: each has its own, so that
    training can resume without the state of a generator."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, number))))


class _Epochs(Callback):
    """Gives each epoch its random numbers, keeps the estimator's curves, and the best epoch of early stopping."""

    def __init__(self, estimator: NeuralEstimator, optimizer: optim.Optimizer) -> None:
        self.estimator, self.optimizer, self.least = estimator, optimizer, np.inf

    def on_start(self, trainer: Trainer) -> None:
        self.draw()

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        of, held = self.estimator, record.get("validation_loss")
        of.n_iter_ += 1
        of.loss_curve_.append(record["train_loss"])
        line = f"epoch {of.n_iter_}: loss {record['train_loss']:.6g}"
        if held is not None:
            of.validation_loss_curve_.append(held)
            line += f", validation loss {held:.6g}"
            if held < self.least:
                self.least, self.best = held, (trainer.model.state_dict(), self.optimizer.state_dict())
        if of.verbose:
            print(line)
        self.draw()

    def draw(self) -> None:
        stream = _stream(self.estimator._seed, _FIRST_EPOCH + self.estimator.n_iter_)
        default_generator().bit_generator.state = stream.bit_generator.state


def _in_float64(module: nn.Module, device: str) -> nn.Module:
    """A copy that computes in float64: a row then gives the same beside any others.

    In float32, products of matrices round by where in the matrix a row is, visibly at scikit-learn's tolerances.
    """
    with use_device(device):
        wide = copy.deepcopy(module)
        for parameter in wide.parameters():
            parameter.data = parameter.data.astype(np.float64)
    return wide


def _large_numbers() -> AbstractContextManager[None]:
    """Numbers too large for float32 become infinite without a warning; scikit-learn then refuses them."""
    return np.errstate(over="ignore", invalid="ignore")


class NeuralEstimator(BaseEstimator):  # type: ignore[misc]
    """The base of :class:`~gpunn.sklearn.NeuralClassifier` and :class:`~gpunn.sklearn.NeuralRegressor`.

    A multilayer perceptron of ``hidden_layer_sizes``, with ``activation`` (a name, or what makes a layer) between its
    linear layers, or what ``module(n_features, n_outputs)`` builds: any Module from (N, n_features), float32, to
    (N, n_outputs). Begin it with :class:`gpunn.nn.Unflatten` for images. To be pickled, it must be a function that has
    a name in a module.

    It is trained for ``epochs`` with ``optimizer``: a name such as ``"adam"`` or ``"sgd"``, or what makes one, such as
    ``partial(gpunn.optim.SGD, momentum=0.9)``, from parameters, ``lr`` and ``weight_decay``. With ``early_stopping``
    a share of ``validation_fraction`` of the examples is held back; training ends when their loss has not fallen for
    ``patience`` epochs, and the weights of the best epoch are kept.

    Equal examples are merged, their weights added, and those of weight 0 dropped, before anything else: a weight of 2
    is exactly the example twice, whatever the order of the examples. So an epoch, ``batch_size`` and
    ``validation_fraction`` count distinct examples. Only the proportions of the weights matter.

    ``random_state`` decides initial weights, the order of the examples, the validation examples and dropout; an integer
    gives the same bits every time, whatever the global seeds are. ``device`` is ``"cpu"``, ``"gpu"`` or ``"gpu:N"``;
    None is the library's default. ``verbose`` prints a line each epoch.

    Training is in float32. A perceptron predicts in float64, so that the other rows of X do not matter; a network of
    ``module`` in float32, where they can change the last digits.
    """

    _classifies = False

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (100,),
        activation: str | Callable[[], nn.Module] = "relu",
        *,
        module: Callable[[int, int], nn.Module] | None = None,
        optimizer: str | Callable[..., optim.Optimizer] = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        epochs: int = 100,
        batch_size: int = 32,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: Any = None,
        device: str | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.module = module
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    # ---- what a subclass says -------------------------------------------------------------------------------------

    def _read_target(self, y: Any, classes: Any, first: bool) -> tuple[Array, int]:
        """Targets (N, ...) as the loss takes them, and the number of outputs of the network."""
        raise NotImplementedError

    def _row_losses(self, output: Any, target: Array) -> Tensor:
        """The loss of each example."""
        raise NotImplementedError

    # ---- fitting --------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network on X (N, features) and y, ``sample_weight`` (N,) saying how much each example counts.

        Numbers that are not float32 are converted. Raises ArgumentError, ShapeError and other ValueErrors for
        settings and data that do not fit, TypeError for sparse X, and TrainingError for a loss that is not finite.
        """
        self._check_settings()
        return self._learn(X, y, None, sample_weight, True, int(self.epochs))

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> Self:
        self._check_settings()
        op = type(self).__name__
        check(not self.early_stopping, ArgumentError, op, "partial_fit has no early stopping", early_stopping=True)
        first = not hasattr(self, "module_")
        check_classes = not (first and self._classifies and classes is None)
        check(check_classes, ArgumentError, op, "classes must be given at the first call of partial_fit")
        return self._learn(X, y, classes, sample_weight, first, 1)

    def _learn(self, X: Any, y: Any, classes: Any, sample_weight: Any, first: bool, epochs: int) -> Self:
        examples, n_outputs = self._read(X, y, sample_weight, classes, first)
        if first:
            self._begin(n_outputs)
        try:
            self._train(examples, epochs)
        except BaseException:
            if first:
                del self.module_  # what did not learn is not fitted
            raise
        return self

    def _read(self, X: Any, y: Any, sample_weight: Any, classes: Any, first: bool) -> tuple[Examples, int]:
        op = type(self).__name__
        kinds = {} if self._classifies else {"multi_output": True, "y_numeric": True}
        for given in (X, y, sample_weight):
            check_not_masked(given)  # scikit-learn drops the mask
        with _large_numbers():
            X, y = validate_data(self, X, y, dtype=np.float32, reset=first, **kinds)
        weight = np.ones(len(X))
        if sample_weight is not None:
            weight = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
            fits = weight.shape == (len(X),)
            check(fits, ShapeError, op, f"sample_weight must have shape ({len(X)},)", shape=weight.shape)
            check(weight.min() >= 0, ArgumentError, op, "sample weights must not be negative", least=weight.min())
            check(weight.max() > 0, ArgumentError, op, "sample weights must not all be zero")
        counts = weight > 0
        target, n_outputs = self._read_target(y[counts], classes, first)
        return distinct(X[counts], target, weight[counts]), n_outputs

    def _begin(self, n_outputs: int) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        sizes = tuple(self.hidden_layer_sizes)
        network = _Network(self.module, sizes, self.activation, self.n_features_in_, n_outputs)
        self.module_ = network.build(type(self).__name__, _stream(seed, _INITIAL)).eval()
        self._network, self._seed = network, seed
        self._optimizer_state: dict[str, Any] | None = None
        self.n_iter_ = 0
        self.loss_curve_: list[float] = []
        if self.early_stopping:
            self.validation_loss_curve_: list[float] = []

    def _train(self, examples: Examples, epochs: int) -> None:
        op, device = type(self).__name__, self._device()
        validation = None
        if self.early_stopping:
            stream = _stream(self._seed, _SPLIT)
            examples, validation = split(op, examples, self.validation_fraction, self._classifies, stream)
        examples = examples.normalised(device)
        module = self.module_.to(device)
        make = OPTIMIZERS[self.optimizer] if isinstance(self.optimizer, str) else self.optimizer
        optimizer = make(module.named_parameters(), lr=self.lr, weight_decay=self.weight_decay)
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
            optimizer.lr = self.lr
        data = DataLoader(ArrayDataset(*examples), self.batch_size, shuffle=True, seed=self._seed)
        data.load_state_dict(data.state_dict() | {"epoch": self.n_iter_})  # each epoch of an estimator has its order

        def loss(batch: tuple[Array, Array, Array]) -> tuple[Tensor, int]:
            x, target, weight = batch
            return (self._losses(module(tensor(x)), target) * weight).mean(), len(x)

        measure = partial(self._measure, module, validation, device) if validation else None
        stopping = [EarlyStopping("validation_loss", self.patience)] if validation else []
        following = _Epochs(self, optimizer)
        trainer = Trainer(module, optimizer, data, loss, measure=measure, callbacks=[following, *stopping])
        try:
            with use_device(device), use_generator(_stream(self._seed, _FIRST_EPOCH)):
                trainer.run(epochs)
        except TrainingError as error:
            raise TrainingError(f"{op}: {error}, or scale the features and targets") from error
        finally:
            module.eval()
        if validation is None:
            self._optimizer_state = optimizer.state_dict()
        else:
            best, self._optimizer_state = following.best
            module.load_state_dict(best)

    def _measure(self, module: nn.Module, examples: Examples, device: str) -> dict[str, float]:
        """The weighted mean loss of the validation examples, which are on the CPU."""
        found = predict(module, examples.x, self.batch_size, device)
        with np.errstate(over="ignore", invalid="ignore"):
            losses = self._losses(tensor(found), examples.target).data
        return {"validation_loss": float(np.average(losses, weights=examples.weight))}

    def _losses(self, output: Any, target: Array) -> Tensor:
        wanted = (len(target), self._network.outputs)
        fits = output.shape == wanted
        check(fits, ShapeError, type(self).__name__, f"the module must give outputs {wanted}", shape=output.shape)
        return self._row_losses(output, target)

    # ---- predicting -----------------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> np.ndarray[Any, Any]:
        """What the network gives for X, (N, outputs), as float64."""
        check_is_fitted(self, "module_")
        self._check_settings()
        check_not_masked(X)
        with _large_numbers():
            X = validate_data(self, X, dtype=np.float32, reset=False)
        device = self._device()
        module = self.module_.to(device)
        if self._network.computes_in_float64():
            module, X = _in_float64(module, device), X.astype(np.float64)
        return predict(module, X, self.batch_size, device).astype(np.float64, copy=False)

    # ---- settings -------------------------------------------------------------------------------------------------

    def _device(self) -> str:
        return default_device() if self.device is None else check_device(self.device)

    def _check_settings(self) -> None:
        op = type(self).__name__

        def wrong(rule: str, **values: Any) -> NoReturn:
            fail(ArgumentError, op, rule, **values)

        sizes = self.hidden_layer_sizes
        whole = isinstance(sizes, Sequence | np.ndarray) and all(
            isinstance(size, Integral) and int(size) >= 1 for size in sizes
        )
        if not whole or isinstance(sizes, str):
            wrong("hidden_layer_sizes must be a sequence of integers of at least 1", hidden_layer_sizes=sizes)
        if self.module is not None and not callable(self.module):
            wrong("module must be None or a function of (n_features, n_outputs)", module=self.module)
        for name, known in (("activation", ACTIVATIONS), ("optimizer", OPTIMIZERS)):
            value = getattr(self, name)
            if not (value in known if isinstance(value, str) else callable(value)):
                wrong(f"{name} must be one of {', '.join(known)}, or a function that makes one", **{name: value})
        for name in ("epochs", "batch_size", "patience"):
            value = getattr(self, name)
            if not (isinstance(value, Integral) and int(value) >= 1):
                wrong(f"{name} must be an integer of at least 1", **{name: value})
        fraction = self.validation_fraction
        if not (isinstance(fraction, Real) and 0 < fraction < 1):
            wrong("validation_fraction must lie between 0 and 1", validation_fraction=fraction)

    # ---- pickling -------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """The settings and what was learned; all weights, and the optimizer's states, as the bytes of safetensors."""
        state = dict(super().__getstate__())
        if "module_" not in state:
            return state
        weights = {f"module.{name}": a for name, a in state.pop("module_").state_dict().items()}
        for name, value in (state.pop("_optimizer_state") or {}).items():
            weights[f"optimizer.{name}"] = value
        state["_weights"] = pack(type(self).__name__, weights)
        for name in _LISTED & state.keys():
            state[name] = (state[name].tolist(), state[name].dtype.str)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the network again, on the CPU; it moves to ``device`` when it is used."""
        state = dict(state)
        content = state.pop("_weights", None)
        if content is not None:
            parts: dict[str, dict[str, Any]] = {"module": {}, "optimizer": {}}
            for key, array in unpack(content).items():
                part, _, name = key.partition(".")
                parts[part][name] = array
            for name in _LISTED & state.keys():
                values, dtype = state[name]
                state[name] = np.array(values, dtype=dtype)
            module = state["_network"].build(type(self).__name__, _stream(state["_seed"], _INITIAL)).eval()
            module.load_state_dict(parts["module"])
            state |= {"module_": module, "_optimizer_state": parts["optimizer"] or None}
        super().__setstate__(state)


_LISTED = {"classes_", "feature_names_in_"}
