# -*- test-case-name: tests.admin.test_images -*-
"""Tags of images: what is set, taken away and told of them, from the side of the image and from that of the OSF."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.problems import Fault, Problem, not_found
from qvd.interfaces import ITransaction
from qvd.interfaces.images import Affected
from qvd.model.declared import Principal, Values
from qvd.model.images import DIState

TAG = r"^[^\s\x00-\x1f\x7f/\\]([^\x00-\x1f\x7f/\\]*[^\s\x00-\x1f\x7f/\\])?$"
"""Also of versions, which are tags: it stands in paths."""
LONGEST_TAG = 64
MOST_TAGS = 50
DEFAULT, HEAD = "default", "head"
LISTS_VMS = ("di.see.vm-list", "osf.see.vm-list", "vm.see-main.")


class ImageChoice(msgspec.Struct, forbid_unknown_fields=True):
    """Body: the image that a tag is to lead to."""

    image_id: int


class AffectedVMItem(msgspec.Struct, forbid_unknown_fields=True):
    """A VM whose next start is from another image. C{current_image_id}: what it runs from now."""

    id: int
    name: str
    state: str
    current_image_id: int | None


class AffectedVMs(msgspec.Struct, forbid_unknown_fields=True):
    """VMs that start from another image. C{vms} are the first of them, and none where the caller may not see VMs."""

    image_id: int
    affected: int
    vms: list[AffectedVMItem]


class Tag(msgspec.Struct, forbid_unknown_fields=True):
    """A tag and the image that it leads to."""

    tag: str
    fixed: bool
    image_id: int
    version: str
    state: str
    blocked: bool


class TagList(msgspec.Struct, forbid_unknown_fields=True):
    """All tags of an OSF."""

    items: list[Tag]


class ResolvedImage(msgspec.Struct, forbid_unknown_fields=True):
    """The image that a tag leads to."""

    id: int
    version: str
    state: str
    blocked: bool
    type: str | None


class Resolved(msgspec.Struct, forbid_unknown_fields=True):
    """Where a tag leads, whether a VM can start from there, and why not."""

    tag: str
    image: ResolvedImage | None
    usable: bool
    reason: str


def affected_document(principal: Principal, image_id: int, affected: Affected) -> dict[str, Any]:
    """L{AffectedVMs} as this caller may see them."""
    shown = affected.vms if principal.holds(*LISTS_VMS) else ()
    vms = [{"id": vm.id, "name": vm.name, "state": vm.state, "current_image_id": vm.current_image_id} for vm in shown]
    return {"image_id": image_id, "affected": affected.total, "vms": vms}


def checked_tag(tag: str) -> str:
    """@raise Problem: no tag is called so."""
    if len(tag) > LONGEST_TAG or not re.match(TAG, tag):
        fault = Fault("/tag", f"has at most {LONGEST_TAG} characters, no slashes and no spaces around it")
        raise Problem("invalid-value", "That cannot be a tag", [fault])
    return tag


def check_may_set(principal: Principal, tag: str, by_osf: bool) -> None:
    """@param by_osf: from the OSF's side, where a permission of its own lets C{default} be moved.
    @raise Problem: the caller may not move that tag."""
    needed: tuple[str, ...] = ("di.update.tags",)
    if tag == DEFAULT:
        needed = ("di.update.default", "osf.see.di-list-default-update") if by_osf else ("di.update.default",)
    if not principal.holds(*needed):
        raise Problem("forbidden", f"You need the permission {' or '.join(needed)}", acl=", ".join(needed))


async def set_tag(images: Collection, call: Call, image_id: int, tag: str, osf_id: int | None = None) -> Answer:
    """Have a tag lead to an image; or, if that is not published yet, as soon as it is.

    @param osf_id: of the tag, where the call names it.
    """
    check_may_set(call.principal, checked_tag(tag), osf_id is not None)

    async def work(tx: ITransaction) -> Answer:
        if osf_id is not None:
            await images.peers["osfs"].find(call, osf_id, (), tx)
        try:
            current = await locked_image(images, call, tx, image_id)
        except Problem as problem:
            if problem.kind == "not-found" and osf_id is not None:
                raise no_image(image_id) from None
            raise
        if osf_id is not None and current["osf_id"] != osf_id:
            raise no_image(image_id)
        await check_free(tx, current, tag)
        affected = await give_tag(call, tx, current, tag)
        call.subject = images.subject(current, await images.whole(call, image_id, tx))
        return Answer(200, affected_document(call.principal, image_id, affected))

    return await images.changing(call, work)


async def give_tag(call: Call, tx: ITransaction, image: Values, tag: str) -> Affected:
    """Put the tag on it, now or at its publication."""
    match DIState(image["state"]):
        case DIState.PUBLISHED:
            affected: Affected = await call.services.image_tags.affected(image["id"], [tag], tx)
            await call.services.image_tags.move(image["id"], tag, tx)
            return affected
        case DIState.FAIL:
            raise Problem("conflict", "The image could not be made: it can have no tags")
        case _:
            tags = sorted({*image["future_tags"], tag})
            if len(tags) > MOST_TAGS:
                raise Problem("conflict", f"An image has at most {MOST_TAGS} tags")
            await tx.execute("UPDATE dis SET future_tags = %s WHERE id = %s", (tags, image["id"]))
            return Affected(0, ())


async def drop_tag(images: Collection, call: Call) -> Answer:
    """Take a tag away."""
    tag = call.path["tag"]

    async def work(tx: ITransaction) -> Answer:
        current = await locked_image(images, call, tx, call.number())
        held = {each["tag"]: each["fixed"] for each in current["tags"]}
        if tag in current["future_tags"]:
            await tx.execute(
                "UPDATE dis SET future_tags = array_remove(future_tags, %s) WHERE id = %s", (tag, current["id"])
            )
        elif tag not in held:
            raise not_found("tag")
        elif held[tag] or tag in (HEAD, DEFAULT):
            raise Problem("tag-protected", f"The tag {tag!r} cannot be removed: move it, or it moves by itself")
        else:
            await tx.execute("DELETE FROM di_tags WHERE di_id = %s AND tag = %s", (current["id"], tag))
        call.subject = images.subject(current, await images.whole(call, current["id"], tx))
        return Answer(204)

    return await images.changing(call, work)


async def locked_image(images: Collection, call: Call, tx: ITransaction, image_id: int) -> Values:
    """The image, after its OSF's VMs: as everywhere, those are locked first."""
    fields = [field for field in images.resource.fields if field.name == "osf_id"]
    found = await images.find(call, image_id, fields, tx)
    await call.services.image_tags.lock_vms(found["osf_id"], tx)
    return await images.locked(call, tx, image_id)


async def check_free(tx: ITransaction, image: Values, tag: str) -> None:
    """@raise Problem: the tag is one that stays where it is."""
    if tag == HEAD:
        raise Problem("tag-protected", "The tag 'head' follows the newest published image by itself")
    row = await tx.fetch_one("SELECT di_id, fixed FROM di_tags WHERE osf_id = %s AND tag = %s", (image["osf_id"], tag))
    if row is not None and row["fixed"] and row["di_id"] != image["id"]:
        raise Problem("tag-fixed", f"The tag {tag!r} is the version of another image")


def no_image(image_id: int) -> Problem:
    """It is not there, or of another OSF."""
    fault = Fault("/image_id", "there is no such image of the OSF", "reference-not-found")
    return Problem("reference-not-found", f"The OSF has no image {image_id}", [fault])
