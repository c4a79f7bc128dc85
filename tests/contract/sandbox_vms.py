"""Sandbox VMs for tests: a tiny guest instead of a desktop, all below one folder of the test's own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from qvd.hkd.hypervisor.sandbox.driver import SandboxDriver, SandboxLayout
from qvd.hkd.hypervisor.sandbox.guestpython import host_python
from qvd.model.ids import TenantId, VMId
from qvd.model.records import VMSpec
from qvd.model.secret import Secret

UID_BASE = 2_000_000
GUEST = """
case "$(cat /etc/hostname)" in
  ends) exit 3 ;;
  stubborn) trap "" TERM ;;
  script) . ./script ;;
esac
: > booted
while :; do sleep 1000; done
"""
"""What a test guest runs: its name says how it behaves. C{booted} in its home appears when signals are set up."""
PROGRAMS = ("sh", "cat", "ls", "sleep", "id", "setpriv")


def layout(base: Path) -> SandboxLayout:
    """@param base: the test's own folder."""
    run, images, homes, overlays = (base / name for name in ("run", "images", "homes", "overlays"))
    return SandboxLayout(run, images, homes, overlays, UID_BASE, True, None, host_python(), ("sh", "-c", GUEST))


def spec(vm_id: int, name: str, image: str = "") -> VMSpec:
    """@param name: C{runs}, C{ends}, C{stubborn}, or C{script}: it reads C{script} in its home first."""
    return VMSpec(
        VMId(vm_id), TenantId(1), name, "alice", None, image, 256 << 20, f"1/{vm_id}", Secret(f"secret of {vm_id}")
    )


def driver_of(chosen: SandboxLayout) -> SandboxDriver:
    return SandboxDriver(reactor, chosen)  # type: ignore[arg-type]


def make_image(folder: Path) -> None:
    """The least that boots: a few programs of the host, with their libraries."""
    folder.mkdir(parents=True)
    for name in ("etc", "usr/bin", "tmp", "home", "dev", "proc", "run", "root"):
        (folder / name).mkdir(parents=True)
    for program in PROGRAMS:
        copy_program(program, folder)
    (folder / "bin").symlink_to("usr/bin")
    (folder / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/sh\njoe:x:1000:1000::/:/bin/sh\n"
    )
    (folder / "etc/motd").write_text("as delivered\n")


def copy_program(program: str, image: Path) -> None:
    """One of the host's, with its libraries."""
    source = shutil.which(program)
    assert source is not None, program
    shutil.copy(source, image / "usr/bin" / program)
    # A program without libraries is none of ldd's.
    listed = subprocess.run(["ldd", source], capture_output=True, text=True, check=False).stdout
    for library in map(Path, re.findall(r"(/\S+) \(0x", listed)):
        target = image / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def boot_and_die(base: str, vm_id: str, name: str) -> None:
    """A daemon that starts a VM and says so; whoever runs it ends it with KILL."""

    async def boot() -> None:
        driver = driver_of(layout(Path(base)))
        order = spec(int(vm_id), name)
        await driver.prepare(order, lambda text: None)
        await driver.start(order)
        say("started")

    def failed(failure: Failure) -> None:
        say(failure.getErrorMessage())

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(boot()).addErrback(failed))
    reactor.run()


if __name__ == "__main__":
    boot_and_die(*sys.argv[1:])
