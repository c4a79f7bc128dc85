"""A session's files, command lines and environment. All lies in a temporary folder."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from qvd.agent.folders import Folders
from qvd.agent.marker import GuestMarker
from qvd.agent.nxoptions import options_line
from qvd.agent.sessionfiles import SessionFiles
from qvd.agent.xauthority import encode_entry
from qvd.model.errors import InvalidRequest, QVDError, Unavailable
from tests.fakes.agent import ALICE, MARKER, program, settings

COOKIE = bytes(range(16))
NOTHING: Mapping[str, object] = {}


class Maker:
    """Makes L{SessionFiles} whose programs are there, but for what the test changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.run.mkdir()
        self.nxagent = program(folder, "nxagent")
        self.x_session = program(folder, "Xsession")
        self.cookies = [COOKIE]

    def files(self, values: Mapping[str, object] = NOTHING, marker: GuestMarker = MARKER) -> SessionFiles:
        given = {"command.nxagent": self.nxagent, "command.x-session": self.x_session, **values}
        return SessionFiles(settings(given), marker, Folders(self.run, None), self.random)

    def random(self, count: int) -> bytes:
        return self.cookies.pop()[:count]


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.setattr("qvd.agent.sessionfiles.system_environment", lambda lang: {"PATH": "/bin", "LANG": lang})
    return Maker(tmp_path)


def refusal(files: SessionFiles, parameters: Mapping[str, str], kind: type[QVDError]) -> str:
    with pytest.raises(kind) as caught:
        files.check(parameters)
    return caught.value.text


def test_what_is_there_is_good(maker: Maker) -> None:
    maker.files().check({"qvd.client.os": "linux"})
    assert list(maker.run.iterdir()) == []


@pytest.mark.parametrize("key", ["command.nxagent", "command.x-session"])
def test_a_missing_program_is_found_early_and_its_key_named(
    maker: Maker, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(maker.folder)
    plain = maker.folder / "plain"
    plain.touch(mode=0o644)
    for path in ("/no/such/program", str(plain), str(maker.folder), "nxagent", ""):
        text = refusal(maker.files({key: path}), {}, Unavailable)
        assert text.startswith(f"{key}: {path} ")


def test_a_wrong_parameter_is_found_early(maker: Maker) -> None:
    assert "qvd.client.link" in refusal(maker.files(), {"qvd.client.link": "a,b=c"}, InvalidRequest)


def test_the_drivers_session_program_replaces_the_configured_one(maker: Maker) -> None:
    own = program(maker.folder, "own")
    files = maker.files({"command.x-session": "/no/such/program"}, attrs.evolve(MARKER, x_session=own))
    files.check({})
    assert files.write(ALICE, {}).program == (own,)


def test_the_command_line_of_nxagent(maker: Maker) -> None:
    launch = maker.files({"vma.nxagent.extra_args": "-dpi '96 x'"}).write(ALICE, {})
    assert launch.x_server == (
        maker.nxagent,
        *(":55001", "-auth", f"{maker.run}/Xauthority", "-name", "QVD", "-nolisten", "tcp", "-noreset"),
        *("-dpi", "96 x"),
        *("-display", f"nx/nx,options={maker.run}/nxagent.conf:55001"),
    )


def test_the_command_line_of_the_session(maker: Maker) -> None:
    launch = maker.files({"vma.x-session.extra_args": "-a 'b c'"}).write(ALICE, {})
    assert launch.program == (maker.x_session, "-a", "b c")
    assert launch.account == ALICE


@pytest.mark.parametrize("key", ["vma.nxagent.extra_args", "vma.x-session.extra_args"])
def test_arguments_that_are_none_are_refused_by_key(maker: Maker, key: str) -> None:
    with pytest.raises(Unavailable, match=f"{key}: "):
        maker.files({key: "-a 'b"}).write(ALICE, {})


def test_environments(maker: Maker) -> None:
    launch = maker.files({"vma.default.lang": "es_ES.UTF-8"}).write(ALICE, {})
    both = {
        "PATH": "/bin",
        "LANG": "es_ES.UTF-8",
        "HOME": "/home/alice",
        "USER": "alice",
        "LOGNAME": "alice",
        "SHELL": "/bin/sh",
        "XDG_RUNTIME_DIR": f"{maker.run}/user-{ALICE.uid}",
    }
    nx = {"NX_ROOT": f"{maker.run}/nx-{ALICE.uid}", "NX_CLIENT": "/bin/false"}
    assert launch.x_environment == both | nx
    assert launch.environment == both | {"DISPLAY": ":55001", "XAUTHORITY": f"{maker.run}/Xauthority"}
    for folder in (both["XDG_RUNTIME_DIR"], nx["NX_ROOT"]):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700


def test_the_clients_time_zone(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    (maker.folder / "Madrid").touch()
    monkeypatch.setattr("qvd.agent.account.ZONES", maker.folder)
    launch = maker.files().write(ALICE, {"qvd.client.timezone": "Madrid"})
    assert launch.x_environment["TZ"] == launch.environment["TZ"] == "Madrid"


def test_each_session_has_a_cookie_of_its_own(maker: Maker) -> None:
    maker.cookies = [COOKIE[::-1], COOKIE]
    files = maker.files()
    found = []
    for _ in range(2):
        files.write(ALICE, {})
        found.append((maker.run / "Xauthority").read_bytes())
    assert found == [encode_entry(55001, COOKIE), encode_entry(55001, COOKIE[::-1])]
    assert stat.S_IMODE((maker.run / "Xauthority").stat().st_mode) == 0o600


def test_the_options_are_the_clients_and_ours(maker: Maker) -> None:
    parameters = {"qvd.client.geometry": "800x600"}
    for marker, loopback in ((MARKER, True), (attrs.evolve(MARKER, address=""), False)):
        maker.cookies = [COOKIE]
        maker.files({"internal.vma.nxagent.tolerancechecks": "safe"}, marker).write(ALICE, parameters)
        wanted = options_line(parameters, 55001, loopback=loopback, tolerance="safe")
        assert (maker.run / "nxagent.conf").read_text() == wanted


def test_a_resume_writes_the_options_only(maker: Maker) -> None:
    maker.files().write_options(ALICE, {"qvd.client.link": "lan"})
    (found,) = maker.run.iterdir()
    assert found.name == "nxagent.conf"
    assert "link=lan" in found.read_text()
