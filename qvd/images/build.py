# -*- test-case-name: tests.unit.test_images_cli,tests.images.test_build,tests.images.test_interrupted -*-
"""
Makes an image: a Debian system in a temporary folder, which is then packed.

Each program that mounts something does so in namespaces of its own, so a build that ends early, however, leaves no
mount and no process; the temporary folder is removed unless this process itself is killed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from qvd.images.commands import BuildError, Commands, say
from qvd.images.pack import pack_disk, pack_tar
from qvd.images.recipe import KVM, LXC, Recipe, check_recipe, script
from qvd.images.tarlisting import TAR_ENDINGS, compressor, unpacking
from qvd.model.errors import InvalidRequest

CHUNK = 1 << 20
PROGRAMS = {
    LXC: ("mmdebstrap", "setpriv", "unshare", "tar"),
    KVM: ("mmdebstrap", "setpriv", "unshare", "mke2fs", "qemu-img"),
}
SCRIPT = "/.qvd-image.sh"
AGENT = "/.qvd-vma.deb"


@frozen
class Sources:
    """Files that go into an image.

    @ivar agent: the package of the agent; L{None}: from the repository.
    @ivar start: a container image to go on from, instead of an empty folder; L{None}: an empty one.
    """

    agent: Path | None = None
    start: Path | None = None


@frozen
class Built:
    """An image that was made.

    @ivar size: bytes.
    @ivar checksum: SHA-256, in hexadecimal digits.
    """

    path: Path
    size: int
    checksum: str


def build(recipe: Recipe, sources: Sources, out: Path, commands: Commands) -> Built:
    """Make the file C{out}, or leave nothing.

    @raise InvalidRequest: the recipe, or what it is made from, cannot be right.
    @raise BuildError: it could not be made.
    """
    check_recipe(recipe)
    check_files(recipe, sources, out)
    check_programs(recipe, out)
    with scratch("tree", Path(tempfile.gettempdir()), commands) as folder:
        tree = folder / "root"
        say(f"Installing Debian {recipe.suite} with {len(recipe.packages)} packages and what they need")
        install(recipe, sources, folder, tree, commands)
        with scratch("packed", out.absolute().parent, commands) as place:
            made = place / out.name
            say("Packing")
            if recipe.kind == KVM:
                pack_disk(tree, made, folder, recipe.disk, commands)
            else:
                pack_tar(tree, made, commands)
            finished = Built(out, made.stat().st_size, checksum(made))
            made.replace(out)
    return finished


def check_files(recipe: Recipe, sources: Sources, out: Path) -> None:
    """@raise InvalidRequest: one is not there, or not what it should be by its name."""
    if os.geteuid() != 0:
        raise InvalidRequest("An image can be built by root only: its files belong to many users")
    for path in (sources.agent, sources.start):
        if path is not None and not path.is_file():
            raise InvalidRequest(f"{path} is not there")
    if not out.absolute().parent.is_dir():
        raise InvalidRequest(f"The folder {out.absolute().parent} is not there")
    endings = (".qcow2",) if recipe.kind == KVM else TAR_ENDINGS
    if not out.name.endswith(endings):
        raise InvalidRequest(f"An image of type {recipe.kind} has a name that ends in {' or '.join(endings)}")


def check_programs(recipe: Recipe, out: Path) -> None:
    """Before anything takes its time.

    @raise BuildError: one is not installed.
    """
    for program in (*PROGRAMS[recipe.kind], *compressor(out.name)[:1]):
        if shutil.which(program) is None:
            raise BuildError(f"The program {program} is missing: install it")


@contextmanager
def scratch(name: str, parent: Path, commands: Commands) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f".qvd-image-{name}-", dir=parent))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        commands.run("rm", "-rf", "--one-file-system", str(folder))


def install(recipe: Recipe, sources: Sources, folder: Path, tree: Path, commands: Commands) -> None:
    """Fill C{tree} with the system."""
    (folder / "setup.sh").write_text(script(recipe, AGENT if sources.agent else None))
    commands.run(*mmdebstrap(recipe, sources, folder, tree), private=True)


def mmdebstrap(recipe: Recipe, sources: Sources, folder: Path, tree: Path) -> list[str]:
    """The command line. What it runs as hooks gets the new root as C{$1}."""
    words = ["mmdebstrap", "--mode=root", "--format=directory"]
    if sources.start is None:
        words.append("--variant=minbase")
    else:
        words += ["--variant=custom", f'--setup-hook={unpacking(sources.start)} -C "$1"']
    words.append(f"--customize-hook=upload {quoted(folder / 'setup.sh')} {SCRIPT}")
    if sources.agent is not None:
        words.append(f"--customize-hook=upload {quoted(sources.agent.absolute())} {AGENT}")
    words.append(f'--customize-hook=chroot "$1" sh {SCRIPT}')
    words.append(f'--customize-hook=rm -f "$1{SCRIPT}" "$1{AGENT}"')
    words += [recipe.suite, str(tree)]
    return [*words, recipe.mirror] if recipe.mirror else words


def quoted(path: Path) -> str:
    """For the hooks' own commands, which split words as a shell does."""
    text = str(path)
    if any(character in text for character in "'\"\\\n"):
        raise InvalidRequest(f"The name {text!r} has a quote in it: give the file another one")
    return f"'{text}'"


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
