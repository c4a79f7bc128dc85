# -*- test-case-name: tests.contract.test_db_network -*-
"""The address plan of the VM network: as nodes read it, and as C{qvd-db network} sets it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen
from zope.interface import implementer

from qvd.db.migrate import connected
from qvd.interfaces import IAddressPlans, IDatabase, Row
from qvd.model.network import AddressPlan, parse_plan
from qvd.model.records import Nic

PLAN = "SELECT network::text, host(vms_from) AS vms_from, host(gateway) AS gateway, host(dns) AS dns FROM vm_network"
# What L{nic_of} reads, of a VM C{v}.
NIC_COLUMNS = "host(v.ip) AS ip, masklen(n.network) AS prefix, v.mac::text, host(n.gateway) AS gateway"
NIC_TABLES = "LEFT JOIN vm_network n ON true"
CHANGE = (
    "UPDATE vm_network SET network = %(network)s, vms_from = %(vms_from)s, gateway = %(gateway)s, dns = %(dns)s",
    "INSERT INTO vm_network (network, vms_from, gateway, dns) VALUES (%(network)s, %(vms_from)s, %(gateway)s, %(dns)s)",
)


def plan_of(row: Row | Mapping[str, Any]) -> AddressPlan:
    """A row of C{PLAN}."""
    return parse_plan(row["network"], row["vms_from"], row["gateway"], row["dns"])


def nic_of(row: Row, gateway: str | None) -> Nic | None:
    """A row of C{NIC_COLUMNS}.

    @param gateway: for VMs of a range without one.
    """
    if row["ip"] is None or row["prefix"] is None:
        return None
    return Nic(row["ip"], row["prefix"], row["mac"], row["gateway"] or gateway)


@implementer(IAddressPlans)
@frozen
class AddressPlans:
    """L{IAddressPlans} over PostgreSQL."""

    db: IDatabase

    async def current(self) -> AddressPlan | None:
        row = await self.db.fetch_one(PLAN)
        return None if row is None else plan_of(row)


def read_plan(dsn: str) -> tuple[AddressPlan | None, int]:
    """The plan, and how many VMs have an address of it."""
    with connected(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(PLAN)
        found = cursor.fetchone()
        cursor.execute("SELECT count(*) FROM vms WHERE ip IS NOT NULL")
        counted = cursor.fetchone()
    names = ("network", "vms_from", "gateway", "dns")
    return None if found is None else plan_of(dict(zip(names, found, strict=True))), counted[0] if counted else 0


def set_plan(dsn: str, plan: AddressPlan, cause: str) -> None:
    """Make it the installation's, and give an address to each VM that has none.

    @raise QVDError: a VM has an address that is outside of it, or there are too many of them.
    """
    values = {
        "network": str(plan.network),
        "vms_from": str(plan.vms_from),
        "gateway": plan.gateway and str(plan.gateway),
        "dns": plan.dns and str(plan.dns),
    }
    with connected(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT set_config('qvd.cause', %s, true)", (cause,))
        update, insert = CHANGE
        cursor.execute(update, values)
        if not cursor.rowcount:
            cursor.execute(insert, values)
        connection.commit()
