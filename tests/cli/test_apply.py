"""Farms as documents: written down, made again, and nothing done twice."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from qvd.interfaces.logins import DANGEROUS
from tests.apiclient.world import Installation
from tests.cli.terminal import Terminal, terminal_of
from tests.fakes.asynchronous import asynchronous, asynchronous_fixture
from tests.fakes.postgres import RealPostgres

FARM = """\
qvd: 1
configuration:
  stats.expiring.days: 60
tenants:
  "*":
    properties:
      rack: {type: text, description: Where it stands, kinds: [host]}
    roles:
      Desk: {description: Helps users, acls: {positive: [user.see-main., user.update.block]}}
    administrators:
      helga: {language: es, roles: [Desk]}
  acme:
    description: |-
      A company: with "quotes", # and
      two lines
    language: es
    page_size: 20
    quotas: {users: 40, vms: 100}
    properties:
      room: {type: text, kinds: [user, vm]}
      seats: {type: integer, description: How many, kinds: [osf]}
      pin: {type: secret, kinds: [user]}
    roles:
      Second: {roles: [First], acls: {positive: [osf.see-main.], negative: [vm.see-main.]}}
      First: {acls: {positive: [vm.see-main., osf.see-main.]}}
    administrators:
      anna: {roles: [Second, First], page_size: 10, blocked: true}
    osfs:
      desktop: {memory: 1073741824, persistence: home, cpus: 1.5, properties: {seats: 3}}
      bare: {}
    users:
      Alice:
        description: "no"
        properties: {room: 12b}
        vms:
          desk: {osf: desktop, di_tag: test, ip: 10.3.15.20, properties: {room: "4", qvd.client.timezone: CET}}
          other: {osf: bare, blocked: true}
      "42": {blocked: true}
  rival:
    users:
      alice: {vms: {desk: {osf: desktop}}}
    osfs:
      desktop: {}
hosts:
  node-1: {address: 10.0.0.1, description: The first, properties: {rack: A3}, blocked: true}
"""


class World:
    """@ivar root: over all tenants."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.installation = installation
        server = installation.server
        self.root: Terminal = terminal_of(folder, server.url, server.ca_file, installation.token)
        self.folder = folder

    def write(self, text: str, name: str = "farm.yaml") -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    async def apply(self, text: str, *more: str) -> Any:
        return await self.root.start("apply", "-f", self.write(text), *more)

    async def export(self, *more: str) -> Any:
        done = await self.root.start("export", *more)
        assert (done.status, done.err) == (0, "")
        return done.out

    def changes(self) -> int:
        """Rows of the audit trail."""
        return int(self.installation.ask("SELECT count(*) AS n FROM audit")[0]["n"])


async def made(database: str, folder: Path) -> World:
    installation = Installation(database, folder / "installation")
    installation.ask("INSERT INTO vm_network (network, vms_from) VALUES ('10.3.0.0/16', '10.3.0.10')")
    # Roles of others are changed by who has given a password lately, or has a token for that.
    installation.ask("INSERT INTO configs (tenant_id, key, value) VALUES (-1, 'api.token.dangerous', '300')")
    installation.ask("UPDATE administrator_tokens SET scopes = %s", ["*", DANGEROUS])
    await installation.server.start()
    return World(installation, folder)


@asynchronous_fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    world = await made(database, tmp_path / "one")
    yield world
    await world.installation.server.stop()


@asynchronous
async def test_a_farm_is_made_and_nothing_is_done_twice(world: World) -> None:
    planned = await world.apply(FARM, "--dry-run")
    assert planned.status == 0, planned.err
    assert "+ vm acme/alice/desk" in planned.out and "dry run" in planned.err
    assert world.changes() == 0
    first = await world.apply(FARM)
    assert first.status == 0, first.err
    assert first.out == planned.out
    before = world.changes()
    second = await world.apply(FARM)
    assert (second.status, second.out, second.err) == (0, "", "Nothing changed.\n")
    assert world.changes() == before
    text = yaml.safe_load(await world.export())
    acme = text["tenants"]["acme"]
    assert acme["users"]["Alice"]["vms"]["desk"]["ip"] == "10.3.15.20"
    assert acme["roles"]["Second"] == {"acls": {"negative": ["vm.see-main."]}, "internal": False, "roles": ["First"]}
    assert acme["quotas"] == {"users": 40, "vms": 100}
    assert acme["users"]["Alice"]["properties"] == {"room": "12b"} and acme["users"]["Alice"]["description"] == "no"
    assert text["hosts"]["node-1"]["properties"] == {"rack": "A3"}
    desk = acme["users"]["Alice"]["vms"]["desk"]
    assert desk["properties"] == {"room": "4", "qvd.client.timezone": "CET"}
    faster = yaml.safe_load(await world.export("--defined-only"))
    del desk["properties"]["qvd.client.timezone"]
    assert faster == text


