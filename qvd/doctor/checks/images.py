# -*- test-case-name: tests.doctor.test_broken,tests.doctor.test_images -*-
"""Disk images: their files, what is in them, who can start them, and tags that lead nowhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from qvd.db.images import IMAGE_COLUMNS, IMAGE_TABLES, resolution_of
from qvd.doctor.findings import Finding, failure, not_applicable, note, ok, warning
from qvd.doctor.place import Place
from qvd.hkd.storage.names import ROOT, base_name
from qvd.images.check import check
from qvd.images.files import Entry
from qvd.images.needs import findings
from qvd.model.errors import QVDError
from qvd.model.imagetype import HEAD, driver_of, sniff

MOST_TOLD = 10
GRAVE = ("nxagent", "the agent", "the init", "the session program")
REGISTERED = """
    SELECT d.path, d.version, d.type, d.size, d.checksum, o.name AS osf FROM dis d JOIN osfs o ON o.id = d.osf_id
    WHERE d.state = 'published' AND d.path <> '' ORDER BY d.path
"""
PUBLISH = "publish one (qvd di tag, or the panel), or give its VMs another tag"


def registered(place: Place) -> list[dict[str, Any]]:
    """Published images that have a file."""
    with place.reading() as reader:
        return reader.rows(REGISTERED)


def few(found: Collection[Finding]) -> Iterator[Finding]:
    """Of a thousand alike ten are enough."""
    listed = list(found)
    yield from listed[:MOST_TOLD]
    if len(listed) > MOST_TOLD:
        yield note("more of these", f"{len(listed) - MOST_TOLD} more are wrong in the same way")


def look_at_files(place: Place) -> Iterator[Finding]:
    """What is registered is there, as large and of the kind as it was registered."""
    folder, rows = place.file("path.storage.images"), registered(place)
    if not rows:
        yield not_applicable(str(folder), "no published image has a file")
        return
    wrong = [found for row in rows if (found := file_fault(folder, row)) is not None]
    yield from few(wrong)
    if not wrong:
        yield ok(str(folder), f"the files of all published images ({len(rows)}) are there")


def named(row: dict[str, Any]) -> str:
    return f"{row['path']} (image {row['version']!r} of {row['osf']!r})"


def file_fault(folder: Path, row: dict[str, Any]) -> Finding | None:
    path = folder / row["path"]
    copy = f"copy it to {folder} again, or see to it that the shared storage is mounted; or retire the image"
    try:
        status = path.stat()
    except FileNotFoundError:
        return failure(named(row), f"It is not in {folder}: no VM starts from it here", copy)
    except OSError as error:
        return failure(named(row), f"It cannot be looked at ({error.strerror})", "look at rights and storage")
    if row["size"] is not None and stat.S_ISREG(status.st_mode) and status.st_size != row["size"]:
        sizes = f"{status.st_size} bytes, and {row['size']} when it was registered"
        return failure(named(row), f"It is not the file that was registered: {sizes}", copy)
    kind = kind_of(path, status.st_mode)
    if row["type"] is not None and kind is not None and kind != row["type"]:
        return failure(
            named(row),
            f"It is registered for {row['type']}, and its content is for {kind or 'no driver'}: no VM starts from it",
            "register the right file; its type is told by its content, not by its name",
        )
    return None


def kind_of(path: Path, mode: int) -> str | None:
    """The driver that starts it; empty: none; L{None}: that cannot be told."""
    if stat.S_ISDIR(mode):
        return "sandbox"
    try:
        with path.open("rb") as file:
            return driver_of(sniff(file.read(HEAD))) or ""
    except OSError:
        return None


@frozen
class FolderFiles:
    """L{qvd.images.files.Files} of a folder."""

    root: Path

    def look(self, path: str) -> Entry | None:
        try:
            status = os.lstat(self.root / path)
            target = os.readlink(self.root / path) if stat.S_ISLNK(status.st_mode) else ""
        except OSError:
            return None
        return Entry(status.st_mode, status.st_size, target)

    def names(self, folder: str) -> Collection[str]:
        try:
            return os.listdir(self.root / folder)
        except OSError:
            return ()


def look_at_contents(place: Place) -> Iterator[Finding]:
    """nxagent, the agent and all else that a desktop needs, as far as it can be looked at without reading it all."""
    rows = [row for row in registered(place) if row["type"] in (None, place.driver)]
    if not rows:
        yield not_applicable("contents of images", "no published image with a file is for this node's driver")
    folder = place.file("path.storage.images")
    for row in rows:
        path = folder / row["path"]
        if path.is_dir():
            if place.driver == "sandbox":
                yield sandbox_image(path, named(row))
        elif path.is_file():
            yield from packed(place, path, row)


def sandbox_image(path: Path, looked_at: str) -> Finding:
    """Its agent, if it has none, comes from the node."""
    if os.path.lexists(path / "usr/bin/nxagent"):
        return ok(looked_at, "nxagent is in it")
    return failure(
        looked_at, "It lacks usr/bin/nxagent: no VM starts from it", "install the package nxagent in it (chroot)"
    )


def packed(place: Place, path: Path, row: dict[str, Any]) -> Iterator[Finding]:
    """One that must be unpacked, or was."""
    base = place.file("path.storage.bases") / base_name(
        row["path"],
        row["checksum"],
        path.stat(),
        subvolume=place.driver == "lxc" and place.settings.text("vm.lxc.storage") == "btrfs",
    )
    root = base / ROOT
    if place.driver == "lxc" and root.is_dir():
        found = list(findings(FolderFiles(root), "lxc"))
    elif place.wishes.deep:
        try:
            found = list(check(path).findings)
        except QVDError as error:
            yield not_applicable(named(row), error.text)
            return
    else:
        yield not_applicable(named(row), "to look into it, it would have to be read as a whole: qvd-doctor --deep")
        return
    for each in found:
        grave = each.what.startswith(GRAVE)
        yield (failure if grave else warning)(named(row), f"Of the image, {each.what}", f"in the image: {each.remedy}")
    if not found:
        yield ok(named(row), "nxagent, the agent and what a desktop needs are in it")


def look_at_tags(place: Place) -> Iterator[Finding]:
    """Each VM's tag leads to an image that it can start from."""
    with place.reading() as reader:
        rows = reader.rows(
            f"SELECT {IMAGE_COLUMNS}, count(*) AS vms, min(v.name) AS vm FROM vms v JOIN osfs o ON o.id = v.osf_id"
            f" {IMAGE_TABLES} GROUP BY v.di_tag, o.id, d.id ORDER BY o.name, v.di_tag"
        )
    wrong = []
    for row in rows:
        refusal = resolution_of(row).refusal
        if refusal is not None:
            who = f"the VM {row['vm']!r}" + (f" and {row['vms'] - 1} more" if row["vms"] > 1 else "")
            wrong.append(failure(f"tag {row['di_tag']!r} of {row['osf']!r}", f"{refusal}: {who} cannot start", PUBLISH))
    yield from few(wrong)
    if not wrong:
        yield ok("tags of VMs", f"each of them ({sum(row['vms'] for row in rows)}) has an image to start from")


