"""The last stretch: what becomes of the guest's leg when the client has gone before it begins."""

from __future__ import annotations

from typing import Any

from qvd.l7r.nx import NXRoad
from qvd.model.errors import GuestError
from qvd.model.records import Guest
from qvd.model.secret import Secret
from qvd.protocols.adapters.heads import ConnectionClosed
from tests.fakes.case import Case


class GoneClient:
    """One whose connection is over."""

    def hand_over(self) -> Any:
        raise ConnectionClosed


class Leg:
    aborted = False

    def abort(self) -> None:
        self.aborted = True


class NXRoadTests(Case):
    def setUp(self) -> None:
        reactor: Any = None
        self.road = NXRoad(reactor)

    def test_a_client_that_has_gone_leaves_no_leg_behind(self) -> None:
        client: Any = GoneClient()
        leg: Any = Leg()
        self.failure(self.road.relay(client, leg), ConnectionClosed)
        assert leg.aborted

    def test_an_address_that_is_no_number_is_refused_before_anything_is_dialed(self) -> None:
        error = self.failure(self.road.dial(Guest("guest.example", 1, 2, Secret("s"))), GuestError)
        assert "guest.example" in error.text