@asynchronous
async def test_what_was_exported_makes_the_same_farm(
    world: World, postgres: RealPostgres, schema_template: str, tmp_path: Path
) -> None:
    assert (await world.apply(FARM)).status == 0
    text = await world.export()
    again = await world.apply(text)
    assert (again.status, again.out) == (0, ""), again.out + again.err
    other = postgres.create_database(schema_template)
    empty = await made(other, tmp_path / "two")
    try:
        applied = await empty.apply(text)
        assert applied.status == 0, applied.err
        assert await empty.export() == text
        assert (await empty.apply(text)).out == ""
    finally:
        await empty.installation.server.stop()
        postgres.drop_database(other)


@asynchronous
async def test_changes_are_shown_and_made(world: World) -> None:
    assert (await world.apply(FARM)).status == 0
    changed = (
        FARM.replace("memory: 1073741824", "memory: 2147483648")
        .replace("acls: {positive: [vm.see-main., osf.see-main.]}", "acls: {positive: [vm.see-main., user.see-main.]}")
        .replace("kinds: [user, vm]", "kinds: [user, vm, osf]")
        .replace("negative: [vm.see-main.]", "negative: []")
        .replace("room: 12b", "room: 13c")
        .replace("osf: bare", "osf: desktop")
        .replace("users: 40", "users: 41")
        .replace("stats.expiring.days: 60", "stats.expiring.days: 61")
        .replace("roles: [First]", "roles: []")
    )
    planned = await world.apply(changed, "--dry-run", "-o", "json")
    assert planned.status == 0, planned.err
    osf = next(each for each in planned.json if each["kind"] == "osf")
    assert osf["verb"] == "change" and osf["name"] == "acme/desktop"
    assert osf["changes"] == {"memory": {"from": 1073741824, "to": 2147483648}}
    assert changed.splitlines()[osf["line"] - 1].strip().startswith("desktop:")
    done = await world.apply(changed)
    assert done.status == 0, done.err
    assert "    memory: 1073741824 -> 2147483648" in done.out and "    quotas.users: 40 -> 41" in done.out
    assert (await world.apply(changed)).out == ""


@asynchronous
async def test_what_is_not_in_it_goes_only_when_asked(world: World) -> None:
    assert (await world.apply(FARM)).status == 0
    smaller = FARM.replace("          other: {osf: bare, blocked: true}\n", "").replace("      bare: {}\n", "")
    smaller = smaller.replace(
        "      Second: {roles: [First], acls: {positive: [osf.see-main.], negative: [vm.see-main.]}}\n", ""
    )
    smaller = smaller.replace("roles: [Second, First]", "roles: [First]").replace('      "42": {blocked: true}\n', "")
    smaller = smaller.replace("properties: {room: 12b}", "properties: {}")
    plain = await world.apply(smaller)
    assert "-" not in {line[0] for line in plain.out.splitlines()}
    refused = await world.apply(smaller, "--prune")
    assert refused.status == 2 and "--yes" in refused.err
    pruned = await world.apply(smaller, "--prune", "--yes")
    assert pruned.status == 0, pruned.err
    gone = [line[2:] for line in pruned.out.splitlines() if line.startswith("-")]
    assert gone == ["vm acme/alice/other", "user acme/42", "osf acme/bare", "role acme/Second"]
    assert "    properties.room: 12b -> null" in pruned.out
    assert (await world.apply(smaller, "--prune")).out == ""
    # A section that is not there says nothing; who calls stays.
    assert (await world.apply("qvd: 1\n", "--prune")).out == ""


