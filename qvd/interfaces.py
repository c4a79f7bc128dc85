"""Ports: what services ask of the database, the hypervisor, an authenticator and a guest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from zope.interface import Attribute, Interface

from qvd.model.crashloop import Ending
from qvd.model.expiry import Expiring, ExpiryTerms, Notice
from qvd.model.ids import DIId, Generation, HostId, Run, SessionId, TenantId, UserId, VMId
from qvd.model.records import (
    VM,
    Administrator,
    Capacity,
    Change,
    Domain,
    Explanation,
    Guest,
    Held,
    HostState,
    HostStatus,
    Lease,
    LostNode,
    RegisteredImage,
    ServerClock,
    SessionSpec,
    TokenTerms,
    TokenUse,
    User,
    VMSpec,
    VMSummary,
)
from qvd.model.secret import Secret
from qvd.model.vm import VMState

T = TypeVar("T")
Row = Mapping[str, Any]
Parameters = Sequence[object] | Mapping[str, object]


class ITransaction(Interface):
    """An open transaction. Valid only inside the function it was given to."""

    async def fetch(sql: str, parameters: Parameters = ()) -> Sequence[Row]:
        """Run one statement and return its rows, each a mapping from column name to value."""

    async def fetch_one(sql: str, parameters: Parameters = ()) -> Row | None:
        """Run one statement that returns at most one row."""

    async def execute(sql: str, parameters: Parameters = ()) -> int:
        """Run one statement and return the number of rows it touched."""


class IDatabase(ITransaction):
    """PostgreSQL. C{fetch}, C{fetch_one} and C{execute} here are transactions of one statement each.

    Each call may raise L{qvd.model.errors.DatabaseUnavailable}: the server does not answer, or the deadline passed.
    Whether a write took place is then unknown. Errors of the statement itself (a violated constraint) come as
    C{psycopg2.Error}, with the connection kept.
    """

    async def transact(name: str, work: Callable[[ITransaction], Awaitable[T]]) -> T:
        """Run C{work} in one transaction: committed when it returns, rolled back when it raises.

        Tried again a bounded number of times on a serialization failure or a deadlock, so C{work} must have no
        effect of its own. No second connection may be asked for inside C{work}.
        @param name: of the transaction, for logs.
        """


class IBells(Interface):
    """Notifications from PostgreSQL. A bell says only "look again"."""

    def listen(channel: str, ring: Callable[[str], None]) -> Callable[[], None]:
        """Call C{ring(payload)} for each notification on C{channel}, and C{ring("")} after every (re)connect,
        since bells may have been missed. Return a function that ends this."""


class IDriver(Interface):
    """A hypervisor. Called by the runner, one call at a time per VM; calls for different VMs overlap.

    Each call may raise L{qvd.model.errors.TransientError} or L{qvd.model.errors.PermanentError} with a sentence
    for the user. Cancelling a call must leave nothing running that C{kill} and C{destroy} do not end.
    """

    name: str = Attribute("Name of the driver, as in C{vm.hypervisor}.")

    async def prepare(spec: VMSpec, progress: Callable[[str], None]) -> None:
        """Check and make ready all that the VM needs before it boots: image, home, space. May take long.

        @param progress: told in words what is going on.
        """

    async def start(spec: VMSpec) -> Guest:
        """Boot. Returns when the hypervisor has started it, not when the guest is up."""

    async def shutdown(vm_id: VMId) -> None:
        """Ask the guest, from outside, to power off (ACPI button, TERM). No effect on a VM that is gone."""

    async def kill(vm_id: VMId) -> None:
        """End it at once, whatever it does. Returns when it is gone; no effect on a VM that is."""

    async def destroy(vm_id: VMId) -> None:
        """Free all that C{prepare} and C{start} took, except what persists. The VM must be gone. Idempotent."""

    async def list() -> Sequence[Domain]:
        """What runs on this node, and what left something behind, whoever started it."""

    def watch(exited: Callable[[VMId], None]) -> Callable[[], None]:
        """Call C{exited} whenever a VM is gone, whoever ended it; also for VMs found by C{list}. Return a
        function that ends this."""


class IGuest(Interface):
    """The agent of one running VM. Each call has a deadline of its own and raises
    L{qvd.model.errors.GuestError} when the agent says no, nonsense or nothing."""

    async def ping() -> None:
        """The agent answers."""

    async def x_start(parameters: Mapping[str, str]) -> str:
        """Start or resume the X session."""

    async def x_state() -> str:
        """State of the X session: see C{qvd.model.xsession.XState}."""

    async def x_suspend() -> str:
        """Suspend the X session."""

    async def poweroff() -> None:
        """Ask for an orderly power-off."""

    async def expire(parameters: Mapping[str, str]) -> None:
        """Tell the user that the VM is too old, or soon will be. An agent that does not answer in time has heard it:
        its hook may wait for the user.

        @param parameters: C{vm.expiration.soft} and C{vm.expiration.hard}, those that there are, in UTC.
        """


class IGuestDialer(Interface):
    """Makes L{IGuest}s."""

    def dial(guest: Guest) -> IGuest:
        """No connection is made yet."""


class IUsers(Interface):
    """The accounts."""

    async def find(tenant: str, login: str) -> User | None:
        """By the tenant's name and the login, both without regard to case."""

    async def is_blocked(user_id: UserId) -> bool:
        """True for a user who is blocked, whose tenant is, or who is gone."""

    async def rehash(user_id: UserId, old: Secret, new: str) -> None:
        """Replace a hash of an older kind, after a login that it was good for; unless it was changed meanwhile."""

    async def redeem(token_hash: bytes) -> TokenUse | None:
        """Accept a bearer token, using a single-use one up. L{None}: unknown, expired or used."""

    async def add_token(token_hash: bytes, user: User, terms: TokenTerms) -> bool:
        """Keep a new bearer token, and forget those, whosever, that are expired or used up. L{False}: the user has too
        many."""


