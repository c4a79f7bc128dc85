"""The description, read."""

from __future__ import annotations

from qvd.cli.description import Description, Shape
from tests.cli.described import description


def test_collections() -> None:
    found = description().collections
    assert {"vms", "users", "images", "log"} <= set(found)
    vms = found["vms"]
    assert (vms.name, vms.known_by, vms.searches) == ("vm", "name", True)
    assert {"start", "stop", "update", "delete"} <= vms.bulk
    assert (vms.fields["since"].kind, vms.fields["id"].kind, vms.fields["name"].kind) == ("time", "integer", "text")
    assert vms.fields["blocked"].kind == "boolean"
    assert found["properties"].known_by == "key"
    assert found["images"].known_by == ""


def test_what_members_name() -> None:
    for word, wanted in (("user", "user"), ("image", "di"), ("di", "di"), ("role", "role")):
        collection = description().named(word)
        assert collection is not None and collection.name == wanted
    assert description().named("nothing") is None


def test_shapes() -> None:
    create = description().get("administrator.create")
    assert create is not None
    kinds = {each.name: each.shape for each in create.members}
    assert kinds["password"].kind == "secret"
    assert kinds["page_size"] == Shape("integer", nullable=True, text=kinds["page_size"].text)
    assert kinds["language"].choices
    update = description().get("osf.update")
    assert update is not None and update.if_match
    start = description().get("vm.start")
    assert start is not None and start.begins


def test_a_description_that_has_less() -> None:
    made = Description.of({"paths": {"/api/v1/x": {"get": {}, "summary": "not an operation"}}})
    [operation] = made.operations
    assert (operation.action, operation.path, made.collections) == ("GET /x", "/x", {})
