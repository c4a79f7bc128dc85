# -*- test-case-name: tests.unit.test_agent_messages -*-
"""Shows messages of administrators in the session, with a program of the image."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from qvd.agent.detached import detach
from qvd.agent.processes import Command, IProcessRunner
from qvd.agent.xserver import Launch, XServer
from qvd.model.errors import QVDError, Unavailable
from qvd.model.messages import check_text
from qvd.model.settings import Settings
from qvd.protocols.adapters.rpc import Method

TITLE, TEXT = "{title}", "{text}"
KNOWN = (
    "/usr/bin/zenity --info --no-markup --title {title} --text {text}",
    "/usr/bin/kdialog --title {title} --msgbox {text}",
    "/usr/bin/nxdialog --dialog ok --local --caption {title} --message {text}",
    "/usr/bin/xmessage -center -xrm '*international: true' -title {title} {text}",
)
"""Programs that are looked for where the settings name none."""
HEADING = "Message from the administrator"
LOOK = 1.0
"""Seconds in which a program that cannot show anything says so."""
SHOWN = 3600.0
"""A message that nobody has closed by then is taken away."""
MOST = 5


class Messages:
    """The call C{message}.

    @param there: whether a program of that name can be run.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        x_server: XServer,
        runner: IProcessRunner,
        settings: Settings,
        there: Callable[[str], bool] = lambda path: os.access(path, os.X_OK),
    ) -> None:
        self._clock = clock
        self._x_server = x_server
        self._runner = runner
        self._settings = settings
        self._there = there
        self._shown = 0

    def methods(self) -> Mapping[str, Method]:
        return {"message": self.message}

    async def message(self, parameters: Mapping[str, str]) -> None:
        """Show C{text} to whoever is connected. Returns when it is there, as far as that can be told.

        @raise QVDError: it cannot be shown; a sentence for whoever sent it.
        """
        text = check_text(parameters.get("text", ""))
        launch = self._x_server.connected
        if launch is None:
            raise Unavailable("Nobody is connected to the desktop")
        if self._shown >= MOST:
            raise Unavailable(f"{MOST} messages are on the screen already")
        command = self._command(launch, text)
        outcome: Deferred[QVDError | None] = Deferred()
        detach(self._show(command, outcome.callback), self.log)
        outcome.addTimeout(LOOK, self._clock)
        try:
            error = await outcome
        except TimeoutError:
            return
        if error is not None:
            raise error

    def _command(self, launch: Launch, text: str) -> Command:
        """As the session's user, on the session's display."""
        uid, gid = launch.account.ids
        # It begins with words of ours, so that no program takes it for an option.
        values = {TITLE: HEADING, TEXT: f"{HEADING}:\n\n{text}"}
        argv = tuple(values.get(word, word) for word in self._words())
        home = launch.account.home if os.path.isdir(launch.account.home) else "/"
        return Command(argv, dict(launch.environment), home, uid, gid)

    def _words(self) -> Sequence[str]:
        wanted = self._settings.text("command.message")
        for line in (wanted,) if wanted else KNOWN:
            try:
                words = shlex.split(line)
            except ValueError as error:
                raise Unavailable(f"command.message: {error}") from None
            if words and (wanted or self._there(words[0])):
                return words
        raise Unavailable("The desktop's image has no program that shows messages: see command.message")

    async def _show(self, command: Command, done: Callable[[QVDError | None], None]) -> None:
        self._shown += 1
        error: QVDError | None = None
        try:
            await self._runner.execute(command, SHOWN)
        except QVDError as raised:
            error = raised
        finally:
            self._shown -= 1
            done(error)
