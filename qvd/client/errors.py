# -*- test-case-name: tests.unit.test_client_errors -*-
"""How the command can end, in numbers for scripts and sentences for people."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from http import HTTPStatus

from qvd.model.errors import QVDError
from qvd.protocols.http1 import Response

MOST_TEXT = 500


class Exit(IntEnum):
    """Exit status of the command."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    AUTHENTICATION = 4
    FORBIDDEN = 5
    NO_SUCH_VM = 6
    UNAVAILABLE = 7
    LOCAL = 8
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done",
    Exit.REFUSED: "the server refused for a reason not listed here, or answered nonsense",
    Exit.USAGE: "the command line or a file that it names is wrong",
    Exit.UNREACHABLE: "no connection, a certificate that is not trusted, or the connection was lost",
    Exit.AUTHENTICATION: "authentication failed",
    Exit.FORBIDDEN: "not allowed",
    Exit.NO_SUCH_VM: "no such virtual machine",
    Exit.UNAVAILABLE: "not available now, try later",
    Exit.LOCAL: "nxproxy or something else on this machine failed",
    Exit.INTERRUPTED: "interrupted",
}

BY_STATUS: Mapping[int, Exit] = {
    HTTPStatus.UNAUTHORIZED: Exit.AUTHENTICATION,
    HTTPStatus.FORBIDDEN: Exit.FORBIDDEN,
    HTTPStatus.NOT_FOUND: Exit.NO_SUCH_VM,
    HTTPStatus.REQUEST_TIMEOUT: Exit.UNAVAILABLE,
    HTTPStatus.TOO_MANY_REQUESTS: Exit.UNAVAILABLE,
    HTTPStatus.SERVICE_UNAVAILABLE: Exit.UNAVAILABLE,
}


class ClientError(QVDError):
    """The command cannot do what it was asked.

    @ivar exit: the exit status.
    @ivar status: of the server's answer, where there was one.
    """

    code = "client"

    def __init__(self, exit: Exit, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.exit = exit
        self.status = status

    def document(self) -> dict[str, object]:
        """For C{--json}."""
        error = {"code": self.exit.name.lower(), "exit": int(self.exit), "text": self.text}
        return {"error": error if self.status is None else {**error, "status": self.status}}


def plain(text: str) -> str:
    """One short line without control characters: a server's words must not steer the user's terminal."""
    flat = " ".join(text.split())[:MOST_TEXT]
    return "".join(char if char.isprintable() else "?" for char in flat)


def refusal(response: Response) -> ClientError:
    """The error for an answer that is none of the good ones."""
    head = response.head
    text = plain(response.body.decode("utf-8", "replace")) or plain(head.reason) or "no reason given"
    retry_after = head.header("Retry-After")
    if retry_after is not None and retry_after.isdigit():
        text = f"{text} (try again in {plain(retry_after)} s)"
    return ClientError(BY_STATUS.get(head.status, Exit.REFUSED), text, head.status)
