"""C{qvd-client} as a user runs it: the real console script against a scripted L7R, with a scripted nxproxy."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CLIENT = Path(sys.executable).with_name("qvd-client")
CANARY = "canary-Zo3eiv7u"
PATIENCE = 30.0
LIST = "/qvd/list_of_vm"
CONNECT = "/qvd/connect_to_vm"
STOP = "/qvd/stop_vm"
VMS = [
    {"id": 12, "name": "desktop", "state": "stopped", "blocked": 0, "is_application": 0},
    {"id": 13, "name": "second", "state": "running", "blocked": 1, "is_application": 0},
]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nX-QVD-Slave-Key: abc\r\n\r\n"
GREETING = b"NXPROXY-3.5.0-3.5.99 stream=default,data=default "

FAKE_NXPROXY = """#!{python}
import hashlib, os, socket, sys, time

with open({report!r}, "w") as report:
    for place in ("self/cmdline", "self/environ", f"{{os.getppid()}}/cmdline"):
        report.write(open(f"/proc/{{place}}", errors="replace").read().replace("\\0", "\\n"))
    report.write(f"pid={{os.getpid()}}\\n")
mode = os.environ["FAKE_NX"]
if mode == "fail":
    print("Error: there is no X server here", file=sys.stderr)
    sys.exit(3)
port = 4000 + int(sys.argv[-1].removeprefix("localhost:"))
connection = socket.create_connection(("127.0.0.1", port), 10)
connection.sendall({greeting!r})
received = hashlib.sha256()
tail = b""
while True:
    if mode == "slow":
        time.sleep(0.001)
    data = connection.recv(65536)
    received.update(data)
    tail = (tail + data)[-3:]
    if not data or tail == b"END":
        break
if mode != "hang":
    connection.sendall(received.hexdigest().encode())
connection.close()
"""


def answer(status: int, body: bytes, reason: str = "Some reason", extra: str = "") -> bytes:
    return f"HTTP/1.1 {status} {reason}\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


def progress(text: str) -> bytes:
    return f"HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: {text}\r\n\r\n".encode()


LISTED = answer(200, json.dumps(VMS).encode())
Action = Callable[[ssl.SSLSocket], None]


class FakeL7R:
    """Answers each path with fixed bytes, or does what it is told with the socket."""

    def __init__(self, folder: Path, script: Mapping[str, bytes | Action]) -> None:
        self.requests: list[bytes] = []
        self.problems: list[str] = []
        self._script = script
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            plain, _ = self._listener.accept()
        except OSError:
            return
        plain.settimeout(PATIENCE)
        try:
            with self._context.wrap_socket(plain, server_side=True) as connection:
                while head := self._read_head(connection):
                    self._answer(connection, head)
        except OSError as error:
            self.problems.append(repr(error))

    def _read_head(self, connection: ssl.SSLSocket) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = connection.recv(1)
            if not data:
                return b""
            head += data
        self.requests.append(head)
        return head

    def _answer(self, connection: ssl.SSLSocket, head: bytes) -> None:
        reply = self._script[head.split()[1].decode().partition("?")[0]]
        if callable(reply):
            reply(connection)
        else:
            connection.sendall(reply)

    def stop(self) -> None:
        # A thread in accept() notices a shutdown, not a close.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive()


def make_certificate(folder: Path, *names: str) -> None:
    """A self-signed certificate, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake L7R")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir()
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))


def fingerprint(folder: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert((folder / "cert.pem").read_text())).hexdigest()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "right"
    make_certificate(folder, "localhost", "127.0.0.1")
    return folder


Serve = Callable[..., FakeL7R]


@pytest.fixture
def serve(tls: Path) -> Iterator[Serve]:
    servers = []

    def start(script: Mapping[str, bytes | Action], folder: Path = tls) -> FakeL7R:
        servers.append(FakeL7R(folder, script))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


