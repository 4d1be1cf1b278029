"""Ready networks, built from :mod:`gpunn.nn`."""

from gpunn.models.lenet import lenet

__all__ = ["lenet"]
