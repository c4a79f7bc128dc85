"""The doctor as an operation, and in the daemon itself."""

from __future__ import annotations

from pathlib import Path

from qvd.doctor.findings import About, Result, failure
from tests.admin.server import Server
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

FINDING = failure("/etc/cert.pem", "The certificate ended", "get a new one").of("tls.days", About.ADMIN, 0.1)


@asynchronous
async def test_findings_are_told(api: ApiWorld) -> None:
    api.doctor.findings = (FINDING,)
    answer = await api.call(api.boss, "GET", "/doctor")
    assert answer.status == 200
    assert answer.body["result"] == "failure"
    assert answer.body["counts"]["failure"] == 1
    assert answer.body["findings"] == [FINDING.document()]


@asynchronous
async def test_only_who_may_change_the_configuration_of_all_is_told(api: ApiWorld) -> None:
    """Findings name files, hosts and VMs of all tenants."""
    assert (await api.call(api.anna, "GET", "/doctor")).problem == "superadmin-only"
    assert (await api.call(api.with_only(api.boss, "host.see-main."), "GET", "/doctor")).problem == "forbidden"
    assert (await api.call(api.with_only(api.boss, "config.qvd."), "GET", "/doctor")).status == 200


@asynchronous
async def test_the_daemon_looks_at_itself(database: str, api: ApiWorld, tmp_path: Path) -> None:
    """With the settings that it was started with, over HTTPS; who asks again at once gets the same report."""
    server = Server(database, tmp_path, {"boss": api.boss})
    await server.start()
    try:
        first = await server.ask("GET", "/api/v1/doctor", headers={"Authorization": "Bearer boss"})
        second = await server.ask("GET", "/api/v1/doctor", headers={"Authorization": "Bearer boss"})
    finally:
        await server.stop()
    assert first.status == second.status == 200, first.body
    assert first.document["findings"] == second.document["findings"]
    by_check = {each["check"]: each["result"] for each in first.document["findings"]}
    assert by_check["database.schema"] == Result.OK.value
    assert by_check["tls.key"] == Result.OK.value
    assert by_check["hosts.lease"] == Result.FAILURE.value  # there is no node
    assert "lxc.ids" not in by_check
