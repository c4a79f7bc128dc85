# -*- test-case-name: tests.admin.test_matrix -*-
"""All operations of the API, in one list; and all kinds of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qvd.admin.collections import Collection
from qvd.admin.description import Description
from qvd.admin.endpoint import Endpoint, Operations
from qvd.admin.events.endpoints import event_endpoints
from qvd.admin.jobs.bulk import BulkJobs
from qvd.admin.jobs.images import IMAGE_JOBS
from qvd.admin.jobs.kinds import JobKind
from qvd.admin.jobs.purge import Purge
from qvd.admin.jobs.stops import STOP_VMS
from qvd.admin.login.endpoints import login_endpoints
from qvd.admin.resources.administrators import Administrators
from qvd.admin.resources.adminlogins import AdministratorLogins
from qvd.admin.resources.configuration import Configuration
from qvd.admin.resources.doctor import Doctor
from qvd.admin.resources.hosts import Hosts
from qvd.admin.resources.images import Images
from qvd.admin.resources.jobs import Jobs
from qvd.admin.resources.log import Log, ObjectLogs
from qvd.admin.resources.logexport import LogExports
from qvd.admin.resources.osfs import Osfs
from qvd.admin.resources.owntenant import OwnTenant
from qvd.admin.resources.properties import Properties
from qvd.admin.resources.property_values import PropertyValues
from qvd.admin.resources.quotas import Quotas
from qvd.admin.resources.retention import AuditRetention
from qvd.admin.resources.roles import Roles
from qvd.admin.resources.search import Find
from qvd.admin.resources.stats import Stats
from qvd.admin.resources.tenants import Tenants
from qvd.admin.resources.users import Users
from qvd.admin.resources.views import ViewSettings
from qvd.admin.resources.vms import VMs
from qvd.admin.staging import staging_endpoints
from qvd.admin.uploads import upload_endpoints

COLLECTIONS: Sequence[type[Collection]] = (
    Tenants,
    Users,
    VMs,
    Hosts,
    Osfs,
    Images,
    Administrators,
    Roles,
    Properties,
    Log,
    Jobs,
)
OTHERS: Sequence[type[Operations]] = (
    Configuration,
    PropertyValues,
    ObjectLogs,
    AdministratorLogins,
    LogExports,
    AuditRetention,
    ViewSettings,
    Stats,
    Doctor,
    Find,
    OwnTenant,
    Quotas,
)
"""Of what is no collection of declared objects."""


def all_collections(kinds: Sequence[type[Collection]] = COLLECTIONS) -> Mapping[str, Collection]:
    """By name."""
    peers: dict[str, Collection] = {}
    for kind in kinds:
        peers[kind.resource.collection] = kind(peers)
    return peers


def all_endpoints(kinds: Sequence[type[Collection]] = COLLECTIONS) -> Sequence[Endpoint]:
    """Of all resources, and of what is none."""
    peers = all_collections(kinds)
    others = [kind(peers) for kind in OTHERS]
    found = [endpoint for part in (*peers.values(), *others) for endpoint in part.endpoints()]
    found += [*login_endpoints(), *staging_endpoints(), *upload_endpoints(), *event_endpoints(peers)]
    return [*found, *Description(found).endpoints]


def all_jobs(kinds: Sequence[type[Collection]] = COLLECTIONS, images: bool = True) -> Sequence[JobKind]:
    """What a L{qvd.admin.jobs.runner.JobRunner} runs.

    @param images: those too that work on the files of images.
    """
    peers = all_collections(kinds)
    return [BulkJobs(peers).kind, Purge(peers).kind, STOP_VMS, *(IMAGE_JOBS if images else ())]
