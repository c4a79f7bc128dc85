"""What everybody may know."""

from __future__ import annotations

import pytest

from qvd.model.configuration import KEYS, PUBLIC, SEPARATORS
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_nothing_is_set(api: ApiWorld) -> None:
    found = (await api.call(None, "GET", "/info")).body
    assert set(found) == {"version", "multitenant", "server_time", "auth", "public_configuration"}
    assert (found["auth"], found["public_configuration"]) == ({"separators": ["@", "#"]}, {})


@asynchronous
async def test_what_is_set(api: ApiWorld) -> None:
    values = {
        SEPARATORS: "%",
        f"{PUBLIC}login.link.label": "Forgotten?",
        f"{PUBLIC}login.link.src": "https://help.example/forgotten?lang=en",
        f"{PUBLIC}footer.link.2.src.es": "http://www.example/",
    }
    for key, value in values.items():
        assert (await api.call(api.boss, "PUT", f"/config/{key}", {"value": value})).status == 200
    # What other releases wrote, or a tenant, is not shown to everybody.
    api.ask("INSERT INTO configs (tenant_id, key, value) VALUES (-1, 'api.public.other', '\"x\"')")
    api.ask("INSERT INTO configs (tenant_id, key, value) VALUES (%s, 'api.session.idle', '77')", api.acme)
    found = (await api.call(None, "GET", "/info")).body
    assert found["auth"] == {"separators": ["%"]}
    assert found["public_configuration"] == {
        "login": {"link": {"label": "Forgotten?", "src": "https://help.example/forgotten?lang=en"}},
        "footer": {"link": {"2": {"src": {"es": "http://www.example/"}}}},
    }
    assert "77" not in str(found["public_configuration"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("login.link.src", "javascript:alert(1)"),
        ("login.link.src", "https://x/ onclick=y"),
        ("login.link.src", 'https://x/"onclick='),
        ("login.link.src", "https://x\nhttps://y"),
        ("login.link.src", "//elsewhere.example"),
        ("footer.link.1.src.default", "data:text/html,x"),
    ],
)
@asynchronous
async def test_addresses_run_nothing(api: ApiWorld, key: str, value: str) -> None:
    assert (await api.call(api.boss, "PUT", f"/config/{PUBLIC}{key}", {"value": value})).problem == "invalid-value"


@pytest.mark.parametrize("value", ["a", "@a", " ", "@" * 17, "ñ", "0"])
@asynchronous
async def test_separators_are_no_letters(api: ApiWorld, value: str) -> None:
    assert (await api.call(api.boss, "PUT", f"/config/{SEPARATORS}", {"value": value})).status == 422


def test_no_public_key_is_secret_or_a_tenants() -> None:
    public = [key for key in KEYS if key.name.startswith(PUBLIC)]
    assert len(public) == 26
    assert not [key for key in public if key.secret or len(key.levels) > 1]
