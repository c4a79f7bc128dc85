# -*- test-case-name: tests.doctor.test_broken -*-
"""What VMs are made of on this machine: layers (overlayfs, btrfs) and the sandbox's bubblewrap."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from qvd.doctor import mounts, programs
from qvd.doctor.findings import Finding, failure, not_applicable, ok
from qvd.doctor.place import Place, who
from qvd.hkd import configured
from qvd.hkd.files.folders import remove_tree
from qvd.hkd.hypervisor.sandbox.guestpython import host_python
from qvd.model.errors import PermanentError

TRIAL_SECONDS = 8.0
# What the driver itself does, in a process of its own, whose mounts go with it.
TRIAL = """
import json, os, sys
from qvd.hkd.hypervisor.sandbox.launch import prepare_namespace
folders = json.loads(sys.argv[1])
prepare_namespace(folders, os.getppid())
with open(folders["merged"] + "/written", "w") as file:
    file.write("x")
os.unlink(folders["merged"] + "/written")
"""
NAMESPACES_MEND = (
    "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces), or run as root"
)
NETWORK_MEND = "path.storage.overlays must be on a disk of this machine (ext4, xfs): no network file system can do this"


def look_at_layers(place: Place) -> Iterator[Finding]:
    """Writable layers above images can be made in C{path.storage.overlays}."""
    folder = place.file("path.storage.overlays")
    looked_at = f"{folder} (writable layers)"
    if place.driver == "lxc" and place.settings.text("vm.lxc.storage") == "btrfs":
        yield btrfs(place)
    elif place.driver not in ("lxc", "sandbox"):
        yield not_applicable(looked_at, f"the driver {place.driver} has no layers of folders")
    elif place.driver == "lxc" and os.geteuid() != 0:
        yield not_applicable(looked_at, "only root can try it; run the doctor as root")
    else:
        yield overlay(looked_at, folder)


def overlay(looked_at: str, folder: Path) -> Finding:
    """Try it: make a layer where they are made, mount it where nobody sees it, and write."""
    base = mounts.nearest(folder)
    trial = base / f".qvd-doctor-{secrets.token_hex(8)}"
    try:
        trial.mkdir(mode=0o700)
    except OSError as error:
        return not_applicable(looked_at, f"nothing can be made in {base} ({error.strerror}; storage.writable)")
    try:
        folders = {name: str(trial / name) for name in ("lower", "upper", "work", "merged")}
        for each in folders.values():
            os.mkdir(each)
        said = tried(folders)
    finally:
        with suppress(OSError):
            remove_tree(trial)
    if said is None:
        return ok(looked_at, "a layer was made there, mounted and written")
    mount = mounts.mount_of(os.path.realpath(base), mounts.current())
    kind = "an unknown file system" if mount is None else mount.kind
    if "Operation not permitted" in said and "unshare" in said:
        mend = NAMESPACES_MEND
    elif "No such device" in said:
        mend = "load the kernel's overlay module: modprobe overlay"
    else:
        mend = NETWORK_MEND
    return failure(looked_at, f"No layer can be mounted on {kind} ({said}): VMs with an image do not start", mend)


def tried(folders: dict[str, str]) -> str | None:
    """What went wrong; L{None}: nothing."""
    words = [sys.executable, "-P", "-c", TRIAL, json.dumps(folders)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it did not end within {TRIAL_SECONDS:g} s"
    lines = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else (lines[-1].removeprefix("OSError: ") if lines else "it was killed")


def btrfs(place: Place) -> Finding:
    """Images and layers are in one btrfs."""
    bases, overlays = place.file("path.storage.bases"), place.file("path.storage.overlays")
    looked_at, found = f"{bases} and {overlays} (vm.lxc.storage)", mounts.current()
    places = [mounts.mount_of(os.path.realpath(mounts.nearest(path)), found) for path in (bases, overlays)]
    if any(each is None or each.kind != "btrfs" for each in places):
        return failure(
            looked_at,
            "vm.lxc.storage is btrfs, and a folder is on another file system: no container starts",
            "put both on one btrfs, or set vm.lxc.storage to overlayfs",
        )
    if len({each.source for each in places if each is not None}) > 1:
        return failure(looked_at, "They are on two file systems, and a snapshot cannot cross", "put both on one btrfs")
    return ok(looked_at, "both on one btrfs")


def look_at_bubblewrap(place: Place) -> Iterator[Finding]:
    """The sandbox can be made here."""
    if place.driver != "sandbox":
        yield not_applicable("bubblewrap", f"the driver is {place.driver}")
        return
    said = programs.run(["bwrap", "--version"])
    if not said.good:
        yield failure("bubblewrap", f"It cannot be run ({said.reason}): no VM starts", "apt-get install bubblewrap")
        return
    version = said.out.strip()
    rooted = os.geteuid() == 0
    words = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-pid", "--unshare-ipc"]
    trial = programs.run(["bwrap", *words, *([] if rooted else ["--unshare-user"]), "true"])
    if trial.good:
        yield ok("bubblewrap", f"{version} makes a sandbox for {who()}")
    else:
        yield failure(
            "bubblewrap",
            f"It cannot make a sandbox ({trial.reason}): no VM starts",
            "allow namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces;"
            " AppArmor's kernel.apparmor_restrict_unprivileged_userns=0), or run the node as root",
        )


def look_at_sandbox(place: Place) -> Iterator[Finding]:
    """The programs that the guests take from this node."""
    if place.driver != "sandbox":
        yield not_applicable("programs of sandboxes", f"the driver is {place.driver}")
        return
    layout = configured.sandbox_layout(place.settings)
    if not layout.host_files:
        yield not_applicable("this node's own files", "VMs do not boot from them (vm.sandbox.host_files)")
    else:
        for name, package in (("nxagent", "nxagent"), *((("setpriv", "util-linux"),) if os.geteuid() == 0 else ())):
            yield program(f"/usr/bin/{name}", package)
    if layout.x_session is not None:
        looked_at = f"{layout.x_session} (vm.sandbox.x_session)"
        if not os.path.isfile(layout.x_session):
            yield failure(looked_at, "It does not exist: no VM starts", "put the program there, or correct the setting")
        else:
            yield ok(looked_at, "the session program is there")
    yield agent_python()


def program(path: str, package: str) -> Finding:
    looked_at = f"{path} of this node"
    if os.path.lexists(path):
        return ok(looked_at, "VMs that boot from this node's files have it")
    return failure(
        looked_at, "It is missing: VMs that boot from this node's files do not start", f"apt-get install {package}"
    )


def agent_python() -> Finding:
    """The agent for images without one."""
    looked_at = "this node's Python, for the agent of guests"
    if os.geteuid() != 0:
        return not_applicable(looked_at, "guests run as the node's own user, who can read it")
    try:
        host_python().check_readable()
    except PermanentError as error:
        return failure(looked_at, error.text, "chmod -R go+rX, as it says")
    return ok(looked_at, "guests can read it")
