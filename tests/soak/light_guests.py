"""
Guests without a desktop, for a hundred sessions on one machine: run as C{python -m tests.soak.light_guests}.

For a node each is a VM that it finds running when it starts: a state file, a process (C{sleep}), an agent that answers,
and a port behind which bytes come back instead of an X session. All share this one agent and this one port. What is
between client and guest, relays, rows, leases and pings, is real.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable
from pathlib import Path

from qvd.hkd.hypervisor.pidfd import identify
from qvd.hkd.hypervisor.state import RunState, StateFolder, write_private
from qvd.hkd.watchdog_launch import boot_id
from qvd.model.ids import VMId
from qvd.model.records import Guest
from qvd.model.secret import Secret

SECRET = Secret("a secret that all light guests share")
ANSWERS = {"x_start": '"starting"', "x_state": '"listening"'}


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One call of the agent's RPC."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        method = head.split()[1].decode().partition("?")[0].removeprefix("/vma/")
        body = f"{ANSWERS.get(method, 'true')}\n\r\n".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The session."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve() -> None:
    agent = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
    session = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=512)
    print(agent.sockets[0].getsockname()[1], session.sockets[0].getsockname()[1], flush=True)
    await asyncio.gather(agent.serve_forever(), session.serve_forever())


def leave_for(run: Path, vm_ids: Iterable[int], guest: Guest) -> list[subprocess.Popen[bytes]]:
    """Have a node that is not started yet find these VMs; return their processes."""
    states = StateFolder(run)
    processes = []
    for vm_id in vm_ids:
        process = subprocess.Popen(["sleep", "3600"], stdin=subprocess.DEVNULL)
        processes.append(process)
        number = identify(process.pid)
        assert number is not None
        states.of(VMId(vm_id)).mkdir(parents=True)
        states.write(RunState(VMId(vm_id), boot_id(), guest, 100, "alice", number))
        text = f'{{"pid": {number.pid}, "started": {number.started}}}'
        write_private(states.of(VMId(vm_id)) / "init.json", text)
    return processes


if __name__ == "__main__":
    asyncio.run(serve())