class IHasher(Interface):
    """Hashes passwords off the reactor, in a bounded pool."""

    async def verify(stored: str | None, password: str) -> bool:
        """Compare; with L{None}, take as long and answer L{False}."""

    async def hash(password: str) -> str:
        """A hash to store."""


class IPasswordAuthenticator(Interface):
    """Proves who somebody is by login and password."""

    async def authenticate(tenant: str, login: str, password: Secret) -> User:
        """@raise AuthenticationFailed: for whatever reason; it does not say which."""


class ITokenAuthenticator(Interface):
    """Issues bearer tokens, and proves who somebody is by one."""

    async def authenticate(token: Secret) -> TokenUse:
        """@raise AuthenticationFailed: unknown, expired or used up."""

    async def issue(user: User, terms: TokenTerms) -> Secret:
        """A new token. Nobody can be told it again: only its hash is kept.

        @raise Unavailable: the user has too many.
        """


class IVMs(Interface):
    """The VMs as the L7R sees them."""

    async def list_for_user(user_id: UserId, applications: bool) -> Sequence[VMSummary]:
        """The user's VMs, by name."""

    async def get(vm_id: VMId) -> VM | None:
        """One VM with its state."""

    async def explain(vm_id: VMId) -> Explanation | None:
        """The VM with its last placement, for administrators. L{None}: there is no such VM."""

    async def order_start(vm_id: VMId, cause: str) -> None:
        """Want the VM to run: place it on a node where it has none, and order its start, in one transaction that
        checks capacity. No effect on a VM that runs or is ordered to.

        @param cause: who wants it and why, for the history.
        @raise Unavailable: no node can take it; the text names each node and the rule that rejected it. Or it has
            failed too often, and may not be started yet.
        """

    async def order_stop(vm_id: VMId, cause: str) -> None:
        """Want the VM to be stopped. No effect on a VM that is."""

    async def unplaced() -> Sequence[VMId]:
        """The VMs whose order to start has lost its node, and waits for another one: the first of them, where there are
        very many."""

    async def place_again(vm_id: VMId, cause: str) -> bool:
        """Give such an order another node; withdraw it, with the reason to show, where none can take it. No effect
        when somebody else has done it.

        @return: it has a node now.
        """

    async def reset_failures(vm_id: VMId, cause: str) -> None:
        """Forget the failures of a VM, so that it may be started at once.

        @param cause: who wants it, for the history.
        @raise NotFound: there is no such VM.
        """


class ISessions(Interface):
    """Who has which VM. Ends are written for certain: see L{qvd.l7r.ledger}."""

    async def claim(spec: SessionSpec) -> SessionId | None:
        """Make the session the VM's current one and ring at the node of the one that had it.

        @return: the older session, where it has not ended yet.
        @raise Unavailable: the lease of the session's node is over.
        """

    async def connected(session_id: SessionId) -> None:
        """The client is being switched to NX.

        @raise SessionLost: a newer client has the VM, or the VM's node is lost.
        """

    async def is_current(session_id: SessionId) -> bool:
        """True while no newer session has the VM."""

    async def has_ended(session_id: SessionId) -> bool:
        """True when the session's node has let it go."""

    async def end(session_id: SessionId, reason: str) -> None:
        """The session is over. Idempotent; the first reason stays."""

    async def unended(host_id: HostId) -> Mapping[SessionId, str | None]:
        """The sessions that this process serves on this node, and that have not ended: L{None}, or why they should: a
        newer client has the VM, or the node that ran it is lost."""


