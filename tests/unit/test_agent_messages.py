"""Messages in the session: by which program, as whom, and what becomes of one that cannot be shown."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from qvd.agent.messages import HEADING, LOOK, MOST, Messages
from qvd.agent.processes import Command
from qvd.model.errors import InvalidRequest, Unavailable
from tests.fakes.agent import ALICE, ASLEEP, UP, Desk, settings
from tests.fakes.case import Case
from tests.fakes.nx import FakeRunner

SAID = f"{HEADING}:\n\nGo home"


class NotingRunner(FakeRunner):
    """Keeps the whole command."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[Command] = []

    async def execute(self, command: Command, seconds: float) -> None:
        self.commands.append(command)
        await super().execute(command, seconds)


class MessageTests(Case):
    def setUp(self) -> None:
        self.desk = Desk()
        self.runner = NotingRunner()
        self.there = {"/usr/bin/xmessage", "/usr/bin/nxdialog"}

    def messages(self, line: str = "") -> Messages:
        values = {"command.message": line}
        return Messages(self.desk.clock, self.desk.x_server, self.runner, settings(values), self.there.__contains__)

    def say(self, messages: Messages, text: str = "Go home") -> Deferred[None]:
        return self.begin(messages.message({"text": text}))

    def argv(self) -> Sequence[str]:
        return self.runner.ran[-1]

    def test_it_is_shown_on_the_display_of_the_session_as_its_user(self) -> None:
        self.desk.go(*UP)
        self.result(self.say(self.messages()))
        (command,) = self.runner.commands
        assert command.argv == (
            "/usr/bin/nxdialog",
            "--dialog",
            "ok",
            "--local",
            "--caption",
            HEADING,
            "--message",
            SAID,
        )
        assert command.environment == {"DISPLAY": ":55001"}
        assert (command.uid, command.gid) == ALICE.ids

    def test_by_a_program_that_is_there(self) -> None:
        self.desk.go(*UP)
        self.there.discard("/usr/bin/nxdialog")
        self.result(self.say(self.messages()))
        assert (self.argv()[0], self.argv()[-1]) == ("/usr/bin/xmessage", SAID)
        self.there.clear()
        assert "command.message" in self.failure(self.say(self.messages()), Unavailable).text

    def test_by_the_program_of_the_settings(self) -> None:
        self.desk.go(*UP)
        self.result(self.say(self.messages("/opt/tell --from 'the boss' {text} {title}")))
        assert self.argv() == ["/opt/tell", "--from", "the boss", SAID, HEADING]
        assert "command.message" in self.failure(self.say(self.messages("/opt/tell 'x")), Unavailable).text

    def test_a_text_is_never_an_option_or_a_place_of_another_text(self) -> None:
        self.desk.go(*UP)
        self.result(self.say(self.messages("/opt/tell {text}"), "--file={title}"))
        assert self.argv() == ["/opt/tell", f"{HEADING}:\n\n--file={{title}}"]

    def test_nobody_is_there(self) -> None:
        assert "Nobody" in self.failure(self.say(self.messages()), Unavailable).text
        self.desk.go(*ASLEEP)
        assert "Nobody" in self.failure(self.say(self.messages()), Unavailable).text
        assert self.runner.ran == []

    def test_what_is_no_text(self) -> None:
        self.desk.go(*UP)
        self.failure(self.say(self.messages(), "a\x1b[2J"), InvalidRequest)
        self.failure(self.begin(self.messages().message({})), InvalidRequest)
        assert self.runner.ran == []

    def test_a_program_that_fails_at_once_says_why(self) -> None:
        self.desk.go(*UP)
        self.runner.failing.add("/opt/tell")
        assert "as told" in self.failure(self.say(self.messages("/opt/tell {text}")), Unavailable).text

    def test_one_that_stays_is_not_waited_for_and_there_are_not_too_many(self) -> None:
        self.desk.go(*UP)
        self.runner.slow.add("/opt/tell")
        messages = self.messages("/opt/tell {text}")
        for _ in range(MOST):
            said = self.say(messages)
            self.desk.clock.advance(LOOK)
            self.result(said)
        assert "already" in self.failure(self.say(messages), Unavailable).text
        self.runner.waiting[0].callback(None)
        self.begin(messages.message({"text": "Go home"}))
        assert len(self.runner.ran) == MOST + 1
