"""Many clients at once, and room for one desktop: for a test of who gets it, and for a figure of how long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from attrs import frozen

from tests.integration.farm import SECONDS, Client, Farm, eventually

MIB = 1024 * 1024
NEEDED, LEFT = 512, 600
"""MiB that a desktop needs, and that are left for the first: not enough for two."""
LOGINS = 8
"""At once, before anything is measured."""


@frozen
class Answer:
    """What became of one client's wish.

    @ivar at: seconds from the first client's sending to the arrival.
    """

    status: int
    text: str
    at: float


def make_vms(farm: Farm, count: int) -> list[int]:
    """More desktops of the demo's user."""
    rows = farm.rows(
        "INSERT INTO vms (tenant_id, user_id, osf_id, name)"
        " SELECT v.tenant_id, v.user_id, v.osf_id, 'wanted ' || n FROM vms v, generate_series(1, %s) n"
        " WHERE v.id = %s RETURNING id",
        count,
        farm.credentials["vm_id"],
    )
    return [row["id"] for row in rows]


def fill(farm: Farm) -> None:
    """Leave room for one: the farm's node has a large VM bound to it, and there is a second node, of rows only, that
    is too small for any."""

    def memory() -> int:
        (row,) = farm.rows("SELECT usable_ram FROM host_runtimes WHERE state = 'running'")
        return int(row["usable_ram"])

    usable = int(eventually(memory, "the node has told its capacity"))
    farm.rows("UPDATE osfs SET memory = %s", NEEDED * MIB)
    farm.rows(
        "WITH osf AS (INSERT INTO osfs (tenant_id, name, memory)"
        "  SELECT tenant_id, 'large', %s FROM osfs LIMIT 1 RETURNING id)"
        " INSERT INTO vms (tenant_id, user_id, osf_id, name)"
        " SELECT v.tenant_id, v.user_id, osf.id, 'large' FROM vms v, osf WHERE v.id = %s",
        usable - LEFT * MIB,
        farm.credentials["vm_id"],
    )
    farm.rows("UPDATE vm_runtimes r SET host_id = h.id FROM vms v, hosts h WHERE v.id = r.vm_id AND v.name = 'large'")
    farm.rows("INSERT INTO hosts (name, address) VALUES ('small', '127.0.0.1')")
    farm.rows(
        "UPDATE host_runtimes r SET state = 'running', lease_until = now() + interval '1 hour', epoch = 1,"
        " usable_ram = %s, available_ram = %s, usable_cpu = 4, idle_cpu = 4"
        " FROM hosts h WHERE h.id = r.host_id AND h.name = 'small'",
        100 * MIB,
        100 * MIB,
    )


def rush(farm: Farm, vm_ids: Sequence[int]) -> list[Answer]:
    """One client for each VM. All log in, then all connect at the same moment."""
    clients = logged_in(farm, len(vm_ids))
    begin = threading.Barrier(len(clients))
    sent: list[float] = []

    def connect(client: Client, vm_id: int) -> Answer:
        begin.wait(SECONDS)
        sent.append(time.monotonic())
        response = client.connect(vm_id)
        return Answer(response.head.status, response.body.decode(errors="replace"), time.monotonic())

    try:
        with ThreadPoolExecutor(len(clients)) as threads:
            answers = list(threads.map(connect, clients, vm_ids))
    finally:
        for client in clients:
            client.close()
    first = min(sent)
    return [Answer(answer.status, answer.text, answer.at - first) for answer in answers]


def logged_in(farm: Farm, count: int) -> list[Client]:
    def login(_: int) -> Client:
        client = farm.client()
        client.list()
        return client

    with ThreadPoolExecutor(LOGINS) as threads:
        return list(threads.map(login, range(count)))
