# -*- test-case-name: tests.integration.test_garbage -*-
"""C{qvd-node garbage}: what nothing in the storage refers to any more, and its end."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError, Namespace
from math import isfinite
from typing import Any

from attrs import evolve

from qvd.db.garbage import Garbage
from qvd.hkd.collector import Collector, Report
from qvd.hkd.configured import garbage_terms, make_storage
from qvd.hkd.console.farm import Farm, who
from qvd.hkd.garbage.storage import Storage
from qvd.model.garbage import DAY, Fate, Terms, Verdict
from qvd.model.garbage_words import table
from qvd.model.settings import Settings


def add_to(commands: Any) -> None:
    """Add the parser."""
    asked = commands.add_parser("garbage", help="what nothing in the storage refers to any more, and its end")
    asked.add_argument("--dry-run", action="store_true", help="only say what would be done; nothing is changed at all")
    asked.add_argument(
        "--older-than",
        type=days,
        metavar="DAYS",
        help="that something must have been without a reference, instead of hkd.garbage.age",
    )
    asked.add_argument(
        "--homes",
        action="store_true",
        help="move homes without a VM to the trash, and remove what has been there for hkd.garbage.homes_age days",
    )
    asked.add_argument("--force", action="store_true", help="even if the database seems to be the wrong one")
    asked.add_argument("--json", action="store_true", help="as a JSON document")
    asked.set_defaults(run=collect)


def days(text: str) -> float:
    """@raise ArgumentTypeError: that is no number of days."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not isfinite(number) or number < 0:
        raise ArgumentTypeError(f"{text!r} is no number of days")
    return number


def terms_of(settings: Settings, options: Namespace) -> Terms:
    """Of the run that is asked for."""
    terms = evolve(garbage_terms(settings), homes=options.homes)
    return terms if options.older_than is None else evolve(terms, age=options.older_than * DAY)


async def collect(farm: Farm, options: Namespace) -> str:
    storage = make_storage(farm.settings, farm.reactor)
    terms = terms_of(farm.settings, options)
    async with farm.database() as pool:
        collector = Collector(Garbage(pool), storage, who(farm), sizes=True)
        report = await (collector.look(terms) if options.dry_run else collector.collect(terms, options.force))
    return document(storage, report) if options.json else text(storage, report, options.dry_run)


def text(storage: Storage, report: Report, dry: bool) -> str:
    """For people. What has its reference is only counted."""
    kept = [verdict for verdict in report.verdicts if verdict.fate is Fate.KEEP]
    rest = [verdict for verdict in report.verdicts if verdict.fate is not Fate.KEEP]
    lines = table([(storage.where(verdict.thing.key), verdict) for verdict in rest]) if rest else []
    lines.append(f"{len(kept)} things have a reference, {len(rest)} have none")
    if report.suspicion is not None:
        lines.append(f"{report.suspicion}. A run would be refused without --force")
    lines.append("Nothing was changed" if dry else f"{report.removed} were removed for good")
    return "\n".join([*lines, *report.failures])


def document(storage: Storage, report: Report) -> str:
    """For programs: everything."""
    return json.dumps(
        {
            "things": [entry(storage, verdict) for verdict in report.verdicts],
            "suspicion": report.suspicion,
            "removed": report.removed,
            "failures": report.failures,
        }
    )


def entry(storage: Storage, verdict: Verdict) -> dict[str, object]:
    return {
        "kind": verdict.thing.kind.value,
        "path": storage.where(verdict.thing.key),
        "vm_id": verdict.thing.vm_id,
        "fate": verdict.fate.value,
        "reason": verdict.reason,
        "since": verdict.mark and verdict.mark.since,
        "bytes": verdict.size,
    }
