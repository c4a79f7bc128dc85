# -*- test-case-name: tests.apiclient.test_uploads -*-
"""
Send a file so that it can be resumed: ask how much is there, send the rest, and again after an interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from qvd.apiclient.problems import ApiError, ApiProblem, BadAnswer, Unreachable, Untrusted, problem_of
from qvd.apiclient.wire import Raw, Wire, first_of, lowered

MEDIA = "application/offset+octet-stream"
PIECE = 256 * 1024
ATTEMPTS = 8
"""In a row that bring nothing: one that does bring something begins to count anew."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
Progress = Callable[[int, int], None]


def send_file(
    wire: Wire,
    target: str,
    headers: Mapping[str, str],
    source: Path,
    on_progress: Progress | None,
    wait: Callable[[float], object],
) -> Raw:
    """Returns the answer to the last part.

    @raise ApiProblem: the API does not want it.
    @raise Unreachable: the server was away for too long. What was sent is there.
    """
    tell = on_progress or (lambda sent, size: None)
    failed, reached, seconds = 0, -1, FIRST_WAIT
    with opened(source) as file:
        size = file.seek(0, 2)
        while True:
            try:
                offset = offset_of(wire, target, headers, size)
                if offset > reached:
                    failed, reached, seconds = 0, offset, FIRST_WAIT
                tell(offset, size)
                return send_rest(wire, target, headers, file, offset, size, tell)
            except Untrusted:
                raise
            except Unreachable:
                failed += 1
                if failed >= ATTEMPTS:
                    raise
            except ApiProblem as problem:
                failed += 1
                if failed >= ATTEMPTS or not passes(problem):
                    raise
                seconds = max(seconds, min(problem.retry_after or 0.0, LONGEST_WAIT))
            wait(seconds)
            seconds = min(seconds * 2, LONGEST_WAIT)


def passes(problem: ApiProblem) -> bool:
    """Whether it may be otherwise in a while. The connection that broke may still be writing, as the server sees it,
    which it says with a time to wait."""
    if problem.status == 409:
        return problem.kind == "offset-mismatch" or problem.retry_after is not None
    return problem.status in (429, 502, 503, 504) or problem.kind == "upload-failed"


def opened(source: Path) -> BinaryIO:
    try:
        return source.open("rb")
    except OSError as error:
        raise ApiError(f"{source} cannot be read: {error.strerror}") from None


def offset_of(wire: Wire, target: str, headers: Mapping[str, str], size: int) -> int:
    """How much is there."""
    raw = wire.ask("HEAD", target, headers)
    if raw.status >= 400:
        raise problem_of(raw.status, raw.headers, raw.body)
    try:
        offset, length = int(raw.headers["upload-offset"]), int(raw.headers["upload-length"])
    except (KeyError, ValueError):
        raise BadAnswer("The server does not say how much of the file is there") from None
    if length != size:
        raise ApiError(f"The upload is of a file of {length} bytes; this one has {size}")
    if not 0 <= offset <= size:
        raise BadAnswer("The server says that more is there than the file has")
    return offset


def send_rest(
    wire: Wire,
    target: str,
    headers: Mapping[str, str],
    file: BinaryIO,
    offset: int,
    size: int,
    tell: Progress,
) -> Raw:
    sent = {
        **headers,
        "content-type": MEDIA,
        "upload-offset": str(offset),
        "content-length": str(size - offset),
        "tus-resumable": "1.0.0",
    }
    with wire.open("PATCH", target, sent, pieces(file, offset, size, tell)) as response:
        headers, body = lowered(response), first_of(response)
        if response.status_code >= 400:
            raise problem_of(response.status_code, headers, body)
        return Raw(response.status_code, headers, body)


def pieces(file: BinaryIO, offset: int, size: int, tell: Progress) -> Iterator[bytes]:
    file.seek(offset)
    while offset < size:
        try:
            piece = file.read(min(PIECE, size - offset))
        except OSError as error:
            raise ApiError(f"The file cannot be read any further: {error.strerror}") from None
        if not piece:
            raise ApiError("The file has become shorter while it was sent")
        yield piece
        offset += len(piece)
        tell(offset, size)
