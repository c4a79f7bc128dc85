# -*- test-case-name: tests.cli.test_derived -*-
"""A command for each operation of the API's description: its arguments and options follow from what that says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click

from qvd.cli.description import UPLOAD, Collection, Description, Member, Operation, Shape
from qvd.cli.session import Session, output_options, yes_option

ID = "id"
LIST_OPTIONS = ("fields", "include", "sort", "limit", "cursor", "page", "count")
"""Parameters that lists have options of their own for."""
SOUGHT = "q"
"""Parameter that holds what is looked for, which needs no name."""
METAVARS = {"integer": "NUMBER", "number": "NUMBER", "time": "WHEN", "object": "KEY=VALUE", "any": "VALUE"}


class Derived(click.Command):
    """@ivar operation: that it calls.
    @ivar collection: whose objects it is about; L{None}: none of any."""

    def __init__(self, operation: Operation, description: Description, name: str, hidden: bool = False) -> None:
        self.operation = operation
        self.collection = description.collection_of(operation)
        self._description = description
        super().__init__(
            name,
            callback=self._perform,
            params=[*self._arguments(), *self._options()],
            help=f"{summary_of(operation)}\n\n{operation.method} {operation.path}",
            short_help=summary_of(operation).removesuffix("."),
            hidden=hidden,
        )
        output_options(self)
        if self.is_for_many:
            yes_option(self)

    @property
    def is_for_many(self) -> bool:
        """Whether the API offers it for many objects at once."""
        return (
            self.collection is not None
            and f"/{self.collection.collection}/{{id}}" in self.operation.path
            and (self.operation.action.partition(".")[2] in self.collection.bulk)
        )

    @property
    def positional(self) -> Member | None:
        """The only member that must be given, which needs no name then."""
        required = [each for each in self.operation.members if each.required]
        if len(required) != 1 or required[0].shape.kind in ("secret", "object", "list"):
            return None
        return required[0] if self.operation.path_parameters or len(self.operation.members) == 1 else None

    def _perform(self, **given: Any) -> None:
        from qvd.cli.running import perform

        perform(click.get_current_context().ensure_object(Session), self, given)

    def _arguments(self) -> Iterator[click.Parameter]:
        for each in self.operation.path_parameters:
            many = each.name == ID and self.is_for_many
            found = self.kind_of(each.name)
            metavar = (found.name if found else each.name).upper()
            yield click.Argument(
                [f"path_{each.name}"],
                nargs=-1 if many else 1,
                required=not many,
                metavar=f"[{metavar}]..." if many else metavar,
            )
        member = self.positional
        if member is not None:
            # A value may be a secret, which is given in a file then.
            yield click.Argument(
                [f"member_{member.name}"], required=member.shape.kind != "any", metavar=member.name.upper()
            )
        if self.operation.takes_query(SOUGHT):
            yield click.Argument([f"query_{SOUGHT}"], required=False, metavar="[TEXT]")
        if self.operation.takes == UPLOAD:
            yield click.Argument(["file"], type=click.Path(exists=True, dir_okay=False))

    def kind_of(self, parameter: str) -> Collection | None:
        """The objects that a parameter of the path names."""
        if parameter == ID:
            return self.collection
        return self._description.named(parameter.removesuffix("_id")) if parameter.endswith("_id") else None

    def _options(self) -> Iterator[click.Parameter]:
        taken: set[str] = set()
        for option in [*self._members(), *self._query(), *self._common()]:
            if not taken.intersection(option.opts):
                taken.update(option.opts)
                yield option

    def _members(self) -> Iterator[click.Option]:
        for each in self.operation.members:
            if each is self.positional:
                if each.shape.kind == "any":
                    yield click.Option(
                        [f"--{flag(each.name)}-file", f"secret_{each.name}"],
                        metavar="FILE",
                        help="The value from a file; - is standard input. For secrets.",
                    )
            elif each.shape.kind == "secret":
                told = "Asked for, where it is not given." if each.required else ""
                yield click.Option(
                    [f"--{flag(each.name)}-file", f"secret_{each.name}"],
                    metavar="FILE",
                    help=f"The first line of a file; - is standard input. {told}".strip(),
                )
            else:
                yield self._option(f"member_{each.name}", each.name, each.shape)
        clearable = [
            each.name for each in self.operation.members if each.shape.nullable and each.shape.kind != "secret"
        ]
        # What is made is made without what is not given.
        if clearable and self.operation.method != "POST":
            yield click.Option(
                ["--clear"], multiple=True, type=click.Choice(clearable), help="Set to nothing. May be repeated."
            )
        if self.operation.members:
            yield click.Option(
                ["--body"], metavar="FILE", help="More members from a file of JSON or YAML; - is standard input."
            )

    def _query(self) -> Iterator[click.Option]:
        skipped = LIST_OPTIONS if self.operation.lists else ("fields", "include")
        for each in self.operation.query:
            if each.name not in skipped and each.name != SOUGHT:
                yield self._option(f"query_{each.name}", each.name, each.shape)

    def _option(self, variable: str, name: str, shape: Shape) -> click.Option:
        names = [f"--{flag(name)}"]
        word = name.removesuffix("_id")
        if word != name and self._description.named(word) is not None:
            # Whoever knows the name need not look up the number.
            names.insert(0, f"--{flag(word)}")
        text = sentence(shape.text)
        if shape.kind == "boolean":
            return click.Option([f"--{flag(name)}/--no-{flag(name)}", variable], default=None, help=text)
        many = shape.kind in ("list", "object")
        kind: Any = click.Choice(shape.choices) if shape.choices else str
        metavar = None if shape.choices else METAVARS.get(shape.kind, "NAME" if len(names) > 1 else "TEXT")
        if len(names) > 1:
            metavar = word.upper()
        return click.Option(
            [*names, variable],
            type=kind,
            multiple=many,
            metavar=metavar,
            help=f"{text} May be repeated.".strip() if many else text,
        )

    def _common(self) -> Iterator[click.Option]:
        operation = self.operation
        if operation.conditions or (self.is_for_many):
            yield click.Option(["--filter", "condition"], metavar="FILTER", help="Which: 'state=running,name~lab'.")
        if operation.takes_query("fields"):
            yield click.Option(["--fields"], metavar="NAMES", help="Fields to show, with commas.")
        if operation.takes_query("include"):
            yield click.Option(["--actions"], is_flag=True, help="Show what you may do now.")
        if operation.takes_query("sort"):
            yield click.Option(["--sort"], metavar="NAMES", help="Fields to sort by; -NAME turns one round.")
        if operation.lists:
            yield click.Option(["--limit"], type=click.IntRange(1), help="So many at most; all, if not given.")
        if self.is_for_many:
            yield click.Option(["--dry-run"], is_flag=True, help="Say what would happen, and do nothing.")
        if operation.begins or self.is_for_many:
            yield click.Option(["--wait"], is_flag=True, help="Wait until it is done.")
            yield click.Option(
                ["--wait-for"],
                type=click.FloatRange(0, min_open=True),
                metavar="SECONDS",
                help="Wait so long at most; 300.",
            )
        if operation.if_match:
            yield click.Option(["--if-match"], metavar="ETAG", default="*", help="Only if it is still this version.")


def flag(name: str) -> str:
    return name.replace("_", "-").lower()


GENERAL = {"list": "List those that match, all pages of them", "read": "Show one"}
"""Of what all collections have: shorter than what the API says of it."""


def summary_of(operation: Operation) -> str:
    """Without the name of the group, which is above it already."""
    verb = operation.action.partition(".")[2]
    if verb in GENERAL and operation.takes_query("fields"):
        return sentence(GENERAL[verb])
    text = re.sub(r"^[A-Z][A-Za-z ]*: ", "", operation.summary) or operation.summary
    return sentence(text)


def sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if text else ""
