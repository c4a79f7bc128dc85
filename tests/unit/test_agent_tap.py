"""How the agent is put together. The reactor is one in memory; nothing is run, and no account is touched."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.usage import UsageError

from qvd.agent.folders import Folders
from qvd.agent.homedisk import HomeFirst
from qvd.agent.hooks import Hooks
from qvd.agent.power import ANSWER_SECONDS
from qvd.agent.provisioning import OwnAccount, RootProvisioner
from qvd.agent.service import AgentService
from qvd.agent.tap import Options, choose_provisioner, makeService, open_log, read_settings
from qvd.model.errors import SettingsError
from qvd.model.xsession import XState
from qvd.protocols.simplerpc import encode_result
from tests.fakes.agent import MARKER, SECRET, settings
from tests.fakes.nx import FakeRunner, ProcessClock


class GuestReactor(ProcessClock, MemoryReactorClock):
    """A reactor that has processes and ports, and neither for real."""


class Guest:
    """The files of a guest, in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "vma.conf"
        self.marker = folder / "guest.json"
        self.mark()
        self.configure()

    def mark(self, **values: object) -> None:
        whole = {"driver": "sandbox", "vm_id": 9, "secret": SECRET, "address": "127.0.0.1", "display": 55001}
        self.marker.write_text(json.dumps({**whole, **values}))

    def configure(self, *lines: str) -> None:
        places = {"vma.guest_file": self.marker, "path.run": self.folder / "run", "path.log": self.folder / "log"}
        text = "\n".join([*(f'{key} = "{path}"' for key, path in places.items()), *lines])
        self.config.write_text(text + "\n")

    def options(self, *arguments: str) -> Options:
        options: Options = cast(Any, Options)()
        options.parseOptions(arguments or ("--config", str(self.config)))  # type: ignore[no-untyped-call]
        return options

    def refusal(self, *arguments: str) -> str:
        with pytest.raises(UsageError) as caught:
            self.options(*arguments)
        return str(caught.value)


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


class Running:
    """An agent that was started on a reactor in memory."""

    def __init__(self, options: Options, reactor: GuestReactor) -> None:
        self.reactor = reactor
        self.memory: Any = reactor
        service = makeService(options)
        assert isinstance(service, AgentService)
        self.service = service
        service.startService()
        ((_, factory, _, _),) = self.memory.tcpServers
        self.factory: Any = factory

    def call(self, method: str, secret: str = SECRET) -> bytes:
        protocol = self.factory.buildProtocol(None)
        transport = cast(Any, StringTransport)()
        protocol.makeConnection(transport)
        protocol.dataReceived(f"GET /vma/{method} HTTP/1.1\r\nAuthorization: Bearer {secret}\r\n\r\n".encode())
        return bytes(transport.value())


@pytest.fixture
def run(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Running]:
    def start() -> Running:
        reactor = GuestReactor()
        steady: list[object] = []
        monkeypatch.setattr("qvd.agent.tap.the_reactor", reactor)
        monkeypatch.setattr("qvd.agent.tap.count_on_uptime", steady.append)
        running = Running(guest.options(), reactor)
        assert steady == [reactor]
        return running

    return start


def test_all_is_read_before_the_start(guest: Guest) -> None:
    guest.configure("vma.user.default.name = 'alice'")
    options = guest.options()
    assert options.settings.text("vma.user.default.name") == "alice"
    assert (options.marker.driver, options.marker.vm_id, options.marker.display) == ("sandbox", 9, 55001)
    assert options.folders == Folders(guest.folder / "run", guest.folder / "log")


def test_port_and_display_are_the_configurations_where_the_driver_names_none(guest: Guest) -> None:
    guest.mark(display=None)
    guest.configure("internal.vm.port.vma = 3131", "internal.nxagent.display = 77")
    marker = guest.options().marker
    assert (marker.vma_port, marker.display) == (3131, 77)


def test_without_the_drivers_file_there_is_no_agent_and_nothing_is_made(guest: Guest) -> None:
    guest.marker.unlink()
    assert f"{guest.marker}: " in guest.refusal("-c", str(guest.config))
    guest.marker.write_text("{}")
    assert "driver: missing" in guest.refusal("-c", str(guest.config))
    assert not (guest.folder / "run").exists()


def test_without_a_folder_there_is_no_agent(guest: Guest) -> None:
    guest.config.write_text(f'vma.guest_file = "{guest.marker}"\npath.run = "a, b"\n')
    assert "path.run" in guest.refusal("-c", str(guest.config))


def test_a_configuration_that_cannot_be_used_is_named(guest: Guest) -> None:
    for text, said in (
        (b"a = b", "Invalid value"),
        (b"no.such.key = 1", "no.such.key: unknown key"),
        (b"internal.nxagent.display = 'x'", "expected int"),
        (b"\xff", "utf-8"),
    ):
        guest.config.write_bytes(text)
        refusal = guest.refusal("-c", str(guest.config))
        assert refusal.startswith(f"{guest.config}: ")
        assert said in refusal
    assert "no such file" in guest.refusal("-c", str(guest.folder / "missing"))
    assert "Is a directory" in guest.refusal("-c", str(guest.folder))


