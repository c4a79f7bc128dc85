# -*- test-case-name: tests.admin.test_events -*-
"""The operation that watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import LOGGED_IN, Endpoint, Parameter
from qvd.admin.events.topics import topics_of
from qvd.admin.problems import Problem

TOPICS = Parameter(
    "topics",
    {"type": "string"},
    "With commas: a collection, with filters as in its list (vms?state=running); one object (vm:42); config; stats; me",
    repeats=True,
)
HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}


def event_endpoints(peers: Mapping[str, Collection]) -> Sequence[Endpoint]:
    """@param peers: all collections by name."""

    async def watch(call: Call) -> Answer:
        topics = topics_of(call, peers)
        if call.services.feed is None:
            raise Problem("unavailable", "This service tells no events")
        for topic in topics:
            await check_object(call, topic)
        return Answer(200, headers=HEADERS, stream=await call.services.feed.subscribe(call, topics))

    return [
        Endpoint(
            method="GET",
            path="/events",
            action="event.watch",
            need=LOGGED_IN,
            handler=watch,
            summary="Events: what changes, as it changes (server-sent events); Last-Event-ID goes on where one was",
            answers={200: {"type": "string"}},
            parameters=(TOPICS,),
            tag="events",
        )
    ]


async def check_object(call: Call, topic: object) -> None:
    """@raise Problem: the object that a topic names is not there, for this caller."""
    object_id = getattr(topic, "object_id", None)
    collection = getattr(topic, "collection", None)
    if collection is not None and object_id is not None:
        await collection.find(call, object_id)
