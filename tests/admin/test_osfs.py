"""OSFs, and the tags that lead their VMs to images."""

from __future__ import annotations

import pytest

from tests.admin.imageworld import ImageWorld, images
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

__all__ = ["images"]


@asynchronous
async def test_make_read_change_delete(api: ApiWorld) -> None:
    made = await api.call(api.anna, "POST", "/osfs", {"name": "desktop", "memory": 2**31, "cpus": 1.5})
    assert made.status == 201, made.body
    assert made.body["memory"] == 2**31 and made.body["persistence"] == "home"
    assert made.body["created_by"] == "anna" and made.body["number_of_images"] == 0
    path = f"/osfs/{made.body['id']}"
    change = {"user_storage_size": 2**30, "is_application": True, "hypervisor": "kvm", "cpus": None}
    assert (await api.call(api.anna, "PATCH", path, change)).problem == "precondition-required"
    changed = await api.call(api.anna, "PATCH", path, change, {"If-Match": made.headers["ETag"]})
    assert changed.status == 200, changed.body
    assert changed.body["user_storage_size"] == 2**30 and changed.body["cpus"] is None
    stale = await api.call(api.anna, "PATCH", path, change, {"If-Match": made.headers["ETag"]})
    assert stale.problem == "precondition-failed"
    assert (await api.call(api.anna, "DELETE", path, None, {"If-Match": "*"})).status == 204
    assert [entry["action"] for entry in api.trail() if entry["outcome"] == "done"] == [
        "osf.create",
        "osf.update",
        "osf.delete",
    ]


@asynchronous
async def test_memory_by_default(api: ApiWorld) -> None:
    maker = api.with_only(api.anna, "osf.create.", "osf.see.memory")
    made = await api.call(maker, "POST", "/osfs", {"name": "desktop"})
    assert made.body["memory"] == 256 * 1024**2
    refused = await api.call(maker, "POST", "/osfs", {"name": "other", "memory": 2**30})
    assert refused.problem == "forbidden-attribute" and refused.body["acl"] == "osf.create.memory"


@pytest.mark.parametrize(
    "member",
    [{"memory": 1}, {"memory": "1"}, {"persistence": "some"}, {"cpus": 0}, {"name": ""}, {"hypervisor": "vmware"}],
)
@asynchronous
async def test_values_that_are_none(api: ApiWorld, member: dict[str, object]) -> None:
    assert (await api.call(api.anna, "POST", "/osfs", {"name": "a", **member})).problem == "invalid-value"


@asynchronous
async def test_one_with_images_stays(images: ImageWorld) -> None:
    images.image("1")
    refused = await images.api.call(images.anna, "DELETE", f"/osfs/{images.osf}", None, {"If-Match": "*"})
    assert refused.problem == "has-dependents"


@asynchronous
async def test_isolation(images: ImageWorld) -> None:
    api, foreign = images.api, images.foreign
    theirs = images.image("1", osf=foreign)
    absent = await api.call(api.anna, "GET", "/osfs/999999")
    for method, path, body in [
        ("GET", f"/osfs/{foreign}", None),
        ("PATCH", f"/osfs/{foreign}", {"name": "x"}),
        ("DELETE", f"/osfs/{foreign}", None),
        ("GET", f"/osfs/{foreign}/tags", None),
        ("GET", f"/osfs/{foreign}/images", None),
        ("GET", f"/osfs/{foreign}/tags/default/resolution", None),
        ("PUT", f"/osfs/{foreign}/tags/default", {"image_id": theirs}),
    ]:
        reply = await api.call(api.anna, method, path, body, {"If-Match": "*"})
        assert (reply.status, reply.body["detail"]) == (404, absent.body["detail"]), (method, path)
    listed = await api.call(api.anna, "GET", "/osfs")
    assert [each["id"] for each in listed.body["items"]] == [images.osf] and listed.body["page"]["total"] == 1
    # An image of somebody else is one that there is not.
    gone = await api.call(api.anna, "PUT", f"/osfs/{images.osf}/tags/x", {"image_id": 999999})
    other = await api.call(api.anna, "PUT", f"/osfs/{images.osf}/tags/x", {"image_id": theirs})
    assert gone.problem == other.problem == "reference-not-found"
    assert other.body["detail"].replace(str(theirs), "") == gone.body["detail"].replace("999999", "")


@asynchronous
async def test_tags_lead_to_images(images: ImageWorld) -> None:
    api = images.api
    old, new = images.image("1"), images.image("2")
    runs = images.vm("runs", runs=old)
    stopped = images.vm("stopped")
    listed = await api.call(api.anna, "GET", f"/osfs/{images.osf}/tags")
    assert {each["tag"]: (each["image_id"], each["fixed"]) for each in listed.body["items"]} == {
        "1": (old, True),
        "2": (new, True),
        "default": (old, False),
        "head": (new, False),
    }
    moved = await api.call(api.anna, "PUT", f"/osfs/{images.osf}/tags/default", {"image_id": new})
    assert moved.body == {
        "image_id": new,
        "affected": 2,
        "vms": [
            {"id": runs, "name": "runs", "state": "running", "current_image_id": old},
            {"id": stopped, "name": "stopped", "state": "stopped", "current_image_id": None},
        ],
    }
    assert images.tags()["default"] == new
    for tag, problem in [("head", "tag-protected"), ("1", "tag-fixed"), ("a/b", "invalid-value")]:
        path = f"/osfs/{images.osf}/tags/{tag.replace('/', chr(0x5C))}"
        assert (await api.call(api.anna, "PUT", path, {"image_id": new})).problem == problem


@asynchronous
async def test_who_may_move_default(images: ImageWorld) -> None:
    api, path = images.api, f"/osfs/{images.osf}/tags"
    images.image("1")
    new = images.image("2")
    here = api.with_only(api.anna, "osf.see.di-list-default-update")
    assert (await api.call(here, "PUT", f"{path}/default", {"image_id": new})).body["vms"] == []
    assert (await api.call(here, "PUT", f"{path}/free", {"image_id": new})).problem == "forbidden"
    assert (await api.call(here, "PUT", f"/images/{new}/default")).problem == "forbidden"
    tags = api.with_only(api.anna, "di.update.tags")
    assert (await api.call(tags, "PUT", f"{path}/free", {"image_id": new})).status == 200
    assert (await api.call(tags, "PUT", f"{path}/default", {"image_id": new})).problem == "forbidden"


@pytest.mark.acceptance(16)
@asynchronous
async def test_resolution_is_that_of_the_nodes(images: ImageWorld) -> None:
    api, path = images.api, f"/osfs/{images.osf}/tags"

    async def resolved(tag: str) -> tuple[int | None, bool, str]:
        reply = await api.call(api.anna, "GET", f"{path}/{tag}/resolution")
        image = reply.body["image"]
        return image and image["id"], reply.body["usable"], reply.body["reason"]

    assert await resolved("default") == (None, False, "No disk image of 'desktop' carries the tag 'default'")
    image = images.image("1")
    assert (await resolved("default"))[:2] == (image, True)
    await api.call(api.anna, "POST", f"/images/{image}/block")
    assert (await resolved("default"))[:2] == (image, False) and "blocked" in (await resolved("head"))[2]


@asynchronous
async def test_images_of_one(images: ImageWorld) -> None:
    one, _ = images.image("1"), images.image("1", osf=images.foreign)
    reply = await images.api.call(images.anna, "GET", f"/osfs/{images.osf}/images?state=published&sort=-version")
    assert [each["id"] for each in reply.body["items"]] == [one]
