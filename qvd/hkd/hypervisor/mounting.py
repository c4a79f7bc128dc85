# -*- test-case-name: tests.integration.test_sandbox -*-
"""Mounts that nobody else sees, for the children of supervisors. Only the standard library, and of that little."""

from __future__ import annotations

import os
import signal
from typing import Any

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT = 0x1, 0x2, 0x4, 0x20
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 0x1000, 0x2000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1


class Kernel:
    """System calls that Python has no names for.

    @raise OSError: each of them; the text says what failed.
    """

    def __init__(self) -> None:
        # Loaded where it is needed: the supervisor itself, which stays, does without.
        import ctypes

        self._ctypes = ctypes
        self._libc: Any = ctypes.CDLL(None, use_errno=True)

    def check(self, result: int, what: str) -> int:
        """The result of a call, unless it is an error."""
        if result < 0:
            raise OSError(f"{what}: {os.strerror(self._ctypes.get_errno())}")
        return result

    def unshare(self, flags: int) -> None:
        """Leave namespaces for new ones."""
        self.check(self._libc.unshare(flags), "unshare")

    def mount(self, source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
        """As C{mount(2)}."""
        texts = [None if text is None else text.encode() for text in (source, target, kind, data)]
        flag_word = self._ctypes.c_ulong(flags)
        self.check(self._libc.mount(texts[0], texts[1], texts[2], flag_word, texts[3]), f"mount on {target}")

    def hide_mounts(self) -> None:
        """What is mounted in this namespace shows in no other one."""
        self.mount(None, "/", None, MS_REC | MS_PRIVATE, None)

    def mount_overlay(self, folders: dict[str, str], *, rooted: bool) -> None:
        """Mount C{lower}, C{upper} and C{work} on C{merged}."""
        self.mount("overlay", folders["merged"], "overlay", 0, overlay_options(folders, rooted=rooted))

    def die_with(self, parent: int) -> None:
        """Be killed when the parent ends, also where it has ended by now."""
        self.check(self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
        if os.getppid() != parent:
            os._exit(1)


def overlay_options(folders: dict[str, str], *, rooted: bool) -> str:
    """Folders are named by descriptor: no character of a path can end an option, no link can lead elsewhere."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    parts = [f"{name}dir=/proc/self/fd/{os.open(folders[name], flags)}" for name in ("lower", "upper", "work")]
    return ",".join(parts if rooted else [*parts, "userxattr"])
