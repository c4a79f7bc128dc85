# -*- test-case-name: tests.cli.test_shell -*-
"""C{qvd shell}: commands one after the other, in one connection, with completion and history."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from attrs import frozen
from click.shell_completion import CompletionItem, ShellComplete
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from qvd.cli.exits import Exit, usage
from qvd.cli.profiles import state_path
from qvd.cli.session import Session

LEAVE = ("exit", "quit", "q")


@click.command()
@click.option("--keep-going", is_flag=True, help="Not typed but read from a pipe: go on after an error.")
@click.pass_context
def shell(context: click.Context, keep_going: bool) -> int:
    """Type commands one after the other; or read them, line by line, from standard input.

    Tab completes, the arrows go back in history; exit, or Ctrl-D, leaves. A line begins without qvd.
    """
    session: Session = context.ensure_object(Session)
    if session.in_shell:
        raise usage("This is the shell already")
    session.in_shell = True
    made = Shell(session, context.find_root().command)
    return made.typed() if session.interactive else made.read(keep_going)


@frozen
class Shell:
    """@ivar root: the program."""

    session: Session
    root: click.Command

    def typed(self) -> int:
        """Until whoever types leaves."""
        prompt: PromptSession[str] = PromptSession(
            history=history(), completer=Commands(self.session, self.root), complete_while_typing=False
        )
        while True:
            try:
                line = prompt.prompt(f"qvd {self.session.profile_name}> ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return Exit.DONE
            if line.strip() in LEAVE:
                return Exit.DONE
            self.run(line)

    def read(self, keep_going: bool) -> int:
        """Lines that somebody wrote beforehand. Returns the status of the last one that failed."""
        status: int = Exit.DONE
        for line in self.session.stdin:
            if line.strip() in LEAVE:
                break
            found = self.run(line)
            if found != Exit.DONE:
                status = found
                if not keep_going:
                    break
        return status

    def run(self, line: str) -> int:
        """One command."""
        from qvd.cli.main import told

        session = self.session
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            session.screen.complain(f"The line cannot be understood: {str(error).lower()}")
            return Exit.USAGE
        if words[:1] == ["qvd"]:
            words = words[1:]
        if not words:
            return Exit.DONE
        screen, yes, options = session.screen, session.yes, session.options
        kept = (screen.format, screen.header, screen.quiet)

        def call() -> int:
            status = self.root.main(words, prog_name="qvd", standalone_mode=False, obj=session)
            return status if isinstance(status, int) else Exit.DONE

        try:
            return told(session, call)
        finally:
            # What was said for one command is not said for the next.
            screen.format, screen.header, screen.quiet = kept
            session.yes = yes
            session.choose(options)


def history() -> History:
    """In a file of the one who types. Lines hold no secrets: these are asked for."""
    path = state_path() / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(path).touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


class Commands(Completer):
    """Completes as the shell around does."""

    def __init__(self, session: Session, root: click.Command) -> None:
        self._session = session
        self._root = root

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        found = split(document.text_before_cursor)
        if found is None:
            return
        words, begun = found
        for each in completions(self._root, self._session, words, begun):
            if each.type == "plain":
                yield Completion(each.value, start_position=-len(begun), display_meta=each.help or "")


def split(text: str) -> tuple[list[str], str] | None:
    """Words that are complete, and the one that is begun; L{None}: in the middle of a quotation."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    if words and not text[-1:].isspace():
        return words[:-1], words[-1]
    return words, ""


def completions(root: click.Command, session: Session, words: list[str], begun: str) -> list[CompletionItem]:
    """What the next word can be. Where that cannot be known, nothing."""
    arguments: dict[str, Any] = {"obj": session}
    words = words[1:] if words[:1] == ["qvd"] else words
    try:
        return ShellComplete(root, arguments, "qvd", "_QVD_COMPLETE").get_completions(words, begun)
    except Exception:  # noqa: BLE001  a line that is half written is no reason to end the shell
        return []
