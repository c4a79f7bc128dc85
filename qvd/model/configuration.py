# -*- test-case-name: tests.unit.test_model_configuration -*-
"""
What administrators configure in the database: each key with its type, meaning, and where it may be set.

The nearest value counts: a node's, a tenant's, the installation's, the built-in one. Keys that name programs, paths,
users or hooks of a machine are not here and never will be: whoever could set them would be root on each node. They are
in the machine's own file (L{qvd.model.settings_node}). A key is here only when something reads it, and says what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from math import isfinite
from typing import Any

from attrs import frozen

from qvd.model.declared import COMMON
from qvd.model.errors import InvalidRequest

LONGEST = 32768
"""Characters of a text."""


class Level(Enum):
    """Where a value may be set, the later the nearer."""

    GLOBAL = "global"
    TENANT = "tenant"
    HOST = "host"


class Type(Enum):
    """What a value is, in JSON."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


@frozen(kw_only=True)
class Key:
    """One configuration key.

    @ivar unit: of a number; empty: it is a count, or no number.
    @ivar pattern: that a whole text matches; empty: any.
    @ivar secret: its value is never shown.
    @ivar restart: what reads it must be started anew.
    @ivar read_by: what has another effect when it is changed; for people.
    """

    name: str
    type: Type
    default: Any
    text: str
    read_by: str
    levels: tuple[Level, ...] = (Level.GLOBAL,)
    unit: str = ""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    secret: bool = False
    restart: bool = False

    def checked(self, value: Any) -> Any:
        """The value as it is stored.

        @raise InvalidRequest: it is none for this key; the sentence holds no secret.
        """
        match self.type:
            case Type.BOOLEAN:
                good = isinstance(value, bool)
            case Type.INTEGER:
                good = isinstance(value, int) and not isinstance(value, bool)
            case Type.NUMBER:
                good = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            case Type.TEXT:
                good = isinstance(value, str) and len(value) <= LONGEST and "\0" not in value
        if not good:
            raise InvalidRequest(f"{self.name} is of type {self.type.value}")
        if self.choices and value not in self.choices:
            raise InvalidRequest(f"{self.name} is one of {', '.join(self.choices)}")
        if self.pattern and not re.fullmatch(self.pattern, str(value)):
            raise InvalidRequest(f"{self.name} is none of the texts that it may be: {self.text}")
        if self.least is not None and value < self.least:
            raise InvalidRequest(f"{self.name} is {self.least:g} at least")
        if self.most is not None and value > self.most:
            raise InvalidRequest(f"{self.name} is {self.most:g} at most")
        return value

    def is_good(self, value: Any) -> bool:
        """Whether a stored value is one: it may be of another release."""
        try:
            self.checked(value)
        except InvalidRequest:
            return False
        return True


MULTITENANT, EXPIRING_DAYS = "wat.multitenant", "stats.expiring.days"
SESSION_IDLE, SESSION_ABSOLUTE, SESSION_FRESH = "api.session.idle", "api.session.absolute", "api.session.fresh"
TOKEN_DANGEROUS = "api.token.dangerous"
PUBLIC, SEPARATORS = "api.public.", "l7r.auth.plugin.default.separators"
INFO = "GET /info, and with it the login screen of panels"
FOOTER_LINKS, LANGUAGES = range(1, 5), ("default", "en", "es")
ADDRESS = r"(https?://[^\s<>\"'`]+)?"
"""What a link may lead to, for whoever clicks on it before they have logged in: nothing that runs in the page."""
SESSIONS = "sessions of administrators, from their next call on"


def public_link(name: str, text: str, language: str = "") -> tuple[Key, Key]:
    """Keys of a link that everybody sees.

    @param language: for whom it is; empty: for all.
    """
    end = f".{language}" if language else ""
    label = Key(
        name=f"{PUBLIC}{name}.label{end}", type=Type.TEXT, default="", text=f"{text}: what it says", read_by=INFO
    )
    where = Key(
        name=f"{PUBLIC}{name}.src{end}",
        type=Type.TEXT,
        default="",
        text=f"{text}: where it leads; http or https",
        read_by=INFO,
        pattern=ADDRESS,
    )
    return label, where


