# -*- test-case-name: tests.machines.test_lxc_driver -*-
"""
The supervisor of one container: a program of its own, run as C{python -I -S launch.py}.

It locks the home and the writable layer; its child mounts the root file system in a mount namespace of its own, puts
the guest's files and the home into it, checks it, and becomes C{lxc-start}. All mounts end with that process and the
container's own.

A container without a root file system runs its init on the node. So nothing is started before the root is seen to be a
mount with our marker in it; and the init is a file that the node itself does not have.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

if __name__ == "__main__":
    # There is no import path here but the standard library's.
    sys.path.append(os.path.abspath(__file__).rsplit("/", 5)[0])

from qvd.hkd.hypervisor.lxc.rootfs import (
    check_program,
    enter_folder,
    halt_signal,
    mount_id,
    open_folder,
    open_plain,
)
from qvd.hkd.hypervisor.mounting import (
    CLONE_NEWNS,
    MS_BIND,
    MS_MOVE,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    MS_REMOUNT,
    Kernel,
)
from qvd.hkd.hypervisor.supervisor import Supervisor, last_line, main, settle, start_time

PLACE, ROOT = "/run/lxc", "/run/lxc/root"
"""Where this container's liblxc keeps its own files, and finds the root file system (C{config.ROOT}). Whoever is root
in the container must be able to pass through all folders above it, so it cannot be where the storage is."""
OWN = ".qvd"
INIT, MARKER, STARTED = "init", "guest.json", "started"
"""Files in C{/.qvd}: the first program, what the agent reads, and the pipe that says that the former runs."""
COMPLAINT = re.compile(r"^lxc-start: \S+: \S+: \w+: \d+ (.*)$", re.MULTILINE)
"""liblxc's line for an error: program, container, file, function, line, text."""


