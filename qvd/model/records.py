"""What the stores hand out: rows as values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from attrs import frozen

from qvd.model.ids import DIId, Epoch, Generation, HostId, Run, SessionId, TenantId, UserId, VMId
from qvd.model.secret import Secret
from qvd.model.vm import VMState

NO_RUN = Run(0)
"""Of a VM that never ran."""


class Desired(Enum):
    """What somebody wants of a VM (column C{desired_state})."""

    STOPPED = "stopped"
    RUNNING = "running"


class HostState(Enum):
    """Column C{host_runtimes.state}."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    LOST = "lost"


class Drain(Enum):
    """Column C{host_runtimes.drain}: what becomes of the VMs of a node that gets no new ones."""

    WAIT = "wait"
    STOP = "stop"


@frozen
class User:
    """An account, as an authenticator sees it.

    @ivar blocked: the user or the tenant is blocked.
    """

    user_id: UserId
    tenant_id: TenantId
    login: str
    password: Secret | None
    blocked: bool


@frozen
class TokenUse:
    """A bearer token that was accepted."""

    user: User
    vm_id: VMId | None


@frozen
class TokenTerms:
    """What a bearer token is to be good for.

    @ivar vm_id: the only VM, or L{None} for all of the user's.
    @ivar multi_use: for more than one connection.
    @ivar seconds: for so long.
    """

    vm_id: VMId | None
    multi_use: bool
    seconds: int


@frozen
class VMSummary:
    """A line of C{list_of_vm}."""

    vm_id: VMId
    name: str
    state: VMState
    blocked: bool
    is_application: bool


@frozen
class Guest:
    """Where a running VM's agent and nxagent listen, and the secret that the agent wants to see."""

    address: str
    vma_port: int
    x_port: int
    secret: Secret


@frozen
class VM:
    """Definition and state of one VM.

    @ivar generation: number of the newest order; C{acked} is the newest one that a node has taken up.
    @ivar since: when C{state} was entered, by the database's clock.
    @ivar detail: the phase in words a user understands.
    @ivar failures: starts that failed, and runs that ended by themselves soon, in a row.
    @ivar retry_in: seconds until it may be started again, by the database's clock; L{None} or 0: it may.
    @ivar run: number of the present or last run.
    @ivar forced: it is to be stopped without asking it.
    """

    vm_id: VMId
    tenant_id: TenantId
    user_id: UserId
    name: str
    login: str
    blocked: bool
    state: VMState
    desired: Desired
    generation: Generation
    acked: Generation
    host_id: HostId | None
    epoch: Epoch | None
    phase: str
    detail: str
    last_error: str | None
    guest: Guest | None
    session_id: SessionId | None
    since: datetime
    failures: int = 0
    retry_in: float | None = None
    run: Run = NO_RUN
    forced: bool = False


class Persistence(Enum):
    """Column C{osfs.persistence}: what a VM's next run finds of the one before."""

    NOTHING = "nothing"
    HOME = "home"
    EVERYTHING = "everything"


@frozen
class Nic:
    """A VM's place in the VM network.

    @ivar address: IPv4, as text.
    @ivar prefix: bits of the network's part of it.
    @ivar mac: lower case, with colons.
    @ivar gateway: L{None}: there is no way out.
    """

    address: str
    prefix: int
    mac: str
    gateway: str | None = None


@frozen
class VMSpec:
    """All that a driver needs to boot a VM.

    @ivar login: the Unix account of the guest's user.
    @ivar memory: bytes.
    @ivar image: file or folder name under C{path.storage.images}; empty: boot from the host's own files.
    @ivar home: path of the home below C{path.storage.homes}.
    @ivar image_type: the driver that the image is for, as registered; L{None}: not known.
    @ivar checksum: SHA-256 of the image's file, in hexadecimal digits, as registered; L{None}: not known.
    @ivar user_storage: bytes for the home; L{None}: the driver's default.
    @ivar cpus: processors that it may keep busy; L{None}: the driver's default.
    @ivar nic: L{None}: no VM network is configured.
    """

    vm_id: VMId
    tenant_id: TenantId
    name: str
    login: str
    di_id: DIId | None
    image: str
    memory: int
    home: str
    secret: Secret
    run: Run = NO_RUN
    image_type: str | None = None
    checksum: str | None = None
    persistence: Persistence = Persistence.HOME
    user_storage: int | None = None
    cpus: float | None = None
    nic: Nic | None = None


@frozen
class Domain:
    """A VM as the hypervisor sees it.

    @ivar running: processes exist; L{False} means leftovers only.
    @ivar guest: L{None} where only leftovers are known.
    """

    vm_id: VMId
    running: bool
    guest: Guest | None


@frozen
class Lease:
    """This node's right to run its VMs."""

    host_id: HostId
    epoch: Epoch


@frozen
class SessionSpec:
    """A session that is about to be claimed."""

    session_id: SessionId
    vm_id: VMId
    tenant_id: TenantId
    user_id: UserId
    lease: Lease
    client_address: str


@frozen
class Held:
    """A VM that a node carries, as it thinks the row says.

    @ivar state: L{None} while it is being written.
    @ivar vma_port: of a guest that runs.
    @ivar run: number of the run; L{None} where it is not known.
    """

    vm_id: VMId
    state: VMState | None
    vma_port: int | None = None
    run: Run | None = None


@frozen
class Change:
    """What L{qvd.interfaces.IOwnership.save} writes.

    @ivar guest: written where it is given, kept where it is L{None}.
    @ivar error: likewise, the row's C{last_error}.
    """

    state: VMState
    phase: str
    detail: str
    guest: Guest | None = None
    error: str | None = None


@frozen
class Capacity:
    """What a node has for VMs.

    @ivar memory: bytes.
    @ivar cpus: cores.
    @ivar available: bytes that are free just now, whoever uses the rest.
    @ivar idle: cores that have had nothing to do of late.
    @ivar cpu_pressure: per cent of the last 10 s in which some work waited for a processor; L{None}: unknown.
    @ivar memory_pressure: per cent of the last 10 s in which all work waited for memory; L{None}: unknown.
    """

    memory: int
    cpus: float
    available: int
    idle: float
    cpu_pressure: float | None = None
    memory_pressure: float | None = None


@frozen
class Explanation:
    """Why a VM is where it is, or is not.

    @ivar tenant: name of its tenant.
    @ivar host: name of the node that it is bound to.
    @ivar placement: what L{qvd.model.placement.describe} reads; L{None} before its first start.
    """

    vm: VM
    tenant: str
    host: str | None
    placement: Mapping[str, Any] | None


@frozen
class HostStatus:
    """A node's row, as the renewal of its lease returned it.

    @ivar drain: L{None} while the node takes new VMs.
    """

    state: HostState
    blocked: bool
    drain: Drain | None = None


@frozen
class ServerClock:
    """What the database's server says of itself.

    @ivar server: names the server and its run: another one after each restart and fail-over.
    @ivar now: its time, seconds since the epoch.
    """

    server: str
    now: float


@frozen
class LostNode:
    """A node that was declared lost, and how many VMs and sessions were taken away from it."""

    name: str
    vms: int
    sessions: int


@frozen
class RegisteredImage:
    """A disk image with a file or folder.

    @ivar path: below C{path.storage.images}.
    @ivar seen: this node has said that it sees it.
    """

    di_id: DIId
    path: str
    seen: bool
