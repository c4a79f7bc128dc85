# -*- test-case-name: tests.unit.test_model_garbage -*-
"""
What in the storage nothing refers to any more, and what is to become of it.

A thing is garbage when the database knows nothing that it belongs to. That alone costs nobody anything: it is
I{marked}, and only a later run, when the mark is old enough, does more. What users made, homes and layers that persist,
is moved to a trash folder first, by explicit order, and removed after a second age.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import assert_never

from attrs import frozen

from qvd.model.ids import VMId

DAY = 86400.0
HANDFUL = 5
"""So many things of a kind may lose their owner together without anybody being asked."""


class Kind(Enum):
    """What lies in the storage (column C{garbage_marks.kind})."""

    HOME = "home"
    PERSISTENT = "persistent"
    LAYER = "layer"
    BASE = "base"
    UNFINISHED = "unfinished"
    TRASH = "trash"
    IMAGE = "image"


WORDS = {
    Kind.HOME: "home",
    Kind.PERSISTENT: "persistent layer",
    Kind.LAYER: "writable layer",
    Kind.BASE: "unpacked image",
    Kind.UNFINISHED: "unfinished unpacking",
    Kind.TRASH: "trash",
    Kind.IMAGE: "image file",
}
OF_USERS = frozenset({Kind.HOME, Kind.PERSISTENT})
"""Nobody can make these again."""
OWNED = OF_USERS | {Kind.LAYER, Kind.BASE}
"""Those with an owner that the database should know."""


class Fate(Enum):
    """What becomes of a thing.

    C{KEEP}: something refers to it. C{MARK}: seen so for the first time. C{WAIT}: its mark is too young. C{HOLD}: only
    an explicit order does more. C{REPORT}: QVD never removes such. C{LEAVE}: it must not be touched, or could not be.
    """

    KEEP = "keep"
    MARK = "mark"
    WAIT = "wait"
    HOLD = "hold"
    TRASH = "trash"
    DELETE = "delete"
    REPORT = "report"
    LEAVE = "leave"


MARKED = frozenset({Fate.MARK, Fate.WAIT, Fate.HOLD, Fate.TRASH, Fate.DELETE})
"""What has a mark, or gets one."""


@frozen
class Key:
    """Where a thing is.

    @ivar storage: names the folder, wherever it is mounted.
    @ivar path: below that folder.
    """

    storage: str
    path: str


@frozen
class Thing:
    """One thing in the storage.

    @ivar vm_id: whose it is, for what belongs to VMs.
    @ivar node: name of the node that has made it, for layers that say so; only there it can be in use.
    @ivar image: of an unpacked image or an image file, its path below C{path.storage.images}.
    @ivar checksum: of the file that was unpacked; empty: not known.
    @ivar trouble: why it must be left alone; empty: nothing is wrong with it.
    """

    key: Key
    kind: Kind
    vm_id: VMId | None = None
    image: str = ""
    checksum: str = ""
    trouble: str = ""
    node: str = ""


@frozen
class Known:
    """What the database knows.

    @ivar vms: all VMs, and the name of the node that each is on: running, on its way there, or not gone yet.
    @ivar images: path and checksum of each registered image, whatever its state; no checksum: whatever was unpacked
        from that path is in use, since a VM runs on it or nobody knows better.
    """

    vms: Mapping[VMId, str | None]
    images: Collection[tuple[str, str | None]]

    @property
    def paths(self) -> frozenset[str]:
        """Of the images."""
        return frozenset(path for path, _ in self.images)


@frozen
class Mark:
    """Since when a thing has had no reference, by the database's clock.

    @ivar since: for people, UTC.
    @ivar age: seconds.
    """

    since: str
    age: float


@frozen
class Terms:
    """Of one run.

    @ivar age: seconds that a mark needs.
    @ivar trash_age: seconds that something stays in the trash.
    @ivar homes: what users made is to be moved to the trash, and removed from there, too.
    """

    age: float
    trash_age: float
    homes: bool = False

    def limit(self, kind: Kind) -> float:
        """The age that counts for such a thing."""
        return self.trash_age if kind is Kind.TRASH else self.age


@frozen
class Verdict:
    """What becomes of one thing, and why.

    @ivar size: bytes on the disk; L{None}: not asked for, or too long to count.
    """

    thing: Thing
    fate: Fate
    reason: str
    mark: Mark | None = None
    size: int | None = None


@frozen
class Plan:
    """What one run is to do.

    @ivar verdicts: on everything that is there.
    @ivar unmark: marks of what has a reference again, or is not there any more.
    """

    verdicts: tuple[Verdict, ...]
    unmark: tuple[Key, ...]

    def of(self, *fates: Fate) -> tuple[Verdict, ...]:
        """Those with one of these fates."""
        return tuple(verdict for verdict in self.verdicts if verdict.fate in fates)


def decide(things: Sequence[Thing], known: Known, marks: Mapping[Key, Mark], terms: Terms) -> Plan:
    """The plan of one run.

    @param marks: of the folders that C{things} are in, as they were before this run.
    """
    verdicts = tuple(judge(thing, known, marks.get(thing.key), terms) for thing in things)
    garbage = {verdict.thing.key for verdict in verdicts if verdict.fate in MARKED}
    return Plan(verdicts, tuple(key for key in marks if key not in garbage))


def judge(thing: Thing, known: Known, mark: Mark | None, terms: Terms) -> Verdict:
    """What becomes of one thing."""
    refers, reason = reference(thing, known)
    if refers:
        return Verdict(thing, Fate.KEEP, reason)
    if thing.trouble:
        return Verdict(thing, Fate.LEAVE, thing.trouble)
    if thing.kind is Kind.IMAGE:
        return Verdict(thing, Fate.REPORT, reason)
    if mark is None:
        return Verdict(thing, Fate.MARK, reason)
    return Verdict(thing, fate_of(thing.kind, mark, terms), reason, mark)


def fate_of(kind: Kind, mark: Mark, terms: Terms) -> Fate:
    """Of a thing that was marked by an earlier run."""
    if mark.age < terms.limit(kind):
        return Fate.WAIT
    if not terms.homes and (kind in OF_USERS or kind is Kind.TRASH):
        return Fate.HOLD
    return Fate.TRASH if kind in OF_USERS else Fate.DELETE


def reference(thing: Thing, known: Known) -> tuple[bool, str]:
    """Whether something refers to it, and what, or why nothing does."""
    match thing.kind:
        case Kind.HOME | Kind.PERSISTENT:
            return (True, f"VM {thing.vm_id} exists") if thing.vm_id in known.vms else (False, absent(thing))
        case Kind.LAYER:
            return layer_reference(thing, known)
        case Kind.BASE:
            return base_reference(thing, known)
        case Kind.IMAGE:
            return thing.image in known.paths, registered(thing, known)
        case Kind.UNFINISHED:
            return False, "nobody has finished it"
        case Kind.TRASH:
            return False, "it was moved here by an earlier run"
        case _:
            assert_never(thing.kind)


def layer_reference(thing: Thing, known: Known) -> tuple[bool, str]:
    if thing.vm_id is None or thing.vm_id not in known.vms:
        return False, absent(thing)
    node = known.vms[thing.vm_id]
    if node is not None and thing.node in ("", node):
        return True, f"VM {thing.vm_id} is on {node}"
    if node is not None:
        return False, f"VM {thing.vm_id} is on {node}, and this is what it had on {thing.node}"
    return False, f"VM {thing.vm_id} is stopped, and its layer does not persist"


def base_reference(thing: Thing, known: Known) -> tuple[bool, str]:
    checksums = {checksum for path, checksum in known.images if path == thing.image}
    if checksums and not (None in checksums or not thing.checksum or thing.checksum in checksums):
        return False, f"the file {thing.image} has been replaced since"
    return bool(checksums), registered(thing, known)


def registered(thing: Thing, known: Known) -> str:
    return f"{'an' if thing.image in known.paths else 'no'} image with the file {thing.image} is registered"


def absent(thing: Thing) -> str:
    return f"there is no VM {thing.vm_id}"


def suspicion(things: Sequence[Thing], known: Known) -> str | None:
    """Why the database may be the wrong one, or an old one, in a sentence; L{None}: nothing speaks for that."""
    owned = [thing for thing in things if thing.kind in OWNED]
    if not known.vms and any(thing.vm_id is not None for thing in owned):
        return "The database knows no VM at all, but the storage has something of some"
    for kind in sorted(OWNED, key=lambda kind: kind.value):
        those = [thing for thing in owned if thing.kind is kind]
        strange = sum(unknown(thing, known) for thing in those)
        if strange > HANDFUL and strange * 2 > len(those):
            return f"The database knows nothing of {strange} of {len(those)} things of the kind {WORDS[kind]!r}"
    return None


def unknown(thing: Thing, known: Known) -> bool:
    """The database has never heard of its owner, or not any more."""
    return thing.image not in known.paths if thing.kind is Kind.BASE else thing.vm_id not in known.vms
