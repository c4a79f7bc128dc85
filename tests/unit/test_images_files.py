"""The way along symbolic links, inside an image and never out of it."""

from __future__ import annotations

import stat

from qvd.images.files import Entry, ListedFiles, names_in, resolve

FOLDER, FILE = Entry(stat.S_IFDIR | 0o755), Entry(stat.S_IFREG | 0o755, 5)


def link(target: str) -> Entry:
    return Entry(stat.S_IFLNK | 0o777, len(target), target)


FILES = ListedFiles(
    {
        "bin": link("usr/bin"),
        "usr": FOLDER,
        "usr/bin": FOLDER,
        "usr/bin/sh": link("dash"),
        "usr/bin/dash": FILE,
        "usr/bin/far": link("/bin/../bin/./dash"),
        "usr/bin/up": link("../../../../usr/bin/dash"),
        "loop": link("loop"),
        "nowhere": link("gone"),
    }
)


def test_links_are_followed_as_inside_the_image() -> None:
    for path in ("bin/sh", "/bin/sh", "usr/bin/far", "bin/up", "usr//bin/./dash"):
        assert resolve(FILES, path) == ("usr/bin/dash", FILE), path


def test_links_that_lead_nowhere() -> None:
    for path in ("loop", "nowhere", "gone", "usr/bin/dash/below", "loop/below"):
        assert resolve(FILES, path) is None, path


def test_the_root() -> None:
    found = resolve(FILES, "/")
    assert found is not None
    assert found[1].is_folder
    assert sorted(names_in(FILES, "")) == ["bin", "loop", "nowhere", "usr"]


def test_names_in_a_folder_that_is_a_link() -> None:
    assert sorted(names_in(FILES, "bin")) == ["dash", "far", "sh", "up"]
    assert not names_in(FILES, "gone")


def test_kinds() -> None:
    assert FILE.is_program
    assert not Entry(stat.S_IFREG | 0o644).is_program
    assert not FOLDER.is_program
    assert Entry(stat.S_IFCHR | 0o666).is_device
    assert Entry(stat.S_IFBLK | 0o666).is_device
