"""What the root file system of a container is put together from."""

from __future__ import annotations

from attrs import frozen


@frozen
class RootPlan:
    """Absolute paths. To be mounted by whoever starts the container, in a mount namespace of its own, so that nothing
    stays mounted when it ends.

    @ivar merged: an empty folder, where the container's root is to appear.
    @ivar lower: the unpacked image, never written to; empty: C{upper} alone is the root, and is bound to C{merged}.
    @ivar upper: the writable layer, or a writable copy of the whole image.
    @ivar work: overlayfs's own folder, beside C{upper}; empty without C{lower}.
    """

    merged: str
    upper: str
    lower: str = ""
    work: str = ""
