# -*- test-case-name: tests.unit.test_agent_sessionfiles -*-
"""What a session needs before it is launched: its files, its command lines, its environment."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping

from attrs import frozen

from qvd.agent.account import Account, session_environment, system_environment
from qvd.agent.folders import Folders
from qvd.agent.marker import GuestMarker
from qvd.agent.nxoptions import options_line
from qvd.agent.xauthority import COOKIE_BYTES, encode_entry
from qvd.agent.xserver import Launch
from qvd.model.errors import Unavailable
from qvd.model.settings import Settings

OPTIONS = "nxagent.conf"
AUTHORITY = "Xauthority"
DIALOGS = "/bin/false"
"""nxagent's program for dialogs, of which the original wants none either."""


@frozen
class SessionFiles:
    """Makes them.

    @ivar random: so many bytes that nobody can guess.
    """

    settings: Settings
    marker: GuestMarker
    folders: Folders
    random: Callable[[int], bytes] = os.urandom

    def check(self, parameters: Mapping[str, str]) -> None:
        """Find out early what cannot work.

        @raise InvalidRequest: a parameter.
        @raise Unavailable: a program is missing; the text names its key.
        """
        self._options(parameters)
        self._program("command.nxagent", self.settings.text("command.nxagent"))
        self._program("command.x-session", self._x_session())

    def write_options(self, account: Account, parameters: Mapping[str, str]) -> None:
        """Write what nxagent reads at each start and resume."""
        self.folders.write(OPTIONS, self._options(parameters).encode("ascii"), account)

    def write(self, account: Account, parameters: Mapping[str, str]) -> Launch:
        """Write all files and say what to run. The display opens to a new cookie only: its socket can be seen by
        other guests of the node in a sandbox."""
        display = self.marker.display
        self.write_options(account, parameters)
        authority = self.folders.write(AUTHORITY, encode_entry(display, self.random(COOKIE_BYTES)), account)
        runtime = self.folders.make(f"user-{account.uid}", account)
        system = system_environment(self.settings.text("vma.default.lang"))
        environment = session_environment(account, system, runtime, parameters.get("qvd.client.timezone", ""))
        nx_root = self.folders.make(f"nx-{account.uid}", account)
        return Launch(
            account=account,
            x_server=self._x_server(str(authority)),
            x_environment={**environment, "NX_ROOT": str(nx_root), "NX_CLIENT": DIALOGS},
            program=(self._x_session(), *self._extra("vma.x-session.extra_args")),
            environment={**environment, "DISPLAY": f":{display}", "XAUTHORITY": str(authority)},
        )

    def _x_server(self, authority: str) -> tuple[str, ...]:
        """No reset: without xinit no client stays connected between two programs of the session."""
        display = self.marker.display
        return (
            self.settings.text("command.nxagent"),
            *(f":{display}", "-auth", authority, "-name", "QVD", "-nolisten", "tcp", "-noreset"),
            *self._extra("vma.nxagent.extra_args"),
            *("-display", f"nx/nx,options={self.folders.run / OPTIONS}:{display}"),
        )

    def _options(self, parameters: Mapping[str, str]) -> str:
        tolerance = self.settings.text("internal.vma.nxagent.tolerancechecks")
        return options_line(parameters, self.marker.display, loopback=self.marker.loopback, tolerance=tolerance)

    def _x_session(self) -> str:
        return self.marker.x_session or self.settings.text("command.x-session")

    def _extra(self, key: str) -> list[str]:
        try:
            return shlex.split(self.settings.text(key))
        except ValueError as error:
            raise Unavailable(f"{key}: {error}") from None

    def _program(self, key: str, path: str) -> None:
        if not (os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK)):
            raise Unavailable(f"{key}: {path} does not exist in this VM, or is no program")
