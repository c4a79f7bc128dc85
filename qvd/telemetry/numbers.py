# -*- test-case-name: tests.unit.test_telemetry -*-
"""Numbers that each daemon has: the reactor's lag, its connections to the database. As Prometheus reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from twisted.internet.interfaces import IReactorTime

from qvd.interfaces import PoolLoad
from qvd.model.errors import SettingsError
from qvd.telemetry.lag import LagWatch

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
Network = IPv4Network | IPv6Network


class ProcessNumbers:
    """A registry of one daemon's own: several live in one process in tests.

    @param pool: what its connections to the database do just now.
    @ivar lag: the part to start and stop.
    """

    def __init__(self, clock: IReactorTime, pool: Callable[[], PoolLoad]) -> None:
        self.registry = CollectorRegistry()
        self._lag = Histogram(
            "qvd_reactor_lag_seconds",
            "By how much the reactor was late",
            registry=self.registry,
            buckets=LAG_BUCKETS,
        )
        self.lag = LagWatch(clock, self._lag.observe)
        connections = Gauge(
            "qvd_database_connections", "Connections to the database", ["state"], registry=self.registry
        )
        connections.labels("busy").set_function(lambda: pool().busy)
        connections.labels("idle").set_function(lambda: pool().idle)
        waiting = Gauge("qvd_database_waiting", "Calls that wait for a connection", registry=self.registry)
        waiting.set_function(lambda: pool().waiting)
        available = Gauge("qvd_database_available", "1: the database answers", registry=self.registry)
        available.set_function(lambda: float(pool().available))

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """One number more, which is asked for whenever somebody reads."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def exposition(self) -> bytes:
        """All numbers, as text."""
        return generate_latest(self.registry)


def networks_of(text: str, key: str) -> tuple[Network, ...]:
    """Networks, with commas.

    @raise SettingsError: one of them is none; the sentence names the key.
    """
    found: list[Network] = []
    for word in re.split(r"[\s,]+", text.strip()):
        if not word:
            continue
        try:
            found.append(ip_network(word))
        except ValueError as error:
            raise SettingsError(f"{key}: {error}") from None
    return tuple(found)


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in any of the networks. One of IPv4 that came through IPv6 is one of IPv4."""
    try:
        known: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(known, IPv6Address) and known.ipv4_mapped is not None:
        known = known.ipv4_mapped
    return any(known in network for network in networks)
