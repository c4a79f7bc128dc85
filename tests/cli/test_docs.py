"""What docs/cli.md shows is what there is: its commands run, section after section."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from twisted.internet.task import LoopingCall

from qvd.cli.exits import Exit
from qvd.cli.program import program
from qvd.demo.seed import write_cli_files
from tests.admin.desks import Desks
from tests.admin.server import Server
from tests.cli.gate import PASSWORD
from tests.cli.terminal import Run, Terminal
from tests.fakes.asynchronous import asynchronous, until

ROOT = Path(__file__).resolve().parents[2]
PAGE, README, MANUAL = ROOT / "docs/cli.md", ROOT / "README.md", ROOT / "debian/qvd.1"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
CRON = re.compile(r"^[0-9*/]+(?: \S+){4}  (?=qvd )", re.M)


def blocks(text: str) -> list[str]:
    """What runs here. Others (C{console}, C{yaml}) show what other tests run."""
    return [block for kind, block in BLOCK.findall(text) if kind in ("", "sh")]


def sections() -> Iterator[tuple[str, list[str]]]:
    """Titles, and the commands below them."""
    for part in re.split(r"\n##+ ", PAGE.read_text())[1:]:
        lines = [line for block in blocks(part) for line in CRON.sub("", block).splitlines()]
        commands = [line for line in lines if "qvd " in line and "OBJECT VERB" not in line]
        if commands:
            yield part.partition("\n")[0], commands


def readme_lines() -> list[str]:
    """The README's examples, without the login."""
    section = README.read_text().partition("## Command line")[2]
    return [line for line in blocks(section)[0].splitlines() if line.startswith("qvd ")][1:]


def manual_lines() -> list[str]:
    """The same of the manual page."""
    examples = MANUAL.read_text().partition(".SH EXAMPLES")[2]
    found = re.findall(r"^\.RS\n(.*)\n\.RE$", examples, re.M)
    return [line.replace("\\-", "-").replace("\\(aq", "'") for line in found]


SECTIONS = [each for each in sections() if each[0] != "Log in"]
"""Logging in has tests of its own."""


class Node:
    """Does what VMs are ordered, at once; and has users connect."""

    def __init__(self, desks: Desks) -> None:
        self._desks = desks
        self.turns = LoopingCall(self.turn)

    def turn(self) -> None:
        api = self._desks.api
        for row in api.ask("SELECT vm_id, desired_state FROM vm_runtimes WHERE vm_state <> desired_state"):
            if row["desired_state"] == "stopped":
                api.ask(
                    "UPDATE sessions SET state = 'disconnected', ended_at = now()"
                    " WHERE vm_id = %s AND ended_at IS NULL",
                    row["vm_id"],
                )
                api.ask("UPDATE vm_runtimes SET session_id = NULL WHERE vm_id = %s", row["vm_id"])
            self._desks.be(row["desired_state"], row["vm_id"])
            if row["desired_state"] == "running":
                self._desks.connect(row["vm_id"])


@pytest.mark.parametrize(("title", "commands"), SECTIONS, ids=[title for title, _ in SECTIONS])
@asynchronous
async def test_commands_run(
    title: str,
    commands: Sequence[str],
    boss: Terminal,
    desks: Desks,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "office.yaml").write_text("memory: 1073741824\n")
    if title != "Do":
        for name in ("lab-1", "lab-2"):
            desks.new_vm(desks.api.acme, desks.user, desks.osf, name)
    node = Node(desks)
    node.turns.start(0.05)
    try:
        for command in commands:
            if "vm create" in command:
                give_an_image(desks)
            if "--filter 'osf=office" in command:
                desks.api.ask("UPDATE osfs SET name = 'office' WHERE id = %s", desks.osf)
            found = await result(boss, command, desks, server)
            assert found.status == Exit.DONE, (command, found.err)
    finally:
        node.turns.stop()


def give_an_image(desks: Desks) -> None:
    """To what was made before."""
    [osf] = desks.api.ask("SELECT id, tenant_id FROM osfs WHERE name = 'office'")
    di = desks.api.insert(
        "dis (tenant_id, osf_id, path, version) VALUES (%s, %s, '', '1')", osf["tenant_id"], osf["id"]
    )
    desks.api.ask("INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'default', %s)", osf["id"], di)


async def result(boss: Terminal, command: str, desks: Desks, server: Server) -> Run:
    before, _, words = command.rpartition("qvd ")
    if before.startswith("printf "):
        text = shlex.split(before)[1].replace("\\n", "\n")
        return await boss.start(*shlex.split(words), stdin=text)
    args = shlex.split(words)
    if args[0] != "events":
        return await boss.start(*args)
    if "--count" in args:
        args[args.index("--count") + 1] = "1"
    else:
        args += ["--count", "1"]
    watching = boss.start(*args)
    await until(lambda: server.composition.feed.streams, "it listens")
    assert (await boss.start("vm", "start", "lab-1")).status in (0, 6)
    assert (await boss.start("vm", "set", "lab-1", "--description", "watched")).status == 0
    return await watching


def test_the_page_has_the_statuses_and_the_options() -> None:
    text = PAGE.read_text()
    for each in Exit:
        assert f"\n| {each.value} |" in text
    for option in program.params:
        assert option.opts[-1] in text or option.opts[0] in text or option.name in ("version", "help")
    assert sum(len(commands) for _, commands in SECTIONS) >= 25


def test_fifteen_examples() -> None:
    assert len(readme_lines()) == 15
    assert manual_lines() == readme_lines()


@asynchronous
async def test_examples_run_for_the_owner_of_a_tenant(
    terminal: Terminal, gate: Server, desks: Desks, tmp_path: Path
) -> None:
    """As the demo's administrator is one, who logs in with what the demo has written."""
    place = tmp_path / "demo"
    place.mkdir()
    credentials = {"admin_url": f"{gate.url}/", "ca_file": str(gate.ca_file), "tenant": "acme"}
    write_cli_files(place, {**credentials, "admin_user": "anna", "admin_password": PASSWORD})
    demo = terminal.at(config=place / "cli.toml")
    entered = await demo.start("login", "--password-file", str(place / "password"))
    assert entered.status == Exit.DONE, entered.err
    desks.api.ask("UPDATE osfs SET name = 'Debian desktop' WHERE id = %s", desks.osf)
    desks.api.ask("INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%s, 'default', %s)", desks.osf, desks.di)
    node = Node(desks)
    node.turns.start(0.05)
    try:
        for command in readme_lines():
            found = await demo.start(*shlex.split(command)[1:])
            assert found.status == Exit.DONE, (command, found.err)
    finally:
        node.turns.stop()
