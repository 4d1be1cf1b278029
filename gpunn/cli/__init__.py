"""The command ``gpunn``; each file adds the commands of one kind."""

from gpunn.cli.command import main

__all__ = ["main"]