class IAdministrators(Interface):
    """Administrators and what they look at."""

    async def find(name: str) -> Administrator | None:
        """By name, without regard to case; C{name@tenant} where the name alone is not unique."""

    async def vms(tenant_id: TenantId) -> Sequence[VM]:
        """All VMs of a tenant, by id."""


class IOwnership(Interface):
    """The VMs as their node sees them: each write is guarded by host and epoch, and, where the caller names one, by the
    number of the run. What it writes late is about a run that is over then, and changes nothing."""

    async def bound(lease: Lease) -> Sequence[VM]:
        """All VMs whose row names this node, whatever their epoch."""

    async def pending(lease: Lease, carried: Collection[VMId]) -> Sequence[VM]:
        """VMs of this node with an order that it has not taken up; those that it has, under this epoch or an older
        one, but does not carry; and those that go on after their stop was taken up. A claim can be committed long after
        its answer was given up, and so can what a former daemon adopted or acknowledged, after this one had looked."""

    async def account(lease: Lease, held: Sequence[Held]) -> Sequence[VMId]:
        """Compare all that this node carries with the rows. Until nothing differs on a server that is new to it, no
        node starts a VM there, for a lease at most.

        @return: those that the rows do not grant to this epoch, and, on a server that is new, those that it knows
            otherwise: it has forgotten something.
        """

    async def claim_start(lease: Lease, vm_id: VMId, secret: Secret) -> VMSpec | None:
        """Take up a start order: the row becomes C{starting} under this epoch.

        @return: what to boot; L{None} when there is nothing to take up (any more), or not yet: see L{account}.
        @raise NotFound: the VM has no image to boot; the row is left as it was.
        """

    async def refuse(lease: Lease, vm_id: VMId, generation: Generation, error: str) -> None:
        """A start order cannot be carried out here: the VM stays stopped, free, with C{error} to show."""

    async def acknowledge(lease: Lease, vm_id: VMId, generation: Generation) -> bool:
        """Take up an order that needs no change of state, or whose change follows."""

    async def adopt(lease: Lease, vm: VM, again: bool = False) -> None:
        """Bring the row of a VM that survived its daemon under this epoch.

        @param again: its order is to be taken up once more, after its release.
        @raise OwnershipLost: the row is not this node's.
        """

    async def save(lease: Lease, vm_id: VMId, expected: VMState, change: Change, run: Run | None = None) -> None:
        """Write what became of a VM.

        @raise OwnershipLost: no row of this host, epoch and run in the expected state, or already in the new one: a
            write whose answer was lost is repeated.
        """

    async def progress(lease: Lease, vm_id: VMId, phase: str, detail: str, run: Run | None = None) -> None:
        """Show what is going on inside a phase. No effect once the phase is over."""

    async def show(lease: Lease, texts: Sequence[tuple[VMId, str, str]]) -> Collection[VMId]:
        """L{progress} for many VMs at once: VM, phase and text of each.

        @return: those whose phase was not over, and whose row says so now.
        """

    async def seen(lease: Lease, vm_ids: Sequence[VMId]) -> None:
        """These guests have just answered."""

    async def release(
        lease: Lease, vm_id: VMId, error: str | None, ending: Ending = Ending.NEUTRAL, run: Run | None = None
    ) -> None:
        """The VM does not run any more: the row becomes C{stopped} and free, unless a newer start order waits.

        @param ending: what that says of the VM: its failures in a row are counted, and make it wait.
        @raise OwnershipLost: no row of this host, epoch and run.
        """


