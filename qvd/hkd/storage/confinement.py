# -*- test-case-name: tests.machines.test_storage_unpack -*-
"""
A process that can do nothing but what it was started for: it sees one folder as the whole file system, has the
rights of a container's root and no others, no network, no neighbors, and bounded memory. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NoReturn

IDS = 65536
"""User and group ids of a container."""
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
MEMORY = 1 << 30
"""Bytes of address space: xz asks for 64 MiB and zstd for up to 128 MiB at their usual best."""
DESCRIPTORS = 256
libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """@raise OSError: C{result}, of a call of libc, says that it failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    texts = [text.encode() for text in (source, target, kind)]
    check(libc.mount(*texts, ctypes.c_ulong(flags), data.encode()), f"mount on {target}")


def die_with_parent(parent: int) -> None:
    """@param parent: the number of who is to outlive us; when it is gone by now, we go too."""
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(1)


def pivot_into(folder: str) -> None:
    """Make it the root of all that this process sees. Nothing else stays mounted here."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount(folder, folder, "", MS_BIND)
    mount("none", folder, "", MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV)
    pivot(folder)


def pivot_into_programs() -> None:
    """See this machine's programs, none of which can be changed, and nothing else."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    new, read_only = "/tmp", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV
    mount("programs", new, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755")
    os.mkdir(f"{new}/usr")
    mount("/usr", f"{new}/usr", "", MS_BIND)
    mount("none", f"{new}/usr", "", read_only)
    for name in ("bin", "lib", "lib64"):
        os.symlink(f"usr/{name}", f"{new}/{name}")
    mount("none", new, "", read_only)
    pivot(new)


def pivot(new: str) -> None:
    os.chdir(new)
    check(libc.pivot_root(b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount")
    os.chdir("/")


def limit_resources(file_size: int, processes: int) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
        (resource.RLIMIT_NPROC, processes),
    ):
        resource.setrlimit(kind, (most, most))
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def confine(
    enter: Callable[[], None],
    work: Callable[[], object],
    keep: Collection[int],
    uid_base: int,
    file_size: int,
    processes: int,
) -> int:
    """Start a confined process.

    @param enter: called as root in namespaces of its own: it leaves sight of this machine's files.
    @param work: called when there are no rights left but those of a container's root.
    @param keep: descriptors that C{work} needs, besides the standard error output.
    @param file_size: bytes of the longest file that it may write.
    @param processes: how many it may be, threads included.
    @return: its number. It exits with 0 when C{work} came to an end, and dies with us.
    """
    parent = os.getpid()
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        run(lambda: outer(parent, enter, (ready[1], go[0]), keep, lambda: inner(work, file_size, processes)))
    os.close(ready[1])
    os.close(go[0])
    try:
        # Nothing is read where it could not even begin; how it ended will be seen.
        if os.read(ready[0], 1):
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{child}/{name}", "w", encoding="ascii") as file:
                    file.write(f"0 {uid_base} {IDS}")
            os.write(go[1], b"g")
    finally:
        os.close(ready[0])
        os.close(go[1])
    return child


def outer(
    parent: int, enter: Callable[[], None], steps: tuple[int, int], keep: Collection[int], then: Callable[[], object]
) -> None:
    """Go into the namespaces, take the container's ids, and start the first process of the new pid namespace.

    @param steps: descriptors: to say that the ids can be mapped, and to hear that they are.
    """
    die_with_parent(parent)
    close_others({*keep, *steps})
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), "unshare")
    enter()
    # Last: so the other namespaces are the machine's own root's, and nobody in here has any right on them.
    check(libc.unshare(CLONE_NEWUSER), "unshare")
    ready, go = steps
    os.write(ready, b"r")
    if not os.read(go, 1):
        os._exit(1)
    os.close(ready)
    os.close(go)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # Other ids have made the kernel forget it.
    die_with_parent(parent)
    first = os.fork()
    if first == 0:
        run(then)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)


def inner(work: Callable[[], object], file_size: int, processes: int) -> None:
    # Its parent is in another pid namespace, and has no number in here to compare.
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    limit_resources(file_size, processes)
    work()


def close_others(keep: Collection[int]) -> None:
    """Close all descriptors but these and the standard error output. A pipe ends when its last writer is gone."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)
    for fd in range(3, DESCRIPTORS):
        if fd not in keep:
            with suppress(OSError):
                os.close(fd)


def run(work: Callable[[], object]) -> NoReturn:
    """In a forked process, which must never go back into its parent's code."""
    try:
        work()
    except BaseException as error:  # noqa: BLE001
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)
