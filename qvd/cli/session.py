# -*- test-case-name: tests.cli.test_session -*-
"""
What every command gets: whom to call and as whom, where to write, whom to ask. Nothing is called before a command
needs it.

A command that somebody adds (L{qvd.cli.extras}) takes it with C{@click.pass_obj}.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any, TextIO, TypeVar

import click
from attrs import define, field, frozen

from qvd.apiclient import Api, ApiError, ApiProblem, Reply, Unreachable
from qvd.apiclient.description import Cache
from qvd.cli.description import Description
from qvd.cli.exits import CommandError, Exit, usage
from qvd.cli.output import FORMATS, Screen
from qvd.cli.profiles import DEFAULT, Profile, Profiles, cache_path, profiles_path
from qvd.cli.secrets import ask_secret, read_secret

Command = TypeVar("Command", bound=Callable[..., Any])
FRESH = 300.0
"""Seconds for which a description that was kept is taken as it is: commands would wait for the question else."""


@frozen
class Options:
    """What was given on the command line or in the environment; empty: what the profile says."""

    profile: str = ""
    url: str = ""
    ca: str = ""
    timeout: float = 30.0
    token_file: str = ""
    config: Path = field(factory=profiles_path)

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Options:
        """What C{QVD_...} say.

        @raise CommandError: a time that is none.
        """
        texts = {name: environ.get(f"QVD_{name.upper()}", "") for name in ("profile", "url", "ca", "token_file")}
        place = environ.get("QVD_CONFIG", "")
        return cls(
            timeout=seconds_of(environ.get("QVD_TIMEOUT") or "30"),
            config=Path(place) if place else profiles_path(),
            **texts,
        )


def seconds_of(text: str) -> float:
    """@raise CommandError: it is no time to wait."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e6:
        raise usage(f"QVD_TIMEOUT is a number of seconds, not {text!r}")
    return found


def pause(seconds: float) -> None:
    """Wait; the keyboard's interruption ends it."""
    Event().wait(seconds)


