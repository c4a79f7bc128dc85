"""An agent that waits for its marker: one that is wrong starts nothing, and orders wait for nobody."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.task import Clock

from qvd.agent.awaited import Agent, AwaitedAgent
from qvd.model.errors import SettingsError


class Orders:
    def __init__(self) -> None:
        self.off = 0

    def order_off(self) -> None:
        self.off += 1


@pytest.fixture
def made() -> dict[str, Any]:
    return {}


@pytest.fixture
def awaited(made: dict[str, Any]) -> AwaitedAgent:
    def make(table: dict[str, object]) -> Agent:
        if "wrong" in table:
            raise SettingsError("driver: missing")
        service: Any = Service()
        power: Any = Orders()
        made.update(service=service, power=power)
        return Agent(service, power)

    agent = AwaitedAgent(Clock(), "/nowhere", make)
    agent.running = 1
    return agent


def test_a_marker_starts_it_and_an_order_ends_it(awaited: Any, made: dict[str, Any]) -> None:
    awaited._marked({"vm_id": 9})
    assert made["service"].running
    awaited._power_off()
    assert made["power"].off == 1


def test_a_wrong_marker_starts_nothing(awaited: Any, made: dict[str, Any]) -> None:
    awaited._marked({"wrong": 1})
    assert made == {}
    awaited._power_off()
    assert list(awaited) == []
