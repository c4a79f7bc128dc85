# -*- test-case-name: tests.unit.test_lxc_rootfs -*-
"""
Looking into a container's root file system from outside, before anything runs in it. Its own root may have put links
into what persists. Only the standard library: this is part of the supervisor's program.
"""

from __future__ import annotations

import os
import signal

LINKS = 40
FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
HALT = {"systemd": signal.SIGRTMIN + 3, "busybox": signal.SIGUSR2}
"""By name of the program: what tells a process 1 to power off; all others heed SIGPWR."""


def resolve(root: str, path: str) -> str:
    """Where a path leads in the container: links are followed as it would follow them, and none leads out.

    @raise OSError: too many links.
    """
    done: list[str] = []
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        here = os.path.join(root, *done, part)
        if not os.path.islink(here):
            done.append(part)
            continue
        links += 1
        if links > LINKS:
            raise OSError(f"too many symbolic links in {path}")
        target = os.readlink(here)
        done = [] if target.startswith("/") else done
        todo += target.split("/")[::-1]
    return os.path.join(root, *done)


def check_program(root: str, path: str) -> str:
    """The file that a program of the container is.

    @raise OSError: there is none that could be run.
    """
    found = resolve(root, path)
    if not os.path.isfile(found) or not os.stat(found).st_mode & 0o111:
        raise OSError(f"the image has no program {path}")
    return found


def halt_signal(program: str) -> int:
    """What asks this process 1 to power off."""
    return HALT.get(os.path.basename(program), signal.SIGPWR)


def mount_id(folder: int) -> int:
    """Number of the mount that an open folder is in."""
    with open(f"/proc/self/fdinfo/{folder}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def open_folder(path: str) -> int:
    return os.open(path, FOLDER)


def enter_folder(root: int, name: str, owner: int) -> int:
    """A folder of the root, made where there is none.

    @raise OSError: it is a link or a file.
    """
    try:
        os.mkdir(name, 0o755, dir_fd=root)
        os.chown(name, owner, owner, dir_fd=root, follow_symlinks=False)
    except FileExistsError:
        pass
    return os.open(name, FOLDER, dir_fd=root)


def open_plain(root: int, path: str) -> int | None:
    """A file of the root; L{None}: there is none, or a link is on the way."""
    folder = os.dup(root)
    try:
        *parents, name = path.split("/")
        for parent in parents:
            below = os.open(parent, FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    finally:
        os.close(folder)
    if os.path.isfile(f"/proc/self/fd/{found}"):
        return found
    os.close(found)
    return None
