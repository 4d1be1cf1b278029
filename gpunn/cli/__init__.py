"""The command ``gpunn``; each file adds the commands of one kind."""

from gpunn.cli.command import main, script

__all__ = ["main", "script"]
