# -*- test-case-name: tests.admin.test_images -*-
"""The life of images after they are made: publication and its opposites, and the VMs that are affected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from qvd.admin.call import Answer, Call
from qvd.admin.endpoint import Endpoint, Parameter, acl
from qvd.admin.problems import Problem
from qvd.admin.resources.imagetags import (
    DEFAULT,
    HEAD,
    AffectedVMs,
    affected_document,
    checked_tag,
    drop_tag,
    locked_image,
    set_tag,
)
from qvd.interfaces import ITransaction
from qvd.interfaces.images import Affected
from qvd.model.declared import Values
from qvd.model.expiry import ExpiryTerms
from qvd.model.imagelife import Operation, after
from qvd.model.images import DIState

if TYPE_CHECKING:
    from qvd.admin.resources.images import Images

LONGEST_DELAY = 366 * 86400
Delay = Annotated[int, Meta(ge=0, le=LONGEST_DELAY)]


class Publication(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a publication: seconds until VMs that run an older image stop; absent: what the image itself says."""

    expire_soft_after: Delay | None = None
    expire_hard_after: Delay | None = None


class Expiration(msgspec.Struct, forbid_unknown_fields=True):
    """Body: dates for VMs that run an older image than the one that their tag leads to; C{ids}: only for these."""

    ids: Annotated[list[int], Meta(max_length=1000)] | None = None
    all: bool = False
    soft: Annotated[datetime, Meta(tz=True)] | None = None
    hard: Annotated[datetime, Meta(tz=True)] | None = None


class Expiring(msgspec.Struct, forbid_unknown_fields=True):
    """VMs that have got dates."""

    vm_ids: list[int]


OPERATION = Parameter(
    "operation",
    {"type": "string", "pattern": "^(publish|default|tag:.+)$"},
    "What would be done: publish, default, or tag: and a tag",
)


