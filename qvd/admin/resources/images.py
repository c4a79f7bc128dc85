# -*- test-case-name: tests.admin.test_images -*-
"""Disk images (DIs): what virtual machines start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
from attrs import evolve

from qvd.admin import schema
from qvd.admin.call import Answer, Call, Subject
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint
from qvd.admin.imageoutcome import discard
from qvd.admin.imagesources import SOURCE_ACLS, Made, Source, check_source, hidden, open_source
from qvd.admin.jobs.images import ask_for_import
from qvd.admin.problems import Fault, Problem
from qvd.admin.queries import list_query
from qvd.admin.resources.imagefields import IMAGES
from qvd.admin.resources.imagelife import ImageLife, checked_terms
from qvd.admin.resources.imagetags import DEFAULT, HEAD, MOST_TAGS, checked_tag
from qvd.admin.resources.property_values import set_properties
from qvd.admin.resources.vmlists import vms_of
from qvd.interfaces import ITransaction
from qvd.model.declared import Principal, Values
from qvd.model.filters import All, Comparison, Operator
from qvd.model.imagelife import GROWING, permitted
from qvd.model.images import DIState


class Images(Collection):
    """Disk images."""

    resource = IMAGES

    @cached_property
    def creation_type(self) -> Any:
        """Body of a creation: the fields, and where the file comes from."""
        base = schema.creation(self.resource)
        fields = [
            (each.name, each.type, each.default) if each.default is not msgspec.NODEFAULT else (each.name, each.type)
            for each in msgspec.structs.fields(base)
        ]
        return schema.struct("DiCreation", [*fields, ("source", Source)])

    def endpoints(self) -> Sequence[Endpoint]:
        """Those of all resources, with what is particular about making images."""
        found = []
        for endpoint in super().endpoints():
            if endpoint.action in ("di.list", "di.search"):
                endpoint = evolve(endpoint, answers={200: self.page_type})
            elif endpoint.action == "di.create":
                endpoint = evolve(endpoint, body=self.creation_type, answers={201: Made, 202: Made})
            found.append(endpoint)
        return found

    def more_endpoints(self) -> Sequence[Endpoint]:
        return [*ImageLife(self).endpoints(), vms_of(self, "di_id", "di_id_in_use")]

    async def page_of_osf(self, call: Call) -> Answer:
        """A page of the images of the OSF that the path names."""
        field = self.resource.get("osf_id")
        assert field is not None
        wanted = list_query(self.resource, call)
        mine = Comparison(field, Operator.EQ, call.number())
        where = mine if wanted.query.where is None else All((mine, wanted.query.where))
        return await self.page_of(call, evolve(wanted, query=evolve(wanted.query, where=where)))

    def actions_now(self, principal: Principal, row: Values) -> list[str]:
        found = super().actions_now(principal, row)
        if principal.holds("di.update.block"):
            found.append("unblock" if row["blocked"] else "block")
        if principal.holds("di.update.publish"):
            found += permitted(DIState(row["state"]))
        return found

    def subject(self, before: Values, after: Values | None) -> Subject:
        return Subject("di", before["id"], str(before["version"]), before.get("tenant_id"), before, after)

    async def create(self, call: Call) -> Answer:
        values = schema.given(call.body)
        source = values.pop("source")
        # What the audit trail tells of the call is its body.
        call.body.source = hidden(source)
        self.check_members(call.principal, values, creating=True)
        check_creation_values(call.principal, values)
        needed = SOURCE_ACLS[type(source)]
        if not call.principal.holds(needed):
            raise Problem("forbidden", f"You need the permission {needed}", acl=needed)
        await check_source(call, source)

        return await self.changing(call, lambda tx: self.make(call, tx, dict(values), source))

    async def make(self, call: Call, tx: ITransaction, values: dict[str, Any], source: Source) -> Answer:
        """The image's row, and that of its upload, or of the job that fetches it."""
        osfs = self.peers["osfs"]
        osf = await call.services.records.find(osfs.resource, (), call.scope, values["osf_id"], tx, True)
        if osf is None:
            fault = Fault("/osf_id", "there is no such osf", "reference-not-found")
            raise Problem("reference-not-found", f"There is no osf {values['osf_id']}", [fault])
        tags = await self.future_tags(tx, values)
        if "version" not in values:
            values["version"] = await next_version(tx, values["osf_id"])
        # There is no file yet, so it must not be what rows of the table are by themselves: published.
        values |= {"state": DIState.UPLOADING.value, "path": ""}
        image_id = await call.services.records.insert(self.resource, osf["tenant_id"], values, tx)
        await tx.execute(
            "UPDATE dis SET created_by = %s, future_tags = %s WHERE id = %s", (call.principal.name, tags, image_id)
        )
        upload = await open_source(call, tx, image_id, source)
        properties = await set_properties(call, tx, "di", image_id, values)
        after = {**await self.whole(call, image_id, tx), **properties.after}
        call.subject = Subject("di", image_id, str(after["version"]), osf["tenant_id"], None, after)
        job = None
        if upload is None:
            job = (await ask_for_import(call, tx, image_id, str(after["version"]), source)).body["id"]
        document = {"image": await self.shown(call, image_id, tx), "upload": upload, "job": job}
        headers = {"Location": f"/api/v1/images/{image_id}", "ETag": await self.version(call, image_id, tx)}
        return Answer(202 if upload is None else 201, document, headers)

    async def future_tags(self, tx: ITransaction, values: dict[str, Any]) -> list[str]:
        """Tags that it takes over when it is published."""
        tags = {checked_tag(str(tag)) for tag in values.pop("tags", [])}
        if values.pop("default", False):
            tags.add(DEFAULT)
        if HEAD in tags:
            raise Problem("tag-protected", "The tag 'head' follows the newest published image by itself")
        rows = await tx.fetch(
            "SELECT tag FROM di_tags WHERE osf_id = %s AND fixed AND tag = ANY (%s)", (values["osf_id"], sorted(tags))
        )
        for row in rows:
            raise Problem("tag-fixed", f"The tag {row['tag']!r} is the version of another image")
        return sorted(tags)

    async def check_change(self, call: Call, tx: ITransaction, current: Values, values: dict[str, Any]) -> None:
        terms = {**current, **values}
        checked_terms(terms["expire_soft_after"], terms["expire_hard_after"])
        if values.get("auto_publish") and DIState(current["state"]) not in GROWING:
            raise Problem("conflict", "The image is made already: publish it instead")

    async def check_deletion(self, call: Call, tx: ITransaction, current: Values) -> None:
        row = await tx.fetch_one(
            "SELECT v.name FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id WHERE r.current_di_id = %s LIMIT 1",
            (current["id"],),
        )
        if row is not None:
            raise Problem("image-in-use", f"The VM {row['name']!r} runs from it")

    async def delete(self, call: Call) -> Answer:
        """The row, and the file with it, where it came by the administration."""
        leftovers: list[Mapping[str, Any]] = []

        async def work(tx: ITransaction) -> Answer:
            current = await self.locked(call, tx)
            await self.check_deletion(call, tx, current)
            leftovers[:] = await tx.fetch(
                "SELECT d.id, d.path, d.source, d.state FROM dis d WHERE d.id = %s",
                (current["id"],),
            )
            await call.services.records.delete(self.resource, current["id"], tx)
            call.subject = self.subject(current, None)
            return Answer(204)

        answer = await self.changing(call, work)
        await discard(call.services, leftovers[0])
        return answer


