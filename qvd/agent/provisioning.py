# -*- test-case-name: tests.unit.test_agent_provisioning -*-
"""
The account of the session's user.

Root's agent makes it where it is missing; any other agent is the user itself and makes nothing. What exists is told by
exceptions, never by truth values (root's id is 0), root and system accounts are refused, and nothing is ever deleted:
no account, no folder.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from attrs import field, frozen
from twisted.logger import Logger
from zope.interface import Interface, implementer

from qvd.agent.account import Account
from qvd.agent.hooks import Hooks
from qvd.agent.processes import IProcessRunner
from qvd.model.errors import InvalidRequest, QVDError, Unavailable
from qvd.model.settings import Settings

NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}\Z")
HOME = re.compile(r"/[A-Za-z0-9_.@/-]{1,200}\Z")
DEADLINE = 30.0
FIRST_ID = 1000
NOBODY = 65534
LAST_ID = 2**32 - 2


class IAccounts(Interface):
    """The system's own list of accounts."""

    def user(login: str) -> pwd.struct_passwd:
        """@raise KeyError: there is none."""

    def group(name: str) -> grp.struct_group:
        """@raise KeyError: there is none."""


class IProvisioner(Interface):
    """Finds or makes the account of a session."""

    async def provision(parameters: Mapping[str, str]) -> Account:
        """The account that the session's parameters name.

        @raise QVDError: it cannot be had; a sentence for the user.
        """


@implementer(IAccounts)
class SystemAccounts:
    """The accounts as the C library finds them."""

    def user(self, login: str) -> pwd.struct_passwd:
        return pwd.getpwnam(login)

    def group(self, name: str) -> grp.struct_group:
        return grp.getgrnam(name)


@implementer(IProvisioner)
@frozen
class OwnAccount:
    """For an agent that is not root: it runs as the user that its driver made.

    @ivar home: replaces the one of the account, where the driver says so.
    """

    entry: pwd.struct_passwd
    home: str | None

    async def provision(self, parameters: Mapping[str, str]) -> Account:
        login = parameters.get("qvd.vm.user.name", self.entry.pw_name)
        if login != self.entry.pw_name:
            raise InvalidRequest(f"This VM belongs to the account {self.entry.pw_name}, not to {login}")
        home = self.home or self.entry.pw_dir
        return Account(login, self.entry.pw_uid, self.entry.pw_gid, home, self.entry.pw_shell or "/bin/sh", False)


@frozen
class AccountWish:
    """What the parameters say about an account, checked."""

    login: str
    uid: int | None
    gid: int | None
    group: str
    groups: tuple[str, ...]
    home: str


@implementer(IProvisioner)
@frozen
class RootProvisioner:
    """For root's agent in a guest. To be made only where the driver's marker was found."""

    log = Logger()

    settings: Settings
    runner: IProcessRunner
    hooks: Hooks
    accounts: IAccounts = field(factory=SystemAccounts)

    async def provision(self, parameters: Mapping[str, str]) -> Account:
        wish = read_wish(parameters, self.settings)
        found = self._find(wish.login)
        if not is_folder(found.home if found else wish.home):
            await self.hooks.provision("mount_home", parameters)
        if found is None:
            if not await self.hooks.provision("add_user", parameters):
                await self._make(wish)
            await self.hooks.provision("after_add_user", parameters)
            found = self._find(wish.login)
        if found is None:
            raise Unavailable(f"The account {wish.login} was not made")
        return found

    def _find(self, login: str) -> Account | None:
        """@raise InvalidRequest: the account is there, but not one of a person."""
        try:
            entry = self.accounts.user(login)
        except KeyError:
            return None
        if not FIRST_ID <= entry.pw_uid <= LAST_ID or entry.pw_uid == NOBODY:
            raise InvalidRequest(f"{login} is an account of the system")
        shell = entry.pw_shell or "/bin/sh"
        return Account(login, entry.pw_uid, entry.pw_gid, entry.pw_dir, shell, True)

    async def _make(self, wish: AccountWish) -> None:
        number = ["-g", str(wish.gid)] if wish.gid is not None else []
        try:
            await self.runner.run([self.settings.text("command.groupadd"), *number, wish.group], DEADLINE)
        except QVDError as error:
            # It may be there already; useradd tells when it is not.
            self.log.info("group {group}: {error}", group=wish.group, error=error.text)
        argv = [self.settings.text("command.useradd"), "-m", "-d", wish.home, "-g", wish.group]
        argv += ["-s", self.settings.text("vma.user.shell")]
        groups = [name for name in wish.groups if self._has_group(name)]
        argv += ["-G", ",".join(groups)] if groups else []
        uid = owner_of(wish.home) if wish.uid is None else wish.uid
        argv += ["-u", str(uid)] if uid is not None else []
        await self.runner.run([*argv, wish.login], DEADLINE)

    def _has_group(self, name: str) -> bool:
        """A further group that is not there would make C{useradd} fail."""
        try:
            entry = self.accounts.group(name)
        except KeyError:
            self.log.warn("group {group} does not exist; left out", group=name)
            return False
        if entry.gr_gid == 0:
            raise InvalidRequest(f"{name} is root's group")
        return True


def owner_of(home: str) -> int | None:
    """Whose a home is that outlived its account: a new account has the number of the old one, or could not use it.
    L{None} where there is no home, or nobody's who may have one."""
    try:
        found = os.lstat(home)
    except OSError:
        return None
    return found.st_uid if FIRST_ID <= found.st_uid <= LAST_ID and found.st_uid != NOBODY else None


def is_folder(path: str) -> bool:
    return os.path.isdir(path)


def read_wish(parameters: Mapping[str, str], settings: Settings) -> AccountWish:
    """What is wanted of an account.

    @raise InvalidRequest: it cannot be; the text names the parameter.
    """
    login = account_name(
        "qvd.vm.user.name", parameters.get("qvd.vm.user.name") or settings.text("vma.user.default.name")
    )
    group = account_name("qvd.vm.user.group", parameters.get("qvd.vm.user.group") or login)
    further = parameters.get("qvd.vm.user.groups", settings.text("vma.user.default.groups"))
    names = ("".join(name.split()) for name in further.split(","))
    return AccountWish(
        login=login,
        uid=account_number("qvd.vm.user.uid", parameters),
        gid=account_number("qvd.vm.user.gid", parameters),
        group=group,
        groups=tuple(account_name("qvd.vm.user.groups", name) for name in names if name),
        home=home_folder(parameters.get("qvd.vm.user.home", ""), login, settings.text("vma.user.home.path")),
    )


def account_name(key: str, value: str) -> str:
    if not NAME.match(value) or value == "root":
        raise InvalidRequest(f"{key}: {value!r} cannot be the name of a user's account or group")
    return value


def account_number(key: str, parameters: Mapping[str, str]) -> int | None:
    value = parameters.get(key, "")
    if not value:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 11):
        raise InvalidRequest(f"{key}: {value!r} is no number")
    number = int(value)
    if not FIRST_ID <= number <= LAST_ID or number == NOBODY:
        raise InvalidRequest(f"{key}: {number} belongs to the system")
    return number


def home_folder(value: str, login: str, top: str) -> str:
    """The home: a folder below C{top}."""
    home = value or f"{top}/{login}"
    path = PurePosixPath(home)
    if not HOME.match(home) or ".." in path.parts or PurePosixPath(top) not in path.parents:
        raise InvalidRequest(f"qvd.vm.user.home: {home!r} is no folder below {top}")
    return str(path)
