"""Files of public data sets: fetched once, checked by their SHA-256, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from gpunn.errors import FileError, PackageError, install_command

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte


class Remote(NamedTuple):
    """A file to fetch: its name in the folder, its address, and its SHA-256 in hexadecimal."""

    name: str
    url: str
    sha256: str


def cache_folder(name: str) -> Path:
    """The folder for the data set ``name``: in ``GPUNN_DATA`` if that is set, else in the user's cache.

    >>> cache_folder("mnist").name
    'mnist'
    """
    root = os.environ.get("GPUNN_DATA")
    if root:
        return Path(root) / name
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gpunn" / "data" / name


def fetch(remote: Remote, folder: Path, download: bool = True) -> Path:
    """The path of a file in ``folder``, downloaded if it is not there; its SHA-256 is right.

    A download that broke off is resumed where it ended the next time, if the server lets it.

    Raises FileError where the file is missing and must not (``download=False``) or cannot be downloaded, and where its
    checksum is wrong, PackageError if pooch is not installed.
    """
    path = folder / remote.name
    if path.is_file():
        _check_sum(path, remote)
        return path
    if not download:
        raise FileError(f"{path}: no such file, and download=False: get it from {remote.url}")
    try:
        import pooch
    except ImportError as error:
        raise PackageError(
            f"{path}: no such file; pooch downloads it ({error}): {install_command('train')}, "
            f"or get it yourself from {remote.url}"
        ) from error
    from http.client import HTTPException

    pooch.get_logger().setLevel("WARNING")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(remote.url, f"sha256:{remote.sha256}", remote.name, folder, downloader=_Resuming(path))
    except (OSError, HTTPException) as error:
        cause = getattr(error, "reason", error)
        raise FileError(f"{path}: cannot be downloaded from {remote.url}: {cause}; run it again to go on") from error
    except ValueError as error:  # pooch's word for another checksum; what was downloaded is gone
        raise FileError(
            f"{path}: not kept: what {remote.url} gives has another SHA-256 than {remote.sha256}"
        ) from error
    return path


def _check_sum(path: Path, remote: Remote) -> None:
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if found != remote.sha256:
        raise FileError(
            f"{path}: damaged or another file: its SHA-256 is {found}, not {remote.sha256}; "
            f"remove it, and it is downloaded anew from {remote.url}"
        )


class _Resuming:
    """A downloader for pooch that keeps what it has in ``path.part``, and asks the server for the rest only."""

    def __init__(self, path: Path) -> None:
        self.part = path.with_name(path.name + ".part")

    def __call__(self, url: str, output_file: Any, pooch: Any) -> None:
        import urllib.error
        import urllib.request

        have = self.part.stat().st_size if self.part.is_file() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 416:  # the part is already all of it, or more: the checksum will tell
                    raise FileError(f"the server answers {error.code} {error.reason}") from error
        else:
            with answer:
                goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
                with open(self.part, "ab" if goes_on else "wb") as file:
                    shutil.copyfileobj(answer, file, _CHUNK)
                total = answer.headers.get("Content-Length")
                got = self.part.stat().st_size - (have if goes_on else 0)
                if total is not None and got < int(total):
                    raise FileError(f"the connection ended after {got} of {total} bytes")
        shutil.move(self.part, output_file)
