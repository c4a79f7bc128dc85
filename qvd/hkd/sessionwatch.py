# -*- test-case-name: tests.unit.test_hkd_sessionwatch -*-
"""
Ends the sessions of this node that a newer client has taken over, whose VM is lost with its node, or that an
administrator wants to end, as soon as the bell rings, and the rows of those that nobody serves: their claim was
committed after its answer had been given up.

A session whose row is gone ends too, since nobody would see it or could end it any more, and a VM in use would count as
idle: the database has failed over to a server that does not know its last seconds.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from qvd.hkd.periodic import Periodic
from qvd.interfaces import IBells, ISessionKiller, ISessions
from qvd.model.ids import HostId
from qvd.protocols.channels import session_on_host

FORGOTTEN = "The database has lost the record of this session; connect again"
GIVEN_UP = "The client had gone before the session began"


class SessionWatch:
    """Looks at the sessions that have not ended: on the bell, and every C{look_seconds}."""

    def __init__(
        self,
        clock: IReactorTime,
        host_id: HostId,
        sessions: ISessions,
        killer: ISessionKiller,
        bells: IBells,
        look_seconds: float,
    ) -> None:
        self._host_id = host_id
        self._sessions = sessions
        self._killer = killer
        self._bells = bells
        self._looks = Periodic(clock, look_seconds, self._look, "looking for sessions to end")

    def start(self) -> None:
        self._looks.heed(self._bells, session_on_host(self._host_id))
        self._looks.start()

    async def stop(self) -> None:
        await self._looks.stop()

    async def _look(self) -> None:
        confirmed = self._killer.confirmed()
        unended = await self._sessions.unended(self._host_id)
        for session_id in confirmed:
            if session_id not in unended and self._killer.serves(session_id):
                self._killer.close(session_id, FORGOTTEN)
        for session_id, over in unended.items():
            if over is not None:
                self._killer.close(session_id, over)
            elif not self._killer.serves(session_id):
                self._killer.close(session_id, GIVEN_UP)
