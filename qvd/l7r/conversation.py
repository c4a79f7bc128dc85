# -*- test-case-name: tests.unit.test_l7r_conversation -*-
"""
One client, from its first request to the pipe.

Requests come one after the other on one connection: list, perhaps stop, then connect, which ends either in an error
and a closed connection or in the switch to NX. A client that goes away cancels the coroutine wherever it waits.
"""

from __future__ import annotations

from typing import assert_never

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from qvd.interfaces import INodeStatus
from qvd.l7r.connect import INTERNAL, Connector
from qvd.l7r.desktop import Desktops
from qvd.l7r.gate import Authenticators, Gate, Identity
from qvd.model.errors import AuthenticationFailed, Forbidden, NotFound, QVDError, Unavailable
from qvd.model.ids import VMId
from qvd.model.records import VM
from qvd.protocols import l7r
from qvd.protocols.adapters.heads import ConnectionClosed, HeadServer
from qvd.protocols.http1 import RemoteProtocolError, RequestHead

FAILED_LOGINS = 5
"""After so many refused logins a connection is closed."""


@frozen
class Services:
    """What all conversations share."""

    status: INodeStatus
    authenticators: Authenticators
    desktops: Desktops
    connector: Connector


class Conversation:
    """Serves one connection."""

    log = Logger()

    def __init__(self, services: Services, wire: HeadServer) -> None:
        self._services = services
        self._wire = wire
        self._gate = Gate(services.authenticators)
        self._failed_logins = 0

    async def run(self) -> None:
        """Answer requests until the client goes, misbehaves, or has its desktop."""
        while True:
            try:
                head = await self._wire.receive()
            except ConnectionClosed:
                return
            except RemoteProtocolError as error:
                self.log.info("{peer}: refused: {reason}", peer=self._wire.peer, reason=str(error))
                self._wire.send(l7r.error_reply(error.status_hint, str(error)))
                return
            if not await self._answer(head):
                return

    async def _answer(self, head: RequestHead) -> bool:
        """Serve one request; False when the connection is at its end."""
        route = l7r.route(head)
        try:
            return await self._serve(route, head)
        except (CancelledError, ConnectionClosed):
            raise
        except QVDError as error:
            self._refuse(route, error)
            if isinstance(error, AuthenticationFailed):
                self._failed_logins += 1
            # One client takes any answer to its connect for a success, and goes on in NX until somebody hangs up.
            return route is not l7r.Route.CONNECT and self._failed_logins < FAILED_LOGINS
        except Exception:  # noqa: BLE001 - the edge: a client hears of it, the log has the rest
            self.log.failure("{peer}: {route} failed", peer=self._wire.peer, route=route.value)
            self._wire.send(l7r.error_reply(500, INTERNAL))
            return False

    def _refuse(self, route: l7r.Route, error: QVDError) -> None:
        status = l7r.status_of(error, route)
        self.log.info(
            "{peer}: {route} refused: {status} {reason}",
            peer=self._wire.peer,
            route=route.value,
            status=status,
            reason=error.text,
        )
        retry_after = error.retry_after if isinstance(error, Unavailable) else None
        self._wire.send(l7r.error_reply(status, error.text, retry_after))

    async def _serve(self, route: l7r.Route, head: RequestHead) -> bool:
        match route:
            case l7r.Route.PING:
                await self._check_node()
                self._wire.send(l7r.pong())
            case l7r.Route.LIST | l7r.Route.LIST_APPLICATIONS:
                identity = await self._admit(head)
                await self._list(identity, route is l7r.Route.LIST_APPLICATIONS)
            case l7r.Route.AUTHENTICATE:
                await self._identify(head)
                self._wire.send(l7r.authenticated())
            case l7r.Route.CREATE_TOKEN:
                await self._issue(await self._identify(head), head)
            case l7r.Route.STOP:
                await self._stop(await self._admit(head), head)
            case l7r.Route.CONNECT:
                await self._connect(await self._admit(head), head)
                return False
            case l7r.Route.UNKNOWN:
                raise NotFound("Not found")
            case _:
                assert_never(route)
        return True

    async def _check_node(self) -> None:
        await self._services.status.settled()
        refusal = self._services.status.refusal()
        if refusal is not None:
            raise Unavailable(refusal, retry_after=10)

    async def _identify(self, head: RequestHead) -> Identity:
        identity = await self._gate.admit(head)
        self._wire.authenticated()
        return identity

    async def _admit(self, head: RequestHead) -> Identity:
        identity = await self._identify(head)
        await self._check_node()
        return identity

    async def _list(self, identity: Identity, applications: bool) -> None:
        vms = await self._services.desktops.vms.list_for_user(identity.user.user_id, applications)
        self._wire.send(l7r.vm_list(vm for vm in vms if identity.may_use(vm.vm_id)))

    async def _issue(self, identity: Identity, head: RequestHead) -> None:
        terms = l7r.token_request(head)
        identity.check_issue()
        if terms.vm_id is not None:
            await self._permitted(identity, terms.vm_id)
        token = await self._services.authenticators.token.issue(identity.user, terms)
        self.log.info(
            "{peer}: token for user {user_id}: VM {vm_id}, {uses}, {seconds} s",
            peer=self._wire.peer,
            user_id=identity.user.user_id,
            vm_id=terms.vm_id or "any",
            uses="many uses" if terms.multi_use else "one use",
            seconds=terms.seconds,
        )
        self._wire.send(l7r.token_issued(token))

    async def _stop(self, identity: Identity, head: RequestHead) -> None:
        vm = await self._permitted(identity, l7r.stop_request(head).vm_id)
        cause = f"user {identity.user.login} from {self._wire.peer}"
        await self._services.desktops.until_stopped(vm.vm_id, cause, self._progress)
        self._wire.send(l7r.stopped())

    async def _connect(self, identity: Identity, head: RequestHead) -> None:
        request = l7r.connect_request(head)
        vm = await self._permitted(identity, request.vm_id)
        if vm.blocked:
            raise Forbidden("The requested virtual machine is offline for maintenance")
        await self._services.connector.connect(self._wire, identity.user, vm, request.parameters, self._progress)

    async def _permitted(self, identity: Identity, vm_id: VMId) -> VM:
        """The VM, if the user may use it.

        @raise NotFound: no such VM.
        @raise Forbidden: somebody else's, or not the token's.
        """
        vm = await self._services.desktops.vms.get(vm_id)
        if vm is None:
            raise NotFound("The requested virtual machine does not exist")
        if vm.user_id != identity.user.user_id:
            raise Forbidden("You are not allowed to access requested virtual machine")
        identity.check_vm(vm_id)
        return vm

    def _progress(self, text: str) -> None:
        self._wire.send(l7r.progress(text))
