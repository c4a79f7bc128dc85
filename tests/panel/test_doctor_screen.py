"""The doctor on pages, where the service has one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from qvd.admin.call import Answer, Call
from qvd.admin.endpoint import Endpoint, acl
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture
from tests.panel.browser import Browser, Served, sound
from tests.panel.held import HeldAcls


def finding(result: str, sentence: str, mend: str = "") -> dict[str, Any]:
    said = {"check": "c", "about": "installation", "looked_at": f"thing {result}"}
    return {**said, "result": result, "sentence": sentence, "mend": mend, "seconds": 0.1}


async def read(call: Call) -> Answer:
    findings = [
        finding("ok", "It is <b>well</b>"),
        finding("warning", "It is old", "Make it new"),
        finding("failure", "It is gone <i>", "Bring it back"),
    ]
    return Answer(200, {"result": "failure", "counts": {"failure": 1}, "findings": findings, "age": 0.0})


DOCTOR = Endpoint(
    method="GET",
    path="/doctor",
    action="doctor.read",
    need=acl("config.qvd."),
    handler=read,
    summary="",
    answers={200: {"type": "object"}},
)


@asynchronous_fixture
async def root(logins: ApiWorld, held: HeldAcls) -> AsyncIterator[Browser]:
    """An administrator where the doctor is in."""
    others = [each for each in logins.endpoints if each.path != "/doctor"]
    made = Served(logins, [*others, DOCTOR])
    made.start()
    browser = made.browser()
    await browser.log_in("boss", "*")
    yield browser
    await made.stop()


@asynchronous
async def test_what_is_bad_comes_first_with_its_mend(root: Browser) -> None:
    page = sound(await root.get("/panel/doctor"))
    bad = page.main.one("div", id="doctor-bad").text
    assert bad.index("It is gone <i>") < bad.index("It is old") and "Bring it back" in bad
    assert "It is <b>well</b>" in page.main.text and "It is <b>well</b>" not in bad
    home = sound(await root.get("/panel/"))
    assert home.main.one("div", id="doctor")["data-later"] == "/panel/doctor"
    assert "/panel/doctor" in {link["href"] for link in home.root.one("nav", class_="menu").all("a")}


@asynchronous
async def test_who_may_not_ask_is_not_shown_the_way(root: Browser, held: HeldAcls, logins: ApiWorld) -> None:
    held.of[logins.boss.administrator_id] = frozenset({"user.see-main."})
    assert "doctor" not in (await root.get("/panel/")).html
    assert (await root.get("/panel/doctor")).status == 404
