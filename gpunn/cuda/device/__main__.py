"""Run a program on the emulated device: ``python -m gpunn.cuda.device [options] -- program [arguments]``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from gpunn.cuda.device import environment, libraries, wheel
from gpunn.cuda.device.settings import CARDS, Settings, parse_bytes, parse_card
from gpunn.errors import GpunnError

_EXAMPLES = """examples:
  python -m gpunn.cuda.device -- python train.py
  python -m gpunn.cuda.device --devices 2 --memory 4G --late -- pytest -m gpu
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the program in place of this process; return 2 if it cannot be."""
    parser = argparse.ArgumentParser(
        "python -m gpunn.cuda.device",
        "python -m gpunn.cuda.device [options] -- program [arguments]",
        "Run a program that uses CuPy on a CUDA device that is not there: its kernels run on the CPU.",
        _EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="how many devices (1)")
    parser.add_argument("--memory", default="8G", metavar="BYTES", help="memory of each, as 512M (8G)")
    cards = ", ".join(f"sm_{card}" for card in CARDS)
    parser.add_argument("--card", default="sm_90", metavar="ARCH", help=f"which card it is: {cards} (sm_90)")
    parser.add_argument("--late", action="store_true", help="run streams as late as CUDA allows: missing waits show")
    parser.add_argument("--check", action="store_true", help="watch every access of kernels to memory; slow")
    parser.add_argument("--hide-gpu", action="store_true", help="emulate a device where there is a real one, too")
    parser.add_argument("program", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        card, memory = parse_card(given.card), parse_bytes(given.memory)
        settings = Settings(given.devices, memory, given.late, given.check, card)
        program = shutil.which(given.program[0])
        if program is None:
            raise GpunnError(f"device: there is no program {given.program[0]!r}")
        if environment.real_gpu() and not given.hide_gpu:
            print("gpunn device: there is a real GPU, which is used; --hide-gpu emulates one", file=sys.stderr)
            os.execv(program, given.program)
        libraries.built(wheel.installed().cuda)
    except GpunnError as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.flush()
    os.execve(program, given.program, environment.extended(dict(os.environ), settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
