# -*- test-case-name: tests.unit.test_agent_folders -*-
"""
Where the agent keeps its files.

As root they lie in a folder of root's and are handed over one by one, so that no user can put a link in their way.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from attrs import frozen

from qvd.agent.account import Account
from qvd.model.errors import SettingsError

PLAIN = re.compile(r"/[A-Za-z0-9_./-]*")


@frozen
class Folders:
    """The agent's folders.

    @ivar log: L{None} where none can be had; then nothing is kept.
    """

    run: Path
    log: Path | None

    def write(self, name: str, data: bytes, owner: Account) -> Path:
        """Make or replace a file that C{owner} alone may read."""
        path, new = self.run / name, self.run / f"{name}.new"
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            if owner.switch:
                os.fchown(file.fileno(), owner.uid, owner.gid)
            file.write(data)
        os.replace(new, path)
        return path

    def make(self, name: str, owner: Account) -> Path:
        """Make a folder that C{owner} alone may enter."""
        path = self.run / name
        own_folder(path, 0o700, owner.uid)
        if owner.switch:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
        return path


def open_folders(run: str, log: str) -> Folders:
    """Make the folders. An ordinary user, who may not, gets other ones.

    @raise SettingsError: there is no place for C{path.run}, or its name cannot stand in nxagent's display name.
    """
    if not PLAIN.fullmatch(run):
        raise SettingsError(f"path.run: {run!r} has characters that nxagent cannot take, or is no absolute path")
    uid = os.getuid()
    mode = 0o755 if uid == 0 else 0o700
    spare = [] if uid == 0 else [Path(f"/run/user/{uid}/qvd"), Path(f"/tmp/.qvd-{uid}")]
    found = first_possible([Path(run), *spare], mode)
    if found is None:
        raise SettingsError(f"path.run: {run} cannot be made")
    return Folders(found, first_possible([Path(log), found / "log"], 0o750))


def first_possible(paths: list[Path], mode: int) -> Path | None:
    """The first of C{paths} that can be made, or is there and is ours."""
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            own_folder(path, mode, os.getuid())
        except OSError:
            continue
        return path
    return None


def own_folder(path: Path, mode: int, owner: int) -> None:
    """Make a folder, or make sure that it is ours, or already C{owner}'s.

    @raise OSError: neither.
    """
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.getuid(), owner) or not os.access(path, os.W_OK):
            raise
    else:
        path.chmod(mode)