KEYS: tuple[Key, ...] = (
    Key(
        name=MULTITENANT,
        type=Type.BOOLEAN,
        default=True,
        text="Whether there are several tenants, and administrators over all of them. To have a single one, exactly one"
        " tenant must be left; the administrators over all tenants cannot log in then",
        read_by="logins and permissions of administrators; making a tenant",
    ),
    Key(
        name=SESSION_IDLE,
        type=Type.INTEGER,
        default=30 * 60,
        text="An administrator's session ends after so long without a call",
        read_by=SESSIONS,
        unit="seconds",
        least=60,
        most=7 * 86400,
    ),
    Key(
        name=SESSION_ABSOLUTE,
        type=Type.INTEGER,
        default=12 * 3600,
        text="An administrator's session ends so long after the login, whatever happens",
        read_by=SESSIONS,
        unit="seconds",
        least=300,
        most=30 * 86400,
    ),
    Key(
        name=SESSION_FRESH,
        type=Type.INTEGER,
        default=5 * 60,
        text="What is dangerous may be done for so long after the password was given",
        read_by=SESSIONS,
        unit="seconds",
        least=30,
        most=3600,
    ),
    Key(
        name=TOKEN_DANGEROUS,
        type=Type.INTEGER,
        default=86400,
        text="For so long at most is a token good that may do what is dangerous without the password; 0: none may",
        read_by="making such a token; and, when it is 0, each call with one",
        unit="seconds",
        least=0,
        most=30 * 86400,
    ),
    Key(
        name=EXPIRING_DAYS,
        type=Type.INTEGER,
        default=30,
        text="Virtual machines that expire within so many days are counted, and listed, as expiring soon",
        read_by="GET /stats and GET /stats/expirations",
        levels=(Level.GLOBAL, Level.TENANT),
        unit="days",
        least=1,
        most=3650,
    ),
    Key(
        name=SEPARATORS,
        type=Type.TEXT,
        default="@#",
        text="Panels part what people type as their name at the first of these characters, into name and tenant. Nodes"
        " have a list of their own in their file, l7r.auth.separators",
        read_by=INFO,
        pattern=r"[!-/:-@\[-^{-~]{0,16}",
    ),
    *public_link("login.link", "A link beside the login, such as for forgotten passwords"),
    *(
        key
        for number in FOOTER_LINKS
        for language in LANGUAGES
        for key in public_link(f"footer.link.{number}", f"Link {number} in the footer, in {language}", language)
    ),
)


@frozen
class Place:
    """Where a value is set, or for what it is asked.

    @ivar tenant_id: L{COMMON}: for the whole installation.
    """

    tenant_id: int = COMMON
    host_id: int | None = None

    @property
    def level(self) -> Level:
        if self.host_id is not None:
            return Level.HOST
        return Level.GLOBAL if self.tenant_id == COMMON else Level.TENANT

    def chain(self) -> tuple[Place, ...]:
        """Places that are looked at, the nearest first."""
        wider = {Place(self.tenant_id), Place()} - {self}
        return (self, *sorted(wider, key=lambda place: -place.tenant_id))


Stored = Mapping[tuple[str, Place], Any]
"""Values by key's name and place."""


@frozen
class Effective:
    """What counts.

    @ivar origin: where it is set; L{None}: built in.
    @ivar default: what would count if nothing were set at the place that was asked for.
    @ivar is_default: nothing is set there.
    """

    key: Key
    value: Any
    origin: Level | None
    default: Any
    is_default: bool


def effective(key: Key, stored: Stored, place: Place) -> Effective:
    """The value of a key at a place. What is stored where the key may not be set, or is none of its values, is not."""
    found = [
        (each, stored[key.name, each])
        for each in place.chain()
        if each.level in key.levels and (key.name, each) in stored and key.is_good(stored[key.name, each])
    ]
    wider = [value for each, value in found if each != place]
    default = wider[0] if wider else key.default
    if not found:
        return Effective(key, key.default, None, default, True)
    nearest, value = found[0]
    return Effective(key, value, nearest.level, default, nearest != place)


def key_of(name: str, keys: Iterable[Key] = KEYS) -> Key | None:
    """The key of that name."""
    return next((key for key in keys if key.name == name), None)
