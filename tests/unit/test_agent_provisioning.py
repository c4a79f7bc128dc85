"""Accounts: what is refused, what is made, and that nothing is ever deleted. Nothing is run: lines are recorded."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from qvd.agent.account import Account, assignments, session_environment, system_environment
from qvd.agent.hooks import Hooks
from qvd.agent.provisioning import IAccounts, OwnAccount, RootProvisioner, owner_of, read_wish
from qvd.model.errors import InvalidRequest, QVDError, Unavailable
from qvd.model.settings import parse
from qvd.model.settings_vma import VMA_KEYS
from qvd.model.xsession import XState
from tests.fakes.case import Case
from tests.fakes.nx import FakeRunner

DEFAULTS = parse({}, VMA_KEYS, "vma.conf")


def entry(login: str, uid: int, home: str) -> pwd.struct_passwd:
    return pwd.struct_passwd((login, "x", uid, uid, "", home, "/bin/bash"))


@implementer(IAccounts)
class FakeAccounts:
    """Accounts of a guest that is not there."""

    def __init__(self) -> None:
        self.users = {"root": entry("root", 0, "/root"), "daemon": entry("daemon", 1, "/")}
        self.users["nobody"] = entry("nobody", 65534, "/")
        self.groups = {"qvduser": 990, "wheel": 0}

    def user(self, login: str) -> pwd.struct_passwd:
        return self.users[login]

    def group(self, name: str) -> grp.struct_group:
        return grp.struct_group((name, "x", self.groups[name], []))


class RootTests(Case):
    def setUp(self) -> None:
        self.accounts = FakeAccounts()
        self.runner = FakeRunner()
        self.runner.effect = self.make
        self.makes = True
        self.values: dict[str, object] = {}

    def make(self, argv: Sequence[str]) -> None:
        """What C{useradd}, or a hook for it, does."""
        if self.makes and argv[0] in ("/usr/sbin/useradd", "/hook/add_user"):
            self.accounts.users["alice"] = entry("alice", 1001, "/home/alice")

    def provision(self, **parameters: str) -> Deferred[Account]:
        settings = parse(self.values, VMA_KEYS, "vma.conf")
        hooks = Hooks(self.runner, settings, lambda: XState.PROVISIONING)
        given = {f"qvd.vm.user.{name}": value for name, value in parameters.items()}
        return self.begin(RootProvisioner(settings, self.runner, hooks, self.accounts).provision(given))

    def programs(self) -> list[str]:
        return [argv[0] for argv in self.runner.ran]

    def test_an_account_that_is_there_is_taken(self) -> None:
        self.accounts.users["alice"] = entry("alice", 1001, "/home/alice")
        assert self.result(self.provision(name="alice")) == Account(
            "alice", 1001, 1001, "/home/alice", "/bin/bash", True
        )
        assert self.runner.ran == []

    def test_one_that_is_missing_is_made(self) -> None:
        account = self.result(self.provision(name="alice"))
        assert (account.uid, account.switch) == (1001, True)
        assert self.runner.ran == [
            ["/usr/sbin/groupadd", "alice"],
            "/usr/sbin/useradd -m -d /home/alice -g alice -s /bin/bash -G qvduser alice".split(),
        ]

    def test_a_home_that_is_there_keeps_its_owner(self) -> None:
        """The account was lost with the last run's root file system, and the home was not."""
        self.values = {"vma.user.home.path": "/somewhere"}
        with patch("qvd.agent.provisioning.owner_of", return_value=1234) as asked:
            self.result(self.provision(name="alice"))
        asked.assert_called_once_with("/somewhere/alice")
        assert self.runner.ran[-1][-3:] == ["-u", "1234", "alice"]

    def test_numbers_groups_and_home_can_be_given(self) -> None:
        self.accounts.groups["audio"] = 29
        self.result(
            self.provision(
                name="alice", uid="1500", gid="1600", group="staff", groups=" audio, no-such,", home="/home/a"
            )
        )
        assert self.runner.ran == [
            "/usr/sbin/groupadd -g 1600 staff".split(),
            "/usr/sbin/useradd -m -d /home/a -g staff -s /bin/bash -G audio -u 1500 alice".split(),
        ]

    def test_a_group_that_is_there_already_is_no_obstacle(self) -> None:
        self.runner.failing = {"/usr/sbin/groupadd"}
        self.result(self.provision(name="alice"))
        assert self.programs() == ["/usr/sbin/groupadd", "/usr/sbin/useradd"]

    def test_a_failure_deletes_nothing(self) -> None:
        self.runner.failing = {"/usr/sbin/useradd"}
        self.failure(self.provision(name="alice"), Unavailable)
        assert self.programs() == ["/usr/sbin/groupadd", "/usr/sbin/useradd"]

    def test_a_success_that_is_none_is_noticed(self) -> None:
        self.makes = False
        assert "was not made" in self.failure(self.provision(name="alice"), Unavailable).text

    def test_without_a_name_there_is_a_default(self) -> None:
        self.makes = False
        self.failure(self.provision(), Unavailable)
        assert self.runner.ran[-1][-1] == "qvd"

    def test_hooks_take_over(self) -> None:
        for name in ("mount_home", "add_user", "after_add_user"):
            self.values[f"vma.on_provisioning.{name}"] = f"/hook/{name}"
        self.result(self.provision(name="alice", home="/home/that-is-not-there"))
        assert self.programs() == ["/hook/mount_home", "/hook/add_user", "/hook/after_add_user"]

    def test_a_hook_that_fails_ends_it(self) -> None:
        self.values["vma.on_provisioning.mount_home"] = "/hook/mount_home"
        self.runner.failing = {"/hook/mount_home"}
        self.failure(self.provision(name="alice", home="/home/that-is-not-there"), Unavailable)
        assert self.programs() == ["/hook/mount_home"]

    def test_system_accounts_are_refused(self) -> None:
        for login in ("root", "daemon", "nobody"):
            self.failure(self.provision(name=login), InvalidRequest)
        self.accounts.users["alice"] = entry("alice", 0, "/root")
        self.failure(self.provision(name="alice"), InvalidRequest)
        assert self.runner.ran == []

    def test_roots_group_is_refused(self) -> None:
        self.failure(self.provision(name="alice", groups="wheel"), InvalidRequest)
        assert "/usr/sbin/useradd" not in self.programs()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("name", login) for login in ("-r", "Alice", "a b", "a:b", "../x", "a\n", "root", "x" * 33, "é", "0")),
        *(("group", group) for group in ("-g", "root", "a,b")),
        *(("groups", groups) for groups in ("audio,-x", "root")),
        *(("uid", uid) for uid in ("0", "999", "65534", "-1", "x", "1e3", "4294967295", "99999999999", "²")),
        *(("gid", gid) for gid in ("0", "999")),
        *(
            ("home", home)
            for home in ("/", "/home", "/etc", "/homely/x", "/home/../etc", "home/x", "/home/a b", "/home/a\n")
        ),
    ],
)
def test_what_cannot_be_an_account_is_refused(name: str, value: str) -> None:
    parameters = {"qvd.vm.user.name": "alice", f"qvd.vm.user.{name}": value}
    with pytest.raises(InvalidRequest, match=f"qvd.vm.user.{name}"):
        read_wish(parameters, DEFAULTS)


