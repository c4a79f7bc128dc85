"""
Child of L{bench.events}: the API's events on a port, which it prints. It ends when the last listener has left, and
prints how late its reactor and its database were, before there were listeners and with them.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.web.server import Site

from bench.report import quantiles
from qvd.admin.call import Call
from qvd.admin.site import make_app
from qvd.model.declared import Principal
from tests.admin.listening import Listening
from tests.admin.world import ApiWorld

TICK, PROBE = 0.005, 0.05


@define
class NamedGate:
    """Whoever says a name is let in."""

    principals: dict[str, Principal]

    async def identify(self, call: Call) -> Principal | None:
        return self.principals[call.headers["x-who"]]

    def check_origin(self, call: Call) -> None:
        """None is asked for."""


@define
class Lateness:
    """Milliseconds that the reactor, and an answer of the database, are late."""

    api: ApiWorld
    expected: float = 0.0
    lag: list[float] = field(factory=list)
    database: list[float] = field(factory=list)

    def start(self) -> None:
        self.expected = time.monotonic() + TICK
        reactor.callLater(TICK, self.tick)
        LoopingCall(lambda: Deferred.fromCoroutine(self.probe())).start(PROBE)

    def tick(self) -> None:
        now = time.monotonic()
        self.lag.append(max(0.0, now - self.expected) * 1000)
        self.expected = now + TICK
        reactor.callLater(TICK, self.tick)

    async def probe(self) -> None:
        began = time.monotonic()
        await self.api.pool.fetch("SELECT 1")
        self.database.append((time.monotonic() - began) * 1000)

    def told(self, when: str) -> None:
        figure = {"when": when} | quantiles("lag", self.lag) | quantiles("database", self.database)
        print(json.dumps(figure), flush=True)
        self.lag, self.database = [], []


async def serve(dsn: str) -> None:
    api = ApiWorld(dsn)
    await api.pool.start()
    listening = Listening(api)
    names = [row["name"] for row in api.ask("SELECT name FROM tenants WHERE starts_with(name, 'tenant')")]
    tenants = {row["name"]: row["id"] for row in api.ask("SELECT id, name FROM tenants")}
    gate = NamedGate({"boss": api.boss} | {name: api.administrator(name, tenants[name], name) for name in names})
    api.services.gate = gate
    listening.feed.identify = gate.identify
    listening.feed.most_of_one = 1000
    site: Any = Site(make_app(api.endpoints, api.dispatcher).resource())  # type: ignore[no-untyped-call]
    port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    late = Lateness(api)
    late.start()
    while not listening.feed.streams:
        await deferLater(reactor, 0.01)
    late.told("no listeners")
    while listening.feed.streams:
        await deferLater(reactor, 0.01)
    late.told("listeners")


def main(reactor: Any, dsn: str) -> Deferred[None]:
    return Deferred.fromCoroutine(serve(dsn))


if __name__ == "__main__":
    react(main, sys.argv[1:])
