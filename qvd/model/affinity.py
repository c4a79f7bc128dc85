# -*- test-case-name: tests.unit.test_model_affinity -*-
"""
Placement rules as custom properties of VMs, and of their users, images and OSFs: C{docs/placement.md}.

What cannot be understood is an error, not the absence of a rule: a desktop that must have a certain node gets none
rather than any.
"""

from __future__ import annotations

from attrs import frozen

from qvd.model.errors import QVDError
from qvd.model.placement import Properties, Wanted

PREFIX = "qvd.placement."
REQUIRE, PREFER = PREFIX + "require", PREFIX + "prefer"
APART, TOGETHER = PREFIX + "apart", PREFIX + "together"
KEYS = (REQUIRE, PREFER, APART, TOGETHER)
MOST_TERMS = 16
"""Of one rule: each is asked of each node, with all nodes locked."""


class WrongRule(QVDError):
    """A placement rule cannot be understood."""

    code = "placement_rule"


@frozen
class Profile:
    """What a VM is, for its placement.

    @ivar memory: bytes.
    @ivar hypervisor: driver that it needs; L{None}: any.
    @ivar properties: those of its OSF, its image, its user and its own, of which the later win.
    """

    memory: int
    hypervisor: str | None
    properties: Properties


def wanted_by(profile: Profile) -> Wanted:
    """What to ask of nodes.

    @raise WrongRule: the text names the property, and what is wrong with it.
    """
    properties = profile.properties
    for key in properties:
        if key.startswith(PREFIX) and key not in KEYS:
            raise WrongRule(f"the property {key} is no placement rule: there are {', '.join(KEYS)}")
    return Wanted(
        memory=profile.memory,
        hypervisor=profile.hypervisor,
        require=pairs(REQUIRE, properties.get(REQUIRE, "")),
        prefer=pairs(PREFER, properties.get(PREFER, "")),
        apart=shared(APART, properties),
        together=shared(TOGETHER, properties),
    )


def check_rule(key: str, text: str) -> None:
    """Whether the text can be a rule, whatever else the VM will have.

    @raise WrongRule: it cannot, or there is no rule of that name.
    """
    if key not in KEYS:
        raise WrongRule(f"the property {key} is no placement rule: there are {', '.join(KEYS)}")
    if key in (REQUIRE, PREFER):
        pairs(key, text)
    else:
        shared(key, {key: text} | dict.fromkeys(terms(key, text), ""))


def terms(rule: str, text: str) -> list[str]:
    """What stands between commas. A text of nothing but space has none: so a VM lifts a rule of its OSF.

    @raise WrongRule: an empty term, or too many.
    """
    if not text.strip():
        return []
    found = [term.strip() for term in text.split(",")]
    if "" in found:
        raise WrongRule(f"the property {rule} has nothing between two commas, or at an end: {text!r}")
    if len(found) > MOST_TERMS:
        raise WrongRule(f"the property {rule} names {len(found)} properties: at most {MOST_TERMS} are allowed")
    return found


def pairs(rule: str, text: str) -> Properties:
    """C{name=value, name=value}.

    @raise WrongRule: not so, or a name twice.
    """
    found: dict[str, str] = {}
    for term in terms(rule, text):
        name, _, value = (part.strip() for part in term.partition("="))
        if not name or not value:
            raise WrongRule(f"the property {rule} needs the form name=value, name=value: {term!r} is not")
        if name in found:
            raise WrongRule(f"the property {rule} names {name} twice")
        found[name] = value
    return found


def shared(rule: str, properties: Properties) -> Properties:
    """C{name, name}: the named properties of the VM itself, with their values.

    @raise WrongRule: not so, or the VM has no such property.
    """
    found: dict[str, str] = {}
    for name in terms(rule, properties.get(rule, "")):
        if "=" in name:
            raise WrongRule(f"the property {rule} needs names without values: {name!r} has one")
        if name not in properties:
            raise WrongRule(
                f"the property {rule} names {name}, which neither the virtual machine nor its user, image or OSF has as"
                " a property"
            )
        found[name] = properties[name]
    return found
