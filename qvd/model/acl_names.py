"""
The names of permissions, as data: for each kind of object and each verb, what it may be done to. An empty word is the
verb as such, whose name ends in a dot. The names of QVD 4.2 are valid for ever; ours were added for what it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping

Names = Mapping[str, Mapping[str, str]]
BARE = "-"
"""Stands for the empty word."""
VM_LIST = "vm-list vm-list-block vm-list-expiration vm-list-state vm-list-user-state"
MADE = "created-by creation-date"

QVD_4_2: Names = {
    "administrator": {
        "see-main": BARE,
        "see-details": BARE,
        "see": f"id description language roles acl-list acl-list-roles {MADE} log",
        "create": f"{BARE} language",
        "update": "password language description assign-role",
        "delete": BARE,
    },
    "config": {"qvd": BARE, "wat": BARE},
    "di": {
        "see-main": BARE,
        "see-details": BARE,
        "see": f"id description version osf block tags default head properties {MADE} log {VM_LIST}",
        "stats": "summary blocked",
        "create": f"{BARE} version tags default properties generation",
        "update": "block description tags default properties auto-publish vms-expiration publish",
        "delete": BARE,
    },
    "host": {
        "see-main": BARE,
        "see-details": BARE,
        "see": f"id description address state block vms-info properties {MADE} log {VM_LIST}",
        "stats": "summary blocked running-hosts top-hosts-most-vms",
        "create": f"{BARE} properties",
        "update": "name address description block properties stop-vms",
        "delete": BARE,
    },
    "log": {"see-main": BARE, "see-details": BARE, "see": "administrator address source call-arguments"},
    "osf": {
        "see-main": BARE,
        "see-details": BARE,
        "see": f"id description memory user-storage overlay properties dis-info vms-info {MADE} log di-list"
        f" di-list-block di-list-default di-list-head di-list-tags di-list-default-update {VM_LIST}",
        "stats": "summary",
        "create": f"{BARE} memory user-storage properties",
        "update": "name description memory user-storage properties",
        "delete": BARE,
    },
    "property": {"see-main": BARE, "manage": BARE},
    "role": {
        "see-main": BARE,
        "see-details": BARE,
        "see": f"id description acl-list acl-list-roles inherited-roles {MADE} log",
        "create": BARE,
        "update": "name description assign-acl assign-role",
        "delete": BARE,
    },
    "tenant": {
        "see-main": BARE,
        "see-details": BARE,
        "see": f"id description language blocksize block {MADE} log user-list user-list-block {VM_LIST}"
        " di-list di-list-block di-list-tags",
        "create": BARE,
        "update": "name description language blocksize block",
        "delete": BARE,
        "purge": BARE,
    },
    "user": {
        "see-main": BARE,
        "see-details": BARE,
        "see": f"id description block vms-info properties {MADE} log {VM_LIST}",
        "stats": "summary blocked connected-users",
        "create": f"{BARE} properties",
        "update": "password description block properties",
        "delete": BARE,
    },
    "views": {"see-main": BARE, "update": "columns filters-desktop filters-mobile"},
    "vm": {
        "see-main": BARE,
        "see-details": BARE,
        "see": "id description user osf di-tag di di-version block state user-state expiration host ip next-boot-ip mac"
        f" port-ssh port-vnc port-serial properties {MADE} log",
        "stats": "summary blocked running-vms close-to-expire",
        "create": f"{BARE} di-tag properties",
        "update": "name description di-tag expiration block state disconnect-user properties",
        "delete": BARE,
        "spy": f"{BARE} interactive",
    },
}
OURS: Names = {
    "user": {"update": "name language mfa", "see": "connections language"},
    "vm": {
        "update": "ip storage owner osf force-stop message",
        "see": "runtime counters",
        "console": BARE,
        "create": "block ip",
    },
    "host": {"update": "roles drain declare-dead state", "see": "capacity counters"},
    "osf": {"update": "overlay application definition", "create": "overlay", "see": "application"},
    "di": {"create": "url upload staging staging-delete", "update": "verify", "see": "file"},
    "administrator": {"update": "name block"},
    "session": {"manage": "users administrators"},
    "token": {"manage": BARE},
    "tenant": {"see": "quotas", "update": "quotas"},
    "config": {"tls": BARE},
    "log": {"export": BARE, "manage": BARE},
    "job": {"see-main": BARE, "cancel": BARE},
}


def names_of(words: Names) -> list[str]:
    """The full names."""
    return [
        f"{domain}.{verb}.{'' if word == BARE else word}"
        for domain, verbs in words.items()
        for verb, listed in verbs.items()
        for word in listed.split()
    ]
