# -*- test-case-name: tests.unit.test_images_cli,tests.contract.test_images_register -*-
"""
C{qvd-image}: makes desktop images, checks them, and registers them for a farm.

Exit status: 0 done, or nothing is missing; 1 refused, failed, or something is missing; 2 wrong usage; 3 the database
cannot be reached.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from qvd.db import registration
from qvd.db.cli import CONFIG, DONE, REFUSED, UNREACHABLE, USAGE, dsn_of, read_settings
from qvd.images.build import Sources, build, checksum
from qvd.images.check import check, type_of
from qvd.images.commands import Commands, Interrupted, heeding_signals, say
from qvd.images.recipe import DESKTOPS, KVM, LXC, Recipe
from qvd.model.errors import DatabaseUnavailable, InvalidRequest, QVDError, SettingsError
from qvd.model.imagetype import driver_of

INTERRUPTED = 130
GIB = 1 << 30


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="qvd-image", description="Makes, checks and registers disk images of QVD.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_build(commands.add_parser("build", help="make a Debian desktop with the agent in it; as root"))
    check = commands.add_parser("check", help="say what an image lacks for QVD; 1 when something is missing")
    check.add_argument("file", type=Path)
    check.add_argument("--json", action="store_true", help="as a JSON document")
    _add_register(commands.add_parser("register", help="make a file in the storage of images known to the farm"))
    return parser


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--type", required=True, choices=(LXC, KVM), help="a tar for containers, or a qcow2 disk")
    parser.add_argument("--suite", default="bookworm", help="release of Debian (%(default)s)")
    parser.add_argument("--mirror", metavar="URL", help="where packages come from, instead of Debian's own servers")
    parser.add_argument("--desktop", default="icewm", choices=sorted(DESKTOPS), help="(%(default)s)")
    parser.add_argument("--package", metavar="NAME", action="append", default=[], help="one more; can be repeated")
    parser.add_argument("--locale", default="en_US.UTF-8", help="language of the system (%(default)s)")
    parser.add_argument("--agent", metavar="FILE.deb", type=Path, help="package qvd-vma, where no repository has it")
    parser.add_argument("--base", metavar="FILE", type=Path, help="an lxc image to go on from, instead of plain Debian")
    parser.add_argument("--disk", metavar="GIB", type=int, default=8, help="size of a kvm image's disk (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="show what the programs print that do the work")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help=".tar, .tar.zst, or .qcow2")


def _add_register(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="in the folder path.storage.images")
    parser.add_argument("--osf", required=True, metavar="ID|TENANT/NAME", help="whose VMs are to start from it")
    parser.add_argument("--version", required=True, help="becomes a tag of it for ever")
    parser.add_argument("--tag", action="append", default=[], help="give it that tag, too; with --publish")
    parser.add_argument("--publish", action="store_true", help="let VMs start from it now")
    parser.add_argument("--config", type=Path, default=CONFIG, help="a node's configuration file (%(default)s)")
    parser.add_argument("--dsn", help="connection string of PostgreSQL, instead of the database in that file")
    parser.add_argument("--user", help="database role, instead of PGUSER or your own name")


def recipe_of(options: argparse.Namespace) -> Recipe:
    """What the options of C{build} ask for."""
    return Recipe(
        options.type,
        options.suite,
        options.mirror,
        options.desktop,
        tuple(options.package),
        options.locale,
        options.disk * GIB,
    )


def run_build(options: argparse.Namespace) -> int:
    """Command C{build}."""
    commands = Commands(sys.stderr if options.verbose else None)
    built = build(recipe_of(options), Sources(options.agent, options.base), options.output, commands)
    print(f"{built.path}: {built.size} bytes, SHA-256 {built.checksum}")
    return DONE


def run_check(options: argparse.Namespace) -> int:
    """Command C{check}."""
    report = check(options.file)
    if options.json:
        print(json.dumps({"file": str(options.file), **report.document()}))
    else:
        for finding in report.findings:
            print(f"{options.file}: {finding}")
        for note in report.notes:
            print(f"{options.file}: {note}")
        if report.good:
            print(f"{options.file}: an image for {report.kind}, nothing is missing")
    return DONE if report.good else REFUSED


def run_register(options: argparse.Namespace) -> int:
    """Command C{register}."""
    if options.tag and not options.publish:
        raise InvalidRequest("Only a published image has other tags than its version: give --publish, too")
    folder = Path(read_settings(options.config).text("path.storage.images"))
    name = name_in(folder, options.file)
    content = type_of(options.file)
    kind = driver_of(content)
    if kind is None:
        raise InvalidRequest(f"{options.file} is {content.value}, which no driver starts")
    say(f"Reading {options.file}")
    image = registration.NewImage(name, options.version, kind, options.file.stat().st_size, checksum(options.file))
    cause = f"{getpass.getuser()}, qvd-image register"
    done = registration.register(dsn_of(options), options.osf, image, cause, options.tag if options.publish else None)
    state = "published" if options.publish else "ready, but not published"
    print(f"Image {done.di_id} of {done.osf}, version {options.version}: {kind}, {image.size} bytes, {state}")
    return DONE


def name_in(folder: Path, file: Path) -> str:
    """The image's name in the storage.

    @raise InvalidRequest: it is somewhere else, where no node looks.
    """
    if file.is_symlink() or file.resolve().parent != folder.resolve():
        raise InvalidRequest(f"{file} is not in {folder} (path.storage.images), where nodes look: copy it there first")
    return file.name


def run(options: argparse.Namespace) -> int:
    """Carry out one command."""
    match options.command:
        case "build":
            return run_build(options)
        case "check":
            return run_check(options)
        case _:
            return run_register(options)


def main(argv: Sequence[str] | None = None) -> int:
    """Console script C{qvd-image}."""
    options = arguments().parse_args(argv)
    try:
        with heeding_signals():
            return run(options)
    except Interrupted:
        print("qvd-image: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        print(f"qvd-image: {error.filename or options.command}: {error.strerror}", file=sys.stderr)
        return REFUSED
    except QVDError as error:
        print(f"qvd-image: {error.text}", file=sys.stderr)
        match error:
            case DatabaseUnavailable():
                return UNREACHABLE
            case SettingsError():
                return USAGE
            case _:
                return REFUSED
