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
    @ivar type: the driver that it is for; L{None}: not known.
    """

    di_id: DIId
    version: str
    path: str
    state: DIState
    blocked: bool
    type: str | None = None


def wrong_type(image: str, kind: str | None, osf: str, hypervisor: str | None) -> str | None:
    """Why an image does not go with an OSF; L{None}: it does, or that is not known.

    @param image: it in words, at the beginning of a sentence.
    @param kind: the driver that it is for.
    @param hypervisor: the driver that the OSF's VMs need.
    """
    if None in (kind, hypervisor) or kind == hypervisor:
        return None
    return f"{image} is made for {kind}, but the virtual machines of {osf!r} run under {hypervisor}"


@frozen
class Resolution:
    """What a VM's tag led to.

    @ivar image: L{None}: no image of the OSF carries the tag.
    @ivar hypervisor: the driver that the OSF's VMs need; L{None}: any.
    """

    osf: str
    tag: str
    image: Image | None
    hypervisor: str | None = None

    @property
    def needs(self) -> str | None:
        """The driver that boots it; L{None}: any."""
        return self.hypervisor or (self.image.type if self.image else None)

    @property
    def refusal(self) -> str | None:
        """Why the VM cannot be started from it, as a sentence for its user; L{None} when it can."""
        if self.image is None:
            return f"No disk image of {self.osf!r} carries the tag {self.tag!r}"
        name = self._named(self.image)
        match self.image.state:
            case DIState.PUBLISHED:
                if self.image.blocked:
                    return f"{name} is blocked by an administrator"
                return wrong_type(name, self.image.type, self.osf, self.hypervisor)
            case DIState.RETIRED:
                return f"{name} is not in use any more"
            case DIState.FAIL:
                return f"{name} could not be made"
            case _:
                return f"{name} is not published yet"

    def refusal_on(self, driver: str | None) -> str | None:
        """Why a node cannot start it, though others may.

        @param driver: the node's; L{None}: it has not said.
        """
        if self.image is None or None in (self.image.type, driver) or self.image.type == driver:
            return None
        return f"{self._named(self.image)} is made for {self.image.type}, but this node runs {driver}"

    def _named(self, image: Image) -> str:
        return f"The disk image {image.version!r} of {self.osf!r}, to which the tag {self.tag!r} leads,"
