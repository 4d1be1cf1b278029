"""Networks as scikit-learn estimators: for pipelines, grid search and cross validation.

Needs scikit-learn and safetensors, which are in the extra ``train``; ``import gpunn`` imports neither.
"""

from gpunn.errors import PackageError, install_command

try:
    import safetensors.numpy  # noqa: F401
    import sklearn.base  # noqa: F401
except ImportError as error:
    raise PackageError(
        f"gpunn.sklearn needs scikit-learn and safetensors ({error}): {install_command('train')}"
    ) from error

from gpunn.sklearn.classifier import NeuralClassifier
from gpunn.sklearn.regressor import NeuralRegressor

__all__ = ["NeuralClassifier", "NeuralRegressor"]
