# -*- test-case-name: tests.apiclient.test_api -*-
"""The API's description, kept between calls of a program: it is large, and seldom changes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen

FORMAT = 1


@frozen
class Kept:
    """@ivar age: seconds since the server was last asked whether it has changed."""

    tag: str
    document: dict[str, Any]
    age: float


class Cache:
    """@param folder: L{None}: nothing is kept.
    @param url: of the server: each has its own description.
    """

    def __init__(self, folder: Path | None, url: str) -> None:
        name = f"openapi-{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"
        self._path = None if folder is None else folder / name

    def read(self) -> Kept | None:
        """What is kept; L{None}: nothing that is of use."""
        if self._path is None:
            return None
        try:
            age = datetime.now(UTC).timestamp() - self._path.stat().st_mtime
            found = json.loads(self._path.read_bytes())
            if found["format"] != FORMAT or "paths" not in found["document"]:
                return None
            return Kept(str(found["tag"]), found["document"], max(age, 0.0))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def touch(self) -> None:
        """It is still good."""
        try:
            if self._path is not None:
                os.utime(self._path)
        except OSError:
            pass

    def write(self, tag: str, document: dict[str, Any]) -> None:
        """Keep it. That it cannot be kept is no harm."""
        if self._path is None or not tag:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=self._path.parent, prefix=".openapi-")
            with open(number, "w") as file:
                json.dump({"format": FORMAT, "tag": tag, "document": document}, file)
            os.replace(name, self._path)
        except OSError:
            pass
