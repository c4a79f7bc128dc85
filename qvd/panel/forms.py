# -*- test-case-name: tests.panel.test_forms -*-
"""
Forms of what operations take, made of the declared types of their bodies and of the fields that these are about; and
what somebody typed, as such a body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from attrs import evolve, field, frozen

from qvd.admin.endpoint import Endpoint
from qvd.model.declared import Field, Principal
from qvd.panel.cells import BYTES
from qvd.panel.filters import local
from qvd.panel.kinds import LINKS, ObjectKind, name_of
from qvd.panel.references import options_of
from qvd.panel.texts import N_, Viewer
from qvd.panel.typed import Invalid, parse, shown_size
from qvd.panel.visit import Fields, Visit
from qvd.panel.words import label, plain, word

WAS = "was:"
"""Before the name of a member: what it was when the form was made."""
PROPERTY = "properties."
LONG = 256
"""Characters from which on a text has several lines."""
SECRETS = frozenset({"password", "new", "current", "secret"})
Choices = Sequence[tuple[str, str]]
NO_CHANGE = N_("as it is")


@frozen(kw_only=True)
class Input:
    """
    @ivar type: C{text}, C{lines}, C{password}, C{integer}, C{number}, C{size}, C{time}, C{flag}, C{select}, C{ticks},
        C{words} (texts with commas) or C{reference}.
    @ivar value: as it is typed. C{values}: of ticks.
    @ivar now: what it is by now, where somebody has changed it meanwhile.
    """

    name: str
    label: str
    type: str
    help: str = ""
    required: bool = False
    nullable: bool = False
    value: str = ""
    values: Sequence[str] = ()
    choices: Choices = ()
    collection: str = ""
    least: float | None = None
    most: float | None = None
    longest: int | None = None
    fault: str = ""
    now: str = ""


@frozen
class Form:
    """@ivar skips_empty: what is left empty is not sent: of something new, and of many."""

    inputs: Sequence[Input]
    skips_empty: bool = True

    def typed(self, form: Fields, faults: Mapping[str, str]) -> Form:
        """The same with what somebody typed, and what is wrong with it."""
        found = []
        for each in self.inputs:
            fault = faults.get(each.name) or faults.get(each.name.replace(".", "/"), "")
            given = f"{each.name}:given" in form
            if each.type == "password":
                found.append(evolve(each, value="", fault=fault))
            elif each.type == "flag" and given:
                found.append(evolve(each, value=form.one(each.name), fault=fault))
            elif each.type == "ticks":
                found.append(evolve(each, values=form.all(each.name) if given else each.values, fault=fault))
            else:
                found.append(evolve(each, value=form.one(each.name, each.value), fault=fault))
        return evolve(self, inputs=found)

    def get(self, name: str) -> Input | None:
        return next((each for each in self.inputs if each.name == name), None)


@frozen
class Made:
    """What a form is made of.

    @ivar many: it is about many objects: nothing is chosen at first.
    @ivar current: the object, where there is one.
    """

    visit: Visit
    kind: ObjectKind
    many: bool
    creates: bool
    current: Mapping[str, Any] = field(factory=dict)

    @property
    def viewer(self) -> Viewer:
        return self.visit.viewer


async def form_of(
    visit: Visit,
    kind: ObjectKind,
    endpoint: Endpoint,
    many: bool = False,
    current: Mapping[str, Any] | None = None,
    given: Mapping[str, str] | None = None,
) -> Form:
    """The form of an operation.

    @param current: the object that it changes.
    @param given: what is filled in already.
    """
    made = Made(visit, kind, many, endpoint is kind.creation, current or {})
    schema = schema_of(endpoint)
    inputs: list[Input] = []
    required = set(schema.get("required", ()))
    members: Mapping[str, Any] = schema.get("properties", {})
    for name, member in members.items():
        declared = kind.resource.get(name)
        if hidden(visit.principal, declared, endpoint, kind, members, name):
            continue
        if name == "properties":
            inputs += await property_inputs(made)
        else:
            built = await input_of(made, name, member, declared, required)
            if built is not None:
                inputs.append(built)
    # What has to be said comes first.
    inputs.sort(key=lambda each: not each.required)
    filled = [evolve(each, value=given[each.name]) if given and each.name in given else each for each in inputs]
    return Form(filled, skips_empty=many or not current)


def schema_of(endpoint: Endpoint) -> Mapping[str, Any]:
    """JSON schema of the operation's body."""
    if endpoint.body is None:
        return {}
    if isinstance(endpoint.body, Mapping):
        return endpoint.body
    [schema], components = msgspec.json.schema_components([endpoint.body], ref_template="{name}")
    found: Mapping[str, Any] = components[schema["$ref"]] if "$ref" in schema else schema
    return found


def hidden(
    principal: Principal,
    declared: Field | None,
    endpoint: Endpoint,
    kind: ObjectKind,
    members: Mapping[str, Any],
    name: str,
) -> bool:
    """Whether a member is none of the caller's, as its field is declared; or is the same as another one."""
    if name.endswith("_name") and f"{name.removesuffix('_name')}_id" in members:
        return True
    if declared is None:
        return False
    if declared.superadmin and not principal.superadmin:
        return True
    if endpoint is kind.creation:
        return bool(declared.create_acl) and not principal.holds(declared.create_acl)
    return endpoint is kind.change and not principal.holds(declared.update_acl)


