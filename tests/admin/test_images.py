"""Images: making, changing and deleting them, their life, and the VMs that follow their tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qvd.model.imagelife import Operation, after
from qvd.model.images import DIState
from tests.admin.imageworld import ImageWorld, images, write
from tests.fakes.asynchronous import asynchronous

__all__ = ["images"]
ANY = {"If-Match": "*"}


def done(images: ImageWorld) -> list[str]:
    return [entry["action"] for entry in images.api.trail() if entry["outcome"] == "done"]


@asynchronous
async def test_fields(images: ImageWorld) -> None:
    image = images.image("1")
    read = await images.api.call(images.anna, "GET", f"/images/{image}?include=actions")
    assert read.status == 200, read.body
    body = read.body
    assert (body["version"], body["state"], body["path"], body["osf_id"]) == ("1", "published", "1.qcow2", images.osf)
    assert body["tags"] == [{"tag": tag, "fixed": tag == "1"} for tag in ("1", "default", "head")]
    assert body["percentage"] == 100 and body["published_at"] and body["checksum"] is None
    assert body["_actions"] == ["update", "delete", "block", "unpublish", "retire", "rollback"]
    assert "default" not in body and "tenant_id" not in body
    reader = images.api.with_only(images.anna, "di.see-main.")
    seen = (await images.api.call(reader, "GET", f"/images/{image}")).body
    assert not {"tags", "version", "osf_id", "blocked", "description"} & set(seen)


@asynchronous
async def test_change_and_block(images: ImageWorld) -> None:
    api, path = images.api, f"/images/{images.image('1')}"
    assert (await api.call(api.anna, "PATCH", path, {"description": "x"})).problem == "precondition-required"
    changed = await api.call(api.anna, "PATCH", path, {"description": "x", "expire_soft_after": 60}, ANY)
    assert changed.status == 200 and changed.body["description"] == "x" and changed.body["expire_soft_after"] == 60
    wrong = await api.call(api.anna, "PATCH", path, {"expire_hard_after": 1}, ANY)
    assert wrong.problem == "invalid-expiration"
    assert (await api.call(api.anna, "PATCH", path, {"version": "2"}, ANY)).problem == "unknown-attribute"
    assert (await api.call(api.anna, "PATCH", path, {"auto_publish": True}, ANY)).problem == "conflict"
    assert (await api.call(api.anna, "POST", f"{path}/block")).body["blocked"] is True
    assert (await api.call(api.anna, "POST", f"{path}/unblock")).body["blocked"] is False
    assert done(images) == ["di.update", "di.block", "di.unblock"]


OPERATIONS = [Operation.PUBLISH, Operation.UNPUBLISH, Operation.RETIRE, Operation.ROLLBACK]


@pytest.mark.acceptance(16)
@pytest.mark.parametrize("operation", OPERATIONS)
@asynchronous
async def test_life(images: ImageWorld, operation: Operation) -> None:
    """The API permits what the table does, and leads where it leads."""
    images.image("0")
    for state in DIState:
        await check_step(images, operation, state)
    assert len(images.api.trail()) == len(DIState)


async def check_step(images: ImageWorld, operation: Operation, state: DIState) -> None:
    image = images.image(f"in {state.value}", state.value)
    reply = await images.api.call(images.anna, "POST", f"/images/{image}/{operation.value}")
    expected = after(state, operation)
    if expected is None:
        assert reply.problem == "conflict" and images.row(image)["state"] == state.value
    else:
        assert reply.status == 200, reply.body
        assert images.row(image)["state"] == expected.value


@pytest.mark.acceptance(16)
@asynchronous
async def test_publication_moves_tags_and_expires_vms(images: ImageWorld) -> None:
    api = images.api
    old, new = images.image("1"), images.image("2", "ready")
    runs, bound = images.vm("runs", runs=old), images.vm("bound", "1", runs=old)
    for tag in ("default", "free"):
        assert (await api.call(api.anna, "PUT", f"/images/{new}/tags/{tag}")).body["affected"] == 0
    assert images.tags()["default"] == old and images.row(new)["future_tags"] == ["default", "free"]
    preview = await api.call(api.anna, "GET", f"/images/{new}/affected-vms")
    published = await api.call(api.anna, "POST", f"/images/{new}/publish", {"expire_soft_after": 3600})
    assert preview.body == published.body and [vm["id"] for vm in published.body["vms"]] == [runs]
    assert images.tags() == {"1": old, "2": new, "default": new, "head": new, "free": new}
    assert images.row(new)["future_tags"] == []
    dates = {row["vm_id"]: row["vm_expiration_soft"] for row in api.ask("SELECT * FROM vm_runtimes")}
    assert dates[runs] is not None and dates[bound] is None
    resolved = await api.call(api.anna, "GET", f"/osfs/{images.osf}/tags/default/resolution")
    assert resolved.body["image"]["id"] == new and resolved.body["usable"]


@asynchronous
async def test_publication_needs_permissions(images: ImageWorld) -> None:
    api, path = images.api, f"/images/{images.image('1', 'ready')}/publish"
    assert (await api.call(api.with_only(api.anna, "di.update.tags"), "POST", path)).problem == "forbidden"
    publisher = api.with_only(api.anna, "di.update.publish")
    assert (await api.call(publisher, "POST", path, {"expire_hard_after": 1})).problem == "forbidden"
    wrong = await api.call(api.anna, "POST", path, {"expire_soft_after": 2, "expire_hard_after": 1})
    assert wrong.problem == "invalid-expiration"
    assert (await api.call(publisher, "POST", path)).status == 200


@pytest.mark.acceptance(16)
@asynchronous
async def test_unpublishing_hands_tags_on(images: ImageWorld) -> None:
    api = images.api
    old, new = images.image("1"), images.image("2")
    await api.call(api.anna, "PUT", f"/images/{new}/default")
    await api.call(api.anna, "PUT", f"/images/{new}/tags/free")
    assert (await api.call(api.anna, "POST", f"/images/{new}/unpublish")).status == 200
    assert images.tags() == {"1": old, "2": new, "default": old, "head": old}
    assert images.row(new)["future_tags"] == ["free"]
    await api.call(api.anna, "POST", f"/images/{new}/publish")
    assert images.tags()["free"] == new and images.tags()["head"] == new


@asynchronous
async def test_no_vm_is_left_without_an_image(images: ImageWorld) -> None:
    api, only = images.api, images.image("1")
    images.vm("vm")
    for operation in ("unpublish", "retire"):
        assert (await api.call(api.anna, "POST", f"/images/{only}/{operation}")).problem == "image-in-use"
    assert (await api.call(api.anna, "DELETE", f"/images/{only}", None, ANY)).problem == "has-dependents"
    assert (await api.call(api.anna, "POST", f"/images/{only}/rollback")).problem == "conflict"
    assert images.row(only)["state"] == "published"


@pytest.mark.acceptance(16)
@asynchronous
async def test_rollback(images: ImageWorld) -> None:
    api = images.api
    old, new = images.image("1"), images.image("2")
    for tag in ("default", "free"):
        await api.call(api.anna, "PUT", f"/images/{new}/tags/{tag}")
    back, bound = images.vm("back", "free", runs=new), images.vm("bound", "2")
    refused = await api.call(api.anna, "POST", f"/images/{new}/rollback")
    assert refused.problem == "image-in-use" and "bound" in refused.body["detail"]
    api.ask("UPDATE vms SET di_tag = 'default' WHERE id = %s", bound)
    done = await api.call(api.anna, "POST", f"/images/{new}/rollback")
    assert done.body["image_id"] == old and [vm["id"] for vm in done.body["vms"]] == [back, bound]
    assert images.tags() == {"1": old, "2": new, "default": old, "head": old, "free": old}
    assert images.row(new)["state"] == "ready"


@asynchronous
async def test_tags_of_an_image(images: ImageWorld) -> None:
    api = images.api
    images.image("1")
    path = f"/images/{images.image('2')}"
    assert (await api.call(api.anna, "PUT", f"{path}/tags/free")).status == 200
    assert (await api.call(api.anna, "PUT", f"{path}/tags/free")).status == 200
    assert (await api.call(api.anna, "PUT", f"{path}/tags/1")).problem == "tag-fixed"
    assert (await api.call(api.anna, "PUT", f"{path}/tags/head")).problem == "tag-protected"
    assert (await api.call(api.anna, "PUT", f"{path}/tags/{'x' * 65}")).problem == "invalid-value"
    for tag in ("head", "2"):
        assert (await api.call(api.anna, "DELETE", f"{path}/tags/{tag}")).problem == "tag-protected"
    assert (await api.call(api.anna, "DELETE", f"{path}/tags/free")).status == 204
    assert (await api.call(api.anna, "DELETE", f"{path}/tags/free")).status == 404
    future = f"/images/{images.image('3', 'ready')}"
    assert (await api.call(api.anna, "PUT", f"{future}/tags/later")).status == 200
    assert (await api.call(api.anna, "DELETE", f"{future}/tags/later")).status == 204
    failed = f"/images/{images.image('4', 'fail')}"
    assert (await api.call(api.anna, "PUT", f"{failed}/tags/free")).problem == "conflict"


@pytest.mark.acceptance(16)
@asynchronous
async def test_expiration_of_affected_vms(images: ImageWorld) -> None:
    api = images.api
    old, new = images.image("1"), images.image("2")
    one, other, bound = (images.vm(name, tag, runs=old) for name, tag in (("a", "head"), ("b", "head"), ("c", "1")))
    path = f"/images/{new}/affected-vms"
    shown = await api.call(api.anna, "GET", f"{path}?operation=default")
    assert shown.body["affected"] == 0
    shown = await api.call(api.anna, "GET", f"{path}?operation=tag:1")
    assert [vm["id"] for vm in shown.body["vms"]] == [bound]
    assert (await api.call(api.anna, "GET", f"{path}?operation=x")).problem == "malformed-request"
    dates = {"soft": "2030-01-01T00:00:00Z", "hard": "2030-01-02T00:00:00Z"}
    some = await api.call(api.anna, "POST", f"{path}/expiration", {"ids": [one, bound], **dates})
    assert some.body == {"vm_ids": [one]}
    every = await api.call(api.anna, "POST", f"{path}/expiration", {"all": True, **dates})
    assert every.body == {"vm_ids": [one, other]}
    assert (await api.call(api.anna, "POST", f"{path}/expiration", dates)).problem == "invalid-value"
    turned = {"all": True, "soft": dates["hard"], "hard": dates["soft"]}
    assert (await api.call(api.anna, "POST", f"{path}/expiration", turned)).problem == "invalid-expiration"
    assert api.trail()[-1]["problem"] == "invalid-expiration" and api.trail()[1]["after"]["expired"]["vm_ids"] == [
        one,
        other,
    ]


@asynchronous
async def test_deletion_takes_only_files_of_ours(images: ImageWorld) -> None:
    api, folder = images.api, images.folder
    by_hand = images.image("1")
    write(folder / "1.qcow2")
    assert (await api.call(api.anna, "DELETE", f"/images/{by_hand}", None, ANY)).status == 204
    assert images.files() == ["1.qcow2"]
    ours = images.image("2")
    write(folder / "2.qcow2")
    api.ask("UPDATE dis SET source = 'staging' WHERE id = %s", ours)
    runs = images.vm("runs", "2", runs=ours)
    assert (await api.call(api.anna, "DELETE", f"/images/{ours}", None, ANY)).problem == "image-in-use"
    assert images.files() == ["1.qcow2", "2.qcow2"]
    api.ask("DELETE FROM vms WHERE id = %s", runs)
    assert (await api.call(api.anna, "DELETE", f"/images/{ours}", None, ANY)).status == 204
    assert images.files() == ["1.qcow2"]


@asynchronous
async def test_isolation(images: ImageWorld) -> None:
    api = images.api
    theirs = images.image("1", osf=images.foreign)
    absent = (await api.call(api.anna, "GET", "/images/999999")).body["detail"]
    calls: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("PATCH", "", {"description": "x"}),
        ("DELETE", "", None),
        ("PUT", "/tags/x", None),
        ("DELETE", "/tags/1", None),
        ("PUT", "/default", None),
        ("GET", "/affected-vms", None),
        ("POST", "/affected-vms/expiration", {"all": True}),
        *(("POST", f"/{verb}", None) for verb in ("block", "unblock", "publish", "unpublish", "retire", "rollback")),
    ]
    for method, path, body in calls:
        reply = await api.call(api.anna, method, f"/images/{theirs}{path}", body, ANY)
        assert (reply.status, reply.body["detail"]) == (404, absent), (method, path)
    assert (await api.call(api.anna, "GET", "/images")).body["page"]["total"] == 0
    made = await images.make({"type": "url", "url": "http://198.51.100.1/x"}, osf_id=images.foreign)
    gone = await images.make({"type": "url", "url": "http://198.51.100.1/x"}, osf_id=999999)
    assert made.problem == gone.problem == "reference-not-found"


@asynchronous
async def test_versions(images: ImageWorld, tmp_path: Path) -> None:
    write(tmp_path / "staging" / "a.qcow2")
    source = {"type": "staging", "file": "a.qcow2"}
    first, second = [(await images.make(source)).body["image"]["version"] for _ in range(2)]
    assert first.endswith("-000") and second == first[:-1] + "1"
    assert (await images.make(source, version=first)).problem == "already-exists"
    for version in ("head", "default", "a/b", " a", "x" * 65, ""):
        assert (await images.make(source, version=version)).problem == "invalid-value"
    assert (await images.make(source, tags=["head"])).problem == "tag-protected"
    assert (await images.make(source, tags=[first])).problem == "tag-fixed"
    assert (await images.make(source, tags=["a/b"])).problem == "invalid-value"
    assert (await images.make(source, tags=[1])).problem == "invalid-value"
    await images.settled(1)