class IHosts(Interface):
    """This node's own row and lease, and what it may do to the rows of nodes that are silent."""

    async def register(
        name: str,
        address: str,
        lease_seconds: float,
        hypervisor: str | None = None,
        state: HostState = HostState.STARTING,
    ) -> Lease:
        """Take a new epoch. Sessions and VM rows of older epochs are left for recovery to judge.

        @param hypervisor: name of the node's driver, for placements that need a certain one.
        @param state: C{RUNNING} where this process goes on with what another one has handed over.
        @raise NotFound: no such host.
        @raise Forbidden: it was decommissioned, or another machine is enrolled under this name.
        """

    async def renew(lease: Lease, lease_seconds: float, capacity: Capacity) -> HostStatus:
        """Prolong the lease.

        @raise OwnershipLost: another epoch has begun, or the host was declared lost.
        """

    async def set_state(lease: Lease, state: HostState) -> None:
        """@raise OwnershipLost: another epoch has begun."""

    async def drain(lease: Lease) -> int:
        """No effect unless the node is to be drained: give up the orders to start that it has not taken up, for other
        nodes, and order the stop of its VMs where that is wanted.

        @return: how many VMs this was done to.
        """

    async def end_stale_sessions(lease: Lease, reason: str, living: Collection[str] = ()) -> int:
        """End the sessions of this node that nobody serves; return how many.

        @param living: UUIDs of the node's processes that serve sessions. Of a session of which nothing is known
            but its epoch, an earlier one means that it is not served.
        """

    async def read_clock() -> ServerClock:
        """Which server answers, and its time."""

    async def declare_lost(
        lease: Lease, margin_seconds: float, clock: ServerClock, steady_seconds: float
    ) -> Sequence[LostNode]:
        """Declare the nodes lost whose lease has been over for longer than C{margin_seconds}, and free their VMs and
        sessions, all in one transaction. No effect when the caller's own lease is not live, or when another server
        answers than the one of C{clock}.

        @param clock: what L{read_clock} has just said; its time is the one that leases are compared with.
        @param steady_seconds: for so long the caller has seen this server answer, and its time go as it should. A
            node whose lease is longer than that is left alone.
        """


class IHostImages(Interface):
    """Which disk images this node finds in its storage: the placement keeps VMs away from nodes without theirs."""

    async def registered(lease: Lease) -> Sequence[RegisteredImage]:
        """All images with a file or folder, and whether this epoch has said that it sees them."""

    async def publish(lease: Lease, seen: Collection[DIId]) -> None:
        """Say which ones this node sees: these and no others.

        @raise OwnershipLost: another epoch has begun.
        """


class IImages(Interface):
    """Disk images as administrators see them. Both calls give dates to the running VMs whose tag leads to the image
    then, and which run another one; they return these VMs. A date that comes sooner already stays."""

    async def publish(di_id: DIId, tags: Collection[str], terms: ExpiryTerms, cause: str) -> Collection[VMId]:
        """Let VMs start from the image. It takes over C{tags}; C{head}, and C{default} of a first image, come by
        themselves.

        @raise InvalidRequest: it is not in a state to be published, or a tag is not one to be moved.
        @raise NotFound: there is no such image.
        """

    async def set_tag(di_id: DIId, tag: str, terms: ExpiryTerms, cause: str) -> Collection[VMId]:
        """Put a tag on the image, wherever it was before.

        @raise InvalidRequest: the image is not published, or the tag is not one to be moved.
        @raise NotFound: there is no such image.
        """


class IExpiry(Interface):
    """When the running VMs of this node are to end because their image is too old."""

    async def expiring(lease: Lease) -> Sequence[Expiring]:
        """Those with a date that nobody has ordered to stop."""

    async def told(lease: Lease, vm_id: VMId, notice: Notice, text: str) -> None:
        """The user was told of the date that C{text} says. No effect when it is another one by now."""

    async def stop_due(lease: Lease) -> Sequence[VMId]:
        """Order the stop of those that are over by the database's clock, in one transaction; return which."""


class IDeadline(Interface):
    """When the VMs of this node must be dead, as known to whoever sees to it, whatever becomes of the daemon."""

    def extend(lease: Lease, until: float) -> None:
        """The lease was confirmed: the VMs may live until C{until}, in seconds of the machine's uptime. Called before
        anything relies on that, so it must have taken effect when it returns.

        @raise TransientError: it has not; the former deadline stands.
        """

    async def release() -> None:
        """This daemon ends, and starts no VM any more."""


class ISessionKiller(Interface):
    """The L7R's side of the rule that the newest client wins."""

    def serves(session_id: SessionId) -> bool:
        """It goes on here."""

    def confirmed() -> Collection[SessionId]:
        """Those that go on here, and of which the database has said that it knows them."""

    def close(session_id: SessionId, reason: str) -> None:
        """End one, telling its client the reason where the protocol still allows. Of one that is not served (any
        more), only the row is closed."""

    def close_all(reason: str) -> None:
        """End all that go on here."""


class INodeStatus(Interface):
    """What the L7R must know of its own node before it serves anybody."""

    async def settled() -> None:
        """Return when it is known which process of this node has the lease: at once, but for the moment in which one
        hands it over to the next. Bounded in time."""

    def lease() -> Lease:
        """@raise Unavailable: the node has none now."""

    def refusal() -> str | None:
        """Why this node serves nobody now, in the words of the 503; L{None} when it does."""
