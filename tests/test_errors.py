"""Where the hints on missing packages send the user."""

import json
import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from gpunn import errors
from gpunn.cuda.compiler import nvrtc_version
from gpunn.errors import CompileError, install_command

pytestmark = pytest.mark.skipif(os.name != "posix", reason="quoted as a shell of POSIX wants it")

COMMIT = "0123abc"
NOTES = {
    "an index": (None, "'gpunn[train]'"),
    "a file": ({"url": "file:///x/gpunn-1.whl", "archive_info": {}}, "'gpunn[train] @ file:///x/gpunn-1.whl'"),
    "a repository": (
        {"url": "https://host/gpunn.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}},
        f"'gpunn[train] @ git+https://host/gpunn.git@{COMMIT}'",
    ),
    "a folder that is no more": ({"url": "file:///nowhere", "dir_info": {}}, "'gpunn[train]'"),
    "something else": ({"address": 1}, "'gpunn[train]'"),
    "no dict": ([], "'gpunn[train]'"),
}


class Noted:
    def __init__(self, note):
        self._note = note

    def read_text(self, name):
        assert name == "direct_url.json"
        return None if self._note is None else json.dumps(self._note)


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """gpunn in a folder that is no checkout, with a note of pip's."""
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages" / "gpunn" / "errors.py"))
    return lambda note: monkeypatch.setattr(metadata, "distribution", lambda name: Noted(note))


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "My nets, größer"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "gpunn"\n', encoding="utf-8")
    return folder


def test_in_a_checkout(monkeypatch, checkout, tmp_path):
    monkeypatch.setattr(errors, "__file__", str(checkout / "gpunn" / "errors.py"))
    monkeypatch.chdir(checkout)
    assert install_command("train,cpu") == "pip install '.[train,cpu]'"
    monkeypatch.chdir(tmp_path)
    assert install_command("train", "--force-reinstall") == f"pip install --force-reinstall '{checkout}[train]'"


def test_installed_from_a_checkout(installed, checkout):
    installed({"url": checkout.as_uri(), "dir_info": {}})
    assert "%20" in checkout.as_uri()
    assert install_command("train") == f"pip install '{checkout}[train]'"


@pytest.mark.parametrize("of", NOTES)
def test_installed_from(of, installed):
    note, wanted = NOTES[of]
    installed(note)
    assert install_command("train") == f"pip install {wanted}"


def test_never_installed(installed, monkeypatch):
    def distribution(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", distribution)
    assert install_command("train") == "pip install 'gpunn[train]'"


def test_without_nvrtc(monkeypatch):
    nvrtc_version.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(CompileError, match=r"NVRTC or its binding .*: pip install .*\[nvrtc\]., which needs no GPU"):
        nvrtc_version()


def test_no_hint_is_written_by_hand():
    for path in Path(errors.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "pip install 'gpunn[" not in text, path
        assert 'pip install "gpunn[' not in text, path