ERRORS = (
    ("memory: 1073741824", "memory: 1", "osf acme/desktop: "),
    ("osf: bare", "osf: baer", "vm acme/alice/other wants the osf 'baer', which is not there"),
    ("persistence", "persistance", "osf acme/desktop has no member 'persistance': did you mean 'persistence'?"),
    ("roles: [Second, First]", "roles: [Third]", "administrator acme/anna wants the role 'Third'"),
    ("quotas: {users", "quotas: {user", "tenant acme has no member 'user'"),
    ("kinds: [user, vm]", "kinds: user", "kinds of property acme/room must be a list"),
    ("tenants:", "tenants: 1\nx:", "tenants must be a mapping"),
    ("qvd: 1", "qvd: 2", "this program knows"),
    ("configuration:", "config:", "A farm has no member 'config': did you mean 'configuration'?"),
    ("  rival:", "  acme: #", "'acme' stands here a second time"),
    ('"42"', "alice: {} #", "user acme/alice is here a second time"),
    ("properties: {room: 12b}", "properties: {pin: '1'}", "pin of user acme/Alice is a secret"),
    ("qvd: 1", "? [a]\n: 1", "a name must be a text"),
)


@asynchronous
async def test_errors_say_where(world: World) -> None:
    for old, new, said in ERRORS:
        text = FARM.replace(old, new)
        line = text[: text.index(new)].count("\n") + 1
        done = await world.apply(text)
        assert f"farm.yaml:{line}: {said}" in done.err, (new, done.err)
        assert done.status == 2 and "Traceback" not in done.err
    assert "farm.yaml:2: this is no YAML" in (await world.apply(FARM.replace("qvd: 1", "qvd: [1"))).err


@asynchronous
async def test_images_wait_for_their_files(world: World) -> None:
    """Their tags and states are made as soon as the files are there."""
    farm = FARM.replace(
        "persistence: home,",
        'persistence: home, images: {"1": {tags: [default, old]}, "2": {tags: [test], description: New}},',
    )
    first = await world.apply(farm)
    assert first.status == 7 and "! di acme/desktop/1 (its file must be uploaded)" in first.out
    assert (await world.apply(farm)).status == 7
    [osf] = world.installation.ask(
        "SELECT o.id, o.tenant_id FROM osfs o JOIN tenants t ON t.id = o.tenant_id"
        " WHERE t.name = 'acme' AND o.name = 'desktop'"
    )
    for version in "12":
        world.installation.ask(
            "INSERT INTO dis (tenant_id, osf_id, path, version, state) VALUES (%s, %s, %s, %s, 'published')",
            osf["tenant_id"],
            osf["id"],
            f"{version}.qcow2",
            version,
        )
    done = await world.apply(farm)
    assert done.status == 0, done.err
    assert (await world.apply(farm)).out == ""
    moved = farm.replace("tags: [default, old]", "state: retired").replace("tags: [test]", "tags: [default, test]")
    done = await world.apply(moved)
    assert done.status == 0, done.err
    exported = yaml.safe_load(await world.export("--kind", "di"))
    images = exported["tenants"]["acme"]["osfs"]["desktop"]["images"]
    assert images["2"]["tags"] == ["default", "test"] and images["1"]["state"] == "retired"
    assert set(exported["tenants"]["acme"]) == {"osfs"} and "hosts" not in exported


@asynchronous
async def test_somebody_of_one_tenant(world: World, tmp_path: Path) -> None:
    assert (await world.apply(FARM)).status == 0
    [tenant] = world.installation.ask("SELECT id FROM tenants WHERE name = 'rival'")
    token = world.installation.administrator("rita", tenant["id"], "Tenant owner")
    server = world.installation.server
    (tmp_path / "rita").mkdir()
    rita = terminal_of(tmp_path / "rita", server.url, server.ca_file, token)
    written = await rita.start("export")
    assert written.status == 0, written.err
    text = written.out
    assert set(yaml.safe_load(text)["tenants"]) == {"rival"}
    assert (await rita.start("apply", "-f", "-", stdin=text)).out == ""
    more = "tenants: {rival: {users: {bob: {}}}}"
    assert (await rita.start("apply", "-f", "-", stdin=more)).status == 0
    refused = await rita.start("apply", "-f", "-", stdin="tenants: {acme: {users: {bob: {}}}}")
    assert refused.status == 2 and "tenant acme is none that you may see or make" in refused.err
    assert "Left out, as you may not see it: host, tenant" in written.err
    assert "wat.multitenant" not in text