def test_an_agent_that_is_a_user_is_that_user() -> None:
    own = OwnAccount(entry("alice", 1000, "/elsewhere"), "/home/alice")
    account = Account("alice", 1000, 1000, "/home/alice", "/bin/bash", False)
    for parameters in ({}, {"qvd.vm.user.name": "alice"}):
        assert outcome(own, parameters) == account
    assert outcome(own, {"qvd.vm.user.name": "bob"}) == "This VM belongs to the account alice, not to bob"
    assert account.ids == (None, None)


def outcome(own: OwnAccount, parameters: dict[str, str]) -> Account | str:
    found: list[Account | str] = []

    async def ask() -> None:
        try:
            found.append(await own.provision(parameters))
        except QVDError as error:
            found.append(error.text)

    Deferred.fromCoroutine(ask())
    return found[0]


ALICE = Account("alice", 1001, 1002, "/home/alice", "/bin/bash", True)


def test_a_session_finds_its_own_environment() -> None:
    found = session_environment(ALICE, {"PATH": "/bin", "HOME": "/root", "LANG": "C"}, Path("/run/qvd/user-1001"), "")
    assert found == {
        "PATH": "/bin",
        "LANG": "C",
        "HOME": "/home/alice",
        "USER": "alice",
        "LOGNAME": "alice",
        "SHELL": "/bin/bash",
        "XDG_RUNTIME_DIR": "/run/qvd/user-1001",
    }
    assert ALICE.ids == (1001, 1002)


@pytest.mark.parametrize("zone", ["", "Nowhere/Land", "../../etc/passwd", "/etc/passwd", "Europe/", "a\nb"])
def test_a_time_zone_that_is_none_is_left_out(zone: str) -> None:
    assert "TZ" not in session_environment(ALICE, {}, Path("/x"), zone)


def test_a_time_zone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe/Madrid").touch()
    monkeypatch.setattr("qvd.agent.account.ZONES", tmp_path)
    assert session_environment(ALICE, {}, Path("/x"), "Europe/Madrid")["TZ"] == "Europe/Madrid"


def test_the_systems_files_are_read(tmp_path: Path) -> None:
    file = tmp_path / "locale"
    file.write_text("# a comment\nLANG=\"es_ES.UTF-8\"\nexport  LC_ALL='C'\nnonsense\nX=\n")
    assert system_environment("C", [str(file), "/no/such/file"])["LANG"] == "es_ES.UTF-8"
    assert assignments(file.read_text()) == {"LANG": "es_ES.UTF-8", "LC_ALL": "C", "X": ""}
    assert system_environment("C", [])["LANG"] == "C"


@pytest.mark.parametrize(("owner", "taken"), [(1000, 1000), (65534, None), (0, None), (999, None)])
def test_only_a_persons_number_is_taken_from_a_home(owner: int, taken: int | None) -> None:
    with patch("qvd.agent.provisioning.os.lstat") as status:
        status.return_value.st_uid = owner
        assert owner_of("/home/alice") == taken


def test_a_home_that_is_not_there_has_no_owner(tmp_path: Path) -> None:
    assert owner_of(str(tmp_path / "nobody")) is None
