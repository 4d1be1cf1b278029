"""Training: the loop, what watches it, and measures of a model on data it has not seen."""

from gpunn.train.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    JsonLines,
    Plots,
    Profile,
    Progress,
    TensorBoard,
    TimeLimit,
)
from gpunn.train.evaluation import BINARY, MULTICLASS, Evaluation, Objective, evaluate, predict
from gpunn.train.metrics import accuracy, confusion_matrix, f1_score, perplexity, top_k_accuracy
from gpunn.train.trainer import Record, Trainer

__all__ = [
    "BINARY",
    "MULTICLASS",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Evaluation",
    "JsonLines",
    "Objective",
    "Plots",
    "Profile",
    "Progress",
    "Record",
    "TensorBoard",
    "TimeLimit",
    "Trainer",
    "accuracy",
    "confusion_matrix",
    "evaluate",
    "f1_score",
    "perplexity",
    "predict",
    "top_k_accuracy",
]
