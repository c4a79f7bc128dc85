# -*- test-case-name: tests.cli.test_output -*-
"""
Where results and messages go. Results alone are on standard output, so that they can be piped; into a pipe go no
colours and no boxes.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TextIO

from attrs import define, field

from qvd.cli.text import cell, compact, lines, plain, safe_json

FORMATS = ("table", "json", "ndjson", "csv", "yaml")
Row = Mapping[str, Any]


@define
class Screen:
    """Where a command writes.

    @ivar format: one of L{FORMATS}.
    @ivar header: whether tables and CSV begin with the names of their columns.
    @ivar quiet: ids alone, and no messages but errors.
    """

    out: TextIO = field(factory=lambda: sys.stdout)
    err: TextIO = field(factory=lambda: sys.stderr)
    format: str = "table"
    header: bool = True
    quiet: bool = False

    @property
    def colours(self) -> bool:
        """Whether results may be coloured."""
        return is_terminal(self.out) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def say(self, text: str) -> None:
        """What happens meanwhile."""
        if not self.quiet:
            print(lines(text), file=self.err, flush=True)

    def complain(self, text: str) -> None:
        """What went wrong."""
        mark = "\x1b[31mError:\x1b[0m" if is_terminal(self.err) and not os.environ.get("NO_COLOR") else "Error:"
        print(mark, lines(text), file=self.err, flush=True)

    def write(self, text: str) -> None:
        """A line of the result."""
        print(text, file=self.out)

    def rows(self, rows: Iterable[Row], columns: Sequence[str] = ()) -> int:
        """A list of objects. Returns how many.

        @param columns: in that order; empty: all that the rows have.
        """
        if self.quiet:
            return self._ids(rows)
        match self.format:
            case "ndjson":
                return self._ndjson(rows, columns)
            case "csv":
                return self._csv(rows, columns)
            case "table":
                found = list(rows)
                self._table(found, columns or columns_of(found))
            case _:
                found = list(rows)
                self._tree([picked(row, columns) for row in found])
        return len(found)

    def document(self, value: Any, columns: Sequence[str] = ()) -> None:
        """One object, or whatever else the API answered."""
        if self.quiet and isinstance(value, Mapping) and "id" in value:
            self.write(str(value["id"]))
        elif isinstance(value, Mapping) and self.format == "csv":
            self._csv([value], columns)
        elif isinstance(value, Mapping) and self.format == "table":
            self._pairs(picked(value, columns))
        elif isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
            self.rows(value, columns)
        elif self.format in ("table", "csv"):
            self.write(cell(value))
        else:
            self._tree(picked(value, columns) if isinstance(value, Mapping) else value)

    def _ids(self, rows: Iterable[Row]) -> int:
        count = 0
        for row in rows:
            self.write(cell(row.get("id", next(iter(row.values()), ""))))
            count += 1
        return count

    def _ndjson(self, rows: Iterable[Row], columns: Sequence[str]) -> int:
        count = 0
        for row in rows:
            self.write(safe_json(picked(row, columns)))
            # Whoever reads it line by line, as it comes, does not wait for a block.
            self.out.flush()
            count += 1
        return count

    def _csv(self, rows: Iterable[Row], columns: Sequence[str]) -> int:
        """RFC 4180."""
        count, coming = 0, iter(rows)
        if not columns:
            first = next(coming, None)
            if first is None:
                return 0
            columns, coming = list(first), chain([first], coming)
        writer = csv.writer(self.out)
        if self.header:
            writer.writerow(columns)
        for row in coming:
            texts = [bare(row.get(name)) for name in columns]
            writer.writerow([plain(text) for text in texts] if is_terminal(self.out) else texts)
            count += 1
        return count

    def _tree(self, value: Any) -> None:
        if self.format == "yaml":
            self.out.write(yaml_of(value))
        else:
            self.write(safe_json(value, indent=2 if self.format != "ndjson" else None))

    def _pairs(self, row: Row) -> None:
        row = flat(row)
        nested = {name: value for name, value in row.items() if is_table(value)}
        self._table(
            [{"field": name, "value": row[name]} for name in row if name not in nested], ["field", "value"], False
        )
        for name, value in nested.items():
            self.write(f"\n{plain(name)}:")
            self._table(value, columns_of(value))

    def _table(self, rows: Sequence[Row], columns: Sequence[str], header: bool | None = None) -> None:
        shown = self.header if header is None else header
        if not columns:
            return
        cells = [[cell(row.get(name)) for name in columns] for row in rows]
        if is_terminal(self.out):
            self._drawn(cells, columns, shown)
            return
        above = [[plain(name) for name in columns]] if shown else []
        for line in aligned([*above, *cells]):
            self.write(line)

    def _drawn(self, cells: Sequence[Sequence[str]], columns: Sequence[str], header: bool) -> None:
        """For a terminal: as wide as it is."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD if header else None, show_header=header, pad_edge=False, header_style="bold")
        for name in columns:
            table.add_column(Text(plain(name)), overflow="fold")
        for each in cells:
            table.add_row(*map(Text, each))
        console = Console(file=self.out, no_color=not self.colours, highlight=False, markup=False, emoji=False)
        console.print(table)


def is_terminal(file: TextIO) -> bool:
    try:
        return file.isatty()
    except ValueError:
        return False


def is_table(value: Any) -> bool:
    """Whether a member is better shown as a table of its own."""
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All that any row has, the id first."""
    return list(dict.fromkeys(name for row in rows for name in row))


def flat(row: Row, before: str = "") -> dict[str, Any]:
    """With members of members side by side: C{vms.total}."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def picked(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in columns} if columns else dict(row)


def bare(value: Any) -> str:
    """In CSV: for programs, so nothing is made nicer."""
    match value:
        case None:
            return ""
        case True | False:
            return "true" if value else "false"
        case list() | dict():
            return compact(value)
        case _:
            return str(value)


def yaml_of(value: Any) -> str:
    """YAML, in which what cannot be printed is escaped."""
    import yaml

    for as_it_is in (True, False):
        text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=as_it_is, width=120)
        if all(letter.isprintable() or letter == "\n" for letter in text):
            break
    return text


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Columns of blanks, as C{column -t} makes them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
