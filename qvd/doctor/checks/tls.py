# -*- test-case-name: tests.doctor.test_broken,tests.doctor.test_tls -*-
"""The certificate of a daemon: its dates, its chain, its names, and whether the running daemon shows it."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from qvd.doctor.findings import Finding, failure, not_applicable, note, ok, warning
from qvd.doctor.place import Place, who

SOON_DAYS, NOTED_DAYS = 14, 30
LEAST_BITS = 2048
DIAL_SECONDS = 3.0
TRUST = (ssl.get_default_verify_paths().openssl_cafile, "/etc/ssl/certs/ca-certificates.crt")
"""Where this machine keeps the authorities that it trusts."""


def certificates_of(place: Place) -> tuple[Path, Sequence[x509.Certificate] | Finding]:
    """The file, and what is in it; or why nothing is."""
    path = place.file(f"{place.prefix}.tls.cert")
    try:
        return path, x509.load_pem_x509_certificates(path.read_bytes())
    except PermissionError:
        return path, not_applicable(str(path), f"{who()} cannot read it; run the doctor as root")
    except (OSError, ValueError):
        return path, not_applicable(str(path), "no certificate can be read there (tls.key)")


def look_at_dates(place: Place) -> Iterator[Finding]:
    """Of all certificates in the file."""
    path, found = certificates_of(place)
    if isinstance(found, Finding):
        yield found
        return
    now = datetime.datetime.now(datetime.UTC)
    for number, certificate in enumerate(found):
        yield dates_of(certificate, str(path) if number == 0 else f"{path}, certificate {number + 1}", now, place)


def dates_of(certificate: x509.Certificate, looked_at: str, now: datetime.datetime, place: Place) -> Finding:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    days = (end - now).total_seconds() / 86400
    renew = f"get a new one, put it in place, and 'systemctl restart {place.daemon}' (VMs go on meanwhile)"
    if now < begin:
        return failure(
            looked_at, f"The certificate is not valid before {begin:%Y-%m-%d %H:%M} UTC", "look at this machine's clock"
        )
    if days < 0:
        return failure(looked_at, f"The certificate ended on {end:%Y-%m-%d}: no client trusts it", renew)
    if days < SOON_DAYS:
        return warning(looked_at, f"The certificate ends in {days:.0f} days, on {end:%Y-%m-%d}", renew)
    if days < NOTED_DAYS:
        return note(looked_at, f"The certificate ends in {days:.0f} days, on {end:%Y-%m-%d}", renew)
    return ok(looked_at, f"valid for {days:.0f} more days, to {end:%Y-%m-%d}")


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the one was signed by the other."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def trusted() -> Iterator[x509.Certificate]:
    """The authorities that this machine trusts."""
    for name in dict.fromkeys(TRUST):
        if name and os.path.exists(name):
            for block in Path(name).read_bytes().split(b"-----BEGIN CERTIFICATE-----")[1:]:
                try:
                    yield x509.load_pem_x509_certificate(b"-----BEGIN CERTIFICATE-----" + block)
                except ValueError:
                    continue  # one of another kind, or one that this library refuses


def look_at_chain(place: Place) -> Iterator[Finding]:
    """From the server's certificate to an authority."""
    path, found = certificates_of(place)
    if isinstance(found, Finding):
        yield found
        return
    looked_at = str(path)
    for number, (below, above) in enumerate(pairwise(found), 1):
        if not issued(below, above):
            yield failure(
                looked_at,
                f"Certificate {number} in it was not issued by the next one, and clients cannot follow the chain",
                "write the server's certificate first, then that of its issuer, and so on",
            )
            return
    yield from end_of_chain(found[-1], looked_at, len(found))


def end_of_chain(last: x509.Certificate, looked_at: str, length: int) -> Iterator[Finding]:
    issuer = last.issuer.rfc4514_string()
    if issued(last, last):
        if length == 1:
            yield note(
                looked_at,
                "The certificate is signed by itself: each client must be given it, and asks its user otherwise",
                "use one of an authority, the installation's own or a public one",
            )
        else:
            yield ok(looked_at, f"complete up to {issuer}")
    elif any(each.subject == last.issuer and issued(last, each) for each in trusted()):
        yield ok(looked_at, f"complete up to {issuer}, which this machine trusts")
    elif tells_its_issuer(last):
        yield warning(
            looked_at,
            f"The chain ends at {issuer}, which is no authority that this machine trusts: one in between is missing",
            "append the certificates that the authority gives along ('chain', 'intermediate') to the file",
        )
    else:
        yield not_applicable(
            looked_at, f"it is issued by {issuer}, an authority of your own: clients must be given its certificate"
        )


