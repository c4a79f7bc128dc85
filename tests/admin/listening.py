"""Listeners of events, and resources to watch, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import define, evolve, field
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from qvd.admin.api import all_collections
from qvd.admin.call import Call
from qvd.admin.collections import Collection
from qvd.admin.events.endpoints import event_endpoints
from qvd.admin.events.feed import Feed
from qvd.admin.problems import Problem
from qvd.admin.resources.common import id_field, tenant_fields, tenant_join
from qvd.db.outbox import Outbox
from qvd.model.declared import Field, Kind, Principal, Resource
from qvd.model.filters import Comparison, Filter, Operator
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import spawn, until


def text(name: str, sql: str, see: str = "", **more: Any) -> Field:
    return Field(name=name, kind=Kind.TEXT, text=name, sql=sql, see=(see,) if see else (), **more)


def simple(name: str, table: str, fields: tuple[Field, ...], **more: Any) -> type[Collection]:
    """A resource with little more than its names, called as none of the product is."""
    made = Resource(
        name=name,
        collection=more.pop("collection", f"test-{table}"),
        title=table,
        table=table,
        alias="x",
        keys={table: "id"},
        read=more.pop("read", (f"{name}.see-main.",)),
        fields=fields,
        **({"source": f"{table} x"} | more),
    )
    return type(f"Test{table}", (Collection,), {"resource": made})


def tenanted(name: str, table: str, *fields: Field, **more: Any) -> type[Collection]:
    key = more.pop("key", id_field("x"))
    return simple(
        name, table, (key, *fields, *tenant_fields("x")), tenant="x.tenant_id", joins=tenant_join("x"), **more
    )


VMS = tenanted(
    "vm",
    "vms",
    text("name", "x.name"),
    text("state", "r.vm_state"),
    text("detail", "r.detail", "vm.see.detail"),
    source="vms x JOIN vm_runtimes r ON r.vm_id = x.id",
)
HOSTS = simple("host", "hosts", (id_field("x"), text("name", "x.name"), text("address", "x.address")))
OSFS = tenanted("osf", "osfs", text("name", "x.name"), shared=True)
MEMORY = Field(name="memory", kind=Kind.INTEGER, text="stands for whose it is", sql="x.memory")
ALL = tenanted("osf", "osfs", MEMORY, read=(), collection="test-osfs-all")
OWN = tenanted("osf", "osfs", MEMORY, read=(), collection="test-osfs-own")


class Own(Collection):
    """Each one sees those with their number."""

    resource = OWN.resource

    def only(self, principal: Principal) -> Filter:
        return Comparison(MEMORY, Operator.EQ, principal.administrator_id)


DIS = tenanted("di", "dis", text("version", "x.version"), shared=True)
SESSIONS = tenanted("session", "sessions", text("state", "x.state"), key=text("id", "x.id::text"))


class FakeRequest:
    """What a stream writes to. C{transport} is itself."""

    def __init__(self) -> None:
        self.written = b""
        self.producer: Any = None
        self.aborted = False
        self.transport = self

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written += data

    def abortConnection(self) -> None:
        self.aborted = True


@define
class Event:
    name: str
    data: Any
    id: str = ""

    @property
    def brief(self) -> tuple[str, Any]:
        """Its name and whom it is about."""
        return self.name, self.data.get("id")


def events_in(written: bytes) -> list[Event]:
    """As the HTML Standard has them read; comments are left out."""
    found = []
    for block in written.decode().split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if "data" in lines:
            found.append(Event(lines.get("event", "message"), json.loads(lines["data"]), lines.get("id", "")))
    return found


@define(eq=False)
class Listener:
    """A client that is connected."""

    request: FakeRequest
    done: Deferred[bytes] = field(init=False)
    ended: bool = False

    @property
    def events(self) -> list[Event]:
        return events_in(self.request.written)

    @property
    def changes(self) -> list[Event]:
        """Without the first one, which says hello."""
        return [each for each in self.events if each.name != "hello"]

    @property
    def briefs(self) -> list[tuple[str, Any]]:
        return [each.brief for each in self.changes]

    @property
    def last_id(self) -> str:
        lines = [line for line in self.request.written.decode().split("\n") if line.startswith("id: ")]
        return lines[-1].removeprefix("id: ")

    def leave(self) -> None:
        self.done.cancel()


@define
class Listening:
    """A feed for the tests' API.

    @ivar now: whom the gate finds when it is asked again, by the caller's name: a principal, nobody, or a problem.
    """

    api: ApiWorld
    now: dict[str, Principal | Problem | None] = field(factory=dict)
    asked: int = 0
    feed: Feed = field(init=False)
    listeners: list[Listener] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        # The product's own; of kinds that are called by their names alone, those above stand for them.
        peers: dict[str, Collection] = dict(all_collections())
        for kind in (ALL, Own, VMS, HOSTS, OSFS, DIS, SESSIONS):
            peers[kind.resource.collection] = kind(peers)
        self.feed = Feed(reactor, Outbox(self.api.pool), self.api.services.records, self.identify)
        self.api.services.feed = self.feed
        others = [each for each in self.api.endpoints if each.path != "/events"]
        self.api.endpoints = [*others, *event_endpoints(peers)]

    async def identify(self, call: Call) -> Principal | None:
        self.asked += 1
        found = self.now.get(call.principal.name, call.principal)
        if isinstance(found, Problem):
            raise found
        return found

    async def open(self, principal: Principal, topics: str, last_id: str = "") -> Listener:
        """Listen."""
        self.api.gate.principal = principal
        return await self.listen(topics, {"Last-Event-ID": last_id} if last_id else {})

    async def listen(self, topics: str, headers: Mapping[str, str]) -> Listener:
        """Listen as whoever the gate takes a request with these headers for."""
        endpoint, path = self.api.find("GET", "/events")
        call = self.api.make_call(endpoint, path, "/events", headers)
        answer = await self.api.dispatcher.dispatch(evolve(call, query={"topics": [topics]}), b"")
        assert answer.stream is not None, answer.body
        made = Listener(FakeRequest())
        made.done = spawn(answer.stream(made.request))  # type: ignore[arg-type]

        def ended(result: Any) -> None:
            made.ended = True
            if result != b"":
                result.trap(CancelledError)

        made.done.addBoth(ended)
        self.listeners.append(made)
        return made

    async def settled(self) -> None:
        """All that is committed has been told."""
        xid = (await self.feed.outbox.now()).xid
        await until(lambda: all(each.position.xid >= xid for each in self.feed.streams), "the turn")

    def turning(self) -> bool:
        """Whether the feed reads."""
        return self.feed._turns is not None and self.feed._turns.running

    def vm(self, tenant_id: int, name: str) -> int:
        """A VM of its own user."""
        user = self.api.insert("users (tenant_id, login) VALUES (%s, %s)", tenant_id, name)
        osf = self.api.insert("osfs (tenant_id, name, memory) VALUES (%s, %s, 1)", tenant_id, name)
        return self.api.insert(
            "vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, %s)", tenant_id, user, osf, name
        )

    def close(self) -> None:
        for listener in self.listeners:
            listener.leave()
