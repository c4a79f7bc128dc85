# -*- test-case-name: tests.apiclient.test_api -*-
"""The connection to one server: checked TLS, deadlines, answers of a bounded size. It decides nothing about retries."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import httpx
from attrs import frozen

from qvd.apiclient.problems import ApiError, BadAnswer, Unreachable, Untrusted

MOST_BYTES = 64 * 1024**2
"""Of one answer. Pages, and the description of the API, are far smaller; what is larger is read as a stream."""
MOST_OF_A_PROBLEM = 256 * 1024
CONNECT_SECONDS = 10.0
AGENT = "qvd"


@frozen
class Raw:
    """An answer. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """@param url: C{https://host:port}.
    @param ca: authorities that are trusted instead of the system's.
    @param timeout: seconds for a whole answer, and between two signs of life of one that is a stream.
    """

    def __init__(self, url: str, ca: Path | None, timeout: float) -> None:
        self.url = checked_url(url)
        self.timeout = timeout
        # Not the environment's proxies and .netrc: whom a token is sent to is said in one place only.
        self._client = httpx.Client(
            verify=trust(ca),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
            headers={"User-Agent": AGENT, "Accept": "application/json, application/problem+json"},
        )

    def close(self) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        content: bytes | None = None,
        most: int = MOST_BYTES,
    ) -> Raw:
        """One request, whose answer is read within the deadline."""
        ends = monotonic() + self.timeout
        with self.open(method, target, headers, content) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > most:
                    raise BadAnswer(f"The answer has more than {most} bytes")
                if monotonic() > ends:
                    raise Unreachable("The server did not end its answer in time")
            return Raw(response.status_code, lowered(response), bytes(body))

    @contextmanager
    def open(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        content: bytes | Iterable[bytes] | None = None,
        silence: float | None = None,
    ) -> Iterator[httpx.Response]:
        """An answer that is read as it comes.

        @param silence: seconds without a sign of life, instead of the usual.
        """
        timeout = httpx.Timeout(silence or self.timeout, connect=min(self.timeout, CONNECT_SECONDS))
        try:
            with self._client.stream(
                method, self.url + target, headers=dict(headers), content=content, timeout=timeout
            ) as response:
                # Who the client is, its own headers say; a jar would send cookies that nobody asked for.
                self._client.cookies.clear()
                yield response
        except httpx.ConnectError as error:
            raise refused(error) from None
        except httpx.ConnectTimeout:
            raise NotSent(f"No connection to {self.url} in time") from None
        except httpx.TimeoutException:
            raise Unreachable(f"{self.url} does not answer in time") from None
        except httpx.DecodingError:
            raise BadAnswer("The answer is compressed in a way that cannot be read") from None
        except (httpx.TransportError, httpx.StreamError, ssl.SSLError) as error:
            raise Unreachable(f"The connection to {self.url} broke ({type(error).__name__})") from None


class NotSent(Unreachable):
    """There was no connection: nothing was done, for certain."""


def first_of(response: httpx.Response) -> bytes:
    """The body of an answer that is a problem: as much as one has."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MOST_OF_A_PROBLEM:
            break
    return bytes(body)


def lowered(response: httpx.Response) -> Mapping[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def checked_url(url: str) -> str:
    """Without what may stand behind the port.

    @raise ApiError: tokens are not sent there.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ApiError("The address of the server is not one: https://host:port") from None
    if parts.scheme != "https" or not parts.hostname:
        raise ApiError("The address of the server must begin with https:// and name a host")
    if parts.username is not None or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise ApiError("The address of the server must be https://host:port, and nothing more")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{name}" if port is None else f"https://{name}:{port}"


def trust(ca: Path | None) -> ssl.SSLContext:
    """@raise ApiError: the file of authorities cannot be read."""
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ApiError(f"The file of authorities {ca} cannot be used: {reason}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def refused(error: httpx.ConnectError) -> Unreachable:
    """In words for people: the library's speak of its own sockets."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Untrusted(f"The server's certificate is not trusted: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError):
            return NotSent("The server does not speak TLS as it should")
        cause = cause.__cause__ or cause.__context__
    return NotSent(f"The server cannot be reached: {error}")
