# -*- test-case-name: tests.unit.test_sandbox_root -*-
"""
What a sandbox VM sees: bubblewrap's arguments, and the contents of the files that are made for it.

Nothing of the host is writable in there but the home and, with an image, the throw-away layer. Of the host's C{/etc}
only what is named in L{HOST_ETC} is shown, and that only to VMs without an image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from qvd.hkd.hypervisor.sandbox.guestpython import LIBRARY, GuestPython
from qvd.hkd.hypervisor.sandbox.ports import GuestPorts
from qvd.hkd.hypervisor.vmspec import host_name
from qvd.model.records import VMSpec

HOST_ETC = (
    "X11 alternatives bash.bashrc dconf debian_version default/locale fonts gai.conf gtk-2.0 gtk-3.0 host.conf inputrc"
    " ld.so.cache ld.so.conf ld.so.conf.d locale.alias localtime login.defs mime.types nxagent os-release profile"
    " profile.d protocols pulse resolv.conf services shells ssl/certs ssl/openssl.cnf terminfo timezone xdg"
)
HOST_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
NAMESPACES = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--new-session")
HANDSHAKE = 'cd && echo >&3 && exec 3>&- 4>&- 5>&- && exec "$@"'
"""First program of the guest: enter the home, which root without its capabilities may not, tell the supervisor that
all is set up, and give its descriptors back."""
# No way back to root: these three end with setpriv, which drops them from the bounding set as well.
ROOT_CAPABILITIES = ("ALL", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
SETPRIV = ("setpriv", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
LEAST_SPACE = 64 << 20
FIRST_USER = 1000
"""Least id of a person's account: those of an image are not taken over."""


@frozen
class Boot:
    """One start of one VM.

    @ivar uid: user and group id of the guest's user, as the guest sees it.
    @ivar rooted: we are root, so that this id is the host's as well.
    @ivar files: folder of the files made for it (L{generated}).
    @ivar merged: the overlay, where it will be mounted; L{None} without an image.
    @ivar image: the image's folder, likewise.
    """

    spec: VMSpec
    ports: GuestPorts
    uid: int
    rooted: bool
    files: Path
    home: Path
    merged: Path | None
    image: Path | None
    x_session: Path | None
    command: tuple[str, ...]
    python: GuestPython | None

    @property
    def guest_home(self) -> str:
        return f"/home/{self.spec.login}"


def options(boot: Boot) -> list[str]:
    """What bubblewrap is to set up."""
    return [
        *NAMESPACES,
        "--die-with-parent",
        *("--hostname", host_name(boot.spec.name)),
        *user_arguments(boot),
        *(["--bind", str(boot.merged), "/"] if boot.merged else host_root()),
        *("--dev", "/dev", "--proc", "/proc"),
        *scratch(boot),
        *guest_files(boot),
        *python_binds(boot.python),
        # Last: below the home, where its user may have put symbolic links, nothing may be made or mounted.
        *("--bind", str(boot.home), boot.guest_home),
        *([] if boot.merged else ["--remount-ro", "/"]),
        *("--chdir", "/"),
        *environment(boot),
    ]


def command(boot: Boot) -> list[str]:
    """What it is to run then."""
    return [*drop_to_user(boot), "sh", "-c", HANDSHAKE, "sh", *boot.command]


def user_arguments(boot: Boot) -> list[str]:
    if not boot.rooted:
        return ["--unshare-user", "--uid", str(boot.uid), "--gid", str(boot.uid)]
    drop, *add = ROOT_CAPABILITIES
    return ["--cap-drop", drop, *(word for capability in add for word in ("--cap-add", capability))]


def drop_to_user(boot: Boot) -> list[str]:
    if not boot.rooted:
        return []
    name, *rest = SETPRIV
    return [name, "--reuid", str(boot.uid), "--regid", str(boot.uid), *rest]


