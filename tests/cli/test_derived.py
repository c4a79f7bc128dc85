"""Commands that are derived from the API's description, against the API."""

from __future__ import annotations

from tests.admin.desks import Desks
from tests.admin.world import ApiWorld
from tests.cli.terminal import Terminal
from tests.fakes.asynchronous import asynchronous


@asynchronous
async def test_lists(anna: Terminal, desks: Desks) -> None:
    second = desks.new_vm(desks.api.acme, desks.user, desks.osf, "lab-2")
    desks.be("running", second)
    found = await anna.start("vm", "list", "--filter", "state=running,name~lab", "--sort", "-since", "-o", "json")
    assert found.status == 0, found.err
    assert [each["name"] for each in found.json] == ["lab-2"]
    assert found.json[0]["id"] == second
    table = await anna.start("vm", "list", "--fields", "name,state", "--sort", "name")
    assert table.out.splitlines()[0].split() == ["name", "state"]
    assert [line.split() for line in table.out.splitlines()[1:]] == [["alice-1", "stopped"], ["lab-2", "running"]]
    assert "\x1b" not in table.out and "─" not in table.out
    csv = await anna.start("-o", "csv", "vm", "list", "--fields", "id,name", "--limit", "1", "--sort", "-name")
    assert csv.out == f"id,name\r\n{second},lab-2\r\n"
    ids = await anna.start("vm", "list", "-q")
    assert sorted(map(int, ids.out.split())) == [desks.vm, second]
    lines = await anna.start(
        "vm", "list", "-o", "ndjson", "--fields", "name", "--filter", "(state=stopped;blocked=yes)"
    )
    assert lines.err.startswith("Error: 'yes' is no value for blocked")
    assert lines.status == 2


@asynchronous
async def test_all_pages_of_a_list(anna: Terminal, api: ApiWorld) -> None:
    for number in range(7):
        api.insert("users (tenant_id, login) VALUES (%s, %s)", api.acme, f"user{number}")
    import qvd.cli.listing as listing

    kept, listing.PAGE = listing.PAGE, 3
    try:
        for more in ((), ("--filter", "name~user%;name=alice")):
            found = await anna.start("user", "list", "-q", *more)
            assert len(found.out.split()) == 8, found.err
        assert len((await anna.start("user", "list", "-q", "--limit", "4")).out.split()) == 4
    finally:
        listing.PAGE = kept


@asynchronous
async def test_one_object(anna: Terminal, desks: Desks) -> None:
    by_name = await anna.start("vm", "show", "alice-1", "-o", "yaml", "--fields", "name,state")
    assert by_name.out == f"id: {desks.vm}\nname: alice-1\nstate: stopped\n"
    assert (await anna.start("vms", "show", str(desks.vm), "-q")).out == f"{desks.vm}\n"
    missing = await anna.start("vm", "show", "nobody")
    assert (missing.status, missing.err) == (5, "Error: There is no vm 'nobody'\n")
    assert (await anna.start("vm", "show", "999999")).status == 5
    theirs = await anna.start("vm", "show", "ruth-1")
    assert theirs.status == 5


@asynchronous
async def test_names_that_are_not_enough(boss: Terminal, desks: Desks) -> None:
    found = await boss.start("osf", "show", "desk")
    assert found.status == 2
    assert f"({desks.osf}, {desks.their_osf})" in found.err


@asynchronous
async def test_make_change_delete(anna: Terminal, desks: Desks) -> None:
    made = await anna.start("vm", "create", "--name", "second", "--user", "alice", "--osf", "desk", "-q")
    assert made.status == 0, made.err
    number = made.out.strip()
    changed = await anna.start("vm", "set", "second", "--description", "for tests", "--di-tag", "pilot", "-o", "json")
    assert (changed.json["description"], changed.json["di_tag"]) == ("for tests", "pilot")
    wrong = await anna.start("vm", "set", number, "--ip", "10.0.0.300")
    assert wrong.status == 2, wrong.err
    gone = await anna.start("vm", "delete", "second")
    assert (gone.status, gone.out, gone.err) == (0, "", "Done.\n")
    assert (await anna.start("vm", "show", number)).status == 5
    osf = await anna.start("osf", "set", "desk", "--memory", "2147483648", "-o", "json")
    assert osf.json["memory"] == 2147483648, "If-Match is * unless somebody says otherwise"
    stale = await anna.start("osf", "set", "desk", "--memory", "1073741824", "--if-match", '"old"')
    assert stale.status == 6