@define(slots=False)
class Session:
    """One run of the program, or one of its shell.

    @ivar yes: whoever called has consented to what is asked.
    @ivar pause: waits some seconds.
    @ivar in_shell: commands come from the program's own shell.
    """

    options: Options = field(factory=Options)
    screen: Screen = field(factory=Screen)
    stdin: TextIO = field(factory=lambda: sys.stdin)
    yes: bool = False
    pause: Callable[[float], object] = pause
    in_shell: bool = False
    _api: Api | None = None
    _description: Description | None = None

    @property
    def profiles(self) -> Profiles:
        """As they are now."""
        return Profiles.read(self.options.config)

    @property
    def profile_name(self) -> str:
        return self.options.profile or self.profiles.current

    @property
    def profile(self) -> Profile:
        """The one that counts. One that is named must be there."""
        profiles = self.profiles
        name = self.options.profile or profiles.current
        if name not in profiles.all and name != DEFAULT:
            raise usage(f"There is no profile {name!r} in {profiles.path}: qvd --profile {name} login")
        return profiles.get(name)

    @property
    def url(self) -> str:
        """@raise CommandError: nobody said."""
        found = self.options.url or self.profile.url
        if not found:
            raise usage("Which server? Log in first (qvd login --url https://HOST:PORT), or set QVD_URL")
        return found

    @property
    def ca(self) -> Path | None:
        """A profile's goes with the profile's address only."""
        found = self.options.ca or ("" if self.options.url else self.profile.ca)
        return Path(found) if found else None

    @property
    def api(self) -> Api:
        """Calls the server, as whoever is logged in."""
        if self._api is None:
            self._api = self.connect()
        return self._api

    def connect(self) -> Api:
        """A client with what proves who calls. A profile's secrets go to the profile's address and to no other."""
        own = Profile() if self.options.url and not self._is_own() else self.profile
        token = self._given_token() or own.token or None
        session, csrf = (None, None) if token else (own.session or None, own.csrf or None)
        return Api(
            self.url,
            ca=self.ca,
            token=token,
            session=session,
            csrf=csrf,
            timeout=self.options.timeout,
            cache=cache_path(),
        )

    def _is_own(self) -> bool:
        profiles = self.profiles
        known = profiles.get(self.options.profile or profiles.current)
        return known.url.rstrip("/") == self.options.url.rstrip("/")

    def _given_token(self) -> str:
        if self.options.token_file:
            return read_secret(self.options.token_file, self.stdin)
        return os.environ.get("QVD_TOKEN", "")

    def use(self, api: Api) -> None:
        """Call as somebody else from now on."""
        self._api = api

    @property
    def description(self) -> Description:
        """What the API can do."""
        if self._description is None:
            self._description = Description.of(self._document())
        return self._description

    def _document(self) -> Mapping[str, Any]:
        try:
            return self.api.openapi(fresh_for=FRESH)
        except Unreachable:
            # To read what commands there are, an old one is good enough.
            kept = Cache(cache_path(), self.api.url).read()
            if kept is None:
                raise
            return kept.document

    def call(self, method: str, path: str, **more: Any) -> Reply:
        """One call. Where the API wants the password again, it is asked for, if somebody is there to type it."""
        try:
            return self.api.request(method, path, **more)
        except ApiProblem as problem:
            if problem.kind != "reauthentication-required" or self.api.session is None or not self.interactive:
                raise
        self.screen.say("That needs your password again.")
        self.reauthenticate()
        return self.api.request(method, path, **more)

    def reauthenticate(self) -> None:
        """Give the password again; the session gets another cookie, which is written down."""
        from qvd.cli.login import prove_again

        prove_again(self)

    @property
    def interactive(self) -> bool:
        """Whether somebody is there to answer."""
        try:
            return self.stdin.isatty() and self.screen.err.isatty()
        except ValueError:
            return False

    def ask_secret(self, what: str) -> str:
        """A password that is not shown.

        @raise CommandError: nobody is there.
        """
        if not self.interactive:
            raise usage(f"The {what} is not given in arguments, and nobody is there to type it: give it in a file")
        return ask_secret(f"{what[0].upper()}{what[1:]}: ")

    def ask(self, question: str) -> str:
        """A line."""
        if not self.interactive:
            raise usage(f"{question}? Nobody is there to answer")
        answer: str = click.prompt(question, err=True, default="", show_default=False)
        return answer

    def confirm(self, question: str) -> None:
        """Go on if that is meant.

        @raise CommandError: it is not, or nobody is there to say so.
        """
        if self.yes:
            return
        if not self.interactive:
            raise usage(f"{question} Nobody is there to say so: --yes")
        if not click.confirm(question, err=True):
            raise CommandError("Nothing was done.", Exit.FAILED)

    def choose(self, options: Options) -> None:
        """Go on with others: perhaps with another server, or as somebody else."""
        if options != self.options:
            self.options = options
            self.close()

    def close(self) -> None:
        """Forget the connection, and what is known of the server behind it."""
        if self._api is not None:
            self._api.close()
        self._api = self._description = None


def output_options(command: Command) -> Command:
    """Options of each command that writes results. They count from here on, whatever was said further left."""

    def set_format(context: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            screen_of(context).format = value

    def set_header(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            screen_of(context).header = False

    def set_quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            screen_of(context).quiet = True

    decorators = (
        click.option(
            "-o",
            "--output",
            type=click.Choice(FORMATS),
            expose_value=False,
            callback=set_format,
            help="Form of the result.",
        ),
        click.option(
            "--no-header", is_flag=True, expose_value=False, callback=set_header, help="No names above columns."
        ),
        click.option(
            "-q", "--quiet", is_flag=True, expose_value=False, callback=set_quiet, help="Ids alone, and no messages."
        ),
    )
    # Decorators of a function are applied from the last one on; a command takes its options in their order.
    for decorate in decorators if isinstance(command, click.Command) else reversed(decorators):
        command = decorate(command)
    return command


def yes_option(command: Command) -> Command:
    """For what asks before it does something."""

    def set_yes(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Session).yes = True

    decorate = click.option(
        "-y", "--yes", is_flag=True, expose_value=False, callback=set_yes, help="Do not ask whether it is meant."
    )
    return decorate(command)


def screen_of(context: click.Context) -> Screen:
    return context.ensure_object(Session).screen


__all__ = ["ApiError", "Options", "Session", "output_options", "yes_option"]
