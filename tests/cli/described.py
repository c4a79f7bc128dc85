"""The API's description as the server has it, without a server."""

from __future__ import annotations

import json
from functools import cache
from io import StringIO
from typing import Any

from qvd.admin.api import all_endpoints
from qvd.admin.openapi import describe
from qvd.cli.description import Description
from qvd.cli.output import Screen
from qvd.cli.session import Session


@cache
def document() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(describe(all_endpoints())))
    return made


@cache
def description() -> Description:
    return Description.of(document())


class Offline(Session):
    """One that knows the description and calls nobody."""

    @property
    def description(self) -> Description:
        return description()


def offline() -> Offline:
    return Offline(screen=Screen(StringIO(), StringIO()))
