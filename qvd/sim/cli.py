# -*- test-case-name: tests.integration.test_sim_cli -*-
"""C{qvd-sim}: runs a scenario, and tells what came of it."""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import psycopg2
from twisted.internet.defer import Deferred
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure

from qvd.demo.postgres import EmbeddedPostgres
from qvd.model.errors import QVDError, SettingsError
from qvd.protocols.adapters.steadyclock import count_on_uptime
from qvd.sim import plot, report, scenario
from qvd.sim.database import SimulationDatabase
from qvd.sim.farm import CONNECTIONS_OF_A_NODE, Farm
from qvd.sim.record import Record

DONE, VIOLATED, USAGE = 0, 1, 2
SPARE_CONNECTIONS = 20
# What is in it is thrown away: what a crash of the machine would cost does not count.
THROWN_AWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "128MB"}


def arguments() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = argparse.ArgumentParser(prog="qvd-sim", description="Simulate a farm of QVD nodes for a day.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a scenario and print a report")
    run.add_argument("scenario", type=Path, help="TOML file: see docs/simulator.md")
    run.add_argument("--json", action="store_true", help="end with one line of JSON")
    run.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the course of the day")
    run.add_argument("--report", type=Path, metavar="FILE", help="write the report there, not to the terminal")
    run.add_argument("--log", type=Path, metavar="FILE", help="what the nodes log; without it, only their failures")
    where = run.add_mutually_exclusive_group()
    where.add_argument("--folder", type=Path, help="for the database; kept. Default: a temporary one")
    where.add_argument("--dsn", help="of an empty database, to be used instead of an embedded server")
    run.add_argument("--seed", type=int, help="instead of that of the scenario")
    run.add_argument("--quiet", action="store_true", help="no news while it runs")
    check = commands.add_parser("check", help="read a scenario and say whether it is one")
    check.add_argument("scenario", type=Path)
    return parser


@contextmanager
def folder_of(options: argparse.Namespace) -> Iterator[Path]:
    """Where files go; a temporary folder is removed at the end."""
    if options.folder is not None:
        options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield options.folder
        return
    made = Path(tempfile.mkdtemp(prefix="qvd-sim-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def database_of(options: argparse.Namespace, folder: Path, nodes: int) -> Iterator[str]:
    """DSN of an empty database."""
    if options.dsn is not None:
        yield options.dsn
        return
    connections = nodes * CONNECTIONS_OF_A_NODE + SPARE_CONNECTIONS
    server = EmbeddedPostgres(folder / "postgres", settings={**THROWN_AWAY, "max_connections": str(connections)})
    server.start()
    try:
        connection = psycopg2.connect(server.dsn("postgres"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE IF EXISTS qvd_sim WITH (FORCE)")
        connection.close()
        server.create_database("qvd_sim")
        yield server.dsn("qvd_sim")
    finally:
        server.stop("immediate")


@contextmanager
def log_of(options: argparse.Namespace) -> Iterator[None]:
    """Of all nodes together."""
    if options.log is None:
        begin_log(sys.stderr, LogLevel.critical)
        yield
        return
    with open(options.log, "w") as stream:
        begin_log(stream, LogLevel.info)
        yield


def begin_log(stream: TextIO, level: Any) -> None:
    """Write down what is of this level, or worse."""
    predicate = LogLevelFilterPredicate(defaultLogLevel=level)
    observer = FilteringLogObserver(textFileLogObserver(stream), [predicate])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def simulate(options: argparse.Namespace, day: scenario.Scenario, folder: Path, dsn: str) -> Record:
    """Run the reactor until the day is over."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    count_on_uptime(reactor)
    gc.set_threshold(50_000, 20, 100)
    database = SimulationDatabase(dsn, day.pace is scenario.Pace.VIRTUAL)
    tell = (lambda text: None) if options.quiet else (lambda text: print(text, file=sys.stderr, flush=True))
    farm = Farm(reactor, day, database, folder, tell)
    outcome: list[Record | Failure] = []

    def over(result: Record | Failure) -> None:
        outcome.append(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(farm.run()).addBoth(over))
    try:
        reactor.run()
    finally:
        database.close()
    if not outcome:
        raise KeyboardInterrupt
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    assert isinstance(outcome[0], Record)
    return outcome[0]


def run(options: argparse.Namespace) -> int:
    """Command C{run}."""
    day = scenario.read(options.scenario)
    if options.seed is not None:
        day = scenario.with_seed(day, options.seed)
    if options.plot is not None and options.plot.suffix.lower() != ".svg":
        raise SettingsError(f"--plot {options.plot}: pictures are SVG, so its name must end in .svg")
    with log_of(options), folder_of(options) as folder, database_of(options, folder, len(day.nodes)) as dsn:
        record = simulate(options, day, folder, dsn)
    document = record.document()
    text = report.text(document, record.accounts + record.wrong)
    if options.report is None:
        print(text)
    else:
        options.report.write_text(text + "\n")
    if options.plot is not None:
        options.plot.write_text(plot.svg(day.title, day.start, day.end, plot.panels(record)))
    if options.json:
        print(json.dumps(document), flush=True)
    return DONE if report.is_good(document) else VIOLATED


def main(argv: Sequence[str] | None = None) -> int:
    """Console script C{qvd-sim}."""
    options = arguments().parse_args(argv)
    try:
        if options.command == "check":
            day = scenario.read(options.scenario)
            print(f"{day.title}: {len(day.nodes)} nodes, {sum(tenant.vms for tenant in day.tenants)} VMs")
            return DONE
        status = run(options)
    except KeyboardInterrupt:
        print("qvd-sim: interrupted", file=sys.stderr)
        return VIOLATED
    except (QVDError, OSError) as error:
        print(f"qvd-sim: {error.text if isinstance(error, QVDError) else error}", file=sys.stderr)
        return USAGE
    sys.stdout.flush()
    sys.stderr.flush()
    # Simulated processes were killed where they stood: what is collected of them would go on for a line or two.
    os._exit(status)
