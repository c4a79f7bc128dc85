# -*- test-case-name: tests.cli.test_uploads -*-
"""
C{qvd di upload} and C{qvd di import}: images from files here, and from where the server finds them itself.

What an interruption leaves is gone on with when the same command is given again: what was begun is written down beside
the shell's history, by the server, the OSF and the file's checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from attrs import frozen

from qvd.apiclient import ApiProblem, Reply
from qvd.cli.exits import CommandError, usage
from qvd.cli.finding import number_of
from qvd.cli.output import is_terminal
from qvd.cli.profiles import state_path
from qvd.cli.session import Session, output_options
from qvd.cli.waiting import JOB, Patience, follow_job

PIECE = 1024**2
LONGEST = 24 * 3600.0
MOST_KEPT = 100
Progress = Callable[[int, int], None]


def image_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What an image is told to be, wherever its file comes from."""
    for decorate in reversed(
        (
            click.option("--osf", required=True, metavar="OSF", help="OSF that it belongs to: number or name."),
            click.option("--version", metavar="TEXT", help="Unique in its OSF; otherwise the day and a number."),
            click.option(
                "--tag", "tags", multiple=True, metavar="TAG", help="It takes that over when it is published."
            ),
            click.option("--default", is_flag=True, help="The same with the tag default."),
            click.option("--description", metavar="TEXT", help="For administrators."),
            click.option("--publish", is_flag=True, help="Publish it as soon as it is whole and verified."),
            click.option("--wait/--no-wait", default=True, help="Wait until the server has verified it (the default)."),
        )
    ):
        command = decorate(command)
    return command


