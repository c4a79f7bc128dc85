# -*- test-case-name: tests.panel.test_texts -*-
"""What fields, states and operations are called, for people. Those that nothing is said of here are called by their
names in the API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qvd.admin.endpoint import Endpoint
from qvd.model.declared import Field
from qvd.panel.kinds import ObjectKind, kinds_of
from qvd.panel.texts import N_

LABELS = {
    "at": N_("When"),
    "acked_generation": N_("Order taken up"),
    "client_address": N_("Client address"),
    "cpus": N_("Processors"),
    "cpu_pressure": N_("Processor pressure"),
    "created_at": N_("Made on"),
    "created_by": N_("Made by"),
    "default": N_("Default image"),
    "desired_state": N_("Wanted state"),
    "di_id": N_("Image"),
    "di_id_in_use": N_("Image in use"),
    "di_name": N_("Image file"),
    "di_name_in_use": N_("Image file in use"),
    "di_tag": N_("Tag"),
    "di_version": N_("Image version"),
    "di_version_in_use": N_("Image version in use"),
    "expiration_hard": N_("Expires at the latest"),
    "expiration_soft": N_("Expires once disconnected"),
    "heartbeat_at": N_("Last sign of life"),
    "host_id": N_("Node"),
    "host_name": N_("Node"),
    "id": N_("Number"),
    "ip": N_("IP address"),
    "ip_in_use": N_("IP address in use"),
    "mac": N_("MAC address"),
    "number_of_images": N_("Images"),
    "number_of_running_vms": N_("Running VMs"),
    "number_of_sessions": N_("Sessions"),
    "number_of_users": N_("Users"),
    "number_of_vms": N_("VMs"),
    "number_of_vms_connected": N_("Connected VMs"),
    "number_of_vms_running": N_("Running VMs"),
    "order_pending": N_("Order not taken up"),
    "osf_id": N_("OSF"),
    "osf_name": N_("OSF"),
    "path": N_("File"),
    "problem": N_("Problem"),
    "retry_at": N_("Not started before"),
    "session_since": N_("Connected since"),
    "since": N_("In this state since"),
    "tenant_id": N_("Tenant"),
    "tenant_name": N_("Tenant"),
    "user_id": N_("User"),
    "user_name": N_("User"),
    "administrator_id": N_("Administrator"),
    "administrator_name": N_("Administrator"),
    "object_id": N_("Number of the object"),
    "object_name": N_("Object"),
    "object_kind": N_("Kind of object"),
    "user_state": N_("User's connection"),
    "vm_id": N_("VM"),
    "vm_name": N_("VM"),
}
ACTIONS = {
    "force-stop": N_("Stop by force"),
    "create-vm": N_("New VM"),
    "undrain": N_("End the draining"),
    "update": N_("Change"),
    "no-expiration": N_("Take the expiration away"),
    "declare-dead": N_("Declare dead"),
    "stop-vms": N_("Stop its VMs"),
    "message": N_("Send a message"),
    "password": N_("Set a password"),
    "expiration": N_("Set the expiration"),
    "tag": N_("Change the tag"),
    "roles": N_("Choose its roles"),
    "expire-password": N_("Demand a new password"),
    "close-sessions": N_("End its sessions"),
    "delete-tokens": N_("Delete its tokens"),
    "delete-mfa": N_("Take the second factor away"),
    "set-quotas": N_("Set quotas"),
    "set_default": N_("Make it the default"),
    "expire_vms": N_("Have VMs of older images expire"),
    "change-acls": N_("Change permissions by pattern"),
}
KINDS: Mapping[str, tuple[str, str, str]] = {
    "administrators": (N_("Administrators"), N_("Administrator"), N_("New administrator")),
    "hosts": (N_("Nodes"), N_("Node"), N_("New node")),
    "images": (N_("Disk images"), N_("Disk image"), N_("New disk image")),
    "jobs": (N_("Jobs"), N_("Job"), ""),
    "log": (N_("Audit log"), N_("Entry of the audit log"), ""),
    "osfs": (N_("OSFs"), N_("OSF"), N_("New OSF")),
    "properties": (N_("Properties"), N_("Property"), N_("New property")),
    "roles": (N_("Roles"), N_("Role"), N_("New role")),
    "tenants": (N_("Tenants"), N_("Tenant"), N_("New tenant")),
    "users": (N_("Users"), N_("User"), N_("New user")),
    "vms": (N_("VMs"), N_("VM"), N_("New VM")),
}
"""Many, one, and what makes another one."""


def label(name: str) -> str:
    """Of a field, or of a member of a form."""
    return LABELS.get(name) or plain(name)


def action_label(name: str) -> str:
    """Of something that can be done."""
    return ACTIONS.get(name) or plain(name)


def plain(name: str) -> str:
    """A name in the API as words."""
    words = name.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]


def kind_words(kind: ObjectKind) -> tuple[str, str, str]:
    """Many, one, and what makes another one."""
    return KINDS.get(kind.collection) or (kind.resource.title, plain(kind.name), "")


def word(field: Field, value: str) -> str:
    """One of a field's choices. Those of languages are their codes."""
    return value if field.name == "language" and value in ("en", "es") else plain(value)


def declared_texts(endpoints: Sequence[Endpoint]) -> Iterator[str]:
    """All texts that come from what the API declares: they are to be there in all languages."""
    for kind in kinds_of(endpoints).values():
        yield from (text for text in kind_words(kind) if text)
        for field in kind.resource.fields:
            yield label(field.name)
            yield field.text
            yield from (word(field, choice) for choice in field.choices)
        yield from (action_label(name) for name in {*kind.actions, *kind.bulk_names, "force-stop", "delete"})
