"""What is in images, as far as the doctor looks."""

from __future__ import annotations

import tarfile
from pathlib import Path

from qvd.doctor.findings import Result
from qvd.doctor.place import Wishes
from qvd.hkd.storage.names import ROOT, base_name
from tests.doctor.world import Setup

CONTENTS = ["images.contents"]


def containers(setup: Setup) -> Path:
    """A node for containers, and an image for it."""
    setup.node.update({"vm.hypervisor": "lxc", "vm.network.bridge": "qvdbr9"})
    setup.add_vm("desk.tar", "lxc")
    path = setup.folder / "images/desk.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("usr/bin/bash")
        entry.mode = 0o755
        archive.addfile(entry)
    return path


def test_an_archive_is_not_read_unasked(setup: Setup) -> None:
    containers(setup)
    [found] = setup.look(CONTENTS).findings
    assert found.result is Result.NOT_APPLICABLE
    assert "--deep" in found.sentence


def test_an_archive_is_read_on_request(setup: Setup) -> None:
    containers(setup)
    setup.wishes = Wishes(deep=True)
    found = setup.look(CONTENTS).findings
    lacking = {each.sentence.partition(":")[0]: each for each in found if "nxagent is missing" in each.sentence}
    [nxagent] = lacking.values()
    assert nxagent.result is Result.FAILURE
    assert "install the package nxagent" in nxagent.mend
    assert {each.result for each in found if "printing" in each.sentence} == {Result.WARNING}


def test_what_was_unpacked_is_looked_into(setup: Setup) -> None:
    path = containers(setup)
    base = setup.folder / "bases" / base_name("desk.tar", None, path.stat(), subvolume=False)
    program = base / ROOT / "usr/bin/nxagent"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    found = setup.look(CONTENTS).findings
    assert found and not any("nxagent is missing" in each.sentence for each in found)
    assert any("the agent is missing" in each.sentence for each in found)
    program.unlink()
    assert any("nxagent is missing" in each.sentence for each in setup.look(CONTENTS).findings)


def test_an_image_for_another_driver_is_not_this_nodes(setup: Setup) -> None:
    setup.add_vm("desk.tar", "lxc")
    [found] = setup.look(CONTENTS).findings
    assert found.result is Result.NOT_APPLICABLE


def test_a_file_of_another_length(setup: Setup) -> None:
    path = containers(setup)
    setup.ask("UPDATE dis SET size = %s", path.stat().st_size)
    assert not any(each.bad for each in setup.look(["images.files"]).findings)
    with path.open("ab") as file:
        file.write(bytes(10))
    found = setup.look(["images.files"]).findings
    assert all(each.bad and "not the file that was registered" in each.sentence for each in found)


def test_of_many_alike_some_are_told(setup: Setup) -> None:
    setup.add_vm("desk0", "sandbox")
    for number in range(1, 15):
        setup.ask(
            "INSERT INTO dis (tenant_id, osf_id, path, version, type)"
            " SELECT tenant_id, id, %s, %s, 'sandbox' FROM osfs",
            f"desk{number}",
            f"v{number}",
        )
    report = setup.look(["images.files"])
    of_node = [each for each in report.findings if each.about.value == "node"]
    assert len(of_node) == 11
    assert "5 more are wrong in the same way" in of_node[-1].sentence
