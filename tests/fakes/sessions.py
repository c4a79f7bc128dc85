"""Who has which VM, in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from zope.interface import implementer

from qvd.interfaces import ISessionKiller, ISessions
from qvd.model.errors import SessionLost
from qvd.model.ids import HostId, SessionId, VMId
from qvd.model.records import SessionSpec
from tests.fakes.conduct import Conduct

TAKEN = "Another client has taken this virtual machine over"


@implementer(ISessions)
class FakeSessions:
    """L{ISessions} in dictionaries.

    @ivar specs: all sessions that were claimed.
    @ivar current: the session that has each VM.
    @ivar lost: why the VM of a session is lost.
    @ivar unwanted: why an administrator wants one to end.
    @ivar ended: the reasons of those that are over.
    """

    def __init__(self, conduct: Conduct | None = None) -> None:
        self.conduct = conduct or Conduct()
        self.specs: dict[SessionId, SessionSpec] = {}
        self.current: dict[VMId, SessionId] = {}
        self.switched: list[SessionId] = []
        self.lost: dict[SessionId, str] = {}
        self.unwanted: dict[SessionId, str] = {}
        self.ended: dict[SessionId, str] = {}

    async def claim(self, spec: SessionSpec) -> SessionId | None:
        await self.conduct.before("claim", spec.session_id)
        older = self.current.get(spec.vm_id)
        self.specs[spec.session_id] = spec
        self.current[spec.vm_id] = spec.session_id
        await self.conduct.after("claim")
        return older if older not in self.ended else None

    async def connected(self, session_id: SessionId) -> None:
        await self.conduct.before("connected", session_id)
        if session_id not in self.current.values():
            raise SessionLost(TAKEN)
        self.switched.append(session_id)
        await self.conduct.after("connected")

    async def is_current(self, session_id: SessionId) -> bool:
        await self.conduct.before("is_current", session_id)
        return session_id in self.current.values()

    async def has_ended(self, session_id: SessionId) -> bool:
        await self.conduct.before("has_ended", session_id)
        ended = session_id in self.ended
        await self.conduct.after("has_ended")
        return ended

    async def end(self, session_id: SessionId, reason: str) -> None:
        await self.conduct.before("end", session_id, reason)
        self.ended.setdefault(session_id, reason)
        self.current = {vm_id: current for vm_id, current in self.current.items() if current != session_id}
        await self.conduct.after("end")

    async def unended(self, host_id: HostId) -> Mapping[SessionId, str | None]:
        await self.conduct.before("unended", host_id)
        return {
            session_id: self.lost.get(
                session_id, self.unwanted.get(session_id) if self.current.get(spec.vm_id) == session_id else TAKEN
            )
            for session_id, spec in self.specs.items()
            if spec.lease.host_id == host_id and session_id not in self.ended
        }


@implementer(ISessionKiller)
class FakeKiller:
    """L{ISessionKiller} that writes down whom it closed.

    @ivar unknown: sessions that go on nowhere.
    @ivar known: those that the database has confirmed.
    @ivar closed_all: the reasons for which all were closed.
    """

    def __init__(self) -> None:
        self.closed: list[tuple[SessionId, str]] = []
        self.unknown: set[SessionId] = set()
        self.known: set[SessionId] = set()
        self.closed_all: list[str] = []

    def confirmed(self) -> Collection[SessionId]:
        return self.known

    def serves(self, session_id: SessionId) -> bool:
        return session_id not in self.unknown

    def close(self, session_id: SessionId, reason: str) -> None:
        self.closed.append((session_id, reason))

    def close_all(self, reason: str) -> None:
        self.closed_all.append(reason)
