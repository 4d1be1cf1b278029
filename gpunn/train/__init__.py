"""Training: the loop, and the measure of a model on data it has not seen."""

from gpunn.train.loop import BINARY, MULTICLASS, EpochRecord, Evaluation, Objective, evaluate, fit, fit_loss

__all__ = ["BINARY", "MULTICLASS", "EpochRecord", "Evaluation", "Objective", "evaluate", "fit", "fit_loss"]
