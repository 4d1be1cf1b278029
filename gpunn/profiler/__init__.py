"""Where time and memory go: by layer, by kernel, as a table, as numbers and as a trace."""

from gpunn.profiler.profile import Profile, profile

__all__ = ["Profile", "profile"]