def look_at_types(place: Place) -> Iterator[Finding]:
    """For each image that VMs start from there is a node with its driver."""
    with place.reading() as reader:
        drivers = reader.rows(
            "SELECT DISTINCT hypervisor FROM host_runtimes WHERE decommissioned_at IS NULL AND hypervisor IS NOT NULL"
        )
        rows = reader.rows(
            "SELECT DISTINCT o.name AS osf, coalesce(o.hypervisor, d.type) AS needs, d.version FROM vms v"
            f" JOIN osfs o ON o.id = v.osf_id {IMAGE_TABLES}"
            " WHERE d.state = 'published' AND coalesce(o.hypervisor, d.type) IS NOT NULL ORDER BY 1, 3"
        )
    there = {row["hypervisor"] for row in drivers}
    if not there or not rows:
        yield not_applicable("images and drivers", "no node has said its driver, or no image and OSF asks for one")
        return
    wrong = [
        failure(
            f"image {row['version']!r} of {row['osf']!r}",
            f"It is for {row['needs']}, and no node runs that: the nodes run {', '.join(sorted(there))}",
            f"set vm.hypervisor to {row['needs']} on a node, or give the OSF an image for {' or '.join(sorted(there))}",
        )
        for row in rows
        if row["needs"] not in there
    ]
    yield from few(wrong)
    if not wrong:
        yield ok("images and drivers", f"the nodes run {', '.join(sorted(there))}, which is what images are for")


def look_at_sight(place: Place) -> Iterator[Finding]:
    """All nodes that can start an image see its file: the storage is the same."""
    with place.reading() as reader:
        rows = reader.rows(
            "SELECT n.name AS node, d.path, d.version, o.name AS osf FROM host_runtimes r"
            " JOIN hosts n ON n.id = r.host_id"
            " JOIN dis d ON d.path <> '' AND d.state = 'published' AND (d.type = r.hypervisor OR d.type IS NULL)"
            " JOIN osfs o ON o.id = d.osf_id"
            " WHERE r.images_epoch = r.epoch AND r.state = 'running' AND r.decommissioned_at IS NULL"
            " AND d.published_at < now() - interval '2 minutes' AND NOT EXISTS"
            " (SELECT FROM host_images i WHERE i.host_id = r.host_id AND i.di_id = d.id) ORDER BY 1, 2"
        )
    wrong = [
        failure(
            f"node {row['node']}",
            f"It does not see {named(row)}, and no VM starts from that there",
            "mount the shared storage of images on it (path.storage.images); run qvd-doctor there",
        )
        for row in rows
    ]
    yield from few(wrong)
    if not wrong:
        yield ok("images as nodes see them", "each running node sees the images for its driver")