async def input_of(
    made: Made, name: str, member: Mapping[str, Any], declared: Field | None, required: set[str]
) -> Input | None:
    """The input of a member; L{None}: forms have none of its type."""
    member, nullable = unwrapped(member)
    value = made.current.get(name)
    # Of two ways to say which is meant, one is enough; where the schema asks for neither, the declaration does.
    must = name in required or (made.creates and declared is not None and declared.creates.value == "must")
    built = Input(
        name=name,
        label=made.viewer.text(label(name)),
        type="text",
        help=made.viewer.text(declared.text) if declared is not None else "",
        required=must and not made.many,
        nullable=nullable,
        least=member.get("minimum"),
        most=member.get("maximum"),
        longest=member.get("maxLength"),
        value="" if value is None else str(value),
    )
    collection = (
        declared.refers if declared is not None and declared.refers else LINKS.get(name.removesuffix("_id"), "")
    )
    if name.endswith("_id") and collection:
        options = await options_of(made.visit, collection)
        known = made.current.get(name_of(name))
        said = f"{known} (#{value})" if value is not None and known else built.value and f"#{built.value}"
        return evolve(built, type="reference", collection=collection, choices=options, value=said)
    if "enum" in member:
        return select(made, built, declared, [str(each) for each in member["enum"]], member)
    return await plain_input(made, built, member, value)


def unwrapped(member: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """A member's schema without the possibility of null, and whether there was one."""
    parts = member.get("anyOf")
    if parts is None:
        return member, False
    others = [each for each in parts if each.get("type") != "null"]
    return (others[0] if others else {}), len(others) < len(parts)


def select(made: Made, built: Input, declared: Field | None, values: Sequence[str], member: Mapping[str, Any]) -> Input:
    """One of some values."""
    choices = [(each, made.viewer.text(word(declared, each) if declared else plain(each))) for each in values]
    if made.many or built.nullable or not (made.current or built.required):
        empty = NO_CHANGE if made.many else N_("none") if built.nullable and made.current else N_("as usual")
        choices.insert(0, ("", made.viewer.text(empty)))
    value = built.value or ("" if made.many else str(member.get("default") or ""))
    return evolve(built, type="select", choices=choices, value=value)


async def plain_input(made: Made, built: Input, member: Mapping[str, Any], value: Any) -> Input | None:
    viewer = made.viewer
    match member.get("type"):
        case "boolean":
            if made.many:
                yes_no = [("", NO_CHANGE), ("true", N_("Yes")), ("false", N_("No"))]
                choices = [(each, viewer.text(said)) for each, said in yes_no]
                return evolve(built, type="select", choices=choices, value="")
            return evolve(built, type="flag", value="true" if value is True else "")
        case "integer" if built.name in BYTES:
            return evolve(built, type="size", value=shown_size(value))
        case "integer":
            return evolve(built, type="integer")
        case "number":
            return evolve(built, type="number")
        case "array":
            return await several(made, built, member, value)
        case "string" if member.get("format") == "date-time":
            return evolve(built, type="time", value=local(str(value), viewer.zone) if value else "")
        case "string" if built.name in SECRETS:
            return evolve(built, type="password", value="")
        case "string":
            several_lines = (built.longest or 0) > LONG
            return evolve(built, type="lines" if several_lines else "text")
        case _:
            return None


async def several(made: Made, built: Input, member: Mapping[str, Any], value: Any) -> Input | None:
    """Several of something: of what there is, or texts."""
    kept = [str(each["id"] if isinstance(each, Mapping) else each) for each in value or ()]
    items = member.get("items", {})
    if "enum" in items:
        choices = [(str(each), made.viewer.text(plain(str(each)))) for each in items["enum"]]
        return evolve(built, type="ticks", choices=choices, values=kept)
    if built.name in ("roles", "kinds"):
        if built.name == "kinds":
            names = ("user", "vm", "host", "osf", "di")
            return evolve(
                built,
                type="ticks",
                choices=[(each, made.viewer.text(label(f"{each}_id"))) for each in names],
                values=kept,
            )
        return evolve(built, type="ticks", choices=await options_of(made.visit, "roles", plain=True), values=kept)
    return evolve(built, type="words", value=", ".join(kept))


async def property_inputs(made: Made) -> list[Input]:
    """One for each property that such objects may have."""
    reply = await made.visit.api("GET", "/properties", {"limit": "500", "fields": "key,type,kinds,description"})
    if not reply.ok:
        return []
    values: Mapping[str, Any] = made.current.get("properties") or {}
    found: dict[str, Input] = {}
    for each in reply.body["items"]:
        if made.kind.name not in (each.get("kinds") or ()) or (made.many and each.get("type") == "secret"):
            continue
        value = values.get(each["key"])
        built = Input(
            name=f"{PROPERTY}{each['key']}",
            label=each["key"],
            type={"integer": "integer", "secret": "password"}.get(str(each.get("type")), "text"),
            help=str(each.get("description") or ""),
            nullable=True,
            value="" if value is None else str(value).lower() if isinstance(value, bool) else str(value),
        )
        if each.get("type") == "boolean":
            yes_no = [("", NO_CHANGE if made.many else N_("none")), ("true", N_("Yes")), ("false", N_("No"))]
            built = evolve(built, type="select", choices=[(key, made.viewer.text(said)) for key, said in yes_no])
        found[built.name] = built
    return list(found.values())


async def read_form(visit: Visit, form: Form) -> tuple[dict[str, Any], dict[str, str]]:
    """What somebody typed, as the body of a call; and what is wrong with it, by the inputs' names."""
    body: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for each in form.inputs:
        if each.name not in visit.form and f"{each.name}:given" not in visit.form:
            continue
        try:
            given, value = await parse(visit, each, form.skips_empty)
        except Invalid as invalid:
            faults[each.name] = visit.viewer.text(str(invalid))
            continue
        if not given:
            continue
        if each.name.startswith(PROPERTY):
            body.setdefault("properties", {})[each.name.removeprefix(PROPERTY)] = value
        else:
            body[each.name] = value
    return body, faults
