"""The port of images' tags, for changes that are one transaction with their audit rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import frozen
from zope.interface import Interface

from qvd.interfaces.database import ITransaction
from qvd.model.expiry import ExpiryTerms
from qvd.model.images import Resolution


@frozen
class Affected:
    """VMs that start from another image when something has happened to tags.

    @ivar total: how many there are, of which C{vms} are the first.
    """

    total: int
    vms: Sequence[AffectedVM]


@frozen
class AffectedVM:
    """@ivar current_image_id: what it runs from; L{None}: it does not run."""

    id: int
    name: str
    state: str
    current_image_id: int | None


class IImageTags(Interface):
    """Tags, the VMs that follow them, and the dates that these get. All in the caller's transaction."""

    async def lock_vms(osf_id: int, tx: ITransaction) -> None:
        """Keep VMs of the OSF from being started while its tags move. Before any other lock."""

    async def move(image_id: int, tag: str, tx: ITransaction) -> None:
        """Put a tag on an image, wherever it was.

        @raise qvd.model.errors.InvalidRequest: the tag is not one that people move.
        """

    async def yield_tags(image_id: int, heir: int | None, tx: ITransaction) -> None:
        """Take from an image that is not published any more the tags that people move. C{default} goes to another
        image that is published, where there is one.

        @param heir: gets all of them; L{None}: they are kept for the image's next publication.
        """

    async def affected(image_id: int, tags: Collection[str], tx: ITransaction) -> Affected:
        """VMs with one of the tags that would start from another image than before if the tags led to this one; or
        that run another one."""

    async def expire(image_id: int, terms: ExpiryTerms, tx: ITransaction) -> Collection[int]:
        """Give dates to the VMs that run another image than this one, to which their tags lead; return which."""

    async def stranded(image_id: int, tx: ITransaction) -> str | None:
        """Name of a VM that has no image to start from unless this one is published; L{None}: there is none."""

    async def resolution(osf_id: int, tag: str, tx: ITransaction) -> Resolution | None:
        """Which image the tag leads to, by the rule of the nodes; L{None}: there is no such OSF."""
