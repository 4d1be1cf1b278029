"""What is on this machine: ``gpunn info`` and ``gpunn warmup``."""

import importlib.metadata
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

import gpunn
from gpunn import backend
from gpunn.cli import help
from gpunn.cli.output import tell
from gpunn.cli.progress import compiling
from gpunn.cpu import onednn
from gpunn.cuda import cache, tuning
from gpunn.cuda.compiler import nvrtc_version
from gpunn.cuda.emulator import sass
from gpunn.cuda.emulator.build import host_compiler
from gpunn.errors import GpunnError


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    from gpunn.recipes.warmup import present_architectures
    from gpunn.recipes.warmup import warmup as warm

    @app.command(rich_help_panel=help.MACHINE, epilog=help.examples("gpunn info", "gpunn info --json  # for programs"))
    def info() -> None:
        """Print versions, devices and the kernel cache."""
        facts = list(_facts())
        lists = {name: [value for each, value in facts if each == name] for name, _ in facts}
        tell("\n".join(f"{name:<13} {value}" for name, value in facts), lists)

    @app.command(
        rich_help_panel=help.MACHINE,
        epilog=help.examples("gpunn warmup", "gpunn warmup --arch sm_90 --arch sm_120  # without a GPU"),
    )
    def warmup(
        arch: Annotated[
            list[str] | None,
            typer.Option(help="sm_90, say; may be given several times.", show_default="those of the GPUs present"),
        ] = None,
    ) -> None:
        """Compile the kernels of the recipes ahead of time; needs no GPU."""
        names = list(dict.fromkeys(arch or present_architectures()))
        begin = time.perf_counter()
        with compiling() as on_kernel:
            compiled, found = warm(names, on_kernel)
        of = f"kernel files for {', '.join(names)}"
        if compiled:
            seconds = time.perf_counter() - begin
            had = f", {found} were there" if found else ""
            words = f"compiled {compiled} specialised {of} in {seconds:.1f} s{had}: {cache.folder()}"
        else:
            words = f"nothing to do: all {found} specialised {of} are in {cache.folder()}"
        facts = {"architectures": names, "compiled": compiled, "found": found, "folder": cache.folder()}
        tell(words, facts)


def _facts() -> Iterator[tuple[str, str]]:
    """The lines of ``gpunn info``: name and value."""
    yield "gpunn", f"{gpunn.__version__}  {Path(gpunn.__file__).parent}"
    yield "Python", f"{platform.python_version()}  {platform.platform()}"
    yield "NumPy", _version("numpy")
    yield "oneDNN", _or_reason(onednn.about)
    yield "CuPy", _version("cupy-cuda13x", "cupy-cuda12x", "cupy")
    yield "cuda-core", _version("cuda-core")
    yield "NVRTC", _or_reason(nvrtc_version)
    yield "nvdisasm", sass.disassembler() or sass.no_disassembler()
    yield "C++ compiler", _or_reason(lambda: f"{host_compiler().command}  {host_compiler().version.splitlines()[0]}")
    yield "device", "cpu" + (f"  {os.cpu_count()} cores" if os.cpu_count() else "")
    for index in range(backend.gpu_count()):
        yield "device", f"gpu:{index}  {_gpu(index)}"
    if reason := backend.why_no_gpu():
        yield "no GPU", reason
    files = [path for path in cache.folder().rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    yield "kernel cache", f"{cache.folder()}  {len(files)} files, {size / 2**20:.1f} MiB"
    archs = Counter(match[1] for path in files if (match := re.search(r"-(sm_\w+)-\w+\.cubin$", path.name)))
    yield "compiled", ", ".join(f"{arch} {count}" for arch, count in sorted(archs.items())) or "nothing: gpunn warmup"
    yield "autotuned", f"choices {tuning.kept()}"
    yield "emulated", f"libraries {sum(path.suffix == '.so' for path in files)}"


def _version(*packages: str) -> str:
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


def _or_reason(fact: Callable[[], str]) -> str:
    try:
        return fact()
    except GpunnError as error:
        return " ".join(str(error).split())


def _gpu(index: int) -> str:
    import cupy

    about = cupy.cuda.runtime.getDeviceProperties(index)
    return f"{about['name'].decode()}, {about['totalGlobalMem'] / 2**30:.0f} GiB, sm_{about['major']}{about['minor']}"