@click.command(
    "upload",
    short_help="Make an image of a file here.",
    epilog="""\b
qvd di upload desk.tar.zst --osf 3 --tag test
qvd di upload desk.qcow2 --osf desktop --publish --default
""",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@image_options
@click.option("--name", metavar="TEXT", help="Name of the file on the server; otherwise that of the file here.")
@output_options
@click.pass_obj
def command(session: Session, /, file: Path, wait: bool, name: str | None, **given: Any) -> None:
    """Send a file, and make an image of it. A connection that breaks is opened again; when the command itself is
    interrupted, give it again: it goes on where it was.
    """
    body = body_of(session, **given)
    try:
        size = file.stat().st_size
        with bar(session, "Checksum") as told:
            checksum = checksum_of(file, size, told)
    except OSError as error:
        raise usage(f"{file} cannot be read: {error.strerror}") from None
    if not size:
        raise usage(f"{file} is empty")
    body["source"] = {"type": "upload", "name": name or file.name, "size": size, "checksum": checksum}
    begun = Begun(state_path() / "uploads.json")
    mark = f"{session.api.url} {hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()}"
    made = resumed(session, begun, mark) or started(session, begun, mark, body)
    with bar(session, file.name) as told:
        sent = session.api.upload(f"/uploads/{made['upload']}", file, told)
    begun.forget(mark)
    finish(session, made["image"], job_of(sent), wait)


@click.command(
    "import",
    short_help="Make an image of a file that the server gets.",
    epilog="""\b
qvd di import https://images.example.org/desk.qcow2 --osf 3 --tag test
qvd di import desk.qcow2 --osf 3            a file of the staging folder (qvd staging list)
""",
)
@click.argument("source")
@image_options
@click.option("--checksum", metavar="HEX", help="SHA-256 that it must have.")
@output_options
@click.pass_obj
def fetch(session: Session, /, source: str, wait: bool, checksum: str | None, **given: Any) -> None:
    """Make an image of SOURCE: a URL from which the server fetches it, or the name of a file in its staging folder."""
    member = {"type": "url", "url": source} if urlsplit(source).scheme else {"type": "staging", "file": source}
    body = body_of(session, **given) | {"source": member | ({"checksum": checksum} if checksum else {})}
    made = session.call("POST", "/images", body=body).body
    finish(session, made["image"]["id"], f"/jobs/{made['job']}", wait)


def body_of(session: Session, **given: Any) -> dict[str, Any]:
    """What was said, with the OSF's number."""
    osf = number_of(session, session.description.named("osf"), given.pop("osf"))
    named = {name: value for name, value in given.items() if value and name not in ("publish", "tags")}
    found: dict[str, Any] = {"osf_id": osf, **named}
    if given["tags"]:
        found["tags"] = list(given["tags"])
    if given["publish"]:
        found["auto_publish"] = True
    return found


def checksum_of(file: Path, size: int, told: Progress) -> str:
    """SHA-256."""
    digest, read = hashlib.sha256(), 0
    with file.open("rb") as source:
        while piece := source.read(PIECE):
            digest.update(piece)
            read += len(piece)
            told(read, size)
    return digest.hexdigest()


def resumed(session: Session, begun: Begun, mark: str) -> Mapping[str, int] | None:
    """What an earlier attempt began, if that can be gone on with."""
    known = begun.get(mark)
    if known is None:
        return None
    try:
        row = session.call("GET", f"/images/{known['image']}", query={"fields": "state"}).body
        if row["state"] != "uploading":
            begun.forget(mark)
            return None
        session.api.request("HEAD", f"/uploads/{known['upload']}")
    except ApiProblem as problem:
        if problem.status != 404:
            raise
        begun.forget(mark)
        return None
    session.screen.say(f"Going on with image {known['image']}.")
    return known


def started(session: Session, begun: Begun, mark: str, body: Mapping[str, Any]) -> Mapping[str, int]:
    made = session.call("POST", "/images", body=body).body
    known = {"image": int(made["image"]["id"]), "upload": int(made["upload"]["id"])}
    begun.keep(mark, known)
    return known


def job_of(sent: Reply) -> str | None:
    """What verifies it, as the answer links to it."""
    link = sent.headers.get("link", "").partition(">")[0].removeprefix("<")
    found = JOB.fullmatch(link)
    return found[1] if found else None


def finish(session: Session, image: int, job: str | None, wait: bool) -> None:
    """Wait for the image, and show it."""
    if wait and job is not None:
        follow_image(session, image, job)
    session.screen.document(session.call("GET", f"/images/{image}").body)


def follow_image(session: Session, image: int, job: str) -> None:
    """@raise CommandError: nothing came of it. It says why."""
    try:
        with bar(session, "Server") as told:
            follow_job(Patience.of(session, LONGEST), job, told)
    except CommandError:
        row = session.call("GET", f"/images/{image}", query={"fields": "state,message"}).body
        if row["state"] == "fail" and row["message"]:
            raise CommandError(f"Image {image}: {row['message']}") from None
        raise


@contextmanager
def bar(session: Session, what: str) -> Iterator[Progress]:
    """Shows how far something is, where somebody sees it."""
    screen = session.screen
    if screen.quiet or not is_terminal(screen.err):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.text import Text

    console = Console(file=screen.err, no_color=bool(os.environ.get("NO_COLOR")))
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, transient=True) as shown:
        task = shown.add_task(Text(what).plain, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@frozen
class Begun:
    """Uploads that were begun here and did not end, by what is sent where. That it cannot be written down is no harm,
    but for an interruption."""

    path: Path

    def get(self, mark: str) -> Mapping[str, int] | None:
        found = self._read().get(mark)
        return found if isinstance(found, dict) and {"image", "upload"} <= found.keys() else None

    def keep(self, mark: str, known: Mapping[str, int]) -> None:
        kept = {**self._read(), mark: known}
        self._write(dict(list(kept.items())[-MOST_KEPT:]))

    def forget(self, mark: str) -> None:
        kept = self._read()
        if kept.pop(mark, None) is not None:
            self._write(kept)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, kept: Mapping[str, Any]) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=self.path.parent, prefix=".uploads-")
            with open(number, "w") as file:
                json.dump(kept, file)
            os.replace(name, self.path)
        except OSError:
            pass
