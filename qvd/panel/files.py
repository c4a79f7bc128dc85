# -*- test-case-name: tests.panel.test_skeleton -*-
"""Style sheets, scripts and pictures. Their names in pages hold hashes of them, so browsers may keep them for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files

from attrs import frozen

from qvd.admin.call import Answer

BASE = "/panel/static/"
MEDIA = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "woff2": "font/woff2",
}


@frozen
class StaticFile:
    """@ivar served: its name with the hash."""

    served: str
    content: bytes
    media: str


class StaticFiles:
    """All of them, in memory: they are few and small."""

    def __init__(self) -> None:
        self._by_name: dict[str, StaticFile] = {}
        for each in (files("qvd.panel") / "static").iterdir():
            stem, _, ending = each.name.rpartition(".")
            if ending in MEDIA:
                content = each.read_bytes()
                served = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
                self._by_name[each.name] = StaticFile(served, content, MEDIA[ending])
        self._by_served: Mapping[str, StaticFile] = {each.served: each for each in self._by_name.values()}

    def url(self, name: str) -> str:
        """What a page names it by."""
        return BASE + self._by_name[name].served

    def answer(self, served: str) -> Answer | None:
        """The file; L{None}: there is none of that name and content."""
        found = self._by_served.get(served)
        if found is None:
            return None
        return Answer(200, found.content, {"Cache-Control": "public, max-age=31536000, immutable"}, found.media)
