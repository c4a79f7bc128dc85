"""A healthy machine for the doctor, with a node and an administration; tests then break it, each in its own way."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from psycopg2.extensions import parse_dsn

from qvd.demo.installation import write_conf
from qvd.demo.tls import make_certificates, write_private
from qvd.doctor.asking import COMMAND
from qvd.doctor.findings import About, Finding, finding_of
from qvd.doctor.look import Orders, look
from qvd.doctor.place import Wishes
from qvd.doctor.report import Report
from tests.integration.farm import free_port

EXPECTED = frozenset({"database.use"})
"""The tests' server does without fsync, and the doctor says so."""
READ_ONLY = ("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
"""A namespace in which the host cannot be changed."""


class Setup:
    """Files below C{folder}, and rows in a database.

    @ivar node: settings of the node, C{admin} those of the administration; L{look} writes them.
    @ivar wrapper: words before the doctor's own: the namespace in which it looks.
    """

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder = folder
        self.dsn = dsn
        self.tls = folder / "tls"
        self.wrapper: Sequence[str] = ()
        self.wishes = Wishes()
        self.modes: Mapping[str, int] = {}
        self.raw: dict[str, str | None] = {}
        make_certificates(self.tls)
        address = parse_dsn(dsn)
        shared: dict[str, Any] = {
            "database.host": address["host"],
            "database.port": int(address.get("port", 5432)),
            "database.name": address["dbname"],
            "path.storage.images": str(folder / "images"),
        }
        for name in ("images", "homes", "overlays", "run"):
            (folder / name).mkdir()
        self.node: dict[str, Any] = {
            **shared,
            "nodename": "node1",
            "node.identity": str(folder / "node.identity"),
            "path.run": str(folder / "run"),
            "path.storage.homes": str(folder / "homes"),
            "path.storage.overlays": str(folder / "overlays"),
            "path.storage.bases": str(folder / "bases"),
            "l7r.address": "127.0.0.1",
            "l7r.port": free_port(),
            "l7r.tls.cert": str(self.tls / "cert.pem"),
            "l7r.tls.key": str(self.tls / "key.pem"),
            "vm.sandbox.host_files": True,
        }
        self.admin: dict[str, Any] = {
            **shared,
            "admin.address": "127.0.0.1",
            "admin.port": free_port(),
            "admin.tls.cert": str(self.tls / "cert.pem"),
            "admin.tls.key": str(self.tls / "key.pem"),
        }

    def ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """As the database's owner."""
        connection = psycopg2.connect(self.dsn)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def add_node(self, name: str = "node1", hypervisor: str = "sandbox") -> int:
        """One that renews its lease."""
        [(made,)] = self.ask("INSERT INTO hosts (name, address) VALUES (%s, '127.0.0.1') RETURNING id", name)
        self.ask(
            "UPDATE host_runtimes SET state = 'running', epoch = 1, images_epoch = 1, hypervisor = %s, ok_ts = now(),"
            " lease_until = now() + interval '1 hour' WHERE host_id = %s",
            hypervisor,
            made,
        )
        return int(made)

    def add_vm(self, path: str = "", kind: str | None = None) -> int:
        """One with an image that it can start from."""
        [(tenant,)] = self.ask("INSERT INTO tenants (name) VALUES ('acme') RETURNING id")
        [(user,)] = self.ask("INSERT INTO users (tenant_id, login) VALUES (%s, 'alice') RETURNING id", tenant)
        [(osf,)] = self.ask("INSERT INTO osfs (tenant_id, name, memory) VALUES (%s, 'desk', 1) RETURNING id", tenant)
        self.ask(
            "INSERT INTO dis (tenant_id, osf_id, path, version, type) VALUES (%s, %s, %s, '1', %s)",
            tenant,
            osf,
            path,
            kind,
        )
        self.ask("UPDATE dis SET published_at = now() - interval '1 day'")
        self.ask("INSERT INTO host_images (host_id, di_id) SELECT h.id, d.id FROM hosts h, dis d WHERE d.path <> ''")
        insert = "INSERT INTO vms (tenant_id, user_id, osf_id, name) VALUES (%s, %s, %s, 'vm') RETURNING id"
        [(vm,)] = self.ask(insert, tenant, user, osf)
        return int(vm)

    def look(self, only: Collection[str] = ()) -> Report:
        """Write the settings, and look: in a namespace by the doctor's own process."""
        files = {}
        for about, values in ((About.NODE, self.node), (About.ADMIN, self.admin)):
            path = files[about] = self.folder / f"{about.value}.conf"
            write_conf(path, values)
            text = self.raw.get(about.value, "")
            if text is None:
                path.unlink()
            elif text:
                write_private(path, text.encode())
            if path.exists():
                path.chmod(self.modes.get(about.value, 0o600))
        if not self.wrapper:
            return Report(tuple(look(Orders(files, only, self.wishes))))
        orders = json.dumps(Orders(files, only, self.wishes).document())
        words = [*self.wrapper, *COMMAND]
        done = subprocess.run(words, input=f"{orders}\n", capture_output=True, text=True, timeout=120, check=False)
        *lines, last = done.stdout.split("\n")[:-1] or [""]
        assert not last, done.stderr
        assert lines, done.stderr
        return Report(tuple(finding_of(json.loads(line)) for line in lines))


def bad(report: Report) -> list[Finding]:
    """What is wrong, besides what always is."""
    return [each for each in report.findings if each.bad and each.check not in EXPECTED]


def certificate(
    folder: Path,
    days: float = 300.0,
    names: Sequence[str] = ("localhost", "127.0.0.1"),
    issuers: int = 1,
    tells_issuer: bool = False,
) -> list[bytes]:
    """Make C{cert.pem} and C{key.pem} anew.

    @param issuers: certificates above it; of two, the first is one in between.
    @return: all of the chain in PEM, the server's first. Only that is in the file.
    """
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(issuers + 1)]
    found = []
    for level in range(issuers + 1):
        above = min(level + 1, issuers)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"level {level}")]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"level {above}")]))
            .public_key(keys[level].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=400))
            .not_valid_after(now + datetime.timedelta(days=days if level == 0 else 1000))
            .add_extension(x509.BasicConstraints(ca=level > 0, path_length=None), critical=True)
        )
        if level == 0:
            alternatives = [general_name(name) for name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        if level == 0 and tells_issuer:
            place = x509.UniformResourceIdentifier("http://ca.example/ca.der")
            told = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, place)
            builder = builder.add_extension(x509.AuthorityInformationAccess([told]), critical=False)
        found.append(builder.sign(keys[above], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "cert.pem").write_bytes(found[0])
    form = serialization.PrivateFormat.PKCS8
    write_private(
        folder / "key.pem",
        keys[0].private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()),
    )
    return found


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def inside(folder: Path, *more: str) -> list[str]:
    """A namespace in which only C{folder} can be written; C{more} words for bubblewrap."""
    return [*READ_ONLY, "--bind", str(folder), str(folder), *more]


def mounted(script: str) -> list[str]:
    """A mount namespace in which a shell has done something."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{script}\nexec "$@"', "sh"]


def rooted() -> bool:
    return os.geteuid() == 0
