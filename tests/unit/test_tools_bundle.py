"""What goes into which Debian package."""

from __future__ import annotations

import pytest

from tools.bundle import BUNDLES, PROJECT, closure, modules_of, program_place, read_setup, requirements

SETUP = read_setup()


def test_the_guest_has_no_code_of_the_server() -> None:
    packages = {name.split(".")[1] for name in modules_of(BUNDLES["vma"], SETUP) if "." in name}
    assert packages == {"agent", "interfaces", "model", "protocols"}


def test_the_node_has_what_its_daemons_need() -> None:
    assert (
        closure(["qvd.hkd.tap", "qvd.agent.tap", "qvd.admin.tap"]).keys() <= modules_of(BUNDLES["node"], SETUP).keys()
    )


def test_versions_are_those_of_the_project() -> None:
    assert requirements(BUNDLES["vma"], SETUP) == ["attrs >= 23.1", "Twisted >= 24.7", "zope.interface >= 6.0"]


@pytest.mark.parametrize(
    ("script", "package"),
    [
        ("qvd-client", "qvd-client"),
        ("qvd", "qvd-admin"),
        ("qvd-db", "qvd-admin"),
        ("qvd-doctor", "qvd-common"),
        ("qvd-later", "qvd-node"),
    ],
)
def test_programs_find_their_package(script: str, package: str) -> None:
    assert program_place(script)[0] == package


def test_the_changelog_follows_the_version() -> None:
    first = (PROJECT / "debian/changelog").read_text().splitlines()[0]
    assert first.startswith(f"qvd ({SETUP['metadata']['version']}) ")
