"""The Python that the node lends to guests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from attrs import evolve

import qvd
from qvd.hkd.hypervisor.sandbox.guestpython import GuestPython, host_python
from qvd.model.errors import PermanentError


def test_of_this_process() -> None:
    python = host_python()
    targets = {target: source for source, target in python.binds}
    project = Path(qvd.__file__).parent
    assert targets["/.qvd/lib/qvd"] == project
    assert targets["/.qvd/lib/twisted/plugins"] == project.parent / "twisted/plugins"
    assert project.parent not in targets.values()
    assert python.interpreter.exists()


def test_virtual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/home/alice/env")
    monkeypatch.setattr(sys, "base_prefix", "/opt/python")
    monkeypatch.setattr(sys, "executable", "/home/alice/env/bin/python3")
    python = host_python()
    assert python.executable == "/.qvd/venv/bin/python3"
    assert (Path("/home/alice/env"), "/.qvd/venv") in python.binds
    assert (Path("/opt/python"), "/opt/python") in python.binds


def test_systems_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the guest's /usr."""
    monkeypatch.setattr(sys, "prefix", "/usr")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    python = host_python()
    assert python.executable == "/usr/bin/python3"
    assert [target for _, target in python.binds] == ["/.qvd/lib/qvd", "/.qvd/lib/twisted/plugins"]


def python_in(*folders: Path) -> GuestPython:
    return evolve(host_python(), binds=tuple((folder, f"/{folder.name}") for folder in folders))


def test_readable(tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    (lib / "package").mkdir(parents=True)
    (lib / "module.py").write_text("")
    for path, mode in ((lib, 0o755), (lib / "package", 0o755), (lib / "module.py", 0o644)):
        path.chmod(mode)
    python_in(lib).check_readable()
    (lib / "module.py").chmod(0o600)
    with pytest.raises(PermanentError, match=r"cannot read .*module.py; 'chmod -R go\+rX .*lib' cures that"):
        python_in(lib).check_readable()
    (lib / "module.py").chmod(0o644)
    lib.chmod(0o750)
    with pytest.raises(PermanentError, match=r"cannot read .*lib;"):
        python_in(lib).check_readable()


def test_not_below_the_guests_home() -> None:
    """There, its user decides what a path leads to."""
    python = evolve(host_python(), base=Path("/home/alice/.pyenv/versions/3.11"))
    python.check_clear_of("/home/bob")
    python.check_clear_of("/home/al")
    with pytest.raises(PermanentError, match="below the guest's own /home/alice"):
        python.check_clear_of("/home/alice")
