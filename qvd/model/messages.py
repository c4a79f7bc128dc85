# -*- test-case-name: tests.unit.test_model_messages -*-
"""Messages of administrators to whoever sits at a VM's desktop."""

from __future__ import annotations

import re

from attrs import frozen

from qvd.model.errors import InvalidRequest
from qvd.model.ids import VMId
from qvd.model.records import Guest

LONGEST = 1000
FORBIDDEN = "\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""Control characters, but for line breaks; and those that turn the direction of what follows, with which a text can
be made to look like another one. As they stand in a class of a regular expression."""
PATTERN = f"^[^{FORBIDDEN}]*$"
_WRONG = re.compile(f"[{FORBIDDEN}]")


def check_text(text: str) -> str:
    """The text as it is shown.

    @raise InvalidRequest: it is empty, too long, or has what is no text.
    """
    if _WRONG.search(text):
        raise InvalidRequest("A message has no control characters but line breaks")
    if not text.strip():
        raise InvalidRequest("A message has some text")
    if len(text) > LONGEST:
        raise InvalidRequest(f"A message has {LONGEST} characters at most")
    return text.strip()


@frozen
class Message:
    """One that is to be shown in a VM that runs.

    @ivar number: of its row.
    """

    number: int
    vm_id: VMId
    guest: Guest
    text: str
