# -*- test-case-name: tests.unit.test_model_images -*-
"""Which disk image a VM starts from: the one that carries its tag, if it may be started from."""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from qvd.model.ids import DIId


class DIState(Enum):
    """Column C{dis.state}: the life of an image."""

    NEW = "new"
    GENERATING = "generating"
    UPLOADING = "uploading"
    VERIFYING = "verifying"
    READY = "ready"
    PUBLISHED = "published"
    RETIRED = "retired"
    FAIL = "fail"


@frozen
class Image:
    """A disk image, as far as a start needs to know it.

    @ivar path: file or folder below C{path.storage.images}; empty: the host's own files.
    """

    di_id: DIId
    version: str
    path: str
    state: DIState
    blocked: bool


@frozen
class Resolution:
    """What a VM's tag led to.

    @ivar image: L{None}: no image of the OSF carries the tag.
    """

    osf: str
    tag: str
    image: Image | None

    @property
    def refusal(self) -> str | None:
        """Why the VM cannot be started from it, as a sentence for its user; L{None} when it can."""
        if self.image is None:
            return f"No disk image of {self.osf!r} carries the tag {self.tag!r}"
        name = f"The disk image {self.image.version!r} of {self.osf!r}, to which the tag {self.tag!r} leads,"
        match self.image.state:
            case DIState.PUBLISHED:
                return f"{name} is blocked by an administrator" if self.image.blocked else None
            case DIState.RETIRED:
                return f"{name} is not in use any more"
            case DIState.FAIL:
                return f"{name} could not be made"
            case _:
                return f"{name} is not published yet"
