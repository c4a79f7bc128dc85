"""Archives made by hand, byte by byte where need be."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

Content = bytes | str | tarfile.TarInfo
"""Of a member: bytes are those of a program, a string is where a symbolic link leads, a header is taken as it is."""


def tar_bytes(members: Mapping[str, Content]) -> bytes:
    """An archive with these members; a name with a slash at its end is a folder's."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.mode = 0o755
            data = content if isinstance(content, bytes) else b""
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    """A member of another kind."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info
