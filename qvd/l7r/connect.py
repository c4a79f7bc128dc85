# -*- test-case-name: tests.unit.test_l7r_connect -*-
"""
One session: claim the VM, bring it up, switch to NX, relay, and let go.

Whatever ends it, and wherever, the session's row says so: L{Ledger.end} is called exactly once for each claim.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from uuid import uuid4

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from qvd.interfaces import INodeStatus, ISessions
from qvd.l7r.desktop import Desktops, Progress
from qvd.l7r.ledger import Ledger
from qvd.l7r.nx import NXRoad
from qvd.model.account import unix_name
from qvd.model.errors import DatabaseUnavailable, QVDError, SessionLost, Unavailable
from qvd.model.ids import SessionId
from qvd.model.records import VM, SessionSpec, User
from qvd.protocols import l7r
from qvd.protocols.adapters.heads import ConnectionClosed, HeadServer

SLAVE_KEY = string.ascii_letters + string.digits
SLAVE_KEY_LENGTH = 64
CLIENT_GONE = "The client has gone"
INTERNAL = "Internal error of the server; its log has the details"


def new_slave_key() -> str:
    """What a client must show to the guest on side channels."""
    return "".join(secrets.choice(SLAVE_KEY) for _ in range(SLAVE_KEY_LENGTH))


@frozen
class Connector:
    """Makes sessions, and lets each one's end be written."""

    log = Logger()

    status: INodeStatus
    sessions: ISessions
    desktops: Desktops
    ledger: Ledger
    road: NXRoad
    node_address: str

    async def connect(
        self, wire: HeadServer, user: User, vm: VM, parameters: Mapping[str, str], progress: Progress
    ) -> None:
        """From claim to end of the session. Returns when it is over.

        @raise QVDError: it failed before the switch; the caller answers the client.
        """
        await self.status.settled()
        spec = SessionSpec(
            session_id=SessionId(str(uuid4())),
            vm_id=vm.vm_id,
            tenant_id=vm.tenant_id,
            user_id=user.user_id,
            lease=self.status.lease(),
            client_address=wire.peer,
        )
        attempt = Attempt(self, spec, user, wire, parameters, progress)
        self.ledger.open(spec.session_id, attempt.close)
        try:
            await attempt.run()
        finally:
            self.log.info(
                "session {id} of {peer} on VM {vm_id} ended: {reason}",
                id=spec.session_id,
                peer=wire.peer,
                vm_id=vm.vm_id,
                reason=attempt.reason,
            )
            self.ledger.end(spec.session_id, attempt.reason)


class Attempt:
    """One session, which a newer client or a stop of the node may end from outside at any point.

    @ivar reason: why it ended, for the session's row.
    """

    log = Logger()

    def __init__(
        self,
        connector: Connector,
        spec: SessionSpec,
        user: User,
        wire: HeadServer,
        parameters: Mapping[str, str],
        progress: Progress,
    ) -> None:
        self.reason = CLIENT_GONE
        self._connector = connector
        self._spec = spec
        self._user = user
        self._wire = wire
        self._parameters = parameters
        self._progress = progress
        self._work: Deferred[None] | None = None
        self._closed = False
        self._switched = False

    def close(self, reason: str) -> None:
        """End the session from outside."""
        if not self._closed and self._work is not None:
            self._closed = True
            self.reason = reason
            self._work.cancel()

    async def run(self) -> None:
        """Go all the way.

        @raise SessionLost: ended from outside before the switch. After it there is nobody to tell in HTTP.
        """
        self._work = Deferred.fromCoroutine(self._go())
        try:
            await self._work
        except CancelledError:
            if not self._closed:
                raise
            if not self._switched:
                raise SessionLost(self.reason) from None
        except QVDError as error:
            self.reason = error.text
            raise
        except ConnectionClosed:
            raise
        except Exception as error:
            self.log.failure("{peer}: session failed", peer=self._wire.peer)
            self.reason = INTERNAL
            if not self._switched:
                raise QVDError(INTERNAL) from error

    async def _go(self) -> None:
        vm_id, desktops = self._spec.vm_id, self._connector.desktops
        older = await self._claim()
        if older is not None:
            await desktops.until_released(vm_id, older, self._progress)
        self._progress(f"Session acquired for VM_ID: {vm_id}")
        cause = f"user {self._user.login} from {self._wire.peer}"
        slave_key = new_slave_key()
        guest = await desktops.until_ready(vm_id, cause, self._session_parameters(slave_key), self._progress)
        self._progress(f"Connecting X session for VM_ID: {vm_id}")
        leg = await self._connector.road.dial(guest)
        try:
            await self._connector.sessions.connected(self._spec.session_id)
        except BaseException:
            leg.abort()
            raise
        self._connector.ledger.confirm(self._spec.session_id)
        self._progress("Connection established")
        self._wire.send(l7r.switch(slave_key))
        self._switched = True
        self.reason = await self._connector.road.relay(self._wire, leg)

    async def _claim(self) -> SessionId | None:
        """Once more, where the lease was handed over to another process meanwhile."""
        connector = self._connector
        try:
            return await connector.sessions.claim(self._spec)
        except DatabaseUnavailable:
            # It may have been made all the same.
            raise
        except Unavailable:
            await connector.status.settled()
            lease = connector.status.lease()
            if lease == self._spec.lease:
                raise
            self._spec = evolve(self._spec, lease=lease)
        return await connector.sessions.claim(self._spec)

    def _session_parameters(self, slave_key: str) -> Mapping[str, str]:
        """What the agent is told: the client's wishes, with what only the server may say on top."""
        return {
            **l7r.fill_mandatory(self._parameters),
            "host_address": self._connector.node_address,
            "qvd.vm.user.name": unix_name(self._user.login),
            "qvd.slave.key": slave_key,
        }