class Client:
    """Starts the command with a clean environment."""

    def __init__(self, folder: Path, ca_file: Path) -> None:
        self.folder = folder
        self.report = folder / "report"
        self._ca_file = ca_file
        (folder / "bin").mkdir()
        self.environment = {
            "PATH": str(folder / "bin"),
            "HOME": str(folder),
            "QVD_PASSWORD": CANARY,
            "DISPLAY": ":99",
            "FAKE_NX": "echo",
        }

    def install_nxproxy(self) -> None:
        program = self.folder / "bin" / "nxproxy"
        program.write_text(FAKE_NXPROXY.format(python=sys.executable, report=str(self.report), greeting=GREETING))
        program.chmod(0o755)

    def start(self, server: FakeL7R, *arguments: str, trust: bool = True) -> subprocess.Popen[str]:
        where = ["--host", "localhost", "--port", str(server.port), "--user", "alice", "--tenant", "acme"]
        ca = ["--ca", str(self._ca_file)] if trust else []
        return subprocess.Popen(
            [str(CLIENT), *where, *ca, *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, server: FakeL7R, *arguments: str, trust: bool = True) -> subprocess.CompletedProcess[str]:
        process = self.start(server, *arguments, trust=trust)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        assert CANARY not in out + err
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def client(tmp_path: Path, tls: Path) -> Client:
    return Client(tmp_path, tls / "cert.pem")


def test_list_is_exactly_the_servers(serve: Serve, client: Client) -> None:
    server = serve({LIST: LISTED})
    done = client.run(server, "list", "--json")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, VMS, "")
    # alice@acme and the password
    assert b"\r\nAuthorization: Basic YWxpY2VAYWNtZTpjYW5hcnktWm8zZWl2N3U=\r\n" in server.requests[0]


def test_list_for_people(serve: Serve, client: Client) -> None:
    done = client.run(serve({LIST: LISTED}), "list")
    assert done.stdout.splitlines() == ["ID  NAME     STATE", "12  desktop  stopped", "13  second   running  blocked"]


def test_ping_sends_no_credentials(serve: Serve, client: Client) -> None:
    server = serve({"/qvd/ping": answer(200, b"I am alive!\r\n")})
    assert client.run(server, "ping").stdout == "I am alive!\n"
    assert b"Authorization" not in server.requests[0]


def test_token_file(serve: Serve, client: Client) -> None:
    (client.folder / "token").write_text("secret-token\n")
    server = serve({LIST: LISTED})
    assert client.run(server, "list", "--token-file", "token").returncode == 0
    assert b"\r\nAuthorization: Bearer c2VjcmV0LXRva2Vu\r\n" in server.requests[0]


def test_demo_file(serve: Serve, client: Client, tls: Path) -> None:
    server = serve({LIST: LISTED, STOP: answer(200, b"Machine stopped\r\n")})
    document = {
        "host": "127.0.0.1",
        "port": server.port,
        "tenant": "demo",
        "user": "bob",
        "password": "generated",
        "vm_id": 13,
        "vm_name": "second",
        "ca_file": str(tls / "cert.pem"),
    }
    (client.folder / ".demo").mkdir()
    (client.folder / ".demo" / "credentials.json").write_text(json.dumps(document))
    command = [str(CLIENT), "stop", "--demo"]
    done = subprocess.run(command, env=client.environment, cwd=client.folder, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, b"Machine stopped\n"), done.stderr
    assert server.requests[1].startswith(b"GET /qvd/stop_vm?id=13 HTTP/1.1\r\n")
    assert b"Basic Ym9iQGRlbW86Z2VuZXJhdGVk" in server.requests[1]


# Is it the right server?


def test_unknown_authority_is_refused_before_a_byte_is_sent(serve: Serve, client: Client) -> None:
    server = serve({LIST: LISTED})
    done = client.run(server, "list", trust=False)
    assert done.returncode == 3
    assert "The certificate of localhost is not trusted: it is self-signed" in done.stderr
    assert server.requests == []


def test_another_authority_is_refused(serve: Serve, client: Client, tmp_path: Path) -> None:
    make_certificate(tmp_path / "other", "localhost")
    server = serve({LIST: LISTED}, tmp_path / "other")
    assert client.run(server, "list").returncode == 3
    assert server.requests == []


