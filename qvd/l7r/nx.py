# -*- test-case-name: tests.unit.test_l7r_nx -*-
"""The last stretch: from the L7R to nxagent."""

from __future__ import annotations

from typing import cast

from attrs import frozen
from twisted.internet.defer import Deferred

from qvd.model.records import Guest
from qvd.protocols.adapters.heads import ConnectionClosed, HeadServer
from qvd.protocols.adapters.relay import GuestLeg, Relay, RelayOutcome, connect_guest
from qvd.protocols.adapters.sockets import ISocketReactor, SocketTransport


@frozen
class NXRoad:
    """Dials nxagent and relays."""

    reactor: ISocketReactor

    async def dial(self, guest: Guest) -> GuestLeg:
        """@raise GuestError: nxagent does not take the connection."""
        return await connect_guest(self.reactor, guest.address, guest.x_port)

    async def relay(self, wire: HeadServer, leg: GuestLeg) -> str:
        """Pipe until one side ends; cancelling it cuts both at once.

        @return: how it ended, in words for the session's row.
        @raise ConnectionClosed: the client has gone before it began.
        """
        try:
            transport, first = wire.hand_over()
        except ConnectionClosed:
            leg.abort()
            raise
        ended: Deferred[RelayOutcome] = Deferred(lambda _: relay.abort("The session was ended by the node"))

        def finished(outcome: RelayOutcome) -> None:
            # A cancelled wait is over already; the transports tell of their end a turn later.
            if not ended.called:
                ended.callback(outcome)

        relay = Relay(cast(SocketTransport, transport), leg, finished)
        relay.start(first)
        wire.set_receiver(relay)
        outcome = await ended
        return f"{outcome.reason}; {outcome.from_guest} bytes to the client, {outcome.from_client} from it"
