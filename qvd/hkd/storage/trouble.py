# -*- test-case-name: tests.unit.test_storage_trouble -*-
"""What goes wrong with a storage, in words. All of it may pass: the same thing is tried again at the next start."""

from __future__ import annotations

import errno
import os

from qvd.model.errors import TransientError

SENTENCES = {
    errno.ENOSPC: "is full; make room there or give it more",
    errno.EDQUOT: "is full for this node: its quota is used up; make room there or raise it",
    errno.EROFS: "is mounted read-only; mount it for writing",
    errno.EIO: "cannot be read or written: input/output error; see the log of the node's kernel",
    errno.ESTALE: "is not the one that was mounted: its server has forgotten us; mount it again",
    errno.ENOTCONN: "is not connected; mount it again",
    errno.ENOENT: "is not there; mount or make it",
    errno.EXDEV: "is not in the same btrfs file system as the unpacked images; move one of them",
    errno.ENOTTY: "is in no btrfs file system, as vm.lxc.storage says; move it, or set overlayfs",
    errno.EACCES: "does not let this node in; check its mode and its exports",
}


def trouble(place: str, number: int | None, text: str) -> TransientError:
    """@param place: the storage, with its path: the sentence's subject.
    @param number: C{errno}, as L{OSError} has it.
    @param text: said where there is nothing better to say.
    """
    return TransientError(f"{place} {SENTENCES.get(number or 0) or f'is in trouble: {text}'}")


def of_error(place: str, error: OSError) -> TransientError:
    """The same for an exception."""
    text = error.strerror or str(error)
    return trouble(place, error.errno, f"{text} ({os.fspath(error.filename)})" if error.filename else text)


def no_answer(place: str, seconds: float) -> TransientError:
    """Nothing is known but that it takes too long."""
    return TransientError(f"{place} has not answered for {seconds:g} s; is its server there?")
