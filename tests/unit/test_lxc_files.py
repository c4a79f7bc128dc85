"""What the driver reads and writes of a container: ids that root may give away, and the supervisor's complaint."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from qvd.hkd.hypervisor.lxc.files import LxcFiles, LxcLayout, grants
from qvd.hkd.hypervisor.lxc.launch import complaint
from qvd.model.ids import VMId


@pytest.mark.parametrize(
    ("line", "granted"),
    [
        ("root:1000000:65536", True),
        ("0:1000000:65536", True),
        ("root:900000:200000", True),
        ("root:1000000:65535", False),
        ("root:1000001:65536", False),
        ("alice:1000000:65536", False),
        ("root:1000000", False),
        ("# root:1000000:65536", False),
        ("", False),
    ],
)
def test_granted_ids(line: str, granted: bool) -> None:
    assert grants(f"alice:100000:65536\n{line}\n", 1_000_000) is granted


@pytest.mark.parametrize(("written", "number"), [("37", signal.SIGRTMIN + 3), ("", signal.SIGPWR)])
def test_halt_signal(tmp_path: Path, written: str, number: int) -> None:
    """What a supervisor wrote down; what most programs heed where it did not."""
    files = LxcFiles(LxcLayout(tmp_path, tmp_path))
    files.begin(VMId(9))
    assert files.halt_signal(VMId(9)) == signal.SIGPWR
    (files.states.of(VMId(9)) / "halt").write_text(written)
    assert files.halt_signal(VMId(9)) == number


def test_names_of_two_nodes_differ() -> None:
    names = {LxcFiles(LxcLayout(Path(run), Path("/homes"))).name(VMId(9)) for run in ("/run/a", "/run/b", "/run/a")}
    assert len(names) == 2
    assert all(name.startswith("qvd-9-") for name in names)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (
            b"lxc-start: qvd-9: ../src/lxc/network.c: netdev_configure_server_veth: 711 No such file or directory"
            b" - Failed to attach\nlxc-start: qvd-9: ../src/lxc/start.c: lxc_spawn: 1840 Failed to create\n",
            "No such file or directory - Failed to attach",
        ),
        (
            b"lxc-start: qvd-9: ../src/lxc/start.c: lxc_spawn: 1840 Failed to create the network\n",
            "Failed to create the network",
        ),
        (b"the image has no program /bin/sh\n", "the image has no program /bin/sh"),
        (b"", ""),
    ],
)
def test_the_first_complaint_counts(output: bytes, sentence: str) -> None:
    assert complaint(output) == sentence
