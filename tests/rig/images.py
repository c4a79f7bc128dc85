"""
Desktop images for tests: built when a selected test wants one, outside of its private world, and kept for later runs in
C{.cache/images}. Each is built in a world of its own, which has a network and hands nothing out but the image.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from qvd.images.build import Sources, build
from qvd.images.commands import BuildError, Commands
from qvd.images.recipe import KVM, LXC, Recipe
from qvd.model.errors import QVDError
from tests.conftest import missing
from tests.rig.standin import agent_package
from tests.rig.world import PROJECT, private_world

CACHE = PROJECT / ".cache/images"
ENDINGS = {LXC: ".tar.zst", KVM: ".qcow2"}
"""By kind. A virtual machine's is made from the container's, so that comes first."""
BUILDER = ("qvd/images",)
AGENT = (
    "debian",
    "tools",
    "setup.cfg",
    "etc/qvd/vma.conf",
    "qvd/agent",
    "qvd/model",
    "qvd/protocols",
    "qvd/interfaces",
)
TROUBLE = ".trouble"
MIRROR = os.environ.get("QVD_TEST_MIRROR")
"""Where Debian's packages come from, if not from Debian."""


def wanted_kinds(items: Iterable[pytest.Item]) -> list[str]:
    """Those that tests name: C{@pytest.mark.desktop("lxc")}, C{@pytest.mark.images("lxc", "kvm")}."""
    named = {
        kind
        for item in items
        for name in ("desktop", "images")
        for marker in item.iter_markers(name)
        for kind in marker.args
    }
    return [kind for kind in ENDINGS if kind in named]


def desktop_image(kind: str) -> Path:
    """The image, which was built before this test's world began; without it the test is skipped."""
    path = place_of(kind)
    if not path.exists():
        trouble = path.with_name(path.name + TROUBLE)
        missing(f"a desktop image for {kind}: {trouble.read_text() if trouble.exists() else 'no test asked for it'}")
    return path


def prepare(kind: str) -> None:
    """Build the image, unless that was done. Outside of a world, as root. What hinders it L{desktop_image} tells."""
    path = place_of(kind)
    if path.exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    for older in CACHE.glob(f"desktop-{kind}-*"):
        older.unlink()
    try:
        if kind == KVM:
            prepare(LXC)
        build_apart(kind, path)
    except (QVDError, OSError, subprocess.SubprocessError) as error:
        path.with_name(path.name + TROUBLE).write_text(str(error))


def place_of(kind: str) -> Path:
    return CACHE / f"desktop-{kind}-{digest((*BUILDER, *AGENT))}{ENDINGS[kind]}"


def digest(names: Iterable[str]) -> str:
    """Of the content of all these files."""
    found = hashlib.sha256(str(MIRROR).encode())
    for path in sorted(files(names)):
        found.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def files(names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        path = PROJECT / name
        found = path.rglob("*") if path.is_dir() else [path]
        yield from (each for each in found if each.is_file() and "__pycache__" not in each.parts)


def build_apart(kind: str, path: Path) -> None:
    """Build it in a world, and take it out through an open file.

    @raise BuildError: what the builder said.
    """
    agent = package()
    start = [str(place_of(LXC))] if kind == KVM else []
    part = path.with_name(path.name + ".part")
    with tempfile.TemporaryFile("w+") as output, part.open("wb") as out:
        words = [sys.executable, "-m", __name__, kind, str(out.fileno()), str(agent), *start]
        with private_world(words, (out.fileno(),), output, network=True) as world:
            world.process.wait()
        if world.process.returncode != 0:
            output.seek(0)
            raise BuildError(output.read()[-2000:])
    part.rename(path)


def package() -> Path:
    """The package of the agent: from C{make deb}, or, where there is no such thing, one that is not the agent.

    @raise CalledProcessError: it could not be built.
    """
    path = CACHE / f"qvd-vma-{digest(AGENT)}.deb"
    if not path.exists():
        for older in CACHE.glob("qvd-vma-*.deb"):
            older.unlink()
        if (PROJECT / "debian/control").exists():
            subprocess.run(["make", "deb"], cwd=PROJECT, check=True, capture_output=True)
            shutil.copyfile(next((PROJECT / "dist").glob("qvd-vma_*.deb")), path)
        else:
            agent_package(path)
    return path


def main(kind: str, out: str, agent: str, start: str | None = None) -> int:
    """In the world."""
    path = Path(tempfile.gettempdir()) / f"desktop{ENDINGS[kind]}"
    try:
        sources = Sources(Path(agent), Path(start) if start else None)
        build(Recipe(kind, mirror=MIRROR), sources, path, Commands())
    except QVDError as error:
        sys.stderr.write(error.text)
        return 1
    with path.open("rb") as built, os.fdopen(int(out), "wb") as carried:
        shutil.copyfileobj(built, carried, 1 << 20)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
