"""What a sandbox VM is shown, as arguments and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from qvd.hkd.hypervisor.sandbox.guestpython import host_python
from qvd.hkd.hypervisor.sandbox.ports import GuestPorts
from qvd.hkd.hypervisor.sandbox.root import Boot, command, generated, options, parents
from qvd.model.ids import TenantId, VMId
from qvd.model.records import VMSpec
from qvd.model.secret import Secret

SPEC = VMSpec(VMId(9), TenantId(1), "My Desk", "alice", None, "", 1 << 30, "1/alice", Secret("canary"))
BOOT = Boot(
    SPEC,
    GuestPorts(20009, 1009),
    2000009,
    True,
    Path("/run/qvd/vms/9/files"),
    Path("/homes/1/alice"),
    None,
    None,
    None,
    ("agent", "--loud"),
    host_python(),
)
IMAGE = evolve(BOOT, image=Path("/images/desk"), merged=Path("/overlays/9/merged"))


def mounted(words: list[str], option: str) -> dict[str, str]:
    """What is bound where, by one kind of bind."""
    return {words[at + 2]: words[at + 1] for at, word in enumerate(words) if word == option}


@pytest.mark.parametrize("boot", [BOOT, IMAGE, evolve(BOOT, rooted=False), evolve(IMAGE, rooted=False)])
def test_writable(boot: Boot) -> None:
    """The home, the throw-away layer, and nothing else of the host."""
    words = options(boot)
    layer = {"/": "/overlays/9/merged"} if boot.merged else {}
    assert mounted(words, "--bind") == {"/home/alice": "/homes/1/alice"} | layer
    assert not {"--dev-bind", "--bind-try", "--dev-bind-try", "--bind-fd"} & set(words)


@pytest.mark.parametrize("boot", [BOOT, IMAGE])
def test_home_is_mounted_last(boot: Boot) -> None:
    """Its user decides where paths below it lead."""
    words = options(boot)
    rest = words[words.index("/homes/1/alice") :]
    assert not {"--ro-bind", "--ro-bind-try", "--dir", "--tmpfs", "--symlink", "--file"} & set(rest)


def test_secrets_of_the_host() -> None:
    shown = mounted(options(BOOT), "--ro-bind") | mounted(options(BOOT), "--ro-bind-try")
    etc = [target for target in shown if target.startswith("/etc")]
    assert etc
    for secret in ("/etc", "/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/ssl", "/etc/ssl/private", "/etc/default"):
        assert secret not in etc
    assert shown["/etc/passwd"] == "/run/qvd/vms/9/files/passwd"


def test_image_shows_nothing_of_the_hosts_root() -> None:
    boot = evolve(IMAGE, python=None)
    shown = mounted(options(boot), "--ro-bind") | mounted(options(boot), "--ro-bind-try")
    assert all(source.startswith("/run/qvd/vms/9/files/") for source in shown.values())


def test_secret_is_in_no_argument() -> None:
    for boot in (BOOT, IMAGE):
        assert "canary" not in " ".join([*options(boot), *command(boot)])


def test_becomes_the_user_as_root() -> None:
    words = options(BOOT)
    assert "--unshare-user" not in words
    drop = words.index("--cap-drop")
    assert words[drop + 1] == "ALL"
    added = [words[at + 1] for at, word in enumerate(words) if word == "--cap-add"]
    assert added == ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"]
    program = command(BOOT)
    assert program[:5] == ["setpriv", "--reuid", "2000009", "--regid", "2000009"]
    assert {"--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"} <= set(program)
    assert program[-2:] == ["agent", "--loud"]


def test_becomes_the_user_as_anybody() -> None:
    boot = evolve(BOOT, rooted=False)
    words = options(boot)
    at = words.index("--unshare-user")
    assert words[at + 1 : at + 5] == ["--uid", "2000009", "--gid", "2000009"]
    assert "--cap-add" not in words
    assert command(boot)[0] == "sh"


def test_namespaces() -> None:
    for boot in (BOOT, IMAGE):
        words = options(boot)
        assert {"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--clearenv"} <= set(words)
        assert not {"--unshare-net", "--unshare-all", "--as-pid-1"} & set(words)


def test_memory_bounds_scratch_space() -> None:
    words = options(BOOT)
    sizes = [words[at + 1] for at, word in enumerate(words) if word == "--size"]
    assert set(sizes) == {str(512 << 20)}
    assert len(sizes) == words.count("--tmpfs")


def test_parents() -> None:
    assert parents("/a/b/c") == ["--dir", "/a", "--dir", "/a/b"]
    assert parents("/a") == []


def test_files_of_a_host_guest() -> None:
    files = generated(BOOT)
    last = files["passwd"].splitlines()[-1]
    assert last.startswith("alice:x:2000009:2000009::/home/alice:/bin/")
    assert files["group"].endswith("alice:x:2000009:\n")
    assert files["hostname"] == "my-desk\n"
    assert "127.0.1.1 my-desk\n" in files["hosts"]
    assert len(files["machine-id"]) == 33


def image_with(tmp_path: Path, passwd: str) -> Boot:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(passwd)
    return evolve(IMAGE, image=tmp_path)


def accounts(boot: Boot) -> list[str]:
    return [line.split(":")[0] for line in generated(boot)["passwd"].splitlines()]


def test_accounts_of_an_image(tmp_path: Path) -> None:
    lines = (
        "root:x:0:0:root:/root:/bin/sh",
        "daemon:x:1:1::/:/bin/sh",
        "alice:x:100:100::/:/bin/sh",
        "joe:x:1000:1000::/home/joe:/bin/sh",
        "nobody:x:65534:65534::/:/bin/sh",
        "broken",
        "+::::::",
        "odd:x:-1:0::/:/bin/sh",
    )
    assert accounts(image_with(tmp_path, "\n".join(lines))) == ["root", "daemon", "nobody", "alice"]


def test_accounts_of_an_image_without_any(tmp_path: Path) -> None:
    assert accounts(image_with(tmp_path, "")) == ["root", "nobody", "alice"]
    assert accounts(evolve(IMAGE, image=tmp_path / "absent")) == ["root", "nobody", "alice"]


def test_accounts_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "hosts-own").write_text("daemon:x:1:1::/:/bin/sh\n")
    (tmp_path / "etc/passwd").symlink_to(tmp_path / "hosts-own")
    assert accounts(evolve(IMAGE, image=tmp_path)) == ["root", "nobody", "alice"]


@pytest.mark.parametrize(("session", "shown"), [(None, None), (Path("/bin/true"), "/.qvd/x-session")])
def test_marker(session: Path | None, shown: str | None) -> None:
    marker: dict[str, Any] = json.loads(generated(evolve(BOOT, x_session=session))["guest.json"])
    assert marker["x_session"] == shown
    assert (marker["vma_port"], marker["display"], marker["secret"]) == (20009, 1009, "canary")