@asynchronous
async def test_somebody_who_sees_little(world: World, tmp_path: Path) -> None:
    assert (await world.apply(FARM)).status == 0
    [tenant] = world.installation.ask("SELECT id FROM tenants WHERE name = 'acme'")
    token = world.installation.administrator("una", tenant["id"], "Users Manager")
    server = world.installation.server
    (tmp_path / "una").mkdir()
    una = terminal_of(tmp_path / "una", server.url, server.ca_file, token)
    written = await una.start("export", "--kind", "user")
    assert written.status == 0 and "osf" in written.err, written.err
    assert set(yaml.safe_load(written.out)["tenants"]["acme"]["users"]) == {"Alice", "42"}
    assert (await una.start("apply", "-f", "-", stdin="tenants: {acme: {users: {bob: {}}}}")).status == 0
    refused = await una.start("apply", "-f", "-", stdin="tenants: {acme: {osfs: {small: {}}}}")
    assert refused.status == 2 and "standard input:1: osf acme/small is none that you may" in refused.err


@asynchronous
async def test_one_tenant_alone(database: str, tmp_path: Path) -> None:
    """Its administrators have all there is, and do not speak of tenants."""
    installation = Installation(database, tmp_path / "single")
    installation.ask("INSERT INTO vm_network (network, vms_from) VALUES ('10.3.0.0/16', '10.3.0.10')")
    [tenant] = installation.ask("INSERT INTO tenants (name) VALUES ('acme') RETURNING id")
    installation.ask("UPDATE configs SET value = 'false' WHERE key = 'wat.multitenant'")
    token = installation.administrator("only", tenant["id"], "Root")
    await installation.server.start()
    try:
        only = terminal_of(tmp_path, installation.server.url, installation.server.ca_file, token)
        made = await only.start("apply", "-f", "-", stdin=SINGLE)
        assert made.status == 0, made.err
        assert (await only.start("apply", "-f", "-", stdin=SINGLE)).out == ""
        text = (await only.start("export")).out
        assert yaml.safe_load(text)["hosts"]["node-1"]["address"] == "10.0.0.1"
        again = await only.start("apply", "-f", "-", stdin=text)
        assert (again.status, again.out) == (0, ""), again.err
    finally:
        await installation.server.stop()


SINGLE = """\
configuration: {stats.expiring.days: 12}
hosts: {node-1: {address: 10.0.0.1}}
tenants:
  acme:
    roles: {Desk: {acls: {positive: [user.see-main.]}}}
    administrators: {helga: {roles: [Desk]}}
    osfs: {desktop: {}}
    users: {alice: {vms: {desk: {osf: desktop}}}}
"""


PAGE = (Path(__file__).resolve().parents[2] / "docs/cli.md").read_text().partition("## Farms as documents")[2]


@asynchronous
async def test_the_page_shows_what_runs(world: World) -> None:
    section = PAGE.partition("\n## ")[0]
    console, document = re.findall(r"^```(?:console|yaml)\n(.*?)^```$", section, re.M | re.S)
    made = await world.apply(document)
    assert made.status == 7 and "! di acme/office/2026-11-28" in made.out, made.err
    [osf] = world.installation.ask("SELECT id, tenant_id FROM osfs")
    world.installation.ask(
        "INSERT INTO dis (tenant_id, osf_id, path, version, state) VALUES (%s, %s, 'a', '2026-11-28', 'ready')",
        osf["tenant_id"],
        osf["id"],
    )
    assert (await world.apply(document)).status == 0
    assert (await world.apply(document)).out == ""
    for line in re.sub(r"--profile \w+ ", "", console).splitlines():
        text = ""
        for command in line.removeprefix("$ ").split(" | "):
            words, _, target = command.removeprefix("qvd ").partition(" > ")
            arguments = [str(world.folder / each) if each == "farm.yaml" else each for each in words.split()]
            done = await world.root.start(*arguments, stdin=text)
            assert done.status == 0, (line, done.err)
            text = done.out
            if target:
                world.write(text, target)
        assert target or text == "", line
