"""What watches a training: saving, stopping, logs, displays."""

from gpunn.train.callbacks.plots import Plots
from gpunn.train.callbacks.profile import Profile
from gpunn.train.callbacks.progress import Progress
from gpunn.train.callbacks.saving import Checkpoint, JsonLines
from gpunn.train.callbacks.stopping import EarlyStopping, TimeLimit
from gpunn.train.callbacks.tensorboard import TensorBoard
from gpunn.train.trainer import Callback

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "JsonLines",
    "Plots",
    "Profile",
    "Progress",
    "TensorBoard",
    "TimeLimit",
]
