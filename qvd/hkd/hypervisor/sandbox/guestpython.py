# -*- test-case-name: tests.unit.test_sandbox_guestpython -*-
"""The agent for guests whose image has none: our own code and the Python that runs it, bound in read-only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from attrs import frozen

import qvd
from qvd.model.errors import PermanentError

LIBRARY = "/.qvd/lib"
VENV = "/.qvd/venv"


@frozen
class GuestPython:
    """Python as the guest sees it.

    @ivar executable: path in the guest.
    @ivar binds: what it takes, as pairs of host path and guest path.
    @ivar base: where the interpreter itself lives, in the guest as on the host. Not among C{binds} when it is in
        C{/usr}: the guest has a C{/usr} of its own, and the same interpreter must be in it.
    @ivar interpreter: the interpreter's program below C{base}.
    """

    executable: str
    binds: tuple[tuple[Path, str], ...]
    base: Path
    interpreter: Path

    def check_readable(self) -> None:
        """The guest's user is nobody's relative: all must be open to others.

        @raise PermanentError: it is not, as after an installation with a strict umask.
        """
        for source, _ in self.binds:
            for path in (source, *sample(source)):
                mode = path.stat().st_mode
                wanted = 0o005 if path.is_dir() else 0o004
                if mode & wanted != wanted:
                    raise PermanentError(f"The guest's user cannot read {path}; 'chmod -R go+rX {source}' cures that")

    def check_clear_of(self, home: str) -> None:
        """@raise PermanentError: the interpreter would be hidden below the guest's home."""
        if self.base.is_relative_to(home):
            raise PermanentError(f"Python is installed in {self.base}, which is below the guest's own {home}")


def sample(folder: Path) -> list[Path]:
    """Enough to notice a strict umask."""
    return sorted(folder.iterdir())[:20] if folder.is_dir() else []


def host_python() -> GuestPython:
    """The Python that runs us."""
    package = Path(qvd.__file__).resolve().parent
    binds = [(package, f"{LIBRARY}/qvd"), (package.parent / "twisted" / "plugins", f"{LIBRARY}/twisted/plugins")]
    base, prefix = Path(sys.base_prefix), Path(sys.prefix)
    if not base.is_relative_to("/usr"):
        binds.append((base, str(base)))
    executable = sys.executable
    if prefix != base:
        # In a place of its own: where it lies on the host, a user's home may be in the guest.
        binds.append((prefix, VENV))
        executable = f"{VENV}/bin/{Path(sys.executable).name}"
    return GuestPython(executable, tuple(binds), base, Path(os.path.realpath(sys.executable)))
