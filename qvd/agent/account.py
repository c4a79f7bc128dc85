# -*- test-case-name: tests.unit.test_agent_provisioning -*-
"""The account that a session runs as, and the environment that it finds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import frozen

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
ENVIRONMENT_FILES = ("/etc/environment", "/etc/locale.conf", "/etc/default/locale")
ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
ZONES = Path("/usr/share/zoneinfo")
ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")


@frozen
class Account:
    """A Unix account.

    @ivar switch: processes are to be started under its ids, which are not our own.
    """

    login: str
    uid: int
    gid: int
    home: str
    shell: str
    switch: bool

    @property
    def ids(self) -> tuple[int, int] | tuple[None, None]:
        """User and group id as C{spawnProcess} wants them."""
        return (self.uid, self.gid) if self.switch else (None, None)


def system_environment(lang: str, files: Iterable[str] = ENVIRONMENT_FILES) -> dict[str, str]:
    """What the system gives every session; C{lang} where its files set none."""
    found = {"PATH": PATH, "LANG": lang}
    for name in files:
        try:
            found.update(assignments(Path(name).read_text("utf-8", "replace")))
        except OSError:
            continue
    return found


def assignments(text: str) -> dict[str, str]:
    """C{NAME=value} lines, as PAM reads them: no expansion, one pair of quotes taken off."""
    found = {}
    for line in text.splitlines():
        match = ASSIGNMENT.fullmatch(line.strip())
        if match:
            name, value = match[1], match[2].strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name] = value[1:-1] if quoted else value
    return found


def session_environment(account: Account, system: Mapping[str, str], runtime: Path, zone: str) -> dict[str, str]:
    """The environment of the session's user.

    @param runtime: a folder of the user's own.
    @param zone: time zone of the client; one that is not known here is left out.
    """
    own = {
        "HOME": account.home,
        "USER": account.login,
        "LOGNAME": account.login,
        "SHELL": account.shell,
        "XDG_RUNTIME_DIR": str(runtime),
    }
    if ZONE.fullmatch(zone) and (ZONES / zone).is_file():
        own["TZ"] = zone
    return {**system, **own}
