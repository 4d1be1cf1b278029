"""Training: the loop, and the measure of a model on data it has not seen."""

from gpunn.train.loop import EpochRecord, Evaluation, evaluate, fit, fit_loss

__all__ = ["EpochRecord", "Evaluation", "evaluate", "fit", "fit_loss"]
