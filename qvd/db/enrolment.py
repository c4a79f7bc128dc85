# -*- test-case-name: tests.contract.test_db_enrolment -*-
"""
How a machine becomes a node: with a token that an administrator has made, good once and for a while.

The role of nodes may not write C{hosts}; the function C{enrol_host} of the schema does, for whoever has a token. Only
hashes are stored, of tokens and of identities: both are long and random, so a plain SHA-256 is enough.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from attrs import frozen
from psycopg2 import Error as PsycopgError

from qvd.db.connection import reason_of
from qvd.db.migrate import SchemaError, connected
from qvd.interfaces import IDatabase, Row
from qvd.model.errors import Conflict, Forbidden, InvalidRequest, QVDError
from qvd.model.ids import HostId
from qvd.model.secret import Secret

MAX_HOURS = 24 * 30
KEPT_DAYS = 30
"""For so long an expired token is told from an unknown one."""
SILENCE = 10.0
"""Seconds after the end of its lease until another machine may take a node's name over."""
NEW_TOKEN = f"""
    WITH old AS (DELETE FROM host_tokens WHERE expires_at < now() - interval '{KEPT_DAYS} days'),
    made AS (INSERT INTO host_tokens (token_hash, name, expires_at)
        VALUES (%(hash)s, %(name)s, now() + %(hours)s * interval '1 hour') RETURNING name, expires_at)
    INSERT INTO events (kind, after, cause)
        SELECT 'host.token', jsonb_build_object('name', name, 'expires_at', expires_at), %(cause)s FROM made
"""


def digest(secret: Secret) -> bytes:
    """What is stored of a token or an identity."""
    return hashlib.sha256(secret.reveal().encode()).digest()


def new_token(name: str | None, hours: float, cause: str) -> tuple[Secret, dict[str, Any]]:
    """A token, and the parameters of C{NEW_TOKEN} that store it.

    @raise InvalidRequest: not a time that a token may be good for.
    """
    if not 0 < hours <= MAX_HOURS:
        raise InvalidRequest(f"A token is good for up to {MAX_HOURS} hours, and for more than none, not for {hours:g}")
    token = Secret(secrets.token_urlsafe(32))
    return token, {"hash": digest(token), "name": name or None, "hours": hours, "cause": cause}


def issue_token(dsn: str, name: str | None, hours: float, cause: str) -> Secret:
    """For C{qvd-db}: make a token in one go, without a reactor.

    @param name: of the only node that may be enrolled with it; L{None}: any new one.
    @raise QVDError: the database refuses or is away.
    """
    token, parameters = new_token(name, hours, cause)
    with connected(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(NEW_TOKEN, parameters)
        connection.commit()
    return token


@frozen
class Machine:
    """Who asks to be a node.

    @ivar identity: what it, and nobody else, will show at each registration.
    """

    name: str
    address: str
    identity: Secret


@frozen
class Enrolments:
    """Tokens, and machines that come with them."""

    db: IDatabase

    async def issue_token(self, name: str | None, hours: float, cause: str) -> Secret:
        """As the function of this name."""
        token, parameters = new_token(name, hours, cause)
        await self.db.execute(NEW_TOKEN, parameters)
        return token

    async def enrol(self, token: Secret, machine: Machine) -> HostId:
        """Make the machine a node. Asked again with the same token and identity, the answer is the same.

        @raise Forbidden: the token is not good for this.
        @raise Conflict: the name is taken.
        """
        try:
            row = await self.db.fetch_one(
                "SELECT * FROM enrol_host(%s, %s, %s, %s, %s)",
                (digest(token), machine.name, machine.address, digest(machine.identity), SILENCE),
            )
        except PsycopgError as error:
            raise SchemaError(f"The database refused: {reason_of(error)}") from None
        assert row is not None
        if row["answer"] != "enrolled":
            raise refusal(row, machine.name)
        return HostId(row["host"])


def refusal(row: Row, name: str) -> QVDError:
    """The answer of C{enrol_host} in words."""
    match row["answer"]:
        case "unknown":
            return Forbidden("The database knows no such enrolment token: make one with qvd-db enrolment-token")
        case "expired":
            return Forbidden(f"The enrolment token expired at {row['detail']} UTC: make another one")
        case "used":
            return Forbidden(f"The enrolment token was used up by the node {row['detail']!r}: make another one")
        case "other_name":
            return Forbidden(
                f"The enrolment token was made for the node {row['detail']!r}, but nodename in node.conf is {name!r}"
            )
        case "alive":
            return Conflict(
                f"The node {name!r} is alive: stop it, and wait until its lease is over, before another machine takes"
                " its name over; or give this machine a nodename of its own"
            )
        case _:
            return Conflict(
                f"There is a node {name!r} already: give this machine a nodename of its own, or, if it takes that"
                f" node's place, make a token for it: qvd-db enrolment-token --name {name}"
            )
