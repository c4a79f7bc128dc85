# -*- test-case-name: tests.integration.test_client -*-
"""
TLS to one server, and the proof that it is that server.

The chain is checked during the handshake; the name, or the pinned certificate, right after it and before the first
byte of ours is sent. Whatever goes wrong in the check ends the connection.
"""

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path

from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from qvd.client.errors import ClientError, Exit, plain

PROBLEMS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "its authority is not known here",
    20: "its authority is not known here",
    21: "its authority is not known here",
    26: "it is not for servers",
}
"""OpenSSL's verification errors that an ordinary set-up leads to."""
ADVICE = "give its authority with --ca, or its fingerprint with --pin"


def is_address(host: str) -> bool:
    """True for an IP address, false for a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def encode_name(host: str) -> bytes:
    """A host's name as it goes over the wire.

    @raise ClientError: it is none.
    """
    try:
        return host.encode("idna")
    except UnicodeError:
        raise ClientError(Exit.USAGE, f"{plain(host)} is no name of a host") from None


@implementer(IOpenSSLClientConnectionCreator)
class ServerTLS:
    """Makes TLS connections to one host.

    @param ca_file: authorities to trust instead of the system's.
    @param pin: SHA-256 of the one certificate to accept, whatever its chain and names.
    """

    def __init__(self, host: str, ca_file: Path | None = None, pin: bytes | None = None) -> None:
        self._host = host
        self._name = b"" if is_address(host) else encode_name(host)
        self._pin = pin
        self._problem: int | None = None
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        if pin is not None:
            self._context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
            return
        self._context.set_verify(SSL.VERIFY_PEER, self._verified)
        if ca_file is None:
            self._context.set_default_verify_paths()
            return
        try:
            self._context.load_verify_locations(str(ca_file))
        except SSL.Error:
            raise ClientError(Exit.USAGE, f"{ca_file} is no readable file of PEM certificates") from None

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        if self._name:
            connection.set_tlsext_host_name(self._name)
        return connection

    def _verified(self, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
        if not ok and self._problem is None:
            self._problem = error
        return bool(ok)

    def check(self, connection: SSL.Connection) -> None:
        """After the handshake.

        @raise ClientError: this is not the server.
        """
        certificate = connection.get_peer_certificate()
        if certificate is None:
            raise ClientError(Exit.UNREACHABLE, f"{self._host} has shown no certificate")
        if self._pin is not None:
            self._check_pin(certificate)
        else:
            self._check_name(connection)

    def _check_pin(self, certificate: crypto.X509) -> None:
        found = certificate.digest("sha256").decode("ascii")
        if not hmac.compare_digest(bytes.fromhex(found.replace(":", "")), self._pin or b""):
            text = f"The certificate of {self._host} is not the pinned one: its SHA-256 fingerprint is {found}"
            raise ClientError(Exit.UNREACHABLE, text)

    def _check_name(self, connection: SSL.Connection) -> None:
        try:
            if self._name:
                verify_hostname(connection, self._name.decode("ascii"))
            else:
                verify_ip_address(connection, self._host)
        except (VerificationError, CertificateError):
            raise ClientError(Exit.UNREACHABLE, f"The certificate shown is not for {self._host}") from None

    def explain(self) -> str:
        """A sentence about a handshake that failed."""
        if self._problem is None:
            return f"{self._host} and this client found no common TLS: is that the port of a QVD server?"
        problem = PROBLEMS.get(self._problem, f"OpenSSL's verification error {self._problem}")
        return f"The certificate of {self._host} is not trusted: {problem}; {ADVICE}"
