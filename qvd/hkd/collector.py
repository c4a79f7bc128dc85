# -*- test-case-name: tests.integration.test_garbage -*-
"""
Collects what nothing in the storage refers to any more: see L{qvd.model.garbage} for what that is.

One node at a time. What is there is listed first and the database is asked then, so that nothing new is taken for
garbage; and each thing is looked at again in the transaction that takes it away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import ClassVar

from attrs import evolve, field, frozen
from twisted.logger import Logger

from qvd.interfaces import IGarbage, IStorage
from qvd.model.errors import Conflict, PermanentError, QVDError
from qvd.model.garbage import Fate, Plan, Terms, Thing, Verdict, decide, suspicion

LEASE = 60.0
"""Seconds of the right to collect. Prolonged before each thing."""
FORCE = "if that is right, run qvd-node garbage --force"
GONE = "it has a reference by now"


@frozen
class Report:
    """What a run has found, and what has become of it.

    @ivar suspicion: why a run without force would refuse; of a dry run only.
    @ivar removed: how many folders were removed for good.
    @ivar failures: what could not be removed, in sentences.
    """

    verdicts: tuple[Verdict, ...]
    suspicion: str | None = None
    removed: int = 0
    failures: tuple[str, ...] = field(factory=tuple)


class Move:
    """One thing's way to where it is put aside.

    Where the transaction around it fails, the mark may be free while the thing is gone, so it is put back. If the
    transaction was committed after all, the thing is garbage without a mark, and gets a new one.
    """

    log = Logger()

    def __init__(self, storage: IStorage, thing: Thing, aside: Callable[[Thing, str], Awaitable[str]]) -> None:
        self._storage = storage
        self._thing = thing
        self._aside = aside
        self._path = ""

    async def make(self, date: str) -> str:
        """@return: the thing's path, if it is in the trash now."""
        self._path = await self._aside(self._thing, date)
        return "" if self._aside == self._storage.doom else self._path

    async def undo(self) -> None:
        if not self._path:
            return
        try:
            await self._storage.put_back(self._thing, self._path)
        except QVDError as error:
            self.log.error("{path} stays where it was moved: {reason}", path=self._path, reason=error.text)


@frozen
class Collector:
    """Carries runs out.

    @ivar who: collects, for others that ask, and for the history.
    @ivar sizes: say of what has no reference how large it is; that may take long.
    """

    log: ClassVar[Logger] = Logger()

    garbage: IGarbage
    storage: IStorage
    who: str
    sizes: bool = False

    async def look(self, terms: Terms) -> Report:
        """What L{collect} would do. Changes nothing at all."""
        storages = await self.storage.identify(await self.garbage.installation(), claim=False)
        plan, doubt = await self._plan(storages, terms)
        return Report(plan.verdicts, doubt)

    async def collect(self, terms: Terms, force: bool = False) -> Report:
        """One run.

        @param force: whatever it looks like, the database is the right one.
        @raise Conflict: somebody else collects, a folder belongs to another installation, or the database may be the
            wrong one.
        @raise TransientError: the storage does not answer.
        """
        installation = await self.garbage.installation()
        token = await self.garbage.take(self.who, LEASE)
        try:
            storages = await self.storage.identify(installation, claim=True)
            plan, doubt = await self._plan(storages, terms)
            if doubt is not None and not force:
                raise Conflict(f"{doubt}. It may be the wrong one, or an old one: nothing is collected; {FORCE}")
            await self.garbage.renew(token, LEASE)
            await self.garbage.unmark(plan.unmark)
            await self.garbage.mark([verdict.thing for verdict in plan.of(Fate.MARK)])
            verdicts = [await self._carry_out(token, verdict, terms) for verdict in plan.verdicts]
            return await self._sweep(token, tuple(verdicts))
        finally:
            await self._give_back(token)

    async def _plan(self, storages: Collection[str], terms: Terms) -> tuple[Plan, str | None]:
        things = await self.storage.things()
        marks = await self.garbage.marks(storages)
        known = await self.garbage.known()
        plan = decide(things, known, marks, terms)
        if self.sizes:
            plan = evolve(plan, verdicts=tuple([await self._measured(verdict) for verdict in plan.verdicts]))
        return plan, suspicion(things, known)

    async def _measured(self, verdict: Verdict) -> Verdict:
        if verdict.fate in (Fate.KEEP, Fate.LEAVE):
            return verdict
        return evolve(verdict, size=await self.storage.size(verdict.thing))

    async def _carry_out(self, token: str, verdict: Verdict, terms: Terms) -> Verdict:
        """@return: what has come of it."""
        thing = verdict.thing
        match verdict.fate:
            case Fate.TRASH:
                move = Move(self.storage, thing, self.storage.trash)
            case Fate.DELETE:
                move = Move(self.storage, thing, self.storage.doom)
            case _:
                return verdict
        try:
            taken = await self.garbage.collect(token, LEASE, thing, terms.limit(thing.kind), move.make, self.who)
        except PermanentError as error:
            self.log.warn("{thing} is left alone: {reason}", thing=thing.key.path, reason=error.text)
            return evolve(verdict, fate=Fate.LEAVE, reason=error.text)
        except QVDError:
            await move.undo()
            raise
        if not taken:
            return evolve(verdict, fate=Fate.KEEP, reason=GONE)
        self.log.info(
            "{thing}: {fate}, because {reason}", thing=thing.key.path, fate=verdict.fate.value, reason=verdict.reason
        )
        return verdict

    async def _sweep(self, token: str, verdicts: tuple[Verdict, ...]) -> Report:
        """Remove what nobody can find any more, from this run or one that was cut short."""
        removed, failures = 0, []
        for key in await self.storage.doomed():
            await self.garbage.renew(token, LEASE)
            try:
                await self.storage.remove(key)
                removed += 1
            except PermanentError as error:
                failures.append(error.text)
        return Report(verdicts, removed=removed, failures=tuple(failures))

    async def _give_back(self, token: str) -> None:
        try:
            await self.garbage.give_back(token)
        except QVDError as error:
            # It is over by itself in a while.
            self.log.warn("the right to collect is not given back: {reason}", reason=error.text)
