"""The list of checks, and its page."""

from __future__ import annotations

import re
from pathlib import Path

from qvd.doctor.catalogue import CHECKS, IDS
from qvd.doctor.findings import About
from qvd.doctor.look import Orders, chosen, orders_of
from qvd.doctor.place import Place, Wishes
from qvd.model.settings_node import parse_node

PAGE = Path(__file__).parents[2] / "docs/doctor.md"
SETTINGS = parse_node({"nodename": "n", "l7r.tls.cert": "c", "l7r.tls.key": "k"}, "node.conf")


def test_each_has_its_own_id_and_a_deadline() -> None:
    assert len(set(IDS)) == len(IDS)
    assert all(re.fullmatch(r"[a-z]+\.[a-z0-9]+", each) for each in IDS)
    assert all(check.seconds > 0 for check in CHECKS)


def test_the_page_describes_each_and_no_other() -> None:
    described = re.findall(r"^\| `([a-z0-9.]+)` \|", PAGE.read_text(), re.M)
    assert described == list(IDS)


def test_orders_come_back() -> None:
    orders = Orders({About.ADMIN: Path("/a")}, ("tls",), Wishes(("x",), True))
    assert orders_of(orders.document()) == orders


def test_a_subject_means_all_of_it() -> None:
    orders = Orders({}, ("tls", "ports.free"))
    assert orders.wants("tls.days") and orders.wants("ports.free")
    assert not orders.wants("tlsx.days") and not orders.wants("ports.other")
    assert Orders({}).wants("anything.at.all")


def test_of_the_installation_one_speaks_that_reaches_the_database() -> None:
    admin, node = (Place(about, Path("f"), SETTINGS) for about in (About.ADMIN, About.NODE))
    once = next(check for check in CHECKS if check.once)
    assert chosen(once, [admin, node]) == [admin]
    admin.refusal = "it is away"
    assert chosen(once, [admin, node]) == [node]
    both = next(check for check in CHECKS if not check.once and len(check.of) == 2)
    assert chosen(both, [admin, node]) == [admin, node]


def test_paths_are_where_the_settings_are() -> None:
    place = Place(About.NODE, Path("/etc/qvd/node.conf"), SETTINGS)
    assert place.file("l7r.tls.cert") == Path("/etc/qvd/c")
    assert place.file("path.run") == Path("/run/qvd")
