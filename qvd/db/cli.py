# -*- test-case-name: tests.contract.test_db_migrate,tests.unit.test_db_cli -*-
"""
C{qvd-db}: makes the database of an installation and keeps its schema up to date.

Exit status: 0 done; 1 refused, or migrations are pending; 2 wrong usage; 3 the database cannot be reached.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import make_dsn

from qvd.db import audit, enrolment, migrate, network, onetime
from qvd.db.repair import repair
from qvd.model.errors import DatabaseUnavailable, InvalidRequest, QVDError, SettingsError
from qvd.model.network import AddressPlan, parse_plan
from qvd.model.secret import Secret
from qvd.model.settings import Settings
from qvd.model.settings_node import parse_node

DONE, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3
CONFIG = Path("/etc/qvd/node.conf")
FIRST_TENANT = "default"
FIRST_HOURS = 7 * 24.0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="qvd-db", description="Makes and upgrades the database of QVD.")
    commands = parser.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="fill an empty database: roles, schema, a first tenant")
    init.add_argument("--login", action="store_true", help="the roles qvd_node and qvd_api may log in")
    secret = commands.add_parser("admin-secret", help="let an administrator in again, with a one-time secret")
    secret.add_argument("who", metavar="NAME[@TENANT]", help="without a tenant: of those over all tenants")
    secret.add_argument("--hours", type=float, default=24.0, help="it is good for so long (%(default)g)")
    secret.add_argument("--without-code", action="store_true", help="the account's authenticator is lost: forget it")
    commands.add_parser("migrate", help="bring the schema to that of this release")
    status = commands.add_parser("status", help="say which migrations were applied; 1 when some are pending")
    status.add_argument("--json", action="store_true", help="as a JSON document")
    token = commands.add_parser("enrolment-token", help="make a token that makes one machine a node: qvd-node enrol")
    token.add_argument("--hours", type=float, default=24.0, help="it is good for so long (%(default)g)")
    token.add_argument("--name", help="the only node it is good for; may be one that exists and is to be replaced")
    net = commands.add_parser("network", help="show the range of the VM network, or set it")
    net.add_argument("--range", help="IPv4 range of the whole installation, such as 10.0.0.0/16")
    net.add_argument("--vms-from", help="first address for VMs; those before it are for nodes and services")
    net.add_argument("--gateway", help="the VMs' way out, in the range (none)")
    net.add_argument("--dns", help="name server that DHCP tells VMs (none)")
    roles = commands.add_parser("repair-roles", help="make the shipped roles anew, and let somebody do everything")
    roles.add_argument("--administrator", default="", help="who gets Root: name, or name@tenant (nobody)")
    roles.add_argument("--hours", type=float, default=24.0, help="for so long; 0: for good (%(default)g)")
    trail = commands.add_parser("verify-audit", help="whether the audit trail is whole; 1 when it is not")
    trail.add_argument(
        "--known", metavar="ID:HASH", help="a row that an earlier run printed, and that must still be there"
    )
    commands.add_parser("purge-audit", help="take away rows of the audit trail that are older than they are kept")
    for command in commands.choices.values():
        where = command.add_mutually_exclusive_group()
        where.add_argument("--dsn", help="connection string of PostgreSQL; a password is better kept in ~/.pgpass")
        where.add_argument(
            "--config",
            type=Path,
            default=CONFIG,
            help="take host, port and database from a node's configuration file (%(default)s)",
        )
        command.add_argument("--user", help="database role that owns the schema, instead of PGUSER or your own name")
    return parser


def dsn_of(options: argparse.Namespace) -> str:
    """Where the database is.

    A configuration file gives the place only: the role in it is the node's, which may not change the schema.
    @raise SettingsError: the configuration file cannot be read, or it is wrong; or the connection string is.
    """
    given: dict[str, Any] = {"user": options.user} if options.user else {}
    if options.dsn is not None:
        try:
            return make_dsn(str(options.dsn), **given)
        except psycopg2.ProgrammingError:
            raise SettingsError("The connection string is not one that PostgreSQL understands") from None
    settings = read_settings(options.config)
    if settings.text("database.host"):
        given["host"] = settings.text("database.host")
    return make_dsn(port=settings.number("database.port"), dbname=settings.text("database.name"), **given)


def read_settings(config: Path) -> Settings:
    """The settings in a node's configuration file.

    @raise SettingsError: it cannot be read, or it is wrong.
    """
    try:
        return parse_node(tomllib.loads(config.read_text()), str(config))
    except OSError as error:
        raise SettingsError(f"{config}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{config}: {error}") from None


def init(dsn: str, login: bool) -> int:
    """Command C{init}."""
    secret, by = onetime.new_secret(), getpass.getuser()
    hashed = hash_of(secret)

    def first(cursor: Cursor) -> None:
        onetime.make_first(cursor, hashed, FIRST_HOURS, f"{by}, qvd-db init")

    for title in migrate.initialize(dsn, login_roles=login, tenant=FIRST_TENANT, then=first):
        print(f"Applied {title}")
    print(f"The database is ready; its first tenant is called {FIRST_TENANT}")
    print(f"The administrator {onetime.FIRST}, of the tenant *, logs in once within {FIRST_HOURS / 24:g} days with")
    print(f"    {secret.reveal()}")
    print("and must then choose a password. Nobody can be told it again: qvd-db admin-secret makes another one")
    return DONE


def hash_of(secret: Secret) -> str:
    """As the services that check it hash it."""
    from qvd.auth.local import PARAMETERS, encode

    return PARAMETERS.hash(encode(secret.reveal()))


def make_secret(dsn: str, who: str, hours: float, without_code: bool) -> int:
    """Command C{admin-secret}. The secret alone goes to the standard output, for a file or a pipe."""
    secret = onetime.new_secret()
    whom = onetime.reset(dsn, who, hash_of(secret), hours, without_code, f"{getpass.getuser()}, qvd-db admin-secret")
    print(secret.reveal())
    print(f"Lets {whom} in within {hours:g} hours, to choose a password; sessions and tokens ended", file=sys.stderr)
    return DONE


def bring_up_to_date(dsn: str) -> int:
    """Command C{migrate}."""
    applied = migrate.apply_all(dsn)
    for title in applied:
        print(f"Applied {title}")
    if not applied:
        print("The schema is up to date")
    return DONE


def show_status(dsn: str, as_json: bool) -> int:
    """Command C{status}."""
    found = migrate.status(dsn)
    waiting = [migration.title for migration in found.pending]
    if as_json:
        document = {
            "schema": found.version,
            "schema_compat": found.compatible,
            "applied": list(found.applied),
            "pending": waiting,
        }
        print(json.dumps(document))
    else:
        print(f"Schema {found.version}; nodes must know at least schema {found.compatible}")
        for title in found.applied:
            print(f"  applied  {title}")
        for title in waiting:
            print(f"  pending  {title}")
    return REFUSED if waiting else DONE


def make_token(dsn: str, hours: float, name: str | None) -> int:
    """Command C{enrolment-token}. The token alone goes to the standard output, for a file or a pipe."""
    token = enrolment.issue_token(dsn, name, hours, f"{getpass.getuser()}, qvd-db enrolment-token")
    print(token.reveal())
    print(f"Good once within {hours:g} hours for {f'the node {name}' if name else 'any new node'}", file=sys.stderr)
    return DONE


def network_of(options: argparse.Namespace) -> AddressPlan | None:
    """What the command line wants to be set; L{None}: nothing, it asks.

    @raise SettingsError: it makes no sense.
    """
    given = (options.range, options.vms_from, options.gateway, options.dns)
    if not any(given):
        return None
    if options.range is None or options.vms_from is None:
        raise SettingsError("A range is set as a whole: give --range and --vms-from, and --gateway and --dns anew")
    try:
        return parse_plan(*given)
    except InvalidRequest as error:
        raise SettingsError(error.text) from None


def show_network(dsn: str) -> int:
    """Command C{network} without a range; 1 where there is none."""
    plan, used = network.read_plan(dsn)
    if plan is None:
        print("There is no VM network: set one with --range and --vms-from")
        return REFUSED
    print(f"Range        {plan.network}")
    print(f"Nodes        {plan.network.network_address + 1} to {plan.vms_from - 1}")
    print(f"VMs          {plan.vms_from} to {plan.vms_to}, {used} of {plan.capacity} in use")
    print(f"Gateway      {plan.gateway or 'none'}")
    print(f"Name server  {plan.dns or 'none'}")
    return DONE


def serve_network(dsn: str, plan: AddressPlan | None) -> int:
    """Command C{network}."""
    if plan is not None:
        network.set_plan(dsn, plan, f"{getpass.getuser()}, qvd-db network")
    return show_network(dsn)


def repair_roles(dsn: str, administrator: str, hours: float) -> int:
    """Command C{repair-roles}."""
    done = repair(dsn, administrator, hours, f"{getpass.getuser()}, qvd-db repair-roles")
    print(f"{done.roles} roles are as they were shipped")
    if done.administrator:
        print(f"{done.administrator} holds Root {f'for {hours:g} hours' if hours else 'for good'}")
    return DONE


def verify_audit(dsn: str, known: str | None) -> int:
    """Command C{verify-audit}; 1 and the first broken row where there is one."""
    verdict = audit.verify(dsn, audit.parse_place(known) if known else None)
    if verdict.fault is not None:
        print(f"Broken at row {verdict.fault.row}: {verdict.fault.why}")
        print(f"{verdict.rows} rows before it are as they were written")
        return REFUSED
    print(f"{verdict.rows} rows are as they were written; note the last one down elsewhere: {verdict.head}")
    return DONE


def purge_audit(dsn: str) -> int:
    """Command C{purge-audit}."""
    print(f"{audit.purge(dsn, f'{getpass.getuser()}, qvd-db purge-audit')} rows were older than they are kept")
    return DONE


def run(options: argparse.Namespace) -> int:
    """Carry out one command."""
    dsn = dsn_of(options)
    match options.command:
        case "init":
            return init(dsn, options.login)
        case "admin-secret":
            return make_secret(dsn, options.who, options.hours, options.without_code)
        case "migrate":
            return bring_up_to_date(dsn)
        case "enrolment-token":
            return make_token(dsn, options.hours, options.name)
        case "network":
            return serve_network(dsn, network_of(options))
        case "repair-roles":
            return repair_roles(dsn, options.administrator, options.hours)
        case "verify-audit":
            return verify_audit(dsn, options.known)
        case "purge-audit":
            return purge_audit(dsn)
        case _:
            return show_status(dsn, options.json)


def main(argv: Sequence[str] | None = None) -> int:
    """Console script C{qvd-db}."""
    options = arguments().parse_args(argv)
    try:
        return run(options)
    except QVDError as error:
        print(f"qvd-db: {error.text}", file=sys.stderr)
        match error:
            case DatabaseUnavailable():
                return UNREACHABLE
            case SettingsError():
                return USAGE
            case _:
                return REFUSED
