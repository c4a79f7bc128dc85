# -*- test-case-name: tests.doctor.test_broken,tests.doctor.test_hanging -*-
"""The folders of images, homes and layers: there, mounted, writable, lockable, with space, and shared with others."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from qvd.doctor import mounts
from qvd.doctor.findings import About, Finding, failure, not_applicable, ok, warning
from qvd.doctor.place import Place, who
from qvd.hkd.garbage.places import opened_root, read_claim
from qvd.model.errors import DatabaseUnavailable, QVDError

GIB, MIB = 1 << 30, 1 << 20
FULL, SCARCE = 256 * MIB, 2 * GIB
FEW_INODES = 0.01
NETWORKED = ("lxc", "kvm")


@frozen
class Folder:
    """One of the settings.

    @ivar writes: the daemon writes to it.
    @ivar shared: all nodes must see the same.
    @ivar drivers: of nodes that use it.
    """

    key: str
    what: str
    writes: bool = True
    shared: bool = True
    drivers: tuple[str, ...] = ("sandbox", *NETWORKED)


FOLDERS = {
    About.NODE: (
        Folder("path.storage.images", "disk images", writes=False),
        Folder("path.storage.homes", "homes"),
        Folder("path.storage.overlays", "writable layers", shared=False),
        Folder("path.storage.bases", "unpacked images", drivers=("lxc",)),
        Folder("path.run", "files of running VMs", shared=False, drivers=("sandbox", *NETWORKED, "simulated")),
    ),
    About.ADMIN: (
        Folder("path.storage.images", "disk images"),
        Folder("path.storage.staging", "files to import", writes=False, shared=False),
    ),
}
Verdict = Callable[[Place, Folder, Path], Iterator[Finding]]


def each_folder(place: Place, verdict: Verdict) -> Iterator[Finding]:
    """What is to be said of those that are used and there."""
    for folder in FOLDERS[place.about]:
        path = place.file(folder.key)
        if place.about is About.NODE and place.driver not in folder.drivers:
            yield not_applicable(f"{path} ({folder.key})", f"the driver {place.driver} does not use it")
            continue
        yield from verdict(place, folder, path)


def told(folder: Folder, path: Path) -> str:
    return f"{path} ({folder.what})"


def is_there(path: Path) -> bool:
    """As a folder. One that may not be looked at is."""
    try:
        return os.path.isdir(path) or not os.access(mounts.nearest(path), os.X_OK)
    except OSError:
        return False


def look_at_folders(place: Place) -> Iterator[Finding]:
    """They are there, or can be made when they are needed."""
    yield from each_folder(place, presence)


def presence(place: Place, folder: Folder, path: Path) -> Iterator[Finding]:
    looked_at = told(folder, path)
    if is_there(path):
        try:
            os.listdir(path)
        except OSError as error:
            yield unreadable(place, folder, path, error)
            return
        yield ok(looked_at, "it is there, and can be read")
        return
    if path.exists() or path.is_symlink():
        yield failure(looked_at, "It is no folder", f"put a folder there, or correct {folder.key}")
        return
    parent = mounts.nearest(path)
    if folder.key == "path.storage.staging":
        yield not_applicable(looked_at, "it is not there: nobody has left anything to be imported")
    elif folder.key == "path.storage.images" and files_are_registered(place):
        yield failure(
            looked_at,
            "It does not exist, and images are registered that should be in it",
            f"mount the shared storage there, or correct {folder.key}",
        )
    elif not os.access(parent, os.W_OK):
        yield failure(
            looked_at,
            f"It does not exist, and {who()} cannot make it in {parent}",
            f"make it, for the user that {place.daemon} runs as: mkdir -p {path}",
        )
    else:
        yield not_applicable(looked_at, "it is not there yet: it is made when it is first needed")


def unreadable(place: Place, folder: Folder, path: Path, error: OSError) -> Finding:
    looked_at = told(folder, path)
    if error.errno in (errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.EHOSTDOWN):
        mend = f"the file server has lost it: umount -l {path}, and mount it again"
        return failure(looked_at, f"It cannot be read ({error.strerror})", mend)
    if error.errno == errno.EACCES and os.geteuid() != 0:
        return not_applicable(looked_at, f"{who()} cannot read it; run the doctor as root")
    mend = f"give it to the user that {place.daemon} runs as; of NFS, look at the export (root_squash)"
    return failure(looked_at, f"It cannot be read ({error.strerror})", mend)


def files_are_registered(place: Place) -> bool:
    """Whether images have files. Of a database that does not answer the worst is assumed."""
    try:
        with place.reading() as reader:
            return bool(reader.one("SELECT EXISTS (SELECT FROM dis WHERE path <> '') AS found")["found"])
    except (DatabaseUnavailable, QVDError):
        return True
    except Exception:  # noqa: BLE001  a schema that is none: database.schema says so
        return True


def look_at_mounts(place: Place) -> Iterator[Finding]:
    """What C{/etc/fstab} wants there is mounted."""
    found, table = mounts.current(), mounts.table()

    def verdict(place: Place, folder: Folder, path: Path) -> Iterator[Finding]:
        real = os.path.realpath(mounts.nearest(path))
        # The links of a folder that is hidden below a mount that lacks cannot be followed.
        lacking = mounts.missing(str(path.absolute()), found, table) or mounts.missing(real, found, table)
        if lacking is not None:
            yield failure(
                told(folder, path),
                f"{lacking.source} should be mounted on {lacking.point} (/etc/fstab) and is not: what is written now"
                " lies on this machine's own disk, hidden once it is mounted",
                f"stop {place.daemon}, mount {lacking.point}, and move what was written meanwhile",
            )
            return
        mount = mounts.mount_of(real, found)
        if mount is None:
            yield not_applicable(told(folder, path), "what it is mounted from cannot be seen")
        else:
            yield ok(told(folder, path), f"on {mount.source} ({mount.kind}), mounted on {mount.point}")

    yield from each_folder(place, verdict)


def look_at_writing(place: Place) -> Iterator[Finding]:
    """The daemon can write, and lock what it writes: homes and disks are locked by who uses them."""
    yield from each_folder(place, writing)


def writing(place: Place, folder: Folder, path: Path) -> Iterator[Finding]:
    looked_at = told(folder, path)
    if not folder.writes:
        yield not_applicable(looked_at, f"{place.daemon} only reads it")
        return
    if not is_there(path):
        yield not_applicable(looked_at, "it is not there (storage.there)")
        return
    name = path / f".qvd-doctor-{secrets.token_hex(8)}"
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        yield unwritable(place, folder, path, error)
        return
    try:
        os.write(fd, b"qvd-doctor\n")
        os.fsync(fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        yield unlockable(folder, path, error)
        return
    finally:
        os.close(fd)
        with suppress(OSError):
            os.unlink(name)
    yield ok(looked_at, "it can be written, and locked")


def unwritable(place: Place, folder: Folder, path: Path, error: OSError) -> Finding:
    looked_at = told(folder, path)
    match error.errno:
        case errno.EROFS:
            mend = (
                f"mount -o remount,rw {path}; if it became so by itself, the disk or its file server has a fault: dmesg"
            )
            return failure(looked_at, "It is mounted read-only", mend)
        case errno.EACCES | errno.EPERM if os.geteuid() != 0:
            return not_applicable(looked_at, f"{who()} may not write there; run the doctor as root")
        case errno.EACCES | errno.EPERM:
            mend = f"give it to the user that {place.daemon} runs as; of NFS, export it with no_root_squash"
            return failure(looked_at, f"{who()} may not write there ({error.strerror})", mend)
        case errno.ENOSPC | errno.EDQUOT:
            return failure(looked_at, f"Nothing can be written ({error.strerror})", FREE_SPACE)
        case _:
            return failure(looked_at, f"Nothing can be written ({error.strerror})", "look at its disk or file server")


FREE_SPACE = "remove what is not needed ('qvd-node garbage' lists what nothing refers to), or enlarge it"


def unlockable(folder: Folder, path: Path, error: OSError) -> Finding:
    looked_at = told(folder, path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return failure(looked_at, f"Nothing can be written ({error.strerror})", FREE_SPACE)
    if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
        mend = "mount it with locks (NFS: version 4, or lockd on both sides and no 'nolock')"
        return failure(looked_at, "Files in it cannot be locked, and two machines could use one home", mend)
    return failure(looked_at, f"Nothing can be written ({error.strerror})", "look at its disk or file server")


def look_at_space(place: Place) -> Iterator[Finding]:
    """There is room, of bytes and of files."""
    yield from each_folder(place, space)


def space(place: Place, folder: Folder, path: Path) -> Iterator[Finding]:
    looked_at = told(folder, path)
    here = os.statvfs(mounts.nearest(path))
    free, size = here.f_bavail * here.f_frsize, here.f_blocks * here.f_frsize
    said = f"{in_words(free)} of {in_words(size)} are free"
    few = bool(here.f_files) and here.f_favail < here.f_files * FEW_INODES
    if folder.writes and free < FULL:
        yield failure(looked_at, f"It is full: {said}", FREE_SPACE)
    elif few:
        yield warning(looked_at, f"It can hold {here.f_favail} more files, of {here.f_files}", FREE_SPACE)
    elif folder.writes and folder.key != "path.run" and free < SCARCE:
        yield warning(looked_at, f"It is nearly full: {said}", FREE_SPACE)
    else:
        yield ok(looked_at, said)


def in_words(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def look_at_sharing(place: Place) -> Iterator[Finding]:
    """All nodes see the same, as far as one machine can tell; and nobody else's installation does."""
    with place.reading() as reader:
        installation = str(reader.one("SELECT id FROM installation")["id"])
        nodes = reader.one("SELECT count(*) AS n FROM host_runtimes WHERE decommissioned_at IS NULL")["n"]
    found = mounts.current()

    def verdict(place: Place, folder: Folder, path: Path) -> Iterator[Finding]:
        looked_at = told(folder, path)
        other = claim_of_another(path, installation)
        if other is not None:
            yield failure(
                looked_at, other, "give each installation folders of its own; if it is wrong, remove that file"
            )
        elif not folder.shared:
            yield not_applicable(looked_at, "it need not be shared")
        elif nodes < 2:
            yield not_applicable(looked_at, "the installation has one node")
        else:
            mount = mounts.mount_of(os.path.realpath(mounts.nearest(path)), found)
            if mount is None or not mount.shared:
                where = "this machine's own" if mount is None else f"{mount.source} ({mount.kind}), this machine's own"
                yield warning(
                    looked_at,
                    f"The installation has {nodes} nodes, and this is {where}: other nodes see another folder",
                    "mount the shared storage (NFS, Ceph, ...) there on all nodes, and on the administration's machine",
                )
            else:
                yield ok(looked_at, f"on {mount.source} ({mount.kind}), which other machines can see as well")

    yield from each_folder(place, verdict)


def claim_of_another(path: Path, installation: str) -> str | None:
    """What is wrong with the mark that a node has left in the folder."""
    try:
        with opened_root(path) as root:
            claim = read_claim(root, path)
    except OSError:
        return None
    except QVDError as error:
        return error.text
    if claim is None or claim.installation == installation:
        return None
    return f"It belongs to another installation ({claim.installation}; this database is that of {installation})"
