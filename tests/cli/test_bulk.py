"""The same for many objects."""

from __future__ import annotations

from tests.admin.desks import Desks
from tests.cli.terminal import Terminal
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_what_a_filter_finds_is_shown_and_asked_for(anna: Terminal, desks: Desks) -> None:
    second = desks.new_vm(desks.api.acme, desks.user, desks.osf, "lab-2")
    alone = await anna.start("vm", "block", "--filter", "name~lab")
    assert alone.status == 2
    assert "--yes" in alone.err and f"{second}  lab-2" in alone.err
    anna.interactive, anna.answers = True, ["n"]
    declined = await anna.start("vm", "block", "--filter", "name~lab")
    assert (declined.status, "Nothing was done" in declined.err) == (1, True)
    anna.answers = ["y"]
    agreed = await anna.start("vm", "block", "--filter", "name~lab", "-o", "csv")
    assert agreed.status == 0, agreed.err
    assert "block 1 of vms?" in agreed.err
    assert agreed.out.splitlines() == ["id,name,status,problem", f"{second},lab-2,200,"]
    assert (await anna.start("vm", "list", "-q", "--filter", "blocked=true")).out == f"{second}\n"
    anna.interactive = False
    assert (await anna.start("vm", "unblock", "--filter", "name~lab", "--yes", "-q")).out == f"{second}\n"


@asynchronous
async def test_a_rehearsal_changes_nothing(anna: Terminal, desks: Desks) -> None:
    for words in (("--filter", "name~alice%"), ("alice-1",)):
        found = await anna.start("vm", "delete", *words, "--dry-run", "-o", "json")
        assert found.status == 0, found.err
        assert [each["name"] for each in found.json] == ["alice-1"]
        assert "1 of 1 would be done" in found.err
    assert (await anna.start("vm", "show", "alice-1")).status == 0


@asynchronous
async def test_some_that_fail(anna: Terminal, desks: Desks) -> None:
    second = desks.new_vm(desks.api.acme, desks.user, desks.osf, "lab-2")
    desks.be("running", second)
    found = await anna.start("vm", "delete", "alice-1", "lab-2", "-o", "json")
    assert found.status == 7
    assert [each["status"] for each in found.json] == [204, 409]
    assert "1 of 2 failed" in found.err
    quiet = await anna.start("vm", "delete", "lab-2", "999999", "-q")
    assert (quiet.status, quiet.out) == (7, "")
    assert "lab-2: " in quiet.err, "what failed is told, however quiet it is"


@asynchronous
async def test_arguments_and_mistakes(anna: Terminal, desks: Desks) -> None:
    desks.new_vm(desks.api.acme, desks.user, desks.osf, "lab-2")
    done = await anna.start("vm", "set", "alice-1", "lab-2", "--di-tag", "pilot", "-q")
    assert done.status == 0, done.err
    assert {row["di_tag"] for row in desks.api.ask("SELECT di_tag FROM vms WHERE tenant_id = %s", desks.api.acme)} == {
        "pilot"
    }
    nothing = await anna.start("vm", "stop", "--filter", "name=nobody", "--yes")
    assert (nothing.status, nothing.out) == (0, "")
    both = await anna.start("vm", "stop", "alice-1", "--filter", "name=nobody", "--yes")
    assert both.status == 2
    assert (await anna.start("vm", "stop", "--yes")).status == 2
    assert (await anna.start("user", "delete", "--dry-run")).status == 2
