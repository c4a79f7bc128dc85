"""What is set for all administrators of a tenant by one of them."""

from __future__ import annotations

from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

PATH = "/tenant/settings"


@asynchronous
async def test_own_settings(api: ApiWorld) -> None:
    first = {"language": "auto", "page_size": 50, "description": ""}
    anna = api.with_only(api.anna, "config.wat.")
    assert (await api.call(anna, "GET", PATH)).body == first
    changed = await api.call(anna, "PATCH", PATH, {"language": "es", "page_size": 25})
    assert (changed.status, changed.body) == (200, first | {"language": "es", "page_size": 25})
    assert (await api.call(api.rick, "GET", PATH)).body == first
    assert (await api.call(api.boss, "GET", PATH)).body == first
    row = api.ask("SELECT language, page_size, name FROM tenants WHERE id = %s", api.acme)
    assert row == [{"language": "es", "page_size": 25, "name": "acme"}]
    for wrong in ({"name": "x"}, {"page_size": 0}, {"language": "xx"}, {"blocked": True}, {"description": "\0"}):
        assert (await api.call(anna, "PATCH", PATH, wrong)).status == 422
    others = api.with_only(api.anna, "config.qvd.", "tenant.update.language", "tenant.see-main.")
    for method, body in (("GET", None), ("PATCH", {"language": "en"})):
        assert (await api.call(others, method, PATH, body)).body["acl"] == "config.wat."
    [done] = [each for each in api.trail() if each["outcome"] == "done"]
    assert (done["action"], done["kind"], done["object_tenant_id"]) == ("settings.update", "settings", api.acme)
    assert (done["before"], done["after"]) == (first, changed.body)
