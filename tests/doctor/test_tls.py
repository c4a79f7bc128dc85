"""Certificates: which are good enough, and which the running daemon shows."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qvd.demo.tls import make_certificates, write_private
from qvd.doctor.checks import tls
from qvd.doctor.findings import About, Finding, Result
from qvd.doctor.place import Place, Wishes
from qvd.model.settings_admin import parse_admin
from tests.doctor.world import certificate
from tests.integration.farm import free_port

DAY = datetime.timedelta(days=1)


def place(folder: Path, port: int = 0, address: str = "127.0.0.1", names: Sequence[str] = ()) -> Place:
    settings = parse_admin(
        {"admin.tls.cert": "cert.pem", "admin.tls.key": "key.pem", "admin.port": port, "admin.address": address},
        "admin.conf",
    )
    return Place(About.ADMIN, folder / "admin.conf", settings, Wishes(names))


def own(folder: Path, *extensions: x509.ExtensionType, bits: int = 0, begins: datetime.timedelta = -DAY) -> None:
    """A certificate that is signed by itself."""
    key = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime.datetime.now(datetime.UTC) + begins
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(begin).not_valid_after(begin + 100 * DAY)
    for each in extensions:
        builder = builder.add_extension(each, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(folder / "key.pem", private)


def one(found: Iterator[Finding]) -> Finding:
    [finding] = found
    return finding


def test_stars_stand_for_one_label() -> None:
    assert tls.covers("*.example.org", "Desk.Example.org")
    assert not tls.covers("*.example.org", "a.desk.example.org")
    assert not tls.covers("*.example.org", "example.org")
    assert tls.covers("desk.example.org", "DESK.example.org")


@pytest.mark.parametrize(
    ("days", "result"),
    [(-1, Result.FAILURE), (3, Result.WARNING), (20, Result.NOTE), (100, Result.OK)],
)
def test_days_that_are_left(tmp_path: Path, days: int, result: Result) -> None:
    certificate(tmp_path, days=days)
    assert one(tls.look_at_dates(place(tmp_path))).result is result


def test_a_day_that_has_not_come(tmp_path: Path) -> None:
    own(tmp_path, begins=DAY)
    found = one(tls.look_at_dates(place(tmp_path)))
    assert found.result is Result.FAILURE and "not valid before" in found.sentence


def test_chains(tmp_path: Path) -> None:
    chain = certificate(tmp_path, issuers=2)
    assert one(tls.look_at_chain(place(tmp_path))).result is Result.NOT_APPLICABLE
    (tmp_path / "cert.pem").write_bytes(b"".join(chain))
    assert "complete up to CN=level 2" in one(tls.look_at_chain(place(tmp_path))).sentence
    own(tmp_path)
    assert one(tls.look_at_chain(place(tmp_path))).result is Result.NOTE


def test_an_authority_that_this_machine_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = certificate(tmp_path, tells_issuer=True)
    assert one(tls.look_at_chain(place(tmp_path))).result is Result.WARNING
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(chain[1])
    monkeypatch.setattr(tls, "TRUST", (str(trusted),))
    assert "which this machine trusts" in one(tls.look_at_chain(place(tmp_path))).sentence


def test_names(tmp_path: Path) -> None:
    certificate(tmp_path, names=("*.example.org", "192.0.2.1"))
    assert one(tls.look_at_names(place(tmp_path, names=["desk.example.org"]))).result is Result.OK
    assert one(tls.look_at_names(place(tmp_path, address="192.0.2.1"))).result is Result.OK
    assert one(tls.look_at_names(place(tmp_path, address="192.0.2.2"))).result is Result.WARNING
    assert [each.result for each in tls.look_at_names(place(tmp_path, names=["a.example.org", "b"]))] == [
        Result.OK,
        Result.WARNING,
    ]
    certificate(tmp_path, names=(socket.gethostname(),))
    assert one(tls.look_at_names(place(tmp_path, address="*"))).result is Result.OK


def test_no_name(tmp_path: Path) -> None:
    own(tmp_path)
    found = one(tls.look_at_names(place(tmp_path)))
    assert found.result is Result.FAILURE and "names no host" in found.sentence


def test_what_clients_refuse(tmp_path: Path) -> None:
    own(tmp_path, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), bits=1024)
    found = one(tls.look_at_strength(place(tmp_path)))
    assert found.result is Result.FAILURE
    assert "1024 bits" in found.sentence and "not for servers" in found.sentence
    own(tmp_path, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), bits=2048)
    assert one(tls.look_at_strength(place(tmp_path))).result is Result.OK


@contextmanager
def serving(folder: Path, port: int) -> Iterator[None]:
    """Answers two handshakes with the certificate in a folder."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    def answer() -> None:
        for _ in range(2):
            plain, _ = line.accept()
            with plain, context.wrap_socket(plain, server_side=True):
                pass

    with socket.create_server(("127.0.0.1", port)) as line:
        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join(20)


def test_what_the_daemon_shows(tmp_path: Path) -> None:
    port = free_port()
    assert one(tls.look_at_served(place(tmp_path, port))).result is Result.NOT_APPLICABLE
    make_certificates(tmp_path)
    assert one(tls.look_at_served(place(tmp_path, port))).result is Result.NOT_APPLICABLE
    with serving(tmp_path, port):
        assert one(tls.look_at_served(place(tmp_path, port))).result is Result.OK
        certificate(tmp_path)
        found = one(tls.look_at_served(place(tmp_path, port)))
    assert found.result is Result.WARNING
    assert "another certificate" in found.sentence and "restart qvd-admin" in found.mend
