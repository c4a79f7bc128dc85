"""
Child of L{bench.events}: the API's events on a port, which it prints. When it is ended, it prints how late its reactor
and its database were, with listeners and without.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react
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

    def check_site(self, call: Call) -> None:
        """None is asked for."""


@define
class Lateness:
    """Milliseconds that the reactor, and an answer of the database, are late, with listeners and without."""

    api: ApiWorld
    listening: Listening
    expected: float = 0.0
    found: dict[bool, dict[str, list[float]]] = field(
        factory=lambda: {each: {"lag": [], "database": []} for each in (False, True)}
    )

    def start(self) -> None:
        self.expected = time.monotonic() + TICK
        reactor.callLater(TICK, self.tick)
        LoopingCall(lambda: Deferred.fromCoroutine(self.probe())).start(PROBE)

    def tick(self) -> None:
        now = time.monotonic()
        self.add("lag", max(0.0, now - self.expected))
        self.expected = now + TICK
        reactor.callLater(TICK, self.tick)

    async def probe(self) -> None:
        began = time.monotonic()
        await self.api.pool.fetch("SELECT 1")
        self.add("database", time.monotonic() - began)

    def add(self, name: str, seconds: float) -> None:
        self.found[bool(self.listening.feed.streams)][name].append(seconds * 1000)

    def told(self) -> None:
        for listened, found in self.found.items():
            if found["lag"] and found["database"]:
                when = {"when": "listeners" if listened else "no listeners"}
                print(json.dumps(when | quantiles("lag", found["lag"]) | quantiles("database", found["database"])))
        sys.stdout.flush()


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
    late = Lateness(api, listening)
    late.start()
    reactor.addSystemEventTrigger("before", "shutdown", late.told)
    await Deferred()


def main(reactor: Any, dsn: str) -> Deferred[None]:
    return Deferred.fromCoroutine(serve(dsn))


if __name__ == "__main__":
    react(main, sys.argv[1:])
