"""Fields that several resources have."""

from __future__ import annotations

from qvd.model.declared import Creates, Field, Kind

LANGUAGES = ("auto", "en", "es", "default")


def tenant_fields(alias: str) -> tuple[Field, ...]:
    """Whose an object is: only for administrators over all tenants. Needs the join C{tenant}."""
    return (
        Field(
            name="tenant_id",
            kind=Kind.INTEGER,
            text="Tenant that it belongs to",
            sql=f"{alias}.tenant_id",
            creates=Creates.MAY,
            refers="tenants",
            superadmin=True,
        ),
        Field(
            name="tenant_name",
            kind=Kind.TEXT,
            text="Name of that tenant",
            sql="t.name",
            joins=("tenant",),
            superadmin=True,
        ),
    )


def tenant_join(alias: str) -> dict[str, str]:
    """The join that L{tenant_fields} needs."""
    return {"tenant": f"JOIN tenants t ON t.id = {alias}.tenant_id"}


def creation_fields(kind: str, alias: str) -> tuple[Field, ...]:
    """When an object was made, and by whom."""
    return (
        Field(
            name="created_at",
            kind=Kind.TIME,
            text="When it was made",
            sql=f"{alias}.created_at",
            see=(f"{kind}.see.creation-date",),
        ),
        Field(
            name="created_by",
            kind=Kind.TEXT,
            text="Name of the administrator who made it",
            sql=f"{alias}.created_by",
            see=(f"{kind}.see.created-by",),
        ),
    )


def id_field(alias: str) -> Field:
    return Field(name="id", kind=Kind.INTEGER, text="Number of the object", sql=f"{alias}.id")


def properties_field(kind: str) -> Field:
    """Custom properties, where an object is made or changed. They are read at a place of their own."""
    return Field(
        name="properties",
        kind=Kind.OBJECT,
        text="Values of properties, by key: texts, whole numbers, true or false; null takes one away",
        creates=Creates.MAY,
        create_acl=f"{kind}.create.properties",
        update_acl=f"{kind}.update.properties",
        filters=False,
        sorts=False,
    )


def description_field(kind: str, table: str, alias: str) -> Field:
    return Field(
        name="description",
        kind=Kind.TEXT,
        text="For administrators",
        sql=f"{alias}.description",
        column=f"{table}.description",
        see=(f"{kind}.see.description",),
        creates=Creates.MAY,
        update_acl=f"{kind}.update.description",
        most=32768,
        sorts=False,
    )


def blocked_field(kind: str, table: str, alias: str, text: str) -> Field:
    """@param text: what must not happen while it is set."""
    return Field(
        name="blocked",
        kind=Kind.BOOLEAN,
        text=text,
        sql=f"{alias}.blocked",
        column=f"{table}.blocked",
        see=(f"{kind}.see.block",),
        creates=Creates.MAY,
        create_acl=f"{kind}.update.block",
        update_acl=f"{kind}.update.block",
    )


def language_field(kind: str, table: str, alias: str, text: str) -> Field:
    """@param text: of what."""
    return Field(
        name="language",
        kind=Kind.TEXT,
        text=text,
        sql=f"{alias}.language",
        column=f"{table}.language",
        see=(f"{kind}.see.language",),
        creates=Creates.MAY,
        update_acl=f"{kind}.update.language",
        choices=LANGUAGES,
    )
