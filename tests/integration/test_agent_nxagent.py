"""The agent with a real nxagent, its clients real nxproxies."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qvd.protocols.simplerpc import Result, RPCError
from tests.conftest import require
from tests.integration.agent_guest import PATIENCE, PROGRAMS, AgentGuest, Screen, until


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[AgentGuest]:
    require(*PROGRAMS)
    guest = AgentGuest(tmp_path)
    try:
        guest.start()
        yield guest
    finally:
        guest.stop()


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    require(*PROGRAMS)
    screen = Screen(tmp_path)
    yield screen
    screen.stop()


def test_only_the_node_is_answered(guest: AgentGuest) -> None:
    assert guest.call("ping") is None
    assert guest.call("x_state") == "stopped"
    assert guest.ask("ping", secret="not the secret of this guest").head.status == 401
    assert guest.ask("no_such_method").head.status == 404


def test_a_client_connects_goes_and_another_resumes(guest: AgentGuest, screen: Screen) -> None:
    assert guest.x_start() == Result("starting")
    guest.await_state("listening")
    with screen.client(guest.display):
        guest.await_state("connected")
        guest.await_session(1)
    guest.await_state("suspended")
    assert guest.x_start() == Result("starting")
    guest.await_state("listening")
    with screen.client(guest.display):
        guest.await_state("connected")
        assert len(guest.inside("xterm")) == 1
    guest.await_session(1)


def test_a_message_is_shown_to_whoever_is_connected(guest: AgentGuest, screen: Screen) -> None:
    require("xmessage")
    text = "The node stops at 22:00.\nSave your work: ¡ya!"
    nobody = guest.try_call("message", {"text": text})
    assert isinstance(nobody, RPCError) and "Nobody" in nobody.text
    guest.await_listening()
    with screen.client(guest.display):
        guest.await_client()
        assert guest.call("message", text=text) is None
        (shown,) = guest.inside("xmessage")
        assert text in Path(f"/proc/{shown}/cmdline").read_text("utf-8").split("\0")[-2]
        assert isinstance(guest.try_call("message", {"text": "a\x1b[2J"}), RPCError)
        assert guest.inside("xmessage") == [shown]
    guest.await_state("suspended")
    assert isinstance(guest.try_call("message", {"text": text}), RPCError)


def test_the_session_has_its_place_and_its_display_to_itself(guest: AgentGuest, screen: Screen) -> None:
    guest.await_listening()
    with screen.client(guest.display):
        guest.await_session(1)
    environment = (guest.home / "environment").read_text().splitlines()
    for line in ("HOME=/home/alice", "USER=alice", "PWD=/home/alice", f"DISPLAY=:{guest.display}", "SHELL=/bin/bash"):
        assert line in environment
    assert guest.secret not in "".join(environment)
    assert f"name of display:    :{guest.display}" in (guest.home / "screen").read_text()
    assert "unable to open display" in (guest.home / "intruder").read_text()


def test_clients_that_follow_each_other_find_the_same_session(guest: AgentGuest, screen: Screen) -> None:
    guest.await_listening()
    for number in (1, 2, 3, 4):
        with screen.client(guest.display):
            guest.await_client(number)
            # A client that goes within 0.1 s of its start is noticed after 3 s only: nxagent is like that.
            time.sleep(0.5)
        # Without waiting for anything, as in a take-over.
        guest.await_listening()
    guest.await_session(1)


def test_a_client_that_stays_is_thrown_out(guest: AgentGuest, screen: Screen) -> None:
    guest.await_listening()
    with screen.client(guest.display) as older:
        guest.await_client()
        answer = guest.x_start()
        assert isinstance(answer, RPCError)
        assert answer.text == "Can't connect to X session in state connected, suspending it, retry later"
        guest.await_listening()
        older.wait(PATIENCE)
        with screen.client(guest.display):
            guest.await_state("connected")


def test_a_client_that_goes_while_it_negotiates_is_in_nobodys_way(guest: AgentGuest, screen: Screen) -> None:
    guest.await_listening()
    with socket.create_connection(("127.0.0.1", 4000 + guest.display)):
        guest.await_state("connected")
        guest.await_listening()
    with screen.client(guest.display):
        guest.await_client()


def test_a_killed_nxagent_takes_its_session_along_and_the_next_start_works(guest: AgentGuest, screen: Screen) -> None:
    guest.await_listening()
    for number in (1, 2):
        with screen.client(guest.display):
            guest.await_state("connected")
            guest.await_session(number)
            guest.signal_inside("nxagent", signal.SIGKILL)
            guest.await_state("stopped")
        until(lambda: not guest.inside("xterm") and not guest.inside("sleep"), "the end of the session's programs")
        assert guest.x_start() == Result("starting")
        guest.await_state("listening")


def test_the_end_of_the_session_program_is_the_end_of_the_session(guest: AgentGuest, screen: Screen) -> None:
    guest.await_listening()
    with screen.client(guest.display):
        guest.await_session(1)
        until(lambda: guest.inside("xterm"), "the session program")
        guest.signal_inside("xterm", signal.SIGTERM)
        guest.await_state("stopped")
    assert not guest.inside("nxagent")


def test_it_is_suspended_and_stopped_on_request(guest: AgentGuest, screen: Screen) -> None:
    guest.await_listening()
    with screen.client(guest.display):
        guest.await_client()
        assert guest.call("x_suspend") == "starting"
        guest.await_state("suspended")
    assert guest.call("x_suspend") == "suspended"
    assert guest.call("x_stop") == "stopping"
    guest.await_state("stopped")
    assert guest.call("x_stop") == "stopped"


def test_bad_orders_are_refused_with_a_reason(guest: AgentGuest) -> None:
    answer = guest.x_start(**{"qvd.client.link": "adsl,options=/etc/passwd"})
    assert answer == RPCError("invalid characters in parameter qvd.client.link")
    answer = guest.x_start(**{"qvd.vm.user.name": "root"})
    assert answer == RPCError("This VM belongs to the account alice, not to root")
    assert guest.try_call("reboot") == RPCError("cannot reboot: stop and start the VM")
    assert guest.call("x_state") == "stopped"


def test_poweroff_answers_and_ends_the_guest(guest: AgentGuest, screen: Screen) -> None:
    guest.await_listening()
    with screen.client(guest.display):
        guest.await_session(1)
        assert guest.call("poweroff") is None
        assert guest.process is not None
        assert guest.process.wait(PATIENCE) == 0
    assert "X session: terminating to stopped" in guest.log()


def test_term_ends_the_session_in_order(guest: AgentGuest, screen: Screen) -> None:
    guest.await_listening()
    with screen.client(guest.display):
        guest.await_session(1)
        guest.signal_agent(signal.SIGTERM)
        assert guest.process is not None
        guest.process.wait(PATIENCE)
    assert "X session: terminating to stopped" in guest.log()
