"""Errors of storages, in words."""

from __future__ import annotations

import errno
import os

from qvd.hkd.storage.trouble import no_answer, of_error, trouble


def test_known() -> None:
    assert trouble("The storage", errno.ENOSPC, "x").text == "The storage is full; make room there or give it more"


def test_unknown() -> None:
    error = OSError(errno.EBUSY, os.strerror(errno.EBUSY), "/a/b")
    assert of_error("The storage", error).text == "The storage is in trouble: Device or resource busy (/a/b)"
    assert of_error("The storage", OSError("mounted there")).text == "The storage is in trouble: mounted there"


def test_silence() -> None:
    assert no_answer("The storage", 20.0).text == "The storage has not answered for 20 s; is its server there?"
