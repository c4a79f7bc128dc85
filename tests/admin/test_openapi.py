"""The API's description of itself."""

from __future__ import annotations

import re
from typing import Any

from openapi_spec_validator import validate

from qvd.admin.api import all_endpoints
from qvd.admin.description import Description
from qvd.admin.endpoint import UNSAFE
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


def described() -> dict[str, Any]:
    [endpoint] = [each for each in all_endpoints() if each.path == "/openapi.json"]
    owner: Description = endpoint.handler.__self__  # type: ignore[attr-defined]
    return owner.document


def test_it_is_valid() -> None:
    validate(described())


def test_each_operation_is_in_it() -> None:
    paths = described()["paths"]
    for endpoint in all_endpoints():
        operation = paths[f"/api/v1{endpoint.path}"][endpoint.method.lower()]
        assert operation["x-qvd-action"] == endpoint.action
        assert operation["x-qvd-acl"] == list(endpoint.need.any_of)
        assert operation["summary"], endpoint.route
        assert operation["x-qvd-scope"] in ("public", "global", "tenant")
        assert (operation["security"] == []) is endpoint.need.public
        assert {str(status) for status in endpoint.answers} <= operation["responses"].keys()
    assert sum(len(operations) for operations in paths.values()) == len(all_endpoints())


def test_no_two_operations_have_one_name() -> None:
    ids = [operation["operationId"] for path in described()["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids)


def test_a_change_with_a_cookie_needs_the_token_against_forgery() -> None:
    for path in described()["paths"].values():
        for method, operation in path.items():
            for scheme in operation["security"]:
                if "session" in scheme:
                    assert ("csrf" in scheme) is (method.upper() in UNSAFE)


def test_lists_show_what_they_are_narrowed_by() -> None:
    operation = described()["paths"]["/api/v1/users"]["get"]
    parameters = {each["name"]: each for each in operation["parameters"]}
    assert {"name", "name[prefix]", "blocked[eq]", "created_at[ge]", "sort", "cursor"} <= parameters.keys()
    assert parameters["blocked"]["x-qvd-acl"] == ["user.see.block"]
    assert parameters["tenant_id"]["x-qvd-scope"] == "global"
    assert "blocked[like]" not in parameters and "number_of_vms" not in parameters


def test_a_password_is_written_and_never_read() -> None:
    schemas = described()["components"]["schemas"]
    assert "password" in schemas["UserCreation"]["properties"]
    assert "password" not in schemas["User"]["properties"]


@asynchronous
async def test_it_is_served_to_everybody_once(api: ApiWorld) -> None:
    for path in ("/openapi.json", "/docs"):
        first = await api.call(None, "GET", path)
        assert first.status == 200
        again = await api.call(None, "GET", path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")


@asynchronous
async def test_the_page_needs_nothing_from_elsewhere(api: ApiWorld) -> None:
    text = (await api.call(None, "GET", "/docs")).body.decode()
    assert "GET /api/v1/users/{id}" in text and "user.see-main." in text
    assert not re.search(r"<(script|style|link|img|iframe)|style=|\son\w+=|https?://", text)
