# -*- test-case-name: tests.doctor.test_catalogue,tests.doctor.test_broken -*-
"""
One look, from orders to findings: C{python -m qvd.doctor.look}, started by L{qvd.doctor.asking}.

It is a process of its own, because what it looks at may hang for ever. The orders come as a line of JSON, the findings
go out as one each.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen
from cryptography.utils import CryptographyDeprecationWarning

from qvd.doctor.catalogue import CHECKS, SERVER, SETTINGS, Check
from qvd.doctor.checks import settings
from qvd.doctor.findings import About, Finding, not_applicable
from qvd.doctor.place import Place, Wishes
from qvd.doctor.running import Task, run

SETTINGS_SECONDS = 10.0
DEEP = "images.contents"
USUAL_SECONDS = 60.0
"""Of a check that may take longer only when that is asked for."""


@frozen
class Orders:
    """What to look at.

    @ivar files: settings, by daemon.
    @ivar only: ids of checks, or beginnings of them; empty: all.
    """

    files: Mapping[About, Path]
    only: Collection[str] = ()
    wishes: Wishes = field(factory=Wishes)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "files": {about.value: str(path) for about, path in self.files.items()},
            "only": list(self.only),
            "names": list(self.wishes.names),
            "deep": self.wishes.deep,
        }

    def wants(self, check: str) -> bool:
        return not self.only or any(check == each or check.startswith(f"{each}.") for each in self.only)


def orders_of(document: Mapping[str, Any]) -> Orders:
    """What L{Orders.document} made."""
    files = {About(name): Path(path) for name, path in document["files"].items()}
    return Orders(files, tuple(document["only"]), Wishes(tuple(document["names"]), document["deep"]))


def look(orders: Orders) -> Iterator[Finding]:
    """All findings, as they come: the settings first, then the database, then what depends on the two."""
    places: list[Place] = []

    def read(about: About, path: Path) -> Iterator[Finding]:
        found, said = settings.read(about, path)
        if found is not None:
            places.append(Place(about, path, found, orders.wishes))
        yield said

    yield from shown(
        orders,
        run([settings_task(about, path, read) for about, path in orders.files.items()]),
    )
    # The administration's role sees more, jobs for one.
    places.sort(key=lambda each: each.about is About.NODE)
    told = list(run([task(SERVER, place) for place in places]))
    yield from shown(orders, told)
    yield from run(
        [task(check, place) for check in CHECKS if orders.wants(check.id) for place in chosen(check, places)]
    )


def shown(orders: Orders, found: Iterable[Finding]) -> Iterator[Finding]:
    """What is looked at in any case, since all else needs it, is told where it was asked for, or is wrong."""
    return (each for each in found if each.bad or orders.wants(each.check))


def settings_task(about: About, path: Path, read: Any) -> Task:
    return Task(SETTINGS, about, str(path), SETTINGS_SECONDS, lambda: read(about, path))


def chosen(check: Check, places: Collection[Place]) -> list[Place]:
    """Those that a check is about. Of the installation one speaks, if it can one that reaches the database."""
    fitting = [place for place in places if place.about in check.of]
    if not check.once:
        return fitting
    return sorted(fitting, key=lambda each: each.refusal is not None)[:1]


def task(check: Check, place: Place) -> Task:
    about = About.INSTALLATION if check.once else place.about
    seconds = check.seconds if place.wishes.deep or check.id != DEEP else USUAL_SECONDS

    def asked() -> Iterable[Finding]:
        if check.asks and place.refusal is not None:
            return [not_applicable(check.title, place.refusal)]
        return check.look(place)

    return Task(check.id, about, f"{check.title} ({place.path})", seconds, asked)


def main() -> None:
    """One line of orders in, one line out for each finding, and an empty one at the end."""
    # Of authorities that this machine trusts, and nobody can mend.
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    orders = orders_of(json.loads(sys.stdin.readline()))
    for finding in look(orders):
        sys.stdout.write(json.dumps(finding.document()) + "\n")
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    # Not the usual end, which would wait for what hangs.
    os._exit(0)


if __name__ == "__main__":
    main()