def tells_its_issuer(certificate: x509.Certificate) -> bool:
    """As those of public authorities do (RFC 5280, 4.2.2.1), and those of an installation's own hardly ever."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return False
    return any(each.access_method == AuthorityInformationAccessOID.CA_ISSUERS for each in found)


def names_in(certificate: x509.Certificate) -> list[str]:
    """All that clients look at."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(each) for each in found.get_values_for_type(x509.IPAddress)]
    return [*found.get_values_for_type(x509.DNSName), *addresses]


def covers(pattern: str, name: str) -> bool:
    """RFC 6125: a star stands for the first label."""
    pattern, name = pattern.lower(), name.lower()
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return pattern == name


def wanted_names(place: Place) -> list[list[str]]:
    """What clients may dial: of each list, one is enough."""
    if place.wishes.names:
        return [[name] for name in place.wishes.names]
    address = place.settings.text(f"{place.prefix}.address")
    if address not in ("*", "", "0.0.0.0", "::"):
        loopback = ipaddress.ip_address(address).is_loopback if is_address(address) else False
        return [[address, *(["localhost"] if loopback else [])]]
    return [list(dict.fromkeys([socket.getfqdn(), socket.gethostname()]))]


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def look_at_names(place: Place) -> Iterator[Finding]:
    """It is for the name that clients dial."""
    path, found = certificates_of(place)
    if isinstance(found, Finding):
        yield found
        return
    names = names_in(found[0])
    if not names:
        yield failure(
            str(path),
            "It names no host (subjectAltName): today's clients look at nothing else",
            "get one with the names that clients dial, as DNS or IP entries",
        )
        return
    yield from names_against(str(path), names, wanted_names(place))


def names_against(path: str, names: Sequence[str], wanted: Iterable[Sequence[str]]) -> Iterator[Finding]:
    for options in wanted:
        if any(covers(pattern, name) for pattern in names for name in options):
            yield ok(path, f"it is for {', '.join(names)}")
            continue
        yield warning(
            path,
            f"It is for {', '.join(names)}, and not for {' or '.join(options)}: who dials that is warned, or refused",
            "get one for the name that clients dial; if that is another name (a load balancer's), tell the doctor:"
            " --name NAME",
        )


def look_at_strength(place: Place) -> Iterator[Finding]:
    """It is one that today's clients accept."""
    path, found = certificates_of(place)
    if isinstance(found, Finding):
        yield found
        return
    certificate, looked_at = found[0], str(path)
    weak = []
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_BITS:
        weak.append(f"its RSA key has {key.key_size} bits")
    if isinstance(certificate.signature_hash_algorithm, (hashes.MD5, hashes.SHA1)):
        weak.append(f"it is signed with {certificate.signature_hash_algorithm.name}")
    if not serves(certificate):
        weak.append("it is not for servers (extendedKeyUsage)")
    if weak:
        yield failure(
            looked_at,
            f"Clients refuse it: {', '.join(weak)}",
            "get one for a TLS server, with an EC or RSA key of 2048 bits or more, signed with SHA-256",
        )
    else:
        yield ok(looked_at, "key, signature and purpose are what clients accept")


def serves(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def dialled(place: Place) -> str:
    """Where the daemon of this machine is reached."""
    address = place.settings.text(f"{place.prefix}.address")
    return "127.0.0.1" if address in ("*", "", "0.0.0.0", "::") else address


def served(address: str, port: int) -> bytes | None:
    """The certificate of whoever answers; L{None}: nobody does, in TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), DIAL_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=None) as connection,
        ):
            return connection.getpeercert(binary_form=True)
    except OSError:
        return None


def look_at_served(place: Place) -> Iterator[Finding]:
    """The running daemon shows the certificate that is in the file."""
    path, found = certificates_of(place)
    port = place.settings.number(f"{place.prefix}.port")
    looked_at = f"port {port} of {dialled(place)}"
    if isinstance(found, Finding) or not port:
        yield not_applicable(looked_at, "there is no certificate, or no fixed port, to compare")
        return
    shown = served(dialled(place), port)
    if shown is None:
        yield not_applicable(looked_at, f"nobody answers there in TLS: {place.daemon} does not run (ports.free)")
    elif shown != found[0].public_bytes(serialization.Encoding.DER):
        yield warning(
            looked_at,
            f"Whoever answers there shows another certificate than {path}",
            f"'systemctl restart {place.daemon}' if it was renewed; otherwise see who has the port: ss -ltnp",
        )
    else:
        yield ok(looked_at, f"the daemon shows {path}")
