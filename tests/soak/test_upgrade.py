"""
Every node of a farm is upgraded, one after another, under a hundred live sessions and a hundred connects a second.

The sessions are light ones (L{tests.soak.light_guests}): plain bytes that come back, twice a second in each. Of the
connects nineteen of twenty log in with a token and list their VMs, each on a TLS connection of its own; the twentieth
goes all the way to a desktop, and through to its guest.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import re
import secrets
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
from attrs import define, field, frozen

from qvd.demo.installation import NodeProcess, daemons
from qvd.model.records import Guest
from tests.conftest import require
from tests.integration.farm import Farm, OtherNode, eventually
from tests.soak.light_guests import SECRET, leave_for

NODES = 3
SESSIONS, SPARE = 100, 30
"""VMs with a session that stays; VMs for the connects that go all the way."""
RATE = 100
"""Connects a second, on all nodes together."""
BETWEEN = 6.0
"""Seconds of load before, between and after the upgrades."""
PATIENCE = 30.0
GAP = re.compile(r"another daemon serves; for ([0-9.]+) s nobody did")
TOKENS = 20


@frozen
class Answer:
    """One connect. C{error} is empty for the proper answer."""

    seconds: float
    error: str


class Unexpected(Exception):
    """Not the proper answer."""


async def expect(start: bytes, head: bytes, reader: asyncio.StreamReader) -> None:
    if not head.startswith(start):
        raise Unexpected((head + await reader.read(1000)).decode(errors="replace"))


@define
class Load:
    """The clients of the farm.

    @ivar answers: of all connects that are over.
    @ivar echoes: for each session, how often its bytes have come back.
    """

    ports: list[int]
    context: ssl.SSLContext
    tokens: list[str]
    spare: list[int]
    answers: list[Answer] = field(factory=list)
    echoes: dict[int, int] = field(factory=dict)
    lost: list[str] = field(factory=list)
    full: int = 0
    _numbers: Iterator[int] = field(factory=itertools.count)

    async def dial(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self.ports[number % len(self.ports)]
        return await asyncio.open_connection("127.0.0.1", port, ssl=self.context, server_hostname="localhost")

    def head(self, number: int, path: str, *headers: str) -> bytes:
        token = base64.b64encode(self.tokens[number % len(self.tokens)].encode()).decode()
        return "\r\n".join((f"GET {path} HTTP/1.1", f"Authorization: Bearer {token}", *headers, "", "")).encode()

    async def connect(self, number: int, vm_id: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """All the way to the guest."""
        reader, writer = await self.dial(number)
        writer.write(self.head(number, f"/qvd/connect_to_vm?id={vm_id}", "Connection: Upgrade", "Upgrade: QVD/1.0"))
        while (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 102"):
            pass
        await expect(b"HTTP/1.1 101", head, reader)
        return reader, writer

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = secrets.token_bytes(256)
        writer.write(data)
        if await reader.readexactly(len(data)) != data:
            raise Unexpected("other bytes have come back")

    async def session(self, number: int, vm_id: int) -> None:
        """One that stays."""
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await self.connect(number, vm_id)
            while True:
                async with asyncio.timeout(PATIENCE):
                    await self.echo(reader, writer)
                self.echoes[vm_id] = self.echoes.get(vm_id, 0) + 1
                await asyncio.sleep(0.5)
        except (OSError, EOFError, Unexpected, TimeoutError) as error:
            self.lost.append(f"VM {vm_id}: {error!r}")

    async def one(self) -> None:
        """One connect, with its answer."""
        number = next(self._numbers)
        began = time.monotonic()
        error = ""
        try:
            async with asyncio.timeout(PATIENCE):
                await (self.desktop(number) if number % 20 == 0 and self.spare else self.list(number))
        except (OSError, EOFError, Unexpected, TimeoutError) as problem:
            error = f"{time.monotonic() - began:.2f} s: {problem!r}"
        self.answers.append(Answer(time.monotonic() - began, error))

    async def desktop(self, number: int) -> None:
        vm_id = self.spare.pop(0)
        reader, writer = await self.connect(number // 20, vm_id)
        await self.echo(reader, writer)
        writer.close()
        self.full += 1
        self.spare.append(vm_id)

    async def list(self, number: int) -> None:
        reader, writer = await self.dial(number)
        try:
            writer.write(self.head(number, "/qvd/list_of_vm"))
            head = await reader.readuntil(b"\r\n\r\n")
            await expect(b"HTTP/1.1 200", head, reader)
            length = re.search(rb"Content-Length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
        finally:
            writer.close()

    async def run(self, until: asyncio.Event) -> float:
        """So many a second, whether the earlier ones are answered or not. Return for how long."""
        began = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        for count in itertools.count():
            if until.is_set():
                break
            task = asyncio.create_task(self.one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(max(0.0, began + (count + 1) / RATE - time.monotonic()))
        seconds = time.monotonic() - began
        if tasks:
            await asyncio.wait(tasks)
        return seconds


@define
class Stage:
    """A farm of light guests that is up."""

    farm: Farm
    others: list[OtherNode]
    vm_ids: list[int]
    tokens: list[str]

    @property
    def nodes(self) -> list[Farm | OtherNode]:
        return [self.farm, *self.others]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require("bwrap")
    guests = subprocess.Popen([sys.executable, "-m", "tests.soak.light_guests"], stdout=subprocess.PIPE, text=True)
    assert guests.stdout is not None
    agent, session = map(int, guests.stdout.readline().split())
    guest = Guest("127.0.0.1", agent, session, SECRET)
    farm = Farm(tmp_path, overrides={"hkd.stop.vms": False, "hkd.stop.timeout": 15.0})
    processes: list[subprocess.Popen[bytes]] = []
    others: list[OtherNode] = []
    try:
        farm.installation.postgres.start()
        farm.installation.prepare()
        others += [OtherNode(farm, f"n{number}") for number in range(2, NODES + 1)]
        vm_ids = make_vms(farm, guest)
        for place, run in enumerate([farm.run, *(other.run for other in others)]):
            processes += leave_for(run, vm_ids[place::NODES], guest)
        farm.start_node()
        for other in others:
            other.start()
        yield Stage(farm, others, vm_ids, make_tokens(farm))
    finally:
        for other in others:
            other.stop()
        farm.stop()
        for process in processes:
            process.kill()
            process.wait()
        guests.kill()
        guests.wait()
        guests.stdout.close()


def make_vms(farm: Farm, guest: Guest) -> list[int]:
    """Rows of VMs that run, dealt out to the nodes."""
    hosts = [row["id"] for row in farm.rows("SELECT id FROM hosts ORDER BY id")]
    rows = farm.rows(
        "INSERT INTO vms (tenant_id, user_id, osf_id, name)"
        " SELECT u.tenant_id, u.id, o.id, 'light ' || n FROM users u, osfs o, generate_series(1, %s) n"
        " WHERE u.login = 'alice' RETURNING id",
        SESSIONS + SPARE,
    )
    vm_ids = sorted(int(row["id"]) for row in rows)
    for place, host in enumerate(hosts):
        farm.rows(
            "UPDATE vm_runtimes SET vm_state = 'running', phase = 'running', desired_state = 'running', host_id = %s,"
            " host_epoch = 0, generation = 1, acked_generation = 1, vm_address = %s, vm_vma_port = %s, vm_x_port = %s,"
            " vm_secret = %s WHERE vm_id = ANY(%s)",
            *(host, guest.address, guest.vma_port, guest.x_port, guest.secret.reveal(), vm_ids[place::NODES]),
        )
    return vm_ids


def make_tokens(farm: Farm) -> list[str]:
    tokens = [secrets.token_urlsafe(32) for _ in range(TOKENS)]
    for token in tokens:
        farm.rows(
            "INSERT INTO user_tokens (token_hash, tenant_id, user_id, multi_use, expires_at)"
            " SELECT %s, tenant_id, id, true, now() + interval '1 hour' FROM users WHERE login = 'alice'",
            hashlib.sha256(token.encode()).digest(),
        )
    return tokens


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(2 * PATIENCE / 0.1)):
        if condition():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("not in time")


async def upgrade_all(stage: Stage, load: Load) -> tuple[float, list[NodeProcess]]:
    """The whole play; return for how long there was load, and the former daemons."""
    staying = [asyncio.create_task(load.session(number, vm_id)) for number, vm_id in enumerate(stage.vm_ids[:SESSIONS])]
    await until(lambda: len(load.echoes) == SESSIONS or bool(load.lost))
    over = asyncio.Event()
    running = asyncio.create_task(load.run(over))
    former = []
    for node in stage.nodes:
        await asyncio.sleep(BETWEEN)
        assert node.node is not None
        former.append(node.node)
        # Started here: it ends with the thread that has started it.
        node.node = NodeProcess(node.folder)
        await asyncio.to_thread(node.node.await_ready)
    await asyncio.sleep(BETWEEN)
    over.set()
    seconds = await running
    before = dict(load.echoes)
    await until(lambda: all(load.echoes[vm_id] > count for vm_id, count in before.items()) or bool(load.lost))
    for task in staying:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*staying)
    return seconds, former


def show(load: Load, seconds: float, gaps: list[float]) -> None:
    times = sorted(answer.seconds for answer in load.answers)
    refused = [answer.error for answer in load.answers if answer.error]
    print(
        f"{len(times)} connects in {seconds:.1f} s ({len(times) / seconds:.0f}/s), {load.full} of them to a desktop;"
        f" refused: {len(refused)}; median {median(times):.3f} s, p99 {times[int(len(times) * 0.99)]:.3f} s,"
        f" longest {times[-1]:.3f} s; sessions {len(load.echoes)}, lost {len(load.lost)},"
        f" {sum(load.echoes.values())} echoes; nobody served for {', '.join(f'{gap:.3f}' for gap in gaps)} s"
    )
    for problem in (*refused[:10], *load.lost[:10]):
        print(f"  {problem}")


def test_every_node_is_upgraded_and_nobody_notices(stage: Stage) -> None:
    farm = stage.farm
    load = Load(
        ports=[node.port for node in stage.nodes],
        context=ssl.create_default_context(cafile=farm.credentials["ca_file"]),
        tokens=stage.tokens,
        spare=stage.vm_ids[SESSIONS:],
    )

    async def play() -> tuple[float, list[NodeProcess]]:
        return await upgrade_all(stage, load)

    seconds, former = asyncio.run(play())
    gaps = [float(gap) for node in stage.nodes for gap in GAP.findall(node.log)]
    show(load, seconds, gaps)
    assert load.lost == []
    assert len(load.echoes) == SESSIONS
    assert [answer.error for answer in load.answers if answer.error] == []
    assert load.full > 0 and len(load.answers) > SESSIONS
    assert len(gaps) == NODES
    staying = stage.vm_ids[:SESSIONS]
    rows = farm.rows("SELECT count(*) AS n FROM sessions WHERE vm_id = ANY(%s)", staying)
    assert rows[0]["n"] == SESSIONS, "each session is the first one of its VM"
    assert farm.rows("SELECT DISTINCT epoch, state FROM host_runtimes") == [{"epoch": 2, "state": "running"}]
    assert farm.rows("SELECT count(*) AS n FROM vm_runtimes WHERE vm_state = 'running'")[0]["n"] == SESSIONS + SPARE
    eventually(lambda: all(node.process.poll() is not None for node in former), "the former daemons end by themselves")
    assert [node.process.returncode for node in former] == [0] * NODES
    assert [len(daemons(node.run)) for node in stage.nodes] == [1] * NODES
    eventually(lambda: not farm.rows("SELECT 1 FROM sessions WHERE ended_at IS NULL"), "all sessions have ended")
    assert "Traceback" not in "".join(node.log for node in stage.nodes)