def test_another_name_is_refused_before_a_byte_is_sent(serve: Serve, client: Client, tmp_path: Path) -> None:
    make_certificate(tmp_path / "other", "elsewhere.example")
    server = serve({LIST: LISTED}, tmp_path / "other")
    done = client.run(server, "list", "--ca", str(tmp_path / "other" / "cert.pem"), trust=False)
    assert (done.returncode, done.stderr) == (3, "qvd-client: The certificate shown is not for localhost\n")
    assert server.requests == []


def test_another_address_is_refused(serve: Serve, client: Client, tmp_path: Path) -> None:
    make_certificate(tmp_path / "other", "localhost", "127.0.0.9")
    server = serve({LIST: LISTED}, tmp_path / "other")
    ca = str(tmp_path / "other" / "cert.pem")
    assert client.run(server, "list", "--host", "127.0.0.1", "--ca", ca, trust=False).returncode == 3
    assert server.requests == []


def test_pin_is_enough(serve: Serve, client: Client, tls: Path) -> None:
    digits = fingerprint(tls).upper()
    pin = ":".join(digits[index : index + 2] for index in range(0, 64, 2))
    assert client.run(serve({LIST: LISTED}), "list", "--pin", pin, trust=False).returncode == 0


def test_wrong_pin_is_refused_even_if_the_authority_is_known(serve: Serve, client: Client, tls: Path) -> None:
    server = serve({LIST: LISTED})
    done = client.run(server, "list", "--pin", "ab" * 32, "--json")
    assert done.returncode == 3
    assert fingerprint(tls).upper() in done.stderr.replace(":", "")
    assert json.loads(done.stdout)["error"]["code"] == "unreachable"
    assert server.requests == []


def test_nobody_there(serve: Serve, client: Client) -> None:
    server = serve({})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        done = client.run(server, "list", "--port", str(free.getsockname()[1]))
    assert done.returncode == 3
    assert "cannot be reached" in done.stderr


# What the server says


@pytest.mark.parametrize(("status", "exit"), [(401, 4), (403, 5), (404, 6), (408, 7), (422, 1), (500, 1), (503, 7)])
def test_refusals(serve: Serve, client: Client, status: int, exit: int) -> None:
    server = serve({LIST: LISTED, CONNECT: answer(status, b"A sentence\x1b[2J.\n", extra="Retry-After: 9\r\n")})
    done = client.run(server, "connect", "--no-nx", "--vm", "99", "--json")
    text = "A sentence?[2J. (try again in 9 s)"
    assert (done.returncode, done.stderr) == (exit, f"qvd-client: {text}\n")
    error: dict[str, Any] = json.loads(done.stdout)["error"]
    assert (error["exit"], error["status"], error["text"]) == (exit, status, text)
    assert b"?id=99&" in server.requests[1]


def test_refused_login(serve: Serve, client: Client) -> None:
    done = client.run(serve({LIST: answer(401, b"Authentication failed\n")}), "list")
    assert (done.returncode, done.stderr) == (4, "qvd-client: Authentication failed\n")


def test_several_vms_and_none_chosen(serve: Serve, client: Client) -> None:
    done = client.run(serve({LIST: LISTED}), "connect", "--no-nx")
    assert done.returncode == 2
    assert "12 desktop, 13 second" in done.stderr


def test_nonsense(serve: Serve, client: Client) -> None:
    done = client.run(serve({LIST: b"SSH-2.0-OpenSSH\r\n\r\n"}), "list")
    assert done.returncode == 1
    assert "cannot be understood" in done.stderr


def test_silence_has_an_end(serve: Serve, client: Client) -> None:
    done = client.run(serve({LIST: b""}), "list", "--timeout", "0.2")
    assert done.returncode == 3
    assert "has not answered in 0.2 s" in done.stderr


def test_progress_and_timeline(serve: Serve, client: Client) -> None:
    server = serve({LIST: LISTED, CONNECT: progress("Starting") + progress("Waiting") + SWITCH})
    done = client.run(server, "connect", "--no-nx", "--vm", "desktop", "--json", "--fullscreen")
    assert (done.returncode, done.stderr) == (0, "Starting\nWaiting\n")
    document = json.loads(done.stdout)
    events = [event["event"] for event in document["timeline"]]
    assert events == ["TLS connection", "list", "Starting", "Waiting", "switch to NX"]
    assert document["vm_id"] == 12
    head = server.requests[1].decode()
    assert "\r\nConnection: Upgrade\r\nUpgrade: QVD/1.0\r\n" in head
    assert "qvd.client.keyboard=pc105%2Fus" in head
    assert "qvd.client.fullscreen=1" in head


