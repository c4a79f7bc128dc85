# -*- test-case-name: tests.admin.test_uploads,tests.admin.test_imports -*-
"""
Files of images, while they are made. Everything here blocks, and is called in threads only.

An unfinished file is called after its image, in a hidden folder that only the service enters. It comes to its own name
when it is whole and verified, and never over another file.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from qvd.admin.places import ImagePlaces
from qvd.model.errors import Conflict, NotFound, QVDError, Unavailable
from qvd.model.imagenames import checked_name
from qvd.model.imagetype import HEAD, ImageType, sniff

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StorageFull(Unavailable):
    """There is no room left for the file."""

    code = "storage_full"


class SharedFile:
    """An open file that is closed in one thread while another may still be using it: the one waits for the other.

    Otherwise its number could be that of somebody else's file already.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    @contextmanager
    def using(self) -> Iterator[int]:
        """The number of the open file."""
        with self._lock:
            if self._fd < 0:
                raise Conflict("The file was closed meanwhile")
            yield self._fd

    def read(self, most: int) -> bytes:
        """From where the last reading ended."""
        with self.using() as fd:
            return os.read(fd, most)

    def go_to(self, mark: str, offset: int) -> tuple[str, int, int]:
        """Have the next reading begin there, if the file is still the one with that mark, and else at its beginning.
        Returns its mark, where it begins, and its length."""
        with self.using() as fd:
            status = os.fstat(fd)
            found = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
            return found, os.lseek(fd, offset if found == mark else 0, os.SEEK_SET), status.st_size

    def close(self) -> None:
        """Once, and no more."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


@define
class Part:
    """An unfinished file that nobody else writes to meanwhile, in this process or another.

    @ivar offset: where the next byte goes.
    @ivar seen: bytes that C{digest} is of, from the first one on; C{head}: the first of them.
    """

    file: SharedFile
    offset: int
    seen: int = 0
    digest: Any = field(factory=hashlib.sha256)
    head: bytes = b""

    def read_on(self, most: int) -> bool:
        """See a piece more of what is there already; False: that was all."""
        try:
            with self.file.using() as fd:
                data = os.pread(fd, min(most, self.offset - self.seen), self.seen)
        except OSError as error:
            raise trouble(error) from error
        self._see(memoryview(data))
        return bool(data)

    def clear(self) -> None:
        """Begin anew."""
        try:
            with self.file.using() as fd:
                os.ftruncate(fd, 0)
        except OSError as error:
            raise trouble(error) from error
        self.offset = self.seen = 0
        self.digest, self.head = hashlib.sha256(), b""

    def _see(self, view: memoryview) -> None:
        self.digest.update(view)
        self.head = (self.head + bytes(view[: HEAD - len(self.head)]))[:HEAD]
        self.seen += len(view)

    def append(self, data: bytes) -> None:
        """@raise StorageFull: what could be written is there, and the offset says how much."""
        with self.file.using() as fd:
            self._append(fd, memoryview(data))

    def _append(self, fd: int, view: memoryview) -> None:
        try:
            while view:
                written = os.pwrite(fd, view, self.offset)
                self._see(view[:written])
                self.offset += written
                view = view[written:]
        except OSError as error:
            raise trouble(error) from error

    def sync(self) -> None:
        """What was written survives a loss of power."""
        try:
            with self.file.using() as fd:
                os.fdatasync(fd)
        except OSError as error:
            raise trouble(error) from error

    def found(self) -> Found:
        """What it is that was seen."""
        return Found(self.seen, self.digest.hexdigest(), sniff(self.head))

    def close(self) -> None:
        """Let others write."""
        self.file.close()


def part_path(places: ImagePlaces, image_id: int) -> Path:
    return places.parts / str(int(image_id))


def open_part(places: ImagePlaces, image_id: int, keep: int | None = None) -> Part:
    """Open an unfinished file, or begin it.

    @param keep: bytes of what is there already that are good: the others go. L{None}: all are.
    @raise Conflict: somebody writes to it.
    """
    try:
        places.parts.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(part_path(places, image_id), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise trouble(error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if keep is not None and os.fstat(fd).st_size > keep:
            os.ftruncate(fd, keep)
        return Part(SharedFile(fd), os.fstat(fd).st_size)
    except BlockingIOError:
        os.close(fd)
        raise Conflict("Somebody else is writing to this file") from None
    except OSError as error:
        os.close(fd)
        raise trouble(error) from error


def part_size(places: ImagePlaces, image_id: int) -> int:
    """Bytes that are there."""
    try:
        return part_path(places, image_id).lstat().st_size
    except FileNotFoundError:
        return 0


def check_room(places: ImagePlaces, size: int) -> None:
    """@raise StorageFull: there is no room for so much."""
    try:
        room = os.statvfs(places.images)
    except OSError as error:
        raise trouble(error) from error
    if room.f_bavail * room.f_frsize < size + places.reserve:
        raise StorageFull("There is no room for the image in the storage")


@frozen
class Found:
    """What a file holds.

    @ivar checksum: SHA-256, in hexadecimal digits.
    """

    size: int
    checksum: str
    type: ImageType


def open_received(places: ImagePlaces, image_id: int, name: str) -> Part:
    """Open a whole file that is not verified yet. It may have its name already, from a time that was cut short.

    @raise NotFound: it is gone.
    """
    path = part_path(places, image_id)
    try:
        path = path if path.exists() else places.images / checked_name(name)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return Part(SharedFile(fd), os.fstat(fd).st_size)
    except FileNotFoundError:
        raise NotFound("The file that was received is not there any more") from None
    except OSError as error:
        raise trouble(error) from error


def settle(places: ImagePlaces, image_id: int, name: str) -> None:
    """Give a whole file its name. A second time does no harm.

    @raise Conflict: another file has that name.
    """
    source, target = part_path(places, image_id), places.images / checked_name(name)
    try:
        if source.exists():
            os.chmod(source, 0o644)
            # A link, not a renaming: that would replace a file that is there.
            os.link(source, target, follow_symlinks=False)
            sync_folder(places.images)
            source.unlink()
        elif not target.is_file():
            raise NotFound("The file that was received is not there any more")
    except FileExistsError:
        if not same(source, target):
            raise Conflict(f"There is a file {name!r} already in the folder of images") from None
        source.unlink()
    except OSError as error:
        raise trouble(error) from error


def same(one: Path, other: Path) -> bool:
    """Whether both names are of one file."""
    return os.path.samestat(one.lstat(), other.lstat())


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(places: ImagePlaces, image_id: int, name: str = "") -> None:
    """Take away an image's unfinished file, and the one of that name, unless that is another one, which was there
    before. That they are gone already is no harm."""
    part, target = part_path(places, image_id), places.images / checked_name(name) if name else None
    try:
        if target is not None and target.exists() and (not part.exists() or same(part, target)):
            target.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    except OSError as error:
        raise trouble(error) from error


def open_staged(places: ImagePlaces, tenant_id: int | None, name: str) -> SharedFile:
    """Open a file of the staging folder: the tenant's own, or one for all.

    @raise NotFound: there is none.
    """
    checked_name(name)
    for folder in staging_folders(places, tenant_id):
        try:
            fd = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return SharedFile(fd)
        os.close(fd)
    raise NotFound("There is no such file in the staging folder")


def staging_folders(places: ImagePlaces, tenant_id: int | None) -> list[Path]:
    """The tenant's own first."""
    if places.staging is None:
        return []
    own = [] if tenant_id is None else [places.staging / f"tenant-{tenant_id}"]
    return [*own, places.staging]


def trouble(error: OSError) -> QVDError:
    """What went wrong, in a sentence that names no path of this machine."""
    if error.errno in FULL:
        return StorageFull("There is no room left for the image in the storage")
    return Unavailable(f"The folder of images cannot be used: {error.strerror or 'input/output error'}")
