"""The connection, with the driver C{test} that libvirt's library has in itself."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from qvd.model.errors import PermanentError, TransientError
from qvd.model.ids import VMId
from tests.fakes.asynchronous import asynchronous, until

libvirt = pytest.importorskip("libvirt", reason="missing: libvirt-python")

from qvd.hkd.hypervisor.kvm import domains  # noqa: E402
from qvd.hkd.hypervisor.kvm.connection import Connection, Lifecycle  # noqa: E402

XML = "<domain type='test'><name>qvd-9</name><memory>8192</memory><os><type>hvm</type></os></domain>"
NINE = VMId(9)


class Ears:
    """Listens."""

    def __init__(self) -> None:
        self.connections = 0
        self.said: list[Lifecycle] = []

    def connected(self) -> None:
        self.connections += 1

    def heard(self, what: Lifecycle) -> None:
        self.said.append(what)


def made(uri: str = "test:///default") -> tuple[Connection, Ears]:
    connection, ears = Connection(reactor, uri), Ears()  # type: ignore[arg-type]
    connection.listen(ears)
    return connection, ears


@asynchronous
async def test_a_domain_and_its_events() -> None:
    connection, ears = made()
    assert await connection.call(lambda libvirtd: domains.create(libvirtd, XML), 60) is None
    assert await connection.call(lambda libvirtd: domains.find(NINE, libvirtd) is not None, 60)
    await connection.call(lambda libvirtd: domains.end(NINE, libvirtd), 60)
    await until(lambda: any(each.event == libvirt.VIR_DOMAIN_EVENT_STOPPED for each in ears.said))
    assert {each.name for each in ears.said} == {"qvd-9"}
    assert ears.connections == 1
    connection.close()


@asynchronous
async def test_what_is_gone_is_no_trouble() -> None:
    connection, _ = made()
    await connection.call(lambda libvirtd: domains.end(NINE, libvirtd), 60)
    await connection.call(lambda libvirtd: domains.press_button(NINE, libvirtd), 60)
    await connection.call(lambda libvirtd: domains.wait_until_forgotten(NINE, libvirtd), 60)
    connection.close()


@asynchronous
async def test_what_libvirt_refuses_comes_out() -> None:
    connection, _ = made()
    with pytest.raises(libvirt.libvirtError) as caught:
        await connection.call(lambda libvirtd: domains.create(libvirtd, "<domain/>"), 60)
    assert isinstance(domains.sentence(NINE, caught.value), PermanentError)
    assert domains.sentence(NINE, caught.value).text.startswith("VM 9: libvirt says: ")
    connection.close()


@asynchronous
async def test_a_lost_connection_is_made_again() -> None:
    connection, ears = made()
    await connection.call(lambda libvirtd: None, 60)
    connection._lost()
    assert not connection.is_open
    await connection.call(lambda libvirtd: None, 60)
    assert ears.connections == 2
    connection.close()


@asynchronous
async def test_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qvd.hkd.hypervisor.kvm.connection.CONNECT_SECONDS", 0.3)
    connection, ears = made("qemu+unix:///system?socket=/nowhere/libvirt-sock")
    with pytest.raises(TransientError, match=r"libvirt's daemon cannot be reached at .*/nowhere"):
        await Deferred.fromCoroutine(connection.call(lambda libvirtd: None, 60))
    assert ears.connections == 0
    connection.close()


def error(text: str) -> object:
    made = libvirt.libvirtError("x")
    made.err = (1, 10, text, 2, None, None, None, -1, -1)
    return made


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ('Failed to get "write" lock', PermanentError, "A disk of VM 9 is in use by another process"),
        ("cannot create: No space left on device", TransientError, "No space left"),
        ("nonsense", PermanentError, "nonsense"),
    ],
)
def test_errors_in_words(said: str, kind: type[Exception], words: str) -> None:
    sentence = domains.sentence(NINE, error(said))
    assert type(sentence) is kind
    assert words in sentence.text


def test_events_that_an_operator_should_know() -> None:
    suspended, stopped = libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_STOPPED
    assert "storage" in str(domains.trouble_of(suspended, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR))
    assert domains.trouble_of(stopped, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED) == "it has crashed"
    assert domains.trouble_of(stopped, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN) is None
    assert domains.trouble_of(libvirt.VIR_DOMAIN_EVENT_STARTED, 0) is None