def check_creation_values(principal: Principal, values: Values) -> None:
    """@raise Problem: values that do not go together."""
    checked_terms(values.get("expire_soft_after"), values.get("expire_hard_after"))
    if len(values.get("tags", ())) > MOST_TAGS or not all(isinstance(tag, str) for tag in values.get("tags", ())):
        raise Problem("invalid-value", f"tags are at most {MOST_TAGS} texts", [Fault("/tags", "texts are needed")])
    if values.get("version") in (HEAD, DEFAULT):
        raise Problem("invalid-value", "That is no version", [Fault("/version", "is the name of a tag")])
    if DEFAULT in values.get("tags", ()) and not principal.holds("di.create.default"):
        raise Problem("forbidden", "You need the permission di.create.default", acl="di.create.default")


async def next_version(tx: ITransaction, osf_id: int) -> str:
    """The day and a number, as QVD 4.2 names versions. The OSF is locked."""
    row = await tx.fetch_one(
        "SELECT v.version FROM generate_series(0, 9999) n, LATERAL"
        " (SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD-') || lpad(n::text, 3, '0') AS version) v"
        " WHERE NOT EXISTS (SELECT FROM dis d WHERE d.osf_id = %(osf)s AND d.version = v.version)"
        " AND NOT EXISTS (SELECT FROM di_tags g WHERE g.osf_id = %(osf)s AND g.tag = v.version) ORDER BY n LIMIT 1",
        {"osf": osf_id},
    )
    assert row is not None, "there are ten thousand images of one day"
    return str(row["version"])
