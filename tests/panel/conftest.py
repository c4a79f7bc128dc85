"""The fixtures of the panel's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from attrs import evolve

from qvd.model.acls import CATALOGUE
from tests.admin.conftest import api, logins, secrets_are_not_logged
from tests.admin.desks import Desks
from tests.admin.logins import real_gate
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous_fixture
from tests.panel.browser import Browser, Served
from tests.panel.held import HeldAcls

__all__ = ["api", "logins", "secrets_are_not_logged"]


@pytest.fixture
def desks(api: ApiWorld) -> Desks:
    return Desks(api)


@pytest.fixture
def held(logins: ApiWorld) -> HeldAcls:
    """What administrators may do: everything, where the test says nothing else."""
    made = HeldAcls(frozenset(CATALOGUE))
    logins.services.login = evolve(logins.services.login, authority=made)
    logins.services.gate = real_gate(logins.services.login)
    return made


@asynchronous_fixture
async def served(logins: ApiWorld, held: HeldAcls) -> AsyncIterator[Served]:
    made = Served(logins, list(logins.endpoints))
    made.start()
    yield made
    await made.stop()


@pytest.fixture
def browser(served: Served) -> Browser:
    """Of nobody yet."""
    return served.browser()


@asynchronous_fixture
async def anna(served: Served) -> AsyncIterator[Browser]:
    """Of an administrator of C{acme}."""
    made = served.browser()
    await made.log_in("anna", "acme")
    assert made.cookie
    yield made


@asynchronous_fixture
async def boss(served: Served) -> AsyncIterator[Browser]:
    """Of an administrator over all tenants."""
    made = served.browser()
    await made.log_in("boss", "*")
    assert made.cookie
    yield made
