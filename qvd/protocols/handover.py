# -*- test-case-name: tests.unit.test_protocols_handover -*-
"""
What two daemons of one node say to each other, on the UNIX socket of the run folder: a JSON object a line.

Upgrade::

    new to old   hand_over            it has checked all that may fail without touching anything
    old to new   handed, or refused   with the listening sockets, in the order of the names
    new to old   serving              the old one serves nobody new from now on; before it, the end of the line means
                                      that the new one has failed
Afterwards, and whenever the line was cut::

    old to new   follow               it still serves sessions
    new to old   serving, about once a second; no_lease; end
"""

from __future__ import annotations

import json
from typing import TypeAlias

from attrs import asdict, frozen

from qvd.model.ids import Epoch, HostId
from qvd.model.records import Lease

LIMIT = 16384
"""Bytes of a line."""


@frozen
class HandOver:
    """Give me what you have. C{instance} names the process that asks, C{node} the node that it is; empty: it does not
    say."""

    instance: str
    node: str = ""


@frozen
class Handed:
    """Here it is: one file descriptor for each name."""

    names: tuple[str, ...]


@frozen
class Refused:
    """Not now."""

    reason: str


@frozen
class Follow:
    """Tell me about the lease. C{instance} names the process that asks."""

    instance: str


@frozen
class Serving:
    """The node has this lease.

    @ivar until: seconds of the machine's uptime up to which it may be relied on.
    @ivar refusal: why nobody is served now; empty when everybody is.
    """

    host_id: int
    epoch: int
    until: float
    refusal: str = ""

    @property
    def lease(self) -> Lease:
        return Lease(HostId(self.host_id), Epoch(self.epoch))


@frozen
class NoLease:
    """The node's lease is over, and with it its VMs."""

    reason: str


@frozen
class End:
    """The node is being stopped: end what you serve."""

    reason: str


Message: TypeAlias = HandOver | Handed | Refused | Follow | Serving | NoLease | End

KINDS: dict[str, type[Message]] = {
    "hand_over": HandOver,
    "handed": Handed,
    "refused": Refused,
    "follow": Follow,
    "serving": Serving,
    "no_lease": NoLease,
    "end": End,
}
NAMES = {kind: name for name, kind in KINDS.items()}


def encode(message: Message) -> bytes:
    """A line, with its end."""
    return json.dumps({"kind": NAMES[type(message)], **asdict(message)}).encode() + b"\n"


def decode(line: bytes) -> Message:
    """A line, without its end. What a newer release says in addition is overlooked.

    @raise ValueError: it is no message.
    """
    try:
        table = json.loads(line)
        kind = KINDS[table["kind"]]
        if kind is Handed:
            return Handed(tuple(str(name) for name in table["names"]))
        if kind is Serving:
            return Serving(
                int(table["host_id"]), int(table["epoch"]), float(table["until"]), str(table.get("refusal", ""))
            )
        if kind is HandOver:
            return HandOver(str(table["instance"]), str(table.get("node", "")))
        if kind is Follow:
            return Follow(str(table["instance"]))
        assert kind is Refused or kind is NoLease or kind is End
        return kind(str(table["reason"]))
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a message between daemons: {error!r}") from None
