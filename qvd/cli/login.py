# -*- test-case-name: tests.cli.test_login -*-
"""Log in, log out, and the installations that somebody works with. A password is typed unseen, or in a file."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from qvd.apiclient import Api, ApiError, ApiProblem, BadAnswer
from qvd.apiclient.api import COOKIE
from qvd.cli.exits import CommandError, Exit, usage
from qvd.cli.moments import span, written
from qvd.cli.options import choice
from qvd.cli.profiles import Profile, cache_path, check_name
from qvd.cli.secrets import read_secret
from qvd.cli.session import Session, output_options

LIFETIME = "30d"


@click.command()
@choice("--url", metavar="URL", help="Address of the API: https://HOST:PORT.")
@choice("--ca", metavar="FILE", help="Authorities to trust, instead of the system's.")
@click.option("--name", metavar="NAME", help="Administrator; asked for, if not given.")
@click.option("--tenant", metavar="NAME", help="Tenant; * for administrators over all of them.")
@click.option("--password-file", metavar="FILE", help="First line of a file; - is standard input.")
@click.option("--otp-file", metavar="FILE", help="One-time code, likewise.")
@click.option("--new-password-file", metavar="FILE", help="Where the password must be changed: the new one, likewise.")
@click.option("--scope", "scopes", multiple=True, metavar="ACL", help="What the token may do; * (all), if not given.")
@click.option("--lifetime", default=LIFETIME, metavar="SPAN", help=f"How long the token is good; {LIFETIME}.")
@click.option("--session", "as_session", is_flag=True, help="Keep the session instead of making a token.")
@click.pass_obj
def login(
    session: Session,
    name: str | None,
    tenant: str | None,
    password_file: str | None,
    otp_file: str | None,
    new_password_file: str | None,
    scopes: tuple[str, ...],
    lifetime: str,
    as_session: bool,
) -> None:
    """Log in, and keep what proves it for the commands that follow.

    A token is made, which does what you may do; it is kept in a file that is readable for you alone. What no token
    may do (your own password, tokens, second factor), and what wants your password again, needs --session.
    """
    lasting = span(lifetime)
    if lasting is None or lasting <= timedelta():
        raise usage(f"--lifetime is a span of time, as 8h or 30d, not {lifetime!r}")
    check_name(session.profile_name)
    known = session.profiles.get(session.profile_name)
    url = session.options.url or known.url or session.ask("Address of the API (https://HOST:PORT)")
    same = url.rstrip("/") == known.url.rstrip("/")
    ca = session.options.ca or (known.ca if same else "")
    ca = str(Path(ca).absolute()) if ca else ""
    who = name or (known.name if same else "") or session.ask("Administrator")
    where = tenant if tenant is not None else known.tenant if same else ""
    password = given_secret(session, password_file, "password")
    api = Api(url, ca=Path(ca) if ca else None, timeout=session.options.timeout, cache=cache_path())
    body = enter(session, api, who, where, password, otp_file)
    if body["must_change_password"]:
        change_password(session, api, password, new_password_file)
    made = Profile(url=api.url, ca=ca, tenant=where, name=who)
    made = of_session(made, api) if as_session else with_token(api, made, known, list(scopes) or ["*"], lasting)
    profiles = session.profiles
    profiles.put(session.profile_name, made)
    api.close()
    session.close()
    session.screen.say(f"Logged in at {made.url} as {body['name']} of {body['tenant_name']}.")


def given_secret(session: Session, place: str | None, what: str) -> str:
    return session.ask_secret(what) if place is None else read_secret(place, session.stdin)


def enter(session: Session, api: Api, name: str, tenant: str, password: str, otp_file: str | None) -> Any:
    """Open a session; with a one-time code, if there is a second factor."""
    otp = None if otp_file is None else read_secret(otp_file, session.stdin)
    try:
        return api.log_in(name, password, tenant=tenant, otp=otp)
    except ApiProblem as problem:
        if problem.kind != "otp-required" or otp is not None:
            raise
    return api.log_in(name, password, tenant=tenant, otp=session.ask_secret("one-time code"))


def change_password(session: Session, api: Api, password: str, place: str | None) -> None:
    """A one-time secret is good for nothing else."""
    session.screen.say("The password must be changed.")
    new = given_secret(session, place, "new password")
    if place is None and session.ask_secret("new password again") != new:
        raise CommandError("These are two different passwords. Nothing was changed.")
    api.request("PUT", "/me/password", body={"current": password, "new": new})


def of_session(made: Profile, api: Api) -> Profile:
    assert api.session is not None, "it is logged in"
    cookie, csrf = api.session
    return evolve(made, session=cookie.reveal(), csrf=csrf.reveal())


def with_token(api: Api, made: Profile, known: Profile, scopes: list[str], lasting: timedelta) -> Profile:
    """A token, in the place of the one that the profile had; the session has done its work."""
    if known.token_id and known.url == made.url and known.name == made.name:
        drop_token(api, known.token_id)
    now = datetime.now(UTC)
    expires = written((now + lasting).replace(microsecond=0))
    label = f"qvd on {socket.gethostname()}, {now:%Y-%m-%d %H:%M:%S.%f}"[:64]
    told = api.request("POST", "/me/tokens", body={"name": label, "scopes": scopes, "expires_at": expires}).body
    try:
        api.request("POST", "/auth/logout")
    except ApiError:
        # It ends by itself soon, and the token is there.
        pass
    return evolve(made, token=told["token"], token_id=str(told["id"]), expires_at=expires)


def drop_token(api: Api, number: str) -> None:
    try:
        api.request("DELETE", f"/me/tokens/{number}")
    except ApiProblem as problem:
        if problem.status != 404:
            raise


@click.command()
@click.option("--password-file", metavar="FILE", help="To take the token away: first line of a file; - is stdin.")
@click.option("--forget", is_flag=True, help="Take it out of the file only; the token goes on until it expires.")
@click.pass_obj
def logout(session: Session, password_file: str | None, forget: bool) -> None:
    """Log out: end the session, or take the token away, and forget it.

    A token cannot take itself away, so that needs your password.
    """
    profiles, profile = session.profiles, session.profile
    if profile.session:
        try:
            session.api.request("POST", "/auth/logout")
        except ApiProblem as problem:
            if problem.status != 401:
                raise
    elif profile.token and not forget:
        password = given_secret(session, password_file, f"password of {profile.name}")
        with Api(profile.url, ca=session.ca, timeout=session.options.timeout) as api:
            enter(session, api, profile.name, profile.tenant, password, None)
            drop_token(api, profile.token_id)
            api.request("POST", "/auth/logout")
    elif not profile.token:
        raise CommandError("You are not logged in.", Exit.AUTHENTICATION)
    profiles.put(session.profile_name, profile.without_secrets())
    session.close()
    session.screen.say(f"Logged out of {profile.url}.")


@click.command()
@click.option("--use", metavar="NAME", help="Work with this one from now on.")
@click.option("--remove", metavar="NAME", help="Forget this one.")
@output_options
@click.pass_obj
def profiles(session: Session, use: str | None, remove: str | None) -> None:
    """Show the installations that you work with, or choose one."""
    known = session.profiles
    for name in filter(None, (use, remove)):
        if name not in known.all:
            raise CommandError(f"There is no profile {name!r}", Exit.NOT_FOUND)
    if remove:
        del known.all[remove]
    if use:
        known.current = use
    if use or remove:
        known.write()
        session.close()
    rows = [
        {
            "name": name,
            "current": name == known.current,
            "url": each.url,
            "tenant": each.tenant,
            "administrator": each.name,
            "by": "token" if each.token else "session" if each.session else "",
            "expires_at": each.expires_at or None,
        }
        for name, each in known.all.items()
    ]
    session.screen.rows(rows, ["name", "current", "url", "tenant", "administrator", "by", "expires_at"])


def prove_again(session: Session) -> None:
    """The password again; the session gets another cookie, which is kept."""
    profile = session.profile
    body = {"password": session.ask_secret(f"password of {profile.name}")}
    try:
        reply = session.api.request("POST", "/auth/reauthenticate", body=body)
    except ApiProblem as problem:
        if problem.kind != "otp-required":
            raise
        body["otp"] = session.ask_secret("one-time code")
        reply = session.api.request("POST", "/auth/reauthenticate", body=body)
    cookie = SimpleCookie(reply.headers.get("set-cookie", "")).get(COOKIE)
    if cookie is None:
        raise BadAnswer("The session was not renewed")
    renewed = evolve(profile, session=cookie.value, csrf=str(reply.body["csrf_token"]))
    session.profiles.put(session.profile_name, renewed)
    session.use(session.connect())
