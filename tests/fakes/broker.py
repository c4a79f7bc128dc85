"""All that serves a client, over fakes: one user, and VM 9 that runs."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from qvd.interfaces import INodeStatus
from qvd.l7r.connect import Connector
from qvd.l7r.conversation import Conversation, Services
from qvd.l7r.desktop import Desktops, DesktopTimes
from qvd.l7r.gate import Authenticators
from qvd.l7r.ledger import Ledger
from qvd.l7r.waiting import VMNews
from qvd.model.errors import Unavailable
from qvd.model.ids import Epoch, TenantId, UserId
from qvd.model.records import Desired, Lease
from qvd.model.vm import VMState
from qvd.protocols.channels import vm_changed
from tests.fakes.bells import FakeBells
from tests.fakes.client import FakeClient
from tests.fakes.conduct import Conduct
from tests.fakes.driver import guest_of
from tests.fakes.guest import FakeDialer, FakeGuest
from tests.fakes.ownership import HOST, FakeVMs, Rows, vm_row
from tests.fakes.road import FakeRoad
from tests.fakes.sessions import FakeSessions
from tests.fakes.users import FakePasswords, FakeTokens, FakeUsers

UP: dict[str, Any] = {
    "state": VMState.RUNNING,
    "desired": Desired.RUNNING,
    "host_id": HOST,
    "guest": guest_of(9),
    "detail": "Running",
}
TIMES = DesktopTimes(start=60.0, stop=45.0, x_start=20.0, takeover=10.0)


@implementer(INodeStatus)
class FakeStatus:
    """L{INodeStatus} of a node that is well, unless it is told otherwise.

    @ivar gap: fires when the lease that is being handed over has arrived.
    """

    def __init__(self) -> None:
        self.why: str | None = None
        self.held: Lease | None = Lease(HOST, Epoch(4))
        self.gap: Deferred[None] | None = None

    async def settled(self) -> None:
        if self.gap is not None:
            await self.gap

    def lease(self) -> Lease:
        if self.held is None:
            raise Unavailable("Server is starting", retry_after=5)
        return self.held

    def refusal(self) -> str | None:
        return self.why


class Broker:
    """The L7R of one node. VM 8 is somebody else's."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.conduct = Conduct()
        other = vm_row(8, user_id=UserId(4), tenant_id=TenantId(2), name="other")
        self.rows = Rows(vm_row(9, name="desk", **UP), other)
        self.bells = FakeBells()
        self.rows.changed = self.ring
        self.status = FakeStatus()
        self.users = FakeUsers(self.conduct)
        self.passwords = FakePasswords(self.conduct)
        self.tokens = FakeTokens(self.conduct)
        self.sessions = FakeSessions(self.conduct)
        self.vms = FakeVMs(self.rows, self.conduct)
        self.guest = FakeGuest(self.conduct)
        self.road = FakeRoad(None, self.conduct)  # type: ignore[arg-type]
        self.ledger = Ledger(self.clock, self.sessions)
        self.desktops = Desktops(
            self.clock, self.vms, self.sessions, FakeDialer(self.guest), VMNews(self.clock, self.bells), TIMES
        )
        self.connector = Connector(self.status, self.sessions, self.desktops, self.ledger, self.road, "192.0.2.7")
        self.services = Services(
            self.status,
            Authenticators(self.users, self.passwords, self.tokens, "@#", "default"),
            self.desktops,
            self.connector,
        )

    def ring(self, vm_id: object) -> None:
        """The bell of a VM."""
        self.bells.ring(vm_changed(), str(vm_id))

    def client(self) -> FakeClient:
        """Somebody connects."""
        return FakeClient(self.clock, lambda wire: Conversation(self.services, wire).run())
