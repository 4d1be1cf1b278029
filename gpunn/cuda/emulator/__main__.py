"""Run a kernel of a file on the CPU: ``python -m gpunn.cuda.emulator run|check|count FILE --kernel NAME ...``.

``python -m gpunn.cuda.emulator coverage`` lists what kernels may use.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.cuda.emulator import CheckError, CheckWarning, Count, RawModule, count, coverage
from gpunn.cuda.emulator.arguments import FORMS, parse
from gpunn.cuda.emulator.cards import CARDS
from gpunn.errors import ArgumentError, GpunnError, fail

_EXAMPLES = """examples:
  python -m gpunn.cuda.emulator run scale.cu --kernel 'scale<float>' --grid 4 --block 256 \\
      --arg 'float32[1000]=arange' --arg float32=2 --arg int32=1000
  python -m gpunn.cuda.emulator check sum.cu --kernel sum --grid 1 --block 128 --shared 512 \\
      --arg 'float32[512]=random' --arg 'float32[1]=empty' --expect 1=total.npy
  python -m gpunn.cuda.emulator count sum.cu --kernel sum --grid 1 --block 128 --shared 512 \\
      --arg 'float32[512]=random' --arg 'float32[1]' --card A100

"check" watches every access to memory; "count" tells line by line what the kernel would do on a card, and a bound for
its time there. The exit code is 1 where a mistake was found, or another result than expected.
"coverage" alone lists the headers, functions and instructions that kernels may use.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; return 1 for a mistake of the kernel, 2 for one of the command line."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["coverage"]:
        return coverage.main(words[1:])
    given = _parser().parse_args(words)
    try:
        values = [parse(text, i) for i, text in enumerate(given.arg)]
        expected = {_position(text, values): parse(text.partition("=")[2]) for text in given.expect}
        out = {_position(text, values): text.partition("=")[2] for text in given.out}
        order = int(given.order) if given.order.isdigit() else given.order
        module = _module(given, order)
        kernel = module.get_function(given.kernel)
        kernel.max_dynamic_shared_size_bytes = max(given.shared, kernel.max_dynamic_shared_size_bytes)
        counting = count(given.card or "H200") if given.mode == "count" else contextlib.nullcontext()
        begin = time.perf_counter()
        with warnings.catch_warnings(record=True) as told, counting as counted:
            warnings.simplefilter("always", CheckWarning)
            cluster = _sizes(given.cluster) if given.cluster else None
            kernel(_sizes(given.grid), _sizes(given.block), values, shared_mem=given.shared, cluster=cluster)
        seconds = time.perf_counter() - begin
    except CheckError as error:
        print("\n".join(str(report) for report in error.reports))
        return 1
    except (GpunnError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for warning in told:
        print(f"warning: {warning.message}")
    if isinstance(counted, Count):
        print(counted.json() if given.json else counted)
    else:
        print(f"{given.kernel}: {seconds * 1e3:.3g} ms on the CPU")
        _print_arrays(values)
    for i, file in out.items():
        np.save(file, values[i])
    wrong = [i for i, right in expected.items() if _differs(i, values[i], right, given.rtol, given.atol)]
    return 1 if wrong else 0


def _print_arrays(values: Sequence[Any]) -> None:
    with np.printoptions(threshold=8, edgeitems=3, linewidth=100):
        for i, value in enumerate(values):
            if isinstance(value, np.ndarray):
                print(f"argument {i}, {value.dtype} {value.shape}: {value}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m gpunn.cuda.emulator",
        description="Run a CUDA kernel on the CPU, without a GPU.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "mode",
        choices=["run", "check", "count"],
        help="fast, with every access to memory watched, or with all that a profiler would count",
    )
    parser.add_argument("file", type=Path, help="the source")
    parser.add_argument("--kernel", required=True, metavar="NAME", help='extern "C", or a template: scale<float>')
    parser.add_argument("--grid", default="1", metavar="X[,Y[,Z]]", help="blocks (1)")
    parser.add_argument("--block", default="1", metavar="X[,Y[,Z]]", help="threads of a block (1)")
    parser.add_argument("--cluster", metavar="X[,Y[,Z]]", help="blocks of a cluster (what __cluster_dims__ says)")
    parser.add_argument("--shared", type=int, default=0, metavar="BYTES", help="dynamic shared memory (0)")
    parser.add_argument(
        "--cooperative", action="store_true", help="a cooperative launch, enable_cooperative_groups=True of RawKernel"
    )
    parser.add_argument(
        "--arg", action="append", default=[], metavar="ARGUMENT", help=f"one for each parameter: {FORMS}"
    )
    parser.add_argument("--order", default="forward", help="of threads and blocks: forward, reverse or a seed")
    parser.add_argument("--floats", choices=["nan", "infinity"], help="check: also tell operations that make one")
    parser.add_argument("--option", action="append", default=[], metavar="OPTION", help="of NVRTC, as --option=-DN=4")
    parser.add_argument("--out", action="append", default=[], metavar="I=FILE", help="save argument I as .npy")
    parser.add_argument("--expect", action="append", default=[], metavar="I=ARGUMENT", help="what argument I becomes")
    parser.add_argument("--card", help=f"of count, to be predicted for: {', '.join(CARDS)} (H200)")
    parser.add_argument("--json", action="store_true", help="of count: print JSON")
    parser.add_argument("--rtol", type=float, default=1e-5, help="relative tolerance of --expect (1e-5)")
    parser.add_argument("--atol", type=float, default=1e-6, help="absolute tolerance of --expect (1e-6)")
    return parser


def _module(given: argparse.Namespace, order: int | str) -> RawModule:
    if given.mode != "count" and (given.card or given.json):
        fail(ArgumentError, "emulator", 'only "count" takes --card and --json', mode=given.mode)
    code, templates = given.file.read_text(), [given.kernel] if "<" in given.kernel else []
    options = (f"-I{given.file.resolve().parent}", *given.option)
    if given.floats and given.mode != "check":
        fail(ArgumentError, "emulator", "--floats needs check in the place of run", floats=given.floats)
    check, counts = given.mode == "check" and (given.floats or True), given.mode == "count"
    return RawModule(
        code,
        options,
        templates,
        filename=given.file.name,
        enable_cooperative_groups=given.cooperative,
        check=check,
        order=order,
        count=counts,
    )


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        fail(ArgumentError, "emulator", "grid and block must be 1 to 3 numbers, as 16,16", given=text)


def _position(text: str, values: Sequence[Any]) -> int:
    number, equals, _ = text.partition("=")
    position = int(number) if equals and number.isdigit() else len(values)
    if position >= len(values) or not isinstance(values[position], np.ndarray):
        fail(ArgumentError, "emulator", "it must name an argument that is an array, as 1=FILE.npy", given=text)
    return position


def _differs(i: int, value: np.ndarray[Any, Any], right: Any, rtol: float, atol: float) -> bool:
    right = np.broadcast_to(right, value.shape) if np.ndim(right) == 0 else right
    if right.shape != value.shape:
        print(f"argument {i} is not as expected: its shape is {value.shape}, that of what is expected {right.shape}")
        return True
    wrong = ~np.isclose(value, right, rtol=rtol, atol=atol, equal_nan=True)
    if wrong.any():
        place = tuple(int(k) for k in np.argwhere(wrong)[0])
        print(f"argument {i} is not as expected: {wrong.sum()} of {wrong.size} differ, at {place}"
              f" {value[place]} for {right[place]}")  # fmt: skip
    return bool(wrong.any())


if __name__ == "__main__":
    sys.exit(main())
