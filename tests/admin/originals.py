"""
What QVD 4.2 can be asked for, and what it is here: the names of its actions and its paths, each with the actions of
our operations that do the same together. What has no counterpart is in L{GONE}, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

KINDS: Mapping[str, str] = {"user": "user", "vm": "vm", "host": "host", "osf": "osf", "di": "di"}
"""Kinds of objects with properties, by their names there; here they are the same."""
PLAIN: Mapping[str, Sequence[str]] = {
    "user_get_list": ("user.list", "user.read", "user.search"),
    # How many of somebody's VMs are connected: VMs, narrowed by user and by state, with their count.
    "user_get_state": ("user.vms", "vm.search"),
    "user_create": ("user.create", "user.set-property"),
    "user_update": ("user.update", "user.password", "user.block", "user.unblock", "user.set-property", "user.bulk"),
    "user_delete": ("user.delete", "user.bulk"),
    "vm_get_list": ("vm.list", "vm.read", "vm.search", "vm.runtime"),
    "vm_create": ("vm.create", "vm.set-property"),
    "vm_update": ("vm.update", "vm.block", "vm.unblock", "vm.tag", "vm.expiration", "vm.no-expiration", "vm.bulk"),
    "vm_delete": ("vm.delete", "vm.bulk"),
    "vm_start": ("vm.start", "vm.bulk"),
    "vm_stop": ("vm.stop", "vm.bulk", "host.stop-vms"),
    "vm_user_disconnect": ("vm.disconnect", "vm.bulk"),
    "host_get_list": ("host.list", "host.read", "host.search"),
    "host_get_state": ("vm.search",),
    "host_create": ("host.create", "host.set-property"),
    "host_update": ("host.update", "host.block", "host.unblock", "host.set-property"),
    "host_delete": ("host.delete",),
    "osf_get_list": ("osf.list", "osf.read", "osf.search"),
    "osf_create": ("osf.create", "osf.set-property"),
    "osf_update": ("osf.update", "osf.set-property", "osf.delete-property"),
    "osf_delete": ("osf.delete",),
    "di_get_list": ("di.list", "di.read", "di.search", "osf.images"),
    "di_create": ("di.create",),
    "di_update": ("di.update", "di.block", "di.unblock", "di.set_tag", "di.remove_tag", "di.set_default"),
    "di_delete": ("di.delete",),
    "dis_in_staging": ("staging.list",),
    "tag_get_list": ("osf.tags",),
    "administrator_get_list": ("administrator.list", "administrator.read", "administrator.search"),
    "administrator_create": ("administrator.create",),
    "administrator_update": (
        *("administrator.update", "administrator.password", "administrator.roles"),
        *("administrator.assign-role", "administrator.withdraw-role"),
    ),
    "administrator_delete": ("administrator.delete",),
    "myadmin_update": ("me.update", "me.password"),
    "role_get_list": ("role.list", "role.read", "role.search", "role.matrix"),
    "role_create": ("role.create",),
    "role_update": (
        *("role.update", "role.grant-acl", "role.revoke-acl", "role.change-acls", "role.inherit", "role.disinherit"),
    ),
    "role_delete": ("role.delete",),
    "acl_get_list": ("acl.list",),
    "get_acls_in_roles": ("role.acls",),
    "get_acls_in_admins": ("administrator.acls",),
    "number_of_acls_in_role": ("role.acls",),
    "number_of_acls_in_admin": ("administrator.acls",),
    "tenant_get_list": ("tenant.list", "tenant.read", "tenant.search"),
    "tenant_create": ("tenant.create",),
    "tenant_update": ("tenant.update", "tenant.block", "tenant.unblock"),
    "tenant_delete": ("tenant.delete", "tenant.contents", "tenant.purge"),
    "mytenant_update": ("settings.update",),
    "config_get": ("config.list", "config.read"),
    "config_set": ("config.set", "config.update"),
    "config_delete": ("config.reset", "config.update"),
    "config_wat_get_list": ("settings.read",),
    "config_wat_update": ("settings.update",),
    "property_get_list": ("property.list", "property.read"),
    "property_create": ("property.create",),
    "property_update": ("property.update",),
    "property_delete": ("property.delete",),
    "tenant_view_get_list": ("view.read",),
    "tenant_attribute_view_set": ("view.set",),
    "tenant_property_view_set": ("view.set",),
    "tenant_view_reset": ("view.reset",),
    "admin_attribute_view_set": ("view.set-own",),
    "admin_property_view_set": ("view.set-own",),
    "admin_view_reset": ("view.reset-own",),
    "current_admin_setup": ("auth.session", "me.read", "me.acls", "view.list-own"),
    "qvd_objects_statistics": ("stats.read", "stats.expirations", "stats.top-hosts"),
    "log_get_list": ("log.list", "log.read", "log.search", "user.log"),
}
ACTIONS: Mapping[str, Sequence[str]] = {
    **PLAIN,
    **{f"{kind}_get_property_list": ("property.list", f"{ours}.read-properties") for kind, ours in KINDS.items()},
    **{f"{kind}_create_property_list": ("property.attach",) for kind in KINDS},
    **{f"{kind}_delete_property_list": ("property.detach",) for kind in KINDS},
}
PATHS: Mapping[str, Sequence[str]] = {
    "/api/info": ("info.read",),
    "/api/logout": ("auth.logout",),
    "/api/ws": ("event.watch",),
    "/api/di/staging": ("di.create", "staging.list"),
    "/api/di/upload": ("di.create", "upload.send", "upload.read", "upload.cancel"),
    "/api/di/download": ("di.create",),
    "/api/di/publish": ("di.publish",),
}
GONE: Mapping[str, str] = {
    "/": "later: the panel's own files come with the panel",
    "/api": "each action has a path of its own; credentials are given once, at a login",
    "/api/di/notify": "the builder of images beside the suite is gone, and so is what it told",
    "/api/di/generate": "images are built by qvd-image, and come by upload, from staging or from a URL",
    "/api/di/docker": "no driver starts from a registry's image by its name",
    "/api/proxy/:code/*": "a door to whatever is behind it, for the builder of images that is gone",
    "/vmproxy": "later: the screens of VMs are no part of this API yet",
    "config_ssl": "nodes and service read their certificates from files of the machine, named in its settings",
}
"""Actions and paths without a counterpart, and why."""