class ImageLife:
    """Operations on images that are there.

    @ivar images: the collection that they belong to.
    """

    def __init__(self, images: Images) -> None:
        self.images = images

    def endpoints(self) -> Sequence[Endpoint]:
        """All of them."""
        answers: dict[str, Any] = {"tag": "images", "answers": {200: AffectedVMs}}
        update_tags, update_default = acl("di.update.tags"), acl("di.update.default")
        return [
            self.switch("block", True),
            self.switch("unblock", False),
            Endpoint(
                method="POST",
                path="/images/{id}/publish",
                action="di.publish",
                need=acl("di.update.publish"),
                handler=self.publish,
                summary="Images: let VMs start from one, which takes over its tags",
                body=Publication,
                **answers,
            ),
            self.withdrawal(Operation.UNPUBLISH, "let no VM start from one any more; it can be published again"),
            self.withdrawal(Operation.RETIRE, "put one out of use"),
            self.withdrawal(Operation.ROLLBACK, "have the one before take over the tags of one"),
            Endpoint(
                method="PUT",
                path="/images/{id}/tags/{tag}",
                action="di.set_tag",
                need=acl("di.update.tags", "di.update.default"),
                handler=self.put_tag,
                summary="Images: put a tag on one",
                **answers,
            ),
            Endpoint(
                method="DELETE",
                path="/images/{id}/tags/{tag}",
                action="di.remove_tag",
                need=update_tags,
                handler=self.delete_tag,
                summary="Images: take a tag away from one",
                tag="images",
            ),
            Endpoint(
                method="PUT",
                path="/images/{id}/default",
                action="di.set_default",
                need=update_default,
                handler=self.put_default,
                summary="Images: have VMs start from one unless they say otherwise",
                **answers,
            ),
            Endpoint(
                method="GET",
                path="/images/{id}/affected-vms",
                action="di.affected_vms",
                need=acl("di.see.vm-list"),
                handler=self.preview,
                summary="Images: VMs that would start from another image, or run an older one",
                parameters=(OPERATION,),
                **answers,
            ),
            Endpoint(
                method="POST",
                path="/images/{id}/affected-vms/expiration",
                action="di.expire_vms",
                need=acl("vm.update.expiration"),
                handler=self.expire,
                summary="Images: dates for VMs that run an older image",
                body=Expiration,
                answers={200: Expiring},
                tag="images",
            ),
        ]

    def switch(self, verb: str, blocked: bool) -> Endpoint:
        """C{block} and C{unblock}."""
        images = self.images

        async def handle(call: Call) -> Answer:
            async def work(tx: ITransaction) -> Answer:
                current = await images.locked(call, tx)
                await tx.execute("UPDATE dis SET blocked = %s WHERE id = %s", (blocked, current["id"]))
                call.subject = images.subject(current, await images.whole(call, current["id"], tx))
                return Answer(200, await images.shown(call, current["id"], tx))

            return await images.changing(call, work)

        return Endpoint(
            method="POST",
            path=f"/images/{{id}}/{verb}",
            action=f"di.{verb}",
            need=acl("di.update.block"),
            handler=handle,
            summary=f"Images: {verb} one, so that VMs can{'not' if blocked else ''} start from it",
            answers={200: images.item},
            tag="images",
        )

    async def publish(self, call: Call) -> Answer:
        body: Publication = call.body
        terms = checked_terms(body.expire_soft_after, body.expire_hard_after)
        needed = "di.update.vms-expiration"
        if terms != ExpiryTerms() and not call.principal.holds(needed):
            raise Problem("forbidden", f"You need the permission {needed}", acl=needed)

        async def work(tx: ITransaction) -> Answer:
            current = await locked_image(self.images, call, tx, call.number())
            affected = await publish(call.services, tx, current, terms)
            call.subject = self.images.subject(current, await self.images.whole(call, current["id"], tx))
            return Answer(200, affected_document(call.principal, current["id"], affected))

        return await self.images.changing(call, work)

    def withdrawal(self, operation: Operation, text: str) -> Endpoint:
        """An operation after which no VM starts from the image."""
        images = self.images

        async def handle(call: Call) -> Answer:
            async def work(tx: ITransaction) -> Answer:
                current = await locked_image(images, call, tx, call.number())
                heir = await withdraw(call, tx, current, operation)
                call.subject = images.subject(current, await images.whole(call, current["id"], tx))
                return Answer(200, affected_document(call.principal, heir[0] or current["id"], heir[1]))

            return await images.changing(call, work)

        return Endpoint(
            method="POST",
            path=f"/images/{{id}}/{operation.value}",
            action=f"di.{operation.value}",
            need=acl("di.update.publish"),
            handler=handle,
            summary=f"Images: {text}",
            answers={200: AffectedVMs},
            tag="images",
        )

    async def put_tag(self, call: Call) -> Answer:
        return await set_tag(self.images, call, call.number(), call.path["tag"])

    async def put_default(self, call: Call) -> Answer:
        return await set_tag(self.images, call, call.number(), DEFAULT)

    async def delete_tag(self, call: Call) -> Answer:
        return await drop_tag(self.images, call)

    async def preview(self, call: Call) -> Answer:
        """Nothing is changed."""
        fields = [
            each for each in self.images.resource.fields if each.name in ("osf_id", "tags", "future_tags", "version")
        ]
        image = await self.images.find(call, call.number(), fields)
        tags = await would_move(call, image, call.one("operation", "publish"))
        affected = await call.services.image_tags.affected(image["id"], tags, call.services.database)
        return Answer(200, affected_document(call.principal, image["id"], affected))

    async def expire(self, call: Call) -> Answer:
        body: Expiration = call.body
        if (body.ids is None) != body.all:
            raise Problem("invalid-value", "Say which VMs: ids, or all")
        if body.soft is not None and body.hard is not None and body.soft > body.hard:
            raise Problem("invalid-expiration", "The soft date comes after the hard one")

        async def work(tx: ITransaction) -> Answer:
            current = await locked_image(self.images, call, tx, call.number())
            rows = await tx.fetch(
                "UPDATE vm_runtimes r SET vm_expiration_soft = %(soft)s, vm_expiration_hard = %(hard)s"
                " FROM vms v JOIN di_tags g ON g.osf_id = v.osf_id AND g.tag = v.di_tag"
                " WHERE v.id = r.vm_id AND g.di_id = %(di)s AND r.vm_state IN ('starting', 'running')"
                " AND r.current_di_id <> %(di)s AND (%(ids)s::integer[] IS NULL OR v.id = ANY (%(ids)s))"
                " RETURNING r.vm_id",
                {"soft": body.soft, "hard": body.hard, "di": current["id"], "ids": body.ids},
            )
            found = sorted(row["vm_id"] for row in rows)
            dates = {"vm_ids": found, "soft": body.soft, "hard": body.hard}
            call.subject = self.images.subject(current, {**current, "expired": dates})
            return Answer(200, {"vm_ids": found})

        return await self.images.changing(call, work)