def host_root() -> list[str]:
    """The host's own programs, read-only, with a C{/etc} of their harmless settings."""
    words = ["--ro-bind", "/usr", "/usr"]
    for name in HOST_LINKS:
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    for name in HOST_ETC.split():
        words += [*parents(f"/etc/{name}"), "--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return words


def parents(target: str) -> list[str]:
    """Folders on the way to a mount point. Those that bubblewrap makes by itself are closed to the guest's user."""
    return [word for folder in reversed(Path(target).parents[:-1]) for word in ("--dir", str(folder))]


def scratch(boot: Boot) -> list[str]:
    """Folders in memory, bounded by the VM's own memory."""
    size = str(max(boot.spec.memory // 2, LEAST_SPACE))
    words = ["--perms", "1777", "--size", size, "--tmpfs", "/tmp", "--size", size, "--tmpfs", "/run"]
    words += ["--perms", "1777", "--dir", "/run/user", "--perms", "1777", "--dir", "/run/lock"]
    if boot.merged is None:
        words += ["--size", size, "--tmpfs", "/var", "--perms", "1777", "--dir", "/var/tmp"]
        for name in ("cache", "lib", "log"):
            words += ["--dir", f"/var/{name}"]
        words += ["--ro-bind-try", "/var/cache/fontconfig", "/var/cache/fontconfig"]
        words += ["--symlink", "/run", "/var/run", "--symlink", "/run/lock", "/var/lock"]
    return words


def guest_files(boot: Boot) -> list[str]:
    """What L{generated} made, in its places."""
    words = ["--dir", "/.qvd", "--dir", "/etc", "--dir", "/home"]
    for name in ("passwd", "group", "hostname", "hosts", "nsswitch.conf", "machine-id"):
        words += ["--ro-bind", str(boot.files / name), f"/etc/{name}"]
    words += ["--ro-bind", str(boot.files / "guest.json"), "/.qvd/guest.json"]
    if boot.x_session:
        words += ["--ro-bind", str(boot.files / "x-session"), "/.qvd/x-session"]
    return words


def python_binds(python: GuestPython | None) -> list[str]:
    words = []
    for source, target in python.binds if python else ():
        words += [*parents(target), "--ro-bind", str(source), target]
    return words


def environment(boot: Boot) -> list[str]:
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": boot.guest_home,
        "USER": boot.spec.login,
        "LOGNAME": boot.spec.login,
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }
    if boot.python:
        variables |= {"PYTHONPATH": LIBRARY, "PYTHONDONTWRITEBYTECODE": "1"}
    return ["--clearenv", *(word for item in variables.items() for word in ("--setenv", *item))]


def generated(boot: Boot) -> dict[str, str]:
    """Files made for one start, by name; all but C{guest.json} may be read by anybody in the guest."""
    name = host_name(boot.spec.name)
    login, uid = boot.spec.login, boot.uid
    shell = "/bin/bash" if Path(boot.image or "/", "usr/bin/bash").exists() else "/bin/sh"
    own = f"{login}:x:{uid}:{uid}::{boot.guest_home}:{shell}\n"
    return {
        "passwd": system_lines(boot.image, "passwd", login, DEFAULT_PASSWD) + own,
        "group": system_lines(boot.image, "group", login, DEFAULT_GROUP) + f"{login}:x:{uid}:\n",
        "hostname": f"{name}\n",
        "hosts": f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost ip6-loopback\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n",
        "machine-id": f"{boot.spec.vm_id:032x}\n",
        "guest.json": marker(boot),
    }


DEFAULT_PASSWD = "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
DEFAULT_GROUP = "root:x:0:\ntty:x:5:\nvideo:x:44:\naudio:x:29:\nnogroup:x:65534:\n"


def system_lines(image: Path | None, name: str, login: str, default: str) -> str:
    """The accounts that belong to an image's own programs. Its people are not taken over."""
    if image is None:
        return default
    try:
        fd = os.open(image / "etc" / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return default
    with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
        return "".join(system_entries(file, login)) or default


def system_entries(lines: Iterable[str], login: str) -> Iterable[str]:
    for line in lines:
        fields = line.rstrip("\n").split(":")
        if len(fields) > 3 and fields[0] != login and fields[2].isdecimal():
            number = int(fields[2])
            if number < FIRST_USER or number == 65534:
                yield ":".join(fields) + "\n"


def marker(boot: Boot) -> str:
    """C{/.qvd/guest.json}: tells the agent that it is in a guest, in which, and what it may do there."""
    return json.dumps(
        {
            "driver": "sandbox",
            "vm_id": boot.spec.vm_id,
            "secret": boot.spec.secret.reveal(),
            "address": "127.0.0.1",
            "vma_port": boot.ports.vma_port,
            "display": boot.ports.display,
            "login": boot.spec.login,
            "home": boot.guest_home,
            "x_session": "/.qvd/x-session" if boot.x_session else None,
        }
    )
