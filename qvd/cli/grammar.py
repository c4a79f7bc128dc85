# -*- test-case-name: tests.cli.test_grammar -*-
"""
The language of C{--filter}, which grew out of that of QVD 4.2::

    filter    := item {"," item} | item {";" item}
    item      := "!" item | "(" filter ")" | condition | value
    condition := key operator operand
    operator  := "=" | "!=" | "<>" | "<" | ">" | "<=" | ">=" | "~" | "~*"
    operand   := value | "null" | "[" value {"," value} "]" | "[" value ":" value "]"
    value     := word | 'text' | "text"

A comma means and, a semicolon or. Where 4.2 read a mixture of the two from the left, and whoever wrote it may have
meant anything, parentheses must say. In quoted texts a backslash takes its meaning from a quote or a backslash. A value
without a key is a name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from attrs import define, field, frozen

OPERATORS = ("!=", "<>", "<=", ">=", "~*", "=", "<", ">", "~")
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
WORD = re.compile(r"[^\s,;()\[\]'\"]+")
LISTED = re.compile(r"[^\s,;()\[\]'\":]+")
BLANKS = re.compile(r"\s*")
DEEPEST = 20
NULL = "null"


class FilterError(Exception):
    """@ivar position: of the first character that cannot be there, from 0."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(text)
        self.text = text
        self.position = position


@frozen
class Condition:
    """@ivar key: empty: whatever objects are known by.
    @ivar operator: as it is written; C{<>} is C{!=}.
    @ivar values: one; with C{form} C{list} or C{range} more; with C{null} none.
    """

    key: str
    operator: str
    values: tuple[str, ...]
    form: str = "one"
    position: int = field(default=0, eq=False)


@frozen
class And:
    parts: tuple[Filter, ...]


@frozen
class Or:
    parts: tuple[Filter, ...]


@frozen
class Not:
    part: Filter


Filter: TypeAlias = Condition | And | Or | Not


def parse(text: str) -> Filter:
    """@raise FilterError: it is none."""
    parser = Parser(text)
    found = parser.filter(0)
    if parser.at < len(text):
        raise parser.wrong(f"unexpected {text[parser.at]!r}")
    return found


@define
class Parser:
    """@ivar at: how far it has read."""

    text: str
    at: int = 0

    def wrong(self, text: str, position: int | None = None) -> FilterError:
        return FilterError(text, self.at if position is None else position)

    def blanks(self) -> None:
        found = BLANKS.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def next(self) -> str:
        """The next character that is no blank; empty at the end."""
        self.blanks()
        return self.text[self.at : self.at + 1]

    def filter(self, depth: int) -> Filter:
        parts = [self.item(depth)]
        joined = ""
        while (sign := self.next()) in (",", ";") and sign:
            if joined and sign != joined:
                raise self.wrong("',' (and) and ';' (or) side by side: say with parentheses what belongs together")
            joined = sign
            self.at += 1
            parts.append(self.item(depth))
        if len(parts) == 1:
            return parts[0]
        return And(tuple(parts)) if joined == "," else Or(tuple(parts))

    def item(self, depth: int) -> Filter:
        if depth > DEEPEST:
            raise self.wrong("more levels than anybody means")
        sign = self.next()
        if sign == "!":
            self.at += 1
            return Not(self.item(depth + 1))
        if sign == "(":
            begun = self.at
            self.at += 1
            found = self.filter(depth + 1)
            if self.next() != ")":
                raise (
                    self.wrong("this parenthesis is not closed", begun)
                    if not self.next()
                    else self.wrong("expected ')'")
                )
            self.at += 1
            return found
        return self.condition()

    def condition(self) -> Condition:
        begun = self.at
        key = KEY.match(self.text, begun)
        if key is not None:
            self.at = key.end()
            self.blanks()
            operator = next((each for each in OPERATORS if self.text.startswith(each, self.at)), None)
            if operator is not None:
                self.at += len(operator)
                form, values = self.operand("!=" if operator == "<>" else operator)
                return Condition(key[0], "!=" if operator == "<>" else operator, values, form, begun)
            self.at = begun
        if not self.next():
            raise self.wrong("expected a condition")
        return Condition("", "=", (self.value(WORD, "a condition"),), position=begun)

    def operand(self, operator: str) -> tuple[str, tuple[str, ...]]:
        sign, begun = self.next(), self.at
        if sign == "[":
            if operator not in ("=", "!="):
                raise self.wrong(f"a list goes with = and !=, not with {operator}")
            self.at += 1
            return self.listed(begun)
        value = self.value(WORD, "a value")
        if value == NULL and sign not in ("'", '"'):
            if operator not in ("=", "!="):
                raise self.wrong(f"null goes with = and !=, not with {operator}", begun)
            return NULL, ()
        return "one", (value,)

    def listed(self, begun: int) -> tuple[str, tuple[str, ...]]:
        values = [self.value(LISTED, "a value")]
        if self.next() == ":":
            self.at += 1
            values.append(self.value(LISTED, "a value"))
            self.close(begun)
            return "range", tuple(values)
        while self.next() == ",":
            self.at += 1
            values.append(self.value(LISTED, "a value"))
        self.close(begun)
        return "list", tuple(values)

    def close(self, begun: int) -> None:
        if not self.next():
            raise self.wrong("this list is not closed", begun)
        if self.next() != "]":
            raise self.wrong("expected ',' or ']'; a value with other signs is put in quotes")
        self.at += 1

    def value(self, word: re.Pattern[str], what: str) -> str:
        sign = self.next()
        if sign in ("'", '"') and sign:
            return self.quoted(sign)
        found = word.match(self.text, self.at)
        if found is None:
            raise self.wrong(f"expected {what}")
        self.at = found.end()
        return found[0]

    def quoted(self, sign: str) -> str:
        begun, letters = self.at, []
        self.at += 1
        while self.at < len(self.text):
            letter = self.text[self.at]
            following = self.text[self.at + 1 : self.at + 2]
            if letter == "\\" and following in ("\\", sign) and following:
                letters.append(following)
                self.at += 2
                continue
            self.at += 1
            if letter == sign:
                return "".join(letters)
            letters.append(letter)
        raise self.wrong("this quote is not closed", begun)


def write(node: Filter) -> str:
    """The text that L{parse} reads as C{node}."""
    match node:
        case And(parts):
            return ",".join(grouped(part) for part in parts)
        case Or(parts):
            return ";".join(grouped(part) for part in parts)
        case Not(part):
            return f"!{grouped(part)}"
        case Condition(key, operator, values, form):
            return f"{key}{operator}{operand_text(values, form)}" if key else quote(values[0])


def grouped(node: Filter) -> str:
    return f"({write(node)})" if isinstance(node, And | Or) else write(node)


def operand_text(values: Sequence[str], form: str) -> str:
    match form:
        case "list":
            return f"[{','.join(map(quote, values))}]"
        case "range":
            return f"[{quote(values[0])}:{quote(values[1])}]"
        case "null":
            return NULL
        case _:
            return quote(values[0])


def quote(value: str) -> str:
    """In quotes, where a bare word would be something else."""
    if LISTED.fullmatch(value) and value != NULL and value[0] not in "!=<>~*":
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