def test_only_the_usual_file_may_be_missing(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qvd.agent.tap.CONFIG", str(guest.folder / "missing"))
    assert read_settings(None).values == settings().values
    with pytest.raises(SettingsError, match="no such file"):
        read_settings(str(guest.folder / "missing"))
    monkeypatch.setattr("qvd.agent.tap.CONFIG", str(guest.config))
    assert read_settings(None).text("vma.guest_file") == str(guest.marker)


def test_the_node_reaches_the_x_session(run: Callable[[], Running]) -> None:
    agent = run()
    assert agent.call("x_state") == encode_result("stopped")
    assert agent.call("ping") == encode_result(None)
    assert agent.call("x_state", "wrong").startswith(b"HTTP/1.1 401 ")


def test_all_calls_are_there(run: Callable[[], Running]) -> None:
    agent = run()
    for method in ("x_suspend", "x_stop", "expire", "x_start", "reboot"):
        # These two are refused: nothing of it is to be begun here.
        argument = {"x_start": "?qvd.client.link=a,b"}.get(method, "")
        assert agent.call(method + argument).startswith(b"HTTP/1.1 200 "), method
    assert agent.call("nothing").startswith(b"HTTP/1.1 404 ")


def test_the_end_of_a_sandboxs_agent_is_the_end_of_the_guest(run: Callable[[], Running]) -> None:
    agent = run()
    assert agent.call("poweroff") == encode_result(None)
    assert not agent.memory.hasStopped
    agent.reactor.advance(ANSWER_SECONDS)
    assert agent.memory.hasStopped
    assert agent.reactor.spawned == []


def test_a_machine_of_its_own_is_turned_off_by_its_command(guest: Guest, run: Callable[[], Running]) -> None:
    guest.mark(driver="kvm")
    guest.configure("command.poweroff = '/bin/true off'")
    agent = run()
    agent.call("poweroff")
    agent.reactor.advance(ANSWER_SECONDS)
    assert [program.argv for program in agent.reactor.spawned] == [("/bin/true", "off")]
    assert not agent.memory.hasStopped


def test_hooks_are_told_the_state_and_find_the_systems_environment(guest: Guest, run: Callable[[], Running]) -> None:
    guest.configure("vma.on_action.expire = '/bin/true'", "vma.on_state.disconnected = '/bin/false'")
    agent = run()
    agent.call("expire?a=b")
    at_start, hook = agent.reactor.spawned
    assert at_start.argv == ("/bin/false", "qvd.hook.on_state", XState.STOPPED.value)
    assert hook.argv == ("/bin/true", "a", "b", "qvd.vm.session.state", "stopped", "qvd.hook.on_action", "expire")
    assert {"PATH", "LANG"} <= hook.options["env"].keys()
    hook.say("said\n")
    assert (guest.folder / "log" / "qvd-hooks.log").read_text() == "said\n"


def test_without_a_log_folder_nothing_is_kept(tmp_path: Path) -> None:
    open_log(Folders(tmp_path, None), "x.log").write(b"x")
    assert list(tmp_path.iterdir()) == []


class TestProvisioner:
    """Who makes accounts, and who never does."""

    @pytest.fixture(autouse=True)
    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def choose(self, uid: int, driver: str) -> object:
        self.monkeypatch.setattr(os, "getuid", lambda: uid)
        runner = FakeRunner()
        hooks = Hooks(runner, settings(), lambda: XState.STOPPED)
        return choose_provisioner(
            cast(Any, GuestReactor)(), attrs.evolve(MARKER, driver=driver), settings(), cast(Any, runner), hooks
        )

    def test_only_root_in_a_machine_of_its_own_makes_accounts(self) -> None:
        assert isinstance(self.choose(0, "lxc"), RootProvisioner)

    def test_a_virtual_machine_has_a_disk_for_homes(self) -> None:
        chosen = self.choose(0, "kvm")
        assert isinstance(chosen, HomeFirst)
        assert (chosen.disk.device, chosen.disk.place) == ("/dev/vdb", "/home")
        assert isinstance(chosen.then, RootProvisioner)

    def test_a_sandboxs_agent_is_the_user_even_as_root(self) -> None:
        assert self.choose(0, "sandbox") == OwnAccount(pwd.getpwuid(0), "/home/alice")

    def test_a_users_agent_is_that_user(self) -> None:
        entry = pwd.struct_passwd(("alice", "x", 1001, 1001, "", "/home/a", "/bin/sh"))
        self.monkeypatch.setattr(pwd, "getpwuid", {1001: entry}.__getitem__)
        assert self.choose(1001, "kvm") == OwnAccount(entry, "/home/alice")

    def test_an_agent_without_an_account_does_not_start(self) -> None:
        nobody: dict[int, pwd.struct_passwd] = {}
        self.monkeypatch.setattr(pwd, "getpwuid", nobody.__getitem__)
        with pytest.raises(SystemExit) as caught:
            self.choose(4711, "sandbox")
        assert "user id 4711" in str(caught.value.code)
