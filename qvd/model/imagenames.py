# -*- test-case-name: tests.unit.test_model_imagenames -*-
"""Names of image files as people give them, and the names that they get in the folder of all images."""

from __future__ import annotations

from qvd.model.errors import InvalidRequest

LONGEST = 200
"""Bytes: what most file systems allow, less the number that is put before and the suffixes of unfinished files."""


def checked_name(name: str) -> str:
    """A name that means a file in a folder, and nothing else.

    @raise InvalidRequest: it could mean another place, is hidden, or cannot be typed.
    """
    if not name or name.startswith((".", "-")) or name != name.strip():
        raise InvalidRequest("A file's name begins with a letter or a digit, and has no spaces around it")
    if "/" in name or "\\" in name or any(ord(each) < 32 or ord(each) == 127 for each in name):
        raise InvalidRequest("A file's name has no slashes and no control characters")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidRequest("A file's name is valid Unicode") from None
    if length > LONGEST:
        raise InvalidRequest(f"A file's name has at most {LONGEST} bytes")
    return name


def stored_name(image_id: int, name: str) -> str:
    """Of an image's file: nobody else's, since the number is nobody else's."""
    return f"{image_id}-{checked_name(name)}"


def name_of_url(path: str) -> str:
    """A name for what comes from a URL: its last part, as far as that is fit for one.

    @param path: of the URL, decoded.
    """
    last = path.rsplit("/", 1)[-1]
    kept = "".join(each if each.isascii() and (each.isalnum() or each in "._-+") else "_" for each in last)
    return kept.lstrip(".-_")[:LONGEST] or "image"
