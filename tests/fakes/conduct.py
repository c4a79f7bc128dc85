"""How the fakes misbehave: late, never, failing, or failing after the deed is done."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred


class Held:
    """A call that waits until the test lets it go on.

    @ivar reached: the call is waiting.
    @ivar cancelled: whoever waited for it has given up.
    """

    def __init__(self, stubborn: bool = False) -> None:
        """@param stubborn: a cancelled call answers all the same, as if nothing had been said."""
        self.reached = False
        self.cancelled = False
        self._stubborn = stubborn
        self._done: Deferred[None] = Deferred(self._cancel)

    def _cancel(self, done: Deferred[None]) -> None:
        self.cancelled = True
        if self._stubborn:
            done.callback(None)

    def go_on(self) -> None:
        """Answer now."""
        self._done.callback(None)

    def fail(self, error: Exception) -> None:
        """Fail now."""
        self._done.errback(error)

    async def wait(self) -> None:
        self.reached = True
        await self._done


class Conduct:
    """Records calls, and does to them what the test asked for.

    @ivar calls: name and arguments of each call, in order.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._plans: dict[tuple[str, bool], deque[Exception | Held]] = defaultdict(deque)
        self._always: dict[tuple[str, bool], Exception] = {}

    def fail(self, name: str, *errors: Exception, after: bool = False) -> None:
        """The next calls of C{name} fail with these, one each; with C{after} once they have had their effect."""
        self._plans[name, after].extend(errors)

    def always_fail(self, name: str, error: Exception, after: bool = False) -> None:
        """All calls of C{name} fail, until L{recover}."""
        self._always[name, after] = error

    def recover(self, name: str) -> None:
        """C{name} works again."""
        for after in (False, True):
            self._always.pop((name, after), None)
            self._plans[name, after].clear()

    def hold(self, name: str, after: bool = False, stubborn: bool = False) -> Held:
        """The next call of C{name} waits."""
        held = Held(stubborn)
        self._plans[name, after].append(held)
        return held

    def names(self, *which: str) -> Sequence[object]:
        """The names called, in order; of C{which} only, where it is given."""
        return [call[0] for call in self.calls if not which or call[0] in which]

    def count(self, name: str) -> int:
        return len(self.names(name))

    def of(self, name: str) -> Sequence[tuple[object, ...]]:
        """The arguments of each call of C{name}."""
        return [call[1:] for call in self.calls if call[0] == name]

    async def before(self, name: str, *arguments: object) -> None:
        """To be awaited by the fake before the effect."""
        self.calls.append((name, *arguments))
        await self._obey(name, False)

    async def after(self, name: str) -> None:
        """To be awaited by the fake after it."""
        await self._obey(name, True)

    async def _obey(self, name: str, after: bool) -> None:
        plans = self._plans[name, after]
        plan = plans.popleft() if plans else self._always.get((name, after))
        if isinstance(plan, Held):
            await plan.wait()
        elif plan is not None:
            raise plan
