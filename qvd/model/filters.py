# -*- test-case-name: tests.admin.test_users -*-
"""Conditions on fields, as a tree: what lists are narrowed by, whatever language they were written in."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeAlias

from attrs import frozen

from qvd.model.declared import Field


class Operator(Enum):
    """How a field is compared. C{LIKE} takes C{%} and C{_}; C{BETWEEN} two values, C{IN} any number."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    IN = "in"
    NIN = "nin"
    LIKE = "like"
    ILIKE = "ilike"
    NULL = "null"
    BETWEEN = "between"
    PREFIX = "prefix"


@frozen
class Comparison:
    """@ivar value: of the field's kind; a tuple with C{IN}, C{NIN}, C{BETWEEN}; whether it is null with C{NULL}."""

    field: Field
    operator: Operator
    value: Any


@frozen
class All:
    parts: tuple[Filter, ...]


@frozen
class AnyOf:
    parts: tuple[Filter, ...]


@frozen
class Not:
    part: Filter


Filter: TypeAlias = Comparison | All | AnyOf | Not
