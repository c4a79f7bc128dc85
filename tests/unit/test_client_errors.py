"""L{qvd.client.errors}."""

from __future__ import annotations

import pytest

from qvd.client.errors import MEANINGS, ClientError, Exit, plain, refusal
from qvd.protocols.http1 import Response, ResponseHead


def test_every_status_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Exit)


def test_plain_keeps_letters_and_drops_what_steers_a_terminal() -> None:
    assert plain(" Größe\r\n\x1b]0;x\x07 ok\u202e") == "Größe ?]0;x? ok?"
    assert len(plain("x" * 10_000)) == 500


@pytest.mark.parametrize(
    ("status", "exit"),
    [
        (401, Exit.AUTHENTICATION),
        (403, Exit.FORBIDDEN),
        (404, Exit.NO_SUCH_VM),
        (408, Exit.UNAVAILABLE),
        (426, Exit.REFUSED),
        (429, Exit.UNAVAILABLE),
        (503, Exit.UNAVAILABLE),
        (599, Exit.REFUSED),
    ],
)
def test_refusal(status: int, exit: Exit) -> None:
    error = refusal(Response(ResponseHead(status, "Reason", ()), b"Not now\n"))
    assert (error.exit, error.text, error.status) == (exit, "Not now", status)


def test_refusal_without_a_body() -> None:
    assert refusal(Response(ResponseHead(503, "Gone fishing", (("retry-after", "7"),)), b"")).text == (
        "Gone fishing (try again in 7 s)"
    )


def test_document() -> None:
    error = {"code": "forbidden", "exit": 5, "text": "No"}
    assert ClientError(Exit.FORBIDDEN, "No").document() == {"error": error}
    assert ClientError(Exit.FORBIDDEN, "No", 403).document() == {"error": {**error, "status": 403}}
