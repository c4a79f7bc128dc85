# -*- test-case-name: tests.admin.test_imports -*-
"""Where images are kept and may come from, and the limits of that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen

from qvd.model.outbound import Network

GIB = 1024**3


@frozen(kw_only=True)
class ImagePlaces:
    """Settings of the administration that are about image files.

    @ivar images: the folder C{path.storage.images} that all nodes see.
    @ivar staging: where administrators of the machine leave files to be imported, those of one tenant in a folder
        below it that is called C{tenant-} and its id; L{None}: nowhere.
    @ivar allowed_networks: private networks that images may be fetched from nevertheless.
    @ivar largest: bytes of an image.
    @ivar reserve: bytes of the images' file system that stay free.
    @ivar fetch_seconds: for a whole import from a URL.
    @ivar silence: seconds without a byte after which a server, or a client that uploads, is given up.
    @ivar most_uploads: unfinished ones that one administrator may have.
    @ivar upload_days: an upload that nothing came for so long is given up.
    """

    images: Path
    staging: Path | None = None
    allowed_networks: Sequence[Network] = field(factory=tuple)
    largest: int = 256 * GIB
    reserve: int = 256 * 1024**2
    fetch_seconds: float = 6 * 3600.0
    silence: float = 60.0
    most_uploads: int = 20
    upload_days: float = 7.0

    @property
    def parts(self) -> Path:
        """Where unfinished files are: in the same file system, and hidden from the nodes."""
        return self.images / ".uploads"