class LxcSupervisor(Supervisor):
    """Its plan has besides:

    - C{name}: liblxc's for the container; C{config}: its file
    - C{root}: the folders of a L{RootPlan}; C{home}: the folder for C{/home}, or L{None}
    - C{files}: folder of the files for C{/.qvd}, and C{etc}, of those that replace some of the image's in C{/etc}
    - C{started}: the pipe; C{halt}: file for the signal that asks the container to end
    - C{owner}: user id of the container's root, and C{image_init}, its own first program
    """

    program = "lxc-start"

    def begin(self) -> None:
        # Open for writing as well, so that it never ends and no writer ever waits for us.
        started = os.open(self._plan["started"], os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._fork(lambda output, parent: run_container(self._plan, {1: output, 2: output}, parent))
        self._read(started, lambda data: self._see_started(started))

    def end(self) -> None:
        if not kill_noted(self._plan["init"]) and self._child and self._status is None:
            self._kill_setup()

    def _see_started(self, pipe: int) -> None:
        # Whatever else comes is the container's doing.
        self._poll.unregister(pipe)
        del self._sources[pipe]
        self._report({"started": True})

    def _reap(self, data: bytes) -> None:
        super()._reap(data)
        if self._status is not None:
            # liblxc may have been killed alone.
            kill_noted(self._plan["init"])

    def _reason(self) -> str:
        return complaint(self._tail)


def complaint(output: bytes) -> str:
    """The first error in liblxc's output, which is the cause of the others; else what was said last."""
    found = COMPLAINT.search(output.decode("utf-8", "replace"))
    return found[1][:300] if found else last_line(output)


def kill_noted(path: str) -> bool:
    """Kill the process that was written down there, and no other one.

    @return: whether there is one.
    """
    try:
        with open(path, "rb") as file:
            noted = json.load(file)
        process = os.pidfd_open(noted["pid"])
    except (FileNotFoundError, ProcessLookupError):
        return False
    try:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if start_time(noted["pid"]) == noted["started"]:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                return True
        return False
    finally:
        os.close(process)


def run_container(plan: dict[str, Any], descriptors: dict[int, int], parent: int) -> None:
    """Become lxc-start."""
    settle(descriptors)
    kernel = Kernel()
    kernel.unshare(CLONE_NEWNS)
    kernel.hide_mounts()
    root = mount_root(kernel, plan["root"], plan["owner"])
    fill(kernel, root, plan)
    move_root(kernel, plan["root"]["merged"])
    # Where liblxc puts an AppArmor profile that it generates.
    os.mkdir(os.path.join(PLACE, plan["name"]))
    check_root(plan["config"])
    halt = halt_signal(check_program(ROOT, plan["image_init"]))
    with open(plan["halt"], "w", encoding="ascii") as file:
        file.write(str(halt))
    kernel.die_with(parent)
    names = ["-n", plan["name"], "-P", PLACE, "-f", plan["config"]]
    os.execvp("lxc-start", ["lxc-start", "-F", *names, "-s", f"lxc.signal.halt={halt}"])


def mount_root(kernel: Kernel, folders: dict[str, str], owner: int) -> int:
    """Mount the root file system.

    @return: it, open.
    """
    before = open_folder(folders["merged"])
    if folders["lower"]:
        kernel.mount_overlay(folders, rooted=True)
    else:
        kernel.mount(folders["upper"], folders["merged"], None, MS_BIND, None)
    root = open_folder(folders["merged"])
    if mount_id(root) == mount_id(before):
        raise OSError("the root file system is not mounted")
    os.close(before)
    for folder in filter(None, (folders["lower"], shown(root))):
        check_owner(folder, owner)
    return root


def check_owner(folder: str, owner: int) -> None:
    found = os.stat(folder).st_uid
    if found != owner:
        raise OSError(f"the image's files belong to user id {found}, not to {owner}, the container's root")


def fill(kernel: Kernel, root: int, plan: dict[str, Any]) -> None:
    """Put the guest's files and the home in. Mounted before the container has a user namespace of its own, they can
    neither be changed nor taken away in there."""
    owner = plan["owner"]
    kernel.mount("qvd", shown(enter_folder(root, OWN, owner)), "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=256k")
    own = shown(enter_folder(root, OWN, owner))
    for name, mode in ((INIT, 0o755), (MARKER, 0o400), (STARTED, 0o600)):
        with open(f"{own}/{name}", "wb") as file:
            file.write(b"" if name == STARTED else contents(os.path.join(plan["files"], name)))
            os.fchown(file.fileno(), owner, owner)
            os.fchmod(file.fileno(), mode)
    bind(kernel, plan["started"], lambda: os.open(f"{own}/{STARTED}", os.O_PATH))
    kernel.mount(None, own, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, None)
    for name in os.listdir(plan["etc"]):
        rewrite(open_plain(root, f"etc/{name}"), contents(os.path.join(plan["etc"], name)))
    if plan["home"] is not None:
        bind(kernel, plan["home"], partial(enter_folder, root, "home", owner))


def contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def rewrite(plain: int | None, data: bytes) -> None:
    """Change a file of the image's, where there is one. A mount over it would be in the way of the container's own
    programs."""
    if plain is not None:
        with open(shown(plain), "wb") as file:
            file.write(data)


def bind(kernel: Kernel, source: str, target: Callable[[], int]) -> None:
    """Show a file or folder at another place too.

    @param target: opens the place; called again, it opens what is mounted there by then.
    """
    kernel.mount(source, shown(target()), None, MS_BIND, None)
    kernel.mount(None, shown(target()), None, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV, None)


def shown(fd: int) -> str:
    """A path for something open. All are closed by what is executed at the end."""
    return f"/proc/self/fd/{fd}"


def move_root(kernel: Kernel, merged: str) -> None:
    """Bring the root to its place, in a folder that only this namespace has."""
    os.makedirs(PLACE, mode=0o755, exist_ok=True)
    kernel.mount("qvd", PLACE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    os.mkdir(ROOT)
    kernel.mount(merged, ROOT, None, MS_MOVE, None)


def check_root(config: str) -> None:
    """The last look before liblxc is let loose.

    @raise OSError: what it would start is not surely our container.
    """
    if not is_mount(ROOT):
        raise OSError("the root file system is not mounted")
    for name in (MARKER, INIT):
        path = os.path.join(ROOT, OWN, name)
        if os.path.islink(path) or not os.path.isfile(path):
            raise OSError(f"the root file system lacks /{OWN}/{name}")
    if os.path.lexists(f"/{OWN}/{INIT}"):
        raise OSError(f"the node itself has a file /{OWN}/{INIT}: remove it")
    check_program(ROOT, "/bin/sh")
    with open(config, encoding="utf-8") as file:
        if f"lxc.rootfs.path = dir:{ROOT}\n" not in file:
            raise OSError("the configuration does not name the root file system")


def is_mount(path: str) -> bool:
    """Also where both sides are on one file system."""
    inside, outside = open_folder(path), open_folder(os.path.dirname(path))
    try:
        return mount_id(inside) != mount_id(outside)
    finally:
        os.close(inside)
        os.close(outside)


if __name__ == "__main__":
    main(LxcSupervisor)