@asynchronous
async def test_bodies_from_files(anna: Terminal, desks: Desks) -> None:
    text = "name: third\nuser_name: alice\nosf_id: 1\n"
    made = await anna.start("vm", "create", "--body", "-", "--osf-id", str(desks.osf), "-o", "json", stdin=text)
    assert (made.status, made.json["name"]) == (0, "third"), made.err
    bad = await anna.start("vm", "create", "--body", "-", stdin="- 1")
    assert (bad.status, bad.err) == (2, "Error: - holds no object\n")


@asynchronous
async def test_clearing_and_moments(anna: Terminal, desks: Desks) -> None:
    desks.be("running")
    soon = await anna.start("vm", "set", "alice-1", "--expiration-soft", "2h", "--expiration-hard", "+1d", "-o", "json")
    assert soon.status == 0, soon.err
    assert soon.json["expiration_soft"] < soon.json["expiration_hard"]
    none = await anna.start("vm", "set", "alice-1", "--clear", "expiration_soft", "-o", "json")
    assert none.json["expiration_soft"] is None
    bad = await anna.start("vm", "set", "alice-1", "--expiration-soft", "someday")
    assert (bad.status, "is a moment" in bad.err) == (2, True)


@asynchronous
async def test_secrets_come_from_files(anna: Terminal, desks: Desks) -> None:
    refused = await anna.start("user", "password", "alice")
    assert refused.status == 2
    assert "nobody is there to type it" in refused.err
    assert (await anna.start("user", "password", "alice", "--password-file", "-", stdin="new secret\n")).status == 0
    assert (await anna.start("user", "password", "alice", "--password", "x")).status == 2
    anna.interactive, anna.answers = True, ["typed secret"]
    typed = await anna.start("user", "password", "alice")
    assert typed.status == 0, typed.err
    [row] = desks.api.ask("SELECT password FROM users WHERE id = %s", desks.user)
    assert row["password"]


@asynchronous
async def test_why_and_how_it_came_to_be(anna: Terminal, desks: Desks) -> None:
    for words in (("explain", "vm", "alice-1"), ("vm", "explain", "alice-1")):
        found = await anna.start(*words)
        assert found.status == 0, found.err
        assert "stopped" in found.out.lower()
    assert (await anna.start("vm", "start", "alice-1")).status == 0
    for words in (("history", "vm", "alice-1"), ("vm", "history", "alice-1"), ("vm", "log", "alice-1")):
        found = await anna.start(*words, "-o", "json")
        assert found.status == 0, found.err
        assert len(found.json) > 0
    assert "desired_state: stopped -> running" in (await anna.start("history", "vm", "alice-1")).out
    assert (await anna.start("history", "osf", "desk")).status == 0
    assert (await anna.start("explain", "osf", "desk")).status == 2
    assert (await anna.start("explain", "cat", "desk")).status == 2


@asynchronous
async def test_configuration(boss: Terminal) -> None:
    found = await boss.start("config", "list", "--prefix", "api.", "-o", "json")
    assert found.status == 0, found.err
    assert found.json[0]["key"].startswith("api.")
    key = "api.token.dangerous"
    assert (await boss.start("config", "set", key, "60")).status == 0
    assert (await boss.start("config", "show", key, "-o", "json")).json["value"] == 60
    assert (await boss.start("config", "set", key, "--value-file", "-", stdin="120\n")).status == 2, (
        "a text is no number"
    )
    assert (await boss.start("config", "set", key)).status == 2
    assert (await boss.start("config", "reset", key)).status == 0
    history = await boss.start("config", "history", "--key", key, "-o", "json")
    assert len(history.json) == 2


@asynchronous
async def test_what_is_no_json(boss: Terminal) -> None:
    assert (await boss.start("user", "create", "--name", "carl", "--tenant", "acme", "-q")).status == 0
    exported = await boss.start("log", "export-table", "--fields", "action,outcome", "--filter", "action=user.create")
    assert exported.status == 0, exported.err
    assert exported.out.splitlines()[0] == "id,action,outcome"
    assert "user.create,done" in exported.out
    page = await boss.start("description", "page")
    assert page.out.lower().startswith("<!doctype html>")


@asynchronous
async def test_permissions_and_errors(anna: Terminal, api: ApiWorld, server: object) -> None:
    # Whoever is of a tenant does not learn that there are others.
    assert (await anna.start("tenant", "list")).status in (4, 5)
    wrong = anna.at(token_file="")
    wrong.options.config.write_text(wrong.options.config.read_text().replace('"anna"', '"nobody"'))
    assert (await wrong.start("vm", "list")).status == 3


@asynchronous
async def test_a_filter_that_is_wrong_says_where(anna: Terminal) -> None:
    found = await anna.start("vm", "list", "--filter", "state=running,nam~x")
    assert found.status == 2
    assert found.err == (
        "Error: There is no field 'nam': name?, at character 15 of the filter\n"
        "  state=running,nam~x\n"
        "                ^\n"
    )
