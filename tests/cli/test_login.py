"""Logging in and out, with the daemon's own gate."""

from __future__ import annotations

from pathlib import Path

from qvd.cli.profiles import Profiles
from tests.admin.server import Server
from tests.admin.world import ApiWorld
from tests.cli.gate import PASSWORD
from tests.cli.terminal import Terminal
from tests.fakes.asynchronous import asynchronous


def words(gate: Server, *more: str) -> list[str]:
    return ["login", "--url", gate.url, "--ca", str(gate.ca_file), "--name", "anna", "--tenant", "acme", *more]


@asynchronous
async def test_a_token_for_what_follows(terminal: Terminal, gate: Server, api: ApiWorld) -> None:
    done = await terminal.start(*words(gate, "--password-file", "-"), stdin=f"{PASSWORD}\n")
    assert done.status == 0, done.err
    assert (done.out, done.err) == ("", f"Logged in at {gate.url} as anna of acme.\n")
    place = terminal.options.config
    assert place.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in place.read_text()
    profile = Profiles.read(place).get("default")
    assert (profile.url, profile.tenant, profile.name, profile.session) == (gate.url, "acme", "anna", "")
    assert profile.token
    assert (await terminal.start("me", "show", "-o", "json")).json["name"] == "anna"
    assert api.ask("SELECT count(*) AS n FROM administrator_sessions")[0]["n"] == 0, "the session is over"

    again = await terminal.start("login", "--password-file", "-", stdin=PASSWORD)
    assert again.status == 0, again.err
    tokens = api.ask("SELECT id FROM administrator_tokens")
    assert [str(row["id"]) for row in tokens] == [Profiles.read(place).get("default").token_id], "the old one is gone"

    listed = await terminal.start("profiles", "-o", "json")
    assert [(each["name"], each["by"]) for each in listed.json] == [("default", "token")]
    assert profile.token not in listed.out

    away = terminal.at(url="https://localhost:1")
    assert (await away.start("vm", "list")).status == 9
    terminal.interactive, terminal.answers = True, [PASSWORD]
    out = await terminal.start("logout")
    assert out.status == 0, out.err
    assert api.ask("SELECT id FROM administrator_tokens") == []
    assert Profiles.read(place).get("default").token == ""
    assert (await terminal.start("vm", "list")).status == 3


@asynchronous
async def test_a_session(terminal: Terminal, gate: Server, api: ApiWorld) -> None:
    terminal.interactive, terminal.answers = True, [PASSWORD]
    assert (await terminal.start(*words(gate, "--session"))).status == 0
    profile = Profiles.read(terminal.options.config).get("default")
    assert profile.session and profile.csrf and not profile.token
    made = await terminal.start("user", "create", "--name", "carl", "-q")
    assert made.status == 0, made.err

    api.ask("UPDATE administrator_sessions SET authenticated_at = now() - interval '1 day'")
    terminal.answers = [PASSWORD]
    stale = await terminal.start(
        "me", "create-token", "--name", "script", "--scopes", "vm.*", "--expires-at", "2h", "-o", "json"
    )
    assert stale.status == 0, stale.err
    assert "needs your password again" in stale.err
    assert stale.json["token"]
    renewed = Profiles.read(terminal.options.config).get("default")
    assert renewed.session != profile.session
    terminal.interactive = False
    assert (await terminal.start("me", "tokens", "-q")).out == f"{stale.json['id']}\n"
    assert (await terminal.start("logout")).status == 0
    assert api.ask("SELECT count(*) AS n FROM administrator_sessions")[0]["n"] == 0


@asynchronous
async def test_a_one_time_secret_is_replaced(terminal: Terminal, gate: Server, api: ApiWorld, tmp_path: Path) -> None:
    api.ask("UPDATE administrators SET must_change_password = true WHERE id = %s", api.anna.administrator_id)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text(PASSWORD)
    new.write_text("another canary staple\n")
    for each in (old, new):
        each.chmod(0o600)
    refused = await terminal.start(*words(gate, "--password-file", str(old)))
    assert refused.status == 2
    assert "The password must be changed" in refused.err
    done = await terminal.start(*words(gate, "--password-file", str(old), "--new-password-file", str(new)))
    assert done.status == 0, done.err
    assert (await terminal.start("vm", "list")).status == 0
    new.chmod(0o644)
    assert "chmod 600" in (await terminal.start(*words(gate, "--password-file", str(new)))).err


@asynchronous
async def test_who_is_not_let_in(terminal: Terminal, gate: Server) -> None:
    wrong = await terminal.start(*words(gate, "--password-file", "-"), stdin="wrong canary staple")
    assert (wrong.status, "wrong canary" in wrong.err) == (3, False)
    assert not terminal.options.config.exists()
    assert (await terminal.start(*words(gate))).status == 2, "nobody is there to type it"
    untrusted = await terminal.start(
        "login", "--url", gate.url, "--name", "anna", "--password-file", "-", stdin=PASSWORD
    )
    assert untrusted.status == 9
    assert "not trusted" in untrusted.err
    plain = await terminal.start("login", "--url", "http://localhost", "--name", "a", "--password-file", "-", stdin="x")
    assert (plain.status, "https://" in plain.err) == (1, True)
    assert (await terminal.start("logout")).status == 3
    assert (await terminal.start("profiles", "--use", "nobody")).status == 5


@asynchronous
async def test_several_profiles(terminal: Terminal, gate: Server) -> None:
    for name in ("north", "south"):
        at = terminal.at(profile=name)
        assert (await at.start(*words(gate, "--password-file", "-"), stdin=PASSWORD)).status == 0
    assert (await terminal.start("vm", "list")).status == 2, "neither is the default"
    assert (await terminal.start("--profile", "south", "vm", "list")).status == 0
    assert (await terminal.start("profiles", "--use", "north")).status == 0
    assert (await terminal.start("vm", "list")).status == 0
    assert (await terminal.start("profiles", "--remove", "south")).status == 0
    assert (await terminal.start("--profile", "south", "vm", "list")).status == 2
