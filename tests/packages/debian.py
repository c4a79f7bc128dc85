"""A Debian for the packages: its archive, made once and kept below C{.cache}; and one that has been booted."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from attrs import frozen

from tests.conftest import missing
from tests.rig.world import PROJECT, private_world

DIST = PROJECT / "dist"
BOOT_SECONDS = 60.0
FORMAT = "deb [signed-by=$(SIGNED_BY)] $(REPO_URI) $(RELEASE) $(COMPONENT)"


def build() -> dict[str, Path]:
    """Make the packages; files by package."""
    subprocess.run(["make", "-s", "deb"], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return {path.name.partition("_")[0]: path for path in sorted(DIST.glob("qvd-*.deb"))}


def dependencies(packages: Sequence[Path]) -> list[str]:
    """Packages of Debian that these depend on."""
    found: set[str] = set()
    for package in packages:
        told = subprocess.run(["dpkg-deb", "-f", package, "Depends"], capture_output=True, text=True, check=True)
        found |= {re.split(r"[ (|]", word.strip())[0] for word in told.stdout.split(",")}
    return sorted(name for name in found if name and not name.startswith("qvd-"))


def sources() -> str:
    """This machine's own sources of Debian 12, without those of others."""
    command = ["apt-get", "indextargets", "--format", FORMAT, "Created-By: Packages"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = [line for line in lines if re.search(r" bookworm(-updates|-security)? main$", line)]
    return "".join(re.sub(r"\[signed-by=\$?\(?\w*\)?\] ", "", line) + "\n" for line in wanted)


def archive(packages: Sequence[Path]) -> Path:
    """A minimal Debian with systemd and what the packages depend on; from the network where it is not there yet."""
    names = ",".join(["systemd-sysv", "dbus", *dependencies(packages)])
    mirrors = sources()
    key = hashlib.sha256(f"{names}\n{mirrors}".encode()).hexdigest()[:12]
    path = PROJECT / f".cache/debian-{key}.tar"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file, tempfile.TemporaryFile("w+") as log:
            script = 'printf %s "$2" | mmdebstrap --variant=minbase --include="$1" bookworm - - >"$3"'
            words = ["sh", "-c", script, "sh", names, mirrors, f"/proc/self/fd/{file.fileno()}"]
            with private_world(words, (file.fileno(),), log, network=True) as world:
                if world.process.wait() != 0:
                    log.seek(0)
                    missing(f"a minimal Debian could not be made: {log.read()[-500:]}")
        os.replace(fresh, path)
    return path


@frozen
class Machine:
    """One that runs.

    @ivar init: its first process.
    """

    init: int

    def run(self, *words: str, check: bool = True, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A command in it."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.init), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{words}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def says(self, *words: str) -> str:
        return self.run(*words).stdout.strip()

    def write(self, path: str, text: str) -> None:
        self.run("python3", "-c", "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", path, text)

    def files(self) -> set[str]:
        """All that lies on its disk, without what apt and the journal write."""
        skipped = (
            "/var/lib/apt",
            "/var/lib/dpkg",
            "/var/log/dpkg.log",
            "/var/cache",
            "/var/log/journal",
            "/var/log/apt",
            "/tmp",
            "/var/tmp",
        )
        prune = [word for folder in (*skipped, "/srv", "/root") for word in ("-path", folder, "-o")][:-1]
        return set(self.says("find", "/", "-xdev", "(", *prune, ")", "-prune", "-o", "-print").splitlines())


@contextlib.contextmanager
def booted(tar: Path, packages: Sequence[Path]) -> Iterator[Machine]:
    """A machine from the archive; the packages are in its C{/srv/dist}, a PostgreSQL in C{/srv/pg}."""
    words = [sys.executable, "-m", "tests.packages.stage", str(tar), *map(str, packages)]
    with open(os.devnull, "w") as nowhere, private_world(words, (), nowhere) as world:
        yield await_boot(world.process.pid)


def await_boot(pid: int) -> Machine:
    """Once its units are up."""
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == "systemd":
                    state = Machine(process.pid).run("systemctl", "is-system-running", check=False).stdout.strip()
                    if state in ("running", "degraded"):
                        return Machine(process.pid)
        time.sleep(0.2)
    raise AssertionError("the machine did not boot")
