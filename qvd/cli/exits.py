# -*- test-case-name: tests.cli.test_exits -*-
"""How a command ends: a status for each class of error, so that scripts need not read texts."""

from __future__ import annotations

from enum import IntEnum

from qvd.apiclient import ApiError, ApiProblem, Unreachable


class Exit(IntEnum):
    """Exit statuses. They are documented, so they stay."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    AUTHENTICATION = 3
    FORBIDDEN = 4
    NOT_FOUND = 5
    CONFLICT = 6
    PARTIAL = 7
    TIMEOUT = 8
    UNAVAILABLE = 9
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command.

    @param text: one or more sentences for whoever typed it.
    """

    def __init__(self, text: str, exit: Exit = Exit.FAILED) -> None:
        super().__init__(text)
        self.text = text
        self.exit = exit


def usage(text: str) -> CommandError:
    """What was typed cannot be meant."""
    return CommandError(text, Exit.USAGE)


PROVE_WHO = ("reauthentication-required", "password-change-required", "csrf", "tenant-blocked")
"""Refusals that are about who calls, and not about what they may."""


def exit_of(error: ApiError) -> Exit:
    """The class of what the API, or the way to it, said."""
    if isinstance(error, Unreachable):
        return Exit.UNAVAILABLE
    if not isinstance(error, ApiProblem):
        return Exit.FAILED
    match error.status:
        case 401 | 423:
            return Exit.AUTHENTICATION
        case 403:
            return Exit.AUTHENTICATION if error.kind in PROVE_WHO else Exit.FORBIDDEN
        case 404:
            return Exit.NOT_FOUND
        case 409 | 412 | 428:
            return Exit.CONFLICT
        case 400 | 405 | 406 | 413 | 415 | 422:
            return Exit.USAGE
        case 429 | 502 | 503 | 504:
            return Exit.UNAVAILABLE
        case _:
            return Exit.FAILED


def words_of(error: ApiError) -> str:
    """The error for people, with what is wrong where."""
    if not isinstance(error, ApiProblem):
        return error.text
    lines = [error.detail or error.title]
    lines += [
        f"  {fault.pointer.lstrip('/') or 'the request'}: {fault.detail}"
        for fault in error.errors
        if fault.detail and fault.detail not in lines[0]
    ]
    dependents = error.more.get("dependents")
    if isinstance(dependents, list):
        told = [f"{each.get('count')} {each.get('kind')}" for each in dependents if isinstance(each, dict)]
        lines.append(f"  depends on it: {', '.join(told)}")
    if error.status >= 500 and error.request_id:
        lines.append(f"  request {error.request_id}")
    return "\n".join(lines)