# With nxproxy


def receive(connection: ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        assert chunk, "the client has gone"
        data += chunk
    return data


@pytest.mark.parametrize("mode", ["echo", "slow"])
def test_bytes_go_both_ways(serve: Serve, client: Client, mode: str) -> None:
    """Four megabytes, the first of them in the same record as the 101; and the other side's answer to all of it."""
    client.install_nxproxy()
    client.environment["FAKE_NX"] = mode
    data = os.urandom(4 << 20) + b"END"
    seen: list[bytes] = []

    def desktop(connection: ssl.SSLSocket) -> None:
        connection.sendall(SWITCH + data[:4000])
        seen.append(receive(connection, len(GREETING)))
        connection.sendall(data[4000:])
        seen.append(receive(connection, 64))

    done = client.run(serve({LIST: LISTED, CONNECT: desktop}), "connect", "--vm", "12")
    assert (done.returncode, done.stdout) == (0, "The desktop was closed\n"), done.stderr
    assert seen == [GREETING, hashlib.sha256(data).hexdigest().encode()]


def test_password_is_nowhere_to_be_seen(serve: Serve, client: Client) -> None:
    client.install_nxproxy()
    server = serve({LIST: LISTED, CONNECT: SWITCH + b"END"})
    assert client.run(server, "connect", "--vm", "12").returncode == 0
    report = client.report.read_text()
    assert "\n-S\nlocalhost:" in report
    assert "DISPLAY=:99" in report
    assert str(CLIENT) in report
    assert CANARY not in report
    assert "QVD_PASSWORD" not in report


def gone(client: Client) -> bool:
    """The fake nxproxy's process is no more."""
    pid = int(client.report.read_text().rpartition("pid=")[2])
    return not Path(f"/proc/{pid}").exists()


def test_server_ends_the_session(serve: Serve, client: Client) -> None:
    client.install_nxproxy()
    client.environment["FAKE_NX"] = "hang"

    def desktop(connection: ssl.SSLSocket) -> None:
        connection.sendall(SWITCH)
        receive(connection, len(GREETING))
        connection.unwrap()

    done = client.run(serve({LIST: LISTED, CONNECT: desktop}), "connect", "--vm", "12", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == "The server has ended the session"
    assert gone(client)


def test_nxproxy_fails(serve: Serve, client: Client) -> None:
    client.install_nxproxy()
    client.environment["FAKE_NX"] = "fail"
    done = client.run(serve({LIST: LISTED, CONNECT: SWITCH}), "connect", "--vm", "12")
    assert done.returncode == 8
    assert "nxproxy ended with status 3: Error: there is no X server here" in done.stderr


@pytest.mark.parametrize(("missing", "text"), [("PATH", "nxproxy is not installed"), ("DISPLAY", "no DISPLAY")])
def test_what_is_missing_here_is_said_before_dialing(serve: Serve, client: Client, missing: str, text: str) -> None:
    client.install_nxproxy()
    client.environment[missing] = ""
    server = serve({LIST: LISTED})
    done = client.run(server, "connect")
    assert done.returncode == 8
    assert text in done.stderr
    assert server.requests == []


def test_interrupted_while_waiting(serve: Serve, client: Client) -> None:
    process = client.start(serve({LIST: LISTED, CONNECT: progress("Starting")}), "connect", "--no-nx", "--vm", "12")
    assert process.stderr is not None
    assert process.stderr.readline() == "Starting\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "qvd-client: interrupted\n")


def test_interrupted_in_a_session(serve: Serve, client: Client) -> None:
    client.install_nxproxy()
    client.environment["FAKE_NX"] = "hang"
    up = threading.Event()

    def desktop(connection: ssl.SSLSocket) -> None:
        connection.sendall(SWITCH)
        receive(connection, len(GREETING))
        up.set()

    process = client.start(serve({LIST: LISTED, CONNECT: desktop}), "connect", "--vm", "12")
    assert up.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "qvd-client: interrupted\n")
    assert gone(client)
