# -*- test-case-name: tests.cli.test_apply -*-
"""C{qvd apply}: make the farm as a document wants it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from qvd.apiclient import ApiProblem
from qvd.cli.exits import CommandError, Exit, exit_of, usage, words_of
from qvd.cli.session import Session, output_options, yes_option
from qvd.cli.text import compact, plain
from qvd.declarative import reading
from qvd.declarative.calls import Call, Calls, Ref, filled, numbers_of, target
from qvd.declarative.document import DocumentError, Place, parse
from qvd.declarative.kinds import KINDS, fields_of
from qvd.declarative.plan import MISSING, Step, plan
from qvd.declarative.wanted import read

MARKS = {"create": ("+", "32"), "change": ("~", "33"), "delete": ("-", "31"), "missing": ("!", "35")}
VERBS = {"create": "made", "change": "changed", "delete": "deleted"}
NOWHERE = "(not set)"


@click.command(
    "apply",
    short_help="Make the farm as a document wants it.",
    epilog="""\b
qvd export > farm.yaml                   write the farm down
qvd apply -f farm.yaml --dry-run         what a document would change
qvd apply -f farm.yaml                   change it
qvd apply -f farm.yaml --prune --yes     delete what is not in it, too
""",
)
@click.option(
    "-f", "--file", "source", required=True, metavar="FILE", help="The document, in YAML or JSON; - is standard input."
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--prune", is_flag=True, help="Delete what the sections of the document do not have.")
@yes_option
@output_options
@click.pass_obj
def command(session: Session, source: str, dry_run: bool, prune: bool) -> None:
    """Make tenants, users, OSFs, VMs, nodes, roles, administrators, properties and configuration as a document says.

    What the document does not say stays as it is. Applied a second time, it changes nothing. What it would do is shown
    first, as a difference; deletions (--prune) ask before they are done. Images need their files: they are uploaded
    (qvd di upload), and their tags, state and description are set from then on. Passwords are in no document:
    administrators that are made cannot log in before somebody sets one.
    """
    text = read_text(session, source)
    name = "standard input" if source == "-" else source
    openapi = session.api.openapi()
    fields = {kind.name: fields_of(openapi, kind) for kind in KINDS}
    try:
        wanted = read(parse(text, name), fields)
        farm = reading.read(Reads(session), fields)
        farm = reading.complete(Reads(session), farm, wanted.items.values())
        steps = plan(wanted, farm, fields, prune)
    except DocumentError as error:
        raise usage(str(error)) from None
    calls = Calls(wanted, farm, fields)
    show(session, steps)
    doable = [step for step in steps if step.verb != "missing"]
    if not dry_run and doable:
        gone = sum(step.verb == "delete" for step in doable)
        if gone:
            session.confirm(f"Delete {gone} of these?")
        carry_out(session, doable, calls, numbers_of(farm))
    missing = len(steps) - len(doable)
    session.screen.say(summary(doable, dry_run))
    if missing and not dry_run:
        raise CommandError(f"{missing} images of the document are not there: upload their files", Exit.PARTIAL)


@frozen
class Reads:
    """L{reading.Reads} over a session."""

    session: Session

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        with withheld():
            return self.session.call("GET", path, query=query).body

    def pages(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        with withheld():
            yield from self.session.api.pages(path, query)


@contextmanager
def withheld() -> Iterator[None]:
    """Tells what the caller may not read from what is wrong."""
    try:
        yield
    except ApiProblem as problem:
        if problem.kind not in NOT_THEIRS:
            raise
        raise reading.Withheld(problem.text) from None


NOT_THEIRS = ("forbidden", "forbidden-field", "superadmin-only")


def read_text(session: Session, source: str) -> str:
    try:
        if source == "-":
            return session.stdin.read()
        return Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise usage(f"{source} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise usage(f"{source} is not UTF-8") from None


def show(session: Session, steps: Sequence[Step]) -> None:
    """What is to be done: for people as lines, for programs as objects."""
    screen = session.screen
    if screen.quiet:
        return
    if screen.format != "table":
        screen.rows([document_of(step) for step in steps])
        return
    for step in steps:
        mark, colour = MARKS[step.verb]
        note = " (its file must be uploaded)" if step.verb == "missing" else ""
        line = plain(f"{mark} {step.item.title}{note}")
        screen.write(f"\x1b[{colour}m{line}\x1b[0m" if screen.colours else line)
        for name, old, new in members_of(step):
            if step.verb == "change":
                screen.write(plain(f"    {name}: {told(old)} -> {told(new)}"))
            elif step.verb == "create" and new not in (None, "", [], {}):
                screen.write(plain(f"    {name}: {told(new)}"))


def members_of(step: Step) -> Iterator[tuple[str, Any, Any]]:
    """What changes, each member of a mapping by itself."""
    for name, (old, new) in step.changes.items():
        if isinstance(new, Mapping) and (isinstance(old, Mapping) or old is None):
            for key in dict.fromkeys((*(old or {}), *new)):
                before, after = (old or {}).get(key, MISSING), new.get(key, MISSING)
                if before != after:
                    yield f"{name}.{key}", before, after
        else:
            yield name, old, new


def told(value: Any) -> str:
    if value is MISSING:
        return NOWHERE
    return value if isinstance(value, str) and value else compact(value)


def document_of(step: Step) -> dict[str, Any]:
    changes = {name: {"from": bare(old), "to": bare(new)} for name, old, new in members_of(step)}
    place = step.place if isinstance(step.place, Place) else None
    return {
        "verb": step.verb,
        "kind": step.item.kind,
        "name": "/".join((*step.item.key[:-1], step.item.name)),
        "changes": changes,
        "line": place.line if place else None,
    }


def bare(value: Any) -> Any:
    return None if value is MISSING else value


def carry_out(session: Session, steps: Sequence[Step], calls: Calls, numbers: dict[Ref, int]) -> None:
    """One after the other. What was done stays done, and is not done again by the next attempt.

    @raise CommandError: the API refuses one. It says where in the document it stands.
    """
    for done, step in enumerate(steps):
        for call in calls.of(step):
            try:
                send(session, call, numbers)
            except ApiProblem as problem:
                text = f"{where(step, problem)}{step.item.title}: {words_of(problem)}"
                if done:
                    text += f"\n{done} of {len(steps)} steps were done; apply it again to go on."
                raise CommandError(text, exit_of(problem)) from None


def send(session: Session, call: Call, numbers: dict[Ref, int]) -> None:
    # Longer than any that somebody could guess, and told to nobody.
    body = filled(call.body, numbers, secrets.token_urlsafe(48))
    headers = {"If-Match": "*"} if call.method in ("PATCH", "PUT", "DELETE") else None
    reply = session.call(call.method, target(call, numbers), body=body, headers=headers)
    if call.makes is not None:
        numbers[call.makes] = reply.body["id"]


def where(step: Step, problem: ApiProblem) -> str:
    """The line that the API complains of, as well as that can be said."""
    places = step.item.places
    for fault in problem.errors:
        for name in fault.pointer.split("/"):
            if name in places and name:
                return f"{places[name]}: "
    return f"{places['']}: " if "" in places else ""


def summary(steps: Sequence[Step], dry_run: bool) -> str:
    if not steps:
        return "Nothing changes." if dry_run else "Nothing changed."
    counts = [(sum(step.verb == verb for step in steps), word) for verb, word in VERBS.items()]
    said = ", ".join(f"{count} {word}" for count, word in counts if count)
    return f"{said} (not yet: this was a dry run)." if dry_run else f"{said}."
