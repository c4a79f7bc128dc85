# -*- test-case-name: tests.cli.test_commands -*-
"""Which words call which operation. They follow from the names of actions; a table has those that people would use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qvd.cli.description import Description, Operation

VERBS = {"read": "show", "update": "set"}
"""Words that commands use for what the API calls otherwise."""
PLACES = {
    "event.watch": ("events",),
    "auth.login": ("login",),
    "doctor.read": ("doctor",),
    "auth.logout": ("logout",),
}
"""Operations that commands of their own stand for (L{qvd.cli.extras})."""
ALSO = {
    ("vm", "history"): ("vm", "events"),
    ("di", "tag"): ("di", "set-tag"),
    ("di", "untag"): ("di", "remove-tag"),
    ("role", "grant"): ("role", "grant-acl"),
    ("role", "revoke"): ("role", "revoke-acl"),
    ("job", "delete"): ("job", "cancel"),
}
"""More words for the same."""
GROUPS_ALSO = {"admin": "administrator", "image": "di", "node": "host"}
HIDDEN = ("search", "bulk")
"""Verbs whose operations others call: lists with conditions, and verbs for many objects."""

Words = tuple[str, ...]


def commands(description: Description) -> Mapping[Words, Operation]:
    """Each operation, by the words that call it: C{("vm", "start")}."""
    found: dict[Words, Operation] = {}
    taken = {plain_words(each.action) for each in description.operations}
    for each in description.operations:
        words = PLACES.get(each.action, plain_words(each.action))
        if len(words) == 2 and words[1] in VERBS and (words[0], VERBS[words[1]]) not in taken:
            words = (words[0], VERBS[words[1]])
        if words in found:
            # Two paths lead to the same thing: the second one is named after its path.
            words = (words[0], f"{words[-1]}-{each.path.strip('/').partition('/')[0]}")
        found[words] = each
    return found


def plain_words(action: str) -> Words:
    return tuple(action.replace("_", "-").split(".", 1))


def group_name(word: str, groups: Sequence[str], description: Description) -> str | None:
    """The group that a word means: its name, another one for it, or the word in paths."""
    if word in groups:
        return word
    if GROUPS_ALSO.get(word) in groups:
        return GROUPS_ALSO[word]
    collection = description.collections.get(word)
    return collection.name if collection is not None and collection.name in groups else None
