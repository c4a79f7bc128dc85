# -*- test-case-name: tests.doctor.test_broken -*-
"""The settings' file of a daemon: readable, valid, and its values possible together; and who else can read secrets."""

from __future__ import annotations

import difflib
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qvd.admin import configured as admin_configured
from qvd.doctor.findings import About, Finding, failure, not_applicable, note, ok, warning
from qvd.doctor.place import DAEMONS, Place, who
from qvd.hkd import configured as node_configured
from qvd.hkd import drivers, identity
from qvd.model.errors import SettingsError
from qvd.model.settings import Settings
from qvd.model.settings_admin import ADMIN_KEYS
from qvd.model.settings_node import NODE_KEYS
from qvd.protocols.adapters.tls import make_server_context

KEYS = {About.NODE: NODE_KEYS, About.ADMIN: ADMIN_KEYS}
READERS: dict[About, Callable[[Path], Settings]] = {
    About.NODE: node_configured.read_settings,
    About.ADMIN: admin_configured.read_settings,
}
UNKNOWN_KEY = re.compile(r": ([\w.-]+): unknown key$")
MISSING_KEY = re.compile(r": ([\w.-]+): missing;")
OTHERS, GROUP = stat.S_IRWXO, stat.S_IRWXG


def read(about: About, path: Path) -> tuple[Settings | None, Finding]:
    """The settings, if they can be read; and what is to be said of them."""
    looked_at, daemon = str(path), DAEMONS[about]
    try:
        settings = READERS[about](path)
    except SettingsError as error:
        if not path.exists():
            mend = f"write it (the package {daemon} brings one to begin with), or name another with --{about.value}"
        elif not os.access(path, os.R_OK):
            mend = "run the doctor as root, or as the user that the daemon runs as"
        else:
            mend = mend_of(error.text, about)
        return None, failure(looked_at, f"{daemon} cannot start: {error.text}", mend)
    wrong = next(contradictions(about, settings), None)
    if wrong is not None:
        return settings, failure(looked_at, f"{daemon} cannot start: {wrong}", "correct that line of the file")
    return settings, ok(looked_at, "each key is known, and each value possible")


def mend_of(text: str, about: About) -> str:
    """What to do about an error of the file."""
    names = [key.name for key in KEYS[about]]
    if (unknown := UNKNOWN_KEY.search(text)) is not None:
        [*near] = difflib.get_close_matches(unknown[1], names, 1)
        return f"perhaps {near[0]} is meant" if near else "remove the line: nothing reads it"
    if (missing := MISSING_KEY.search(text)) is not None:
        doc = next((key.doc for key in KEYS[about] if key.name == missing[1]), "")
        return f"add a line {missing[1]} = ... ({doc})"
    return "correct the file; texts stand in quotation marks, and each key stands once"


def contradictions(about: About, settings: Settings) -> Iterator[str]:
    """What the daemon would say of these settings when it is made."""
    asked: list[Callable[[Settings], Any]] = [admin_configured.image_places]
    if about is About.NODE:
        asked = [
            node_configured.network_terms,
            node_configured.wanted_virt_type,
            node_configured.container_layers,
            known_driver,
        ]
    for each in asked:
        try:
            each(settings)
        except SettingsError as error:
            yield error.text


def known_driver(settings: Settings) -> None:
    """@raise SettingsError: there is none of that name, or it lacks its network."""
    name = settings.text("vm.hypervisor")
    if name not in drivers.KNOWN:
        raise SettingsError(f"vm.hypervisor: there is no driver {name!r}; there are: {', '.join(drivers.KNOWN)}")
    if name in drivers.NETWORKED and not settings.text("vm.network.bridge"):
        raise SettingsError(f"vm.network.bridge: the driver {name} needs a VM network; name a bridge")


def look_at_permissions(place: Place) -> Iterator[Finding]:
    """Files with secrets are their owner's."""
    holds_password = bool(place.settings.secret("database.password").reveal())
    yield (
        private_file(place.path, "the password of the database")
        if holds_password
        else not_applicable(str(place.path), "it holds no password")
    )
    yield private_file(place.file(f"{place.prefix}.tls.key"), "the private key")
    if place.about is About.NODE:
        yield look_at_identity(place.file("node.identity"))


def private_file(path: Path, what: str) -> Finding:
    """Whether only its owner, and perhaps a group that was given it on purpose, can read a file."""
    looked_at = str(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        return failure(looked_at, f"It does not exist: {what} is missing", "put it there, or correct the settings")
    except PermissionError:
        return not_applicable(looked_at, f"{who()} cannot see it; run the doctor as root")
    mode = stat.S_IMODE(found.st_mode)
    mend = f"chmod 600 {path}"
    if mode & OTHERS:
        return failure(looked_at, f"Everybody on this machine may use {what} (mode {mode:04o})", mend)
    if mode & GROUP:
        return warning(looked_at, f"A group may use {what} (mode {mode:04o})", mend)
    return ok(looked_at, f"only {name_of(found.st_uid)} may use {what}")


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def look_at_identity(path: Path) -> Finding:
    """What this machine was given when it was enrolled."""
    looked_at = str(path)
    try:
        if identity.read(path) is None:
            return not_applicable(looked_at, "this machine was not enrolled: a node without an identity needs none")
    except SettingsError as error:
        if path.is_file() and not os.access(path, os.R_OK):
            return not_applicable(looked_at, f"{who()} cannot read it; run the doctor as root")
        return failure(looked_at, error.text, "qvd-db enrolment-token, and then qvd-node enrol on this machine")
    return private_file(path, "this node's identity")


def look_at_key(place: Place) -> Iterator[Finding]:
    """Certificate and key go together, as the daemon sees them."""
    cert, key = place.file(f"{place.prefix}.tls.cert"), place.file(f"{place.prefix}.tls.key")
    looked_at = f"{cert} and {key}"
    if any(path.exists() and not os.access(path, os.R_OK) for path in (cert, key)):
        yield not_applicable(looked_at, f"{who()} cannot read them; run the doctor as root")
        return
    lacking = [str(path) for path in (cert, key) if not path.exists()]
    if lacking:
        text = f"{place.daemon} cannot start: {' and '.join(lacking)} does not exist"
        yield failure(looked_at, text, "put it there, or correct the settings")
        return
    try:
        make_server_context(cert, key)
    except SettingsError as error:
        mend = "put the certificate and the key that it was made for into these two files"
        if "chmod" in error.text:
            mend = f"chmod 600 {key}"
        yield failure(looked_at, f"{place.daemon} cannot start: {error.text}", mend)
        return
    yield ok(looked_at, "they belong together")


def look_at_user(place: Place) -> Iterator[Finding]:
    """Who the doctor is: it sees what its user sees."""
    if os.geteuid() == 0:
        yield ok("this run of the doctor", "it runs as root, and sees what there is")
    elif place.about is About.NODE and place.driver in ("lxc", "kvm"):
        yield note(
            "this run of the doctor",
            f"It runs as {who()}: some things cannot be seen",
            "run it as root for a full look",
        )
    else:
        yield ok("this run of the doctor", f"it runs as {who()}, which is enough where the daemon does, too")