def checked_terms(soft: int | None, hard: int | None) -> ExpiryTerms:
    """@raise Problem: the soft date would come after the hard one."""
    if soft is not None and hard is not None and soft > hard:
        raise Problem("invalid-expiration", "The soft date comes after the hard one")
    return ExpiryTerms(soft, hard)


def check_state(image: Values, operation: Operation) -> DIState:
    """The state that an operation leads to.

    @raise Problem: the image's state does not allow it.
    """
    found = after(DIState(image["state"]), operation)
    if found is None:
        raise Problem("conflict", f"The image is in the state {image['state']!r}: {operation.value} is not possible")
    return found


async def publish(services: Any, tx: ITransaction, image: Values, terms: ExpiryTerms) -> Affected:
    """Publish an image that is locked, and have it take over its tags.

    @param terms: instead of the image's own, where there are any.
    """
    state = check_state(image, Operation.PUBLISH)
    if terms == ExpiryTerms():
        terms = ExpiryTerms(image["expire_soft_after"], image["expire_hard_after"])
    has_default = await tx.fetch_one(
        "SELECT 1 AS one FROM di_tags WHERE osf_id = %s AND tag = 'default'", (image["osf_id"],)
    )
    tags = {*image["future_tags"], image["version"], HEAD, *(() if has_default else (DEFAULT,))}
    affected: Affected = await services.image_tags.affected(image["id"], sorted(tags), tx)
    await tx.execute("UPDATE dis SET state = %s, future_tags = '{}' WHERE id = %s", (state.value, image["id"]))
    for tag in sorted(image["future_tags"]):
        await services.image_tags.move(image["id"], tag, tx)
    await services.image_tags.expire(image["id"], terms, tx)
    return affected


async def withdraw(call: Call, tx: ITransaction, image: Values, operation: Operation) -> tuple[int | None, Affected]:
    """End an image's publication. Returns the image that VMs start from instead, and these."""
    state, tags = check_state(image, operation), call.services.image_tags
    heir = None
    if operation is Operation.ROLLBACK:
        heir = await predecessor(tx, image)
        if heir is None:
            raise Problem("conflict", "No image of the OSF was published before this one")
    moving = [each["tag"] for each in image["tags"] if not each["fixed"]]
    affected = Affected(0, ()) if heir is None else await tags.affected(heir, moving, tx)
    await tx.execute("UPDATE dis SET state = %s WHERE id = %s", (state.value, image["id"]))
    if heir is None and image["state"] == DIState.PUBLISHED.value:
        stranded = await tags.stranded(image["id"], tx)
        if stranded is not None:
            raise Problem("image-in-use", f"The VM {stranded!r} would have no image to start from: move its tag first")
    await tags.yield_tags(image["id"], heir, tx)
    if heir is not None and (stranded := await tags.stranded(image["id"], tx)) is not None:
        raise Problem("image-in-use", f"The VM {stranded!r} is bound to this version: give it another tag first")
    return heir, affected


async def predecessor(tx: ITransaction, image: Values) -> int | None:
    """The image of the same OSF that was published before, and still is."""
    row = await tx.fetch_one(
        "SELECT d.id FROM dis d, dis me WHERE me.id = %s AND d.osf_id = me.osf_id AND d.state = 'published'"
        " AND NOT d.blocked AND (d.published_at, d.id) < (me.published_at, me.id)"
        " ORDER BY d.published_at DESC, d.id DESC LIMIT 1",
        (image["id"],),
    )
    return None if row is None else int(row["id"])


async def would_move(call: Call, image: Values, operation: str) -> list[str]:
    """Tags that would lead to the image."""
    mine = {each["tag"] for each in image["tags"]}
    if operation == DEFAULT:
        return [DEFAULT]
    if operation.startswith("tag:"):
        return [checked_tag(operation.removeprefix("tag:"))]
    if operation != "publish":
        raise Problem("malformed-request", "operation is publish, default, or tag: and a tag")
    first = await call.services.database.fetch_one(
        "SELECT 1 AS one FROM di_tags WHERE osf_id = %s AND tag = 'default'", (image["osf_id"],)
    )
    return sorted({*mine, *image["future_tags"], image["version"], HEAD, *(() if first else (DEFAULT,))})
