"""What is on this machine: ``gpunn info`` and ``gpunn warmup``."""

import importlib.metadata
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

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
        facts = _facts()
        tell("\n".join(f"{name:<13} {value}" for name, value in _words(facts)), facts)

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


def _facts() -> dict[str, Any]:
    """What ``gpunn info --json`` prints; what is missing is None, with a ``reason`` where there is one to tell."""
    files = [path for path in cache.folder().rglob("*") if path.is_file()]
    archs = Counter(match[1] for path in files if (match := re.search(r"-(sm_\w+)-\w+\.cubin$", path.name)))
    devices: list[dict[str, Any]] = [{"name": "cpu", "cores": os.cpu_count()}]
    devices += [{"name": f"gpu:{index}"} | _gpu(index) for index in range(backend.gpu_count())]
    nvdisasm = sass.disassembler()
    return {
        "gpunn": {"version": gpunn.__version__, "folder": str(Path(gpunn.__file__).parent)},
        "python": {"version": platform.python_version(), "platform": platform.platform()},
        "numpy": {"version": _version("numpy")},
        "onednn": _found("about", onednn.about),
        "cupy": {"version": _version("cupy-cuda13x", "cupy-cuda12x", "cupy")},
        "cuda_core": {"version": _version("cuda-core")},
        "nvrtc": _found("version", nvrtc_version),
        "nvdisasm": {"path": nvdisasm, "reason": None if nvdisasm else sass.no_disassembler()},
        "compiler": _found("command", lambda: host_compiler().command)
        | _found("version", lambda: host_compiler().version.splitlines()[0]),
        "devices": devices,
        "no_gpu": backend.why_no_gpu() or None,
        "cache": {
            "folder": str(cache.folder()),
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files),
            "compiled": dict(sorted(archs.items())),
            "autotuned": tuning.kept(),
            "emulated": sum(path.suffix == ".so" for path in files),
        },
    }


def _words(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines of ``gpunn info``: name and value."""
    yield "gpunn", f"{facts['gpunn']['version']}  {facts['gpunn']['folder']}"
    yield "Python", f"{facts['python']['version']}  {facts['python']['platform']}"
    yield "NumPy", facts["numpy"]["version"]
    yield "oneDNN", facts["onednn"]["about"] or facts["onednn"]["reason"]
    yield "CuPy", facts["cupy"]["version"] or "not installed"
    yield "cuda-core", facts["cuda_core"]["version"] or "not installed"
    yield "NVRTC", facts["nvrtc"]["version"] or facts["nvrtc"]["reason"]
    yield "nvdisasm", facts["nvdisasm"]["path"] or facts["nvdisasm"]["reason"]
    compiler = facts["compiler"]
    yield "C++ compiler", f"{compiler['command']}  {compiler['version']}" if compiler["command"] else compiler["reason"]
    for device in facts["devices"]:
        if device["name"] == "cpu":
            yield "device", "cpu" + (f"  {device['cores']} cores" if device["cores"] else "")
        else:
            about = f"{device['model']}, {device['bytes'] / 2**30:.0f} GiB, {device['architecture']}"
            yield "device", f"{device['name']}  {about}"
    if facts["no_gpu"]:
        yield "no GPU", facts["no_gpu"]
    kept = facts["cache"]
    yield "kernel cache", f"{kept['folder']}  {kept['files']} files, {kept['bytes'] / 2**20:.1f} MiB"
    compiled = ", ".join(f"{arch} {count}" for arch, count in kept["compiled"].items())
    yield "compiled", compiled or "nothing: gpunn warmup"
    yield "autotuned", f"choices {kept['autotuned']}"
    yield "emulated", f"libraries {kept['emulated']}"


def _version(*packages: str) -> str | None:
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _found(name: str, fact: Callable[[], str]) -> dict[str, str | None]:
    try:
        return {name: fact(), "reason": None}
    except GpunnError as error:
        return {name: None, "reason": " ".join(str(error).split())}


def _gpu(index: int) -> dict[str, Any]:
    import cupy

    about = cupy.cuda.runtime.getDeviceProperties(index)
    architecture = f"sm_{about['major']}{about['minor']}"
    return {"model": about["name"].decode(), "bytes": about["totalGlobalMem"], "architecture": architecture}
