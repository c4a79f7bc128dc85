"""
A guest as small as can be: busybox, and an agent of a few lines of shell that answers like the real one.

Its X session is a port behind which bytes come back. What it is told stands in C{/.qvd/guest.json}, as for any agent.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.conftest import require

INIT = """#!/bin/sh
export PATH=/bin
trap 'exit 0' TERM INT PWR USR1 USR2
mkdir -p /home/alice
echo "started $(cat /etc/version)" >>/home/alice/history
nc -ll -p 3030 -e /bin/agent &
nc -ll -p 4100 -e /bin/cat &
while :; do sleep 1000 & wait $!; done
"""
AGENT = r"""#!/bin/sh
read -r _ target _
while read -r line && [ "${line%?}" ]; do
    case "$line" in "Authorization: Bearer "*) token="${line#Authorization: Bearer }" ;; esac
done
status="200 OK" body=true
grep -q "\"secret\": \"${token%?}\"" /.qvd/guest.json || status="401 Unauthorized"
case "$target" in
    /vma/x_start*) body='"starting"' ;;
    /vma/x_state*) body='"listening"' ;;
    /vma/poweroff*) { sleep 0.1; kill -TERM 1; } >/dev/null 2>&1 & ;;
esac
printf 'HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s\n\r\n' "$status" $((${#body} + 3)) "$body"
"""
PROGRAMS = "sh cat sleep nc grep mkdir echo printf kill ls id ip ping mount umount touch rm dd hostname".split()


def make_image(path: Path, version: str = "1") -> Path:
    """An image of type C{lxc}, uncompressed.

    @param version: stands in C{/etc/version}.
    """
    require("busybox")
    busybox = shutil.which("busybox")
    assert busybox is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name in ("bin", "sbin", "etc", "usr", "dev", "proc", "sys", "tmp", "run", "home", "root", "var"):
            add(archive, name, tarfile.DIRTYPE, mode=0o755)
        add(archive, "bin/busybox", data=Path(busybox).read_bytes(), mode=0o755)
        for program in PROGRAMS:
            add(archive, f"bin/{program}", tarfile.SYMTYPE, link="busybox")
        for name, text in files(version):
            add(archive, name, data=text.encode(), mode=0o755 if "bin/" in name else 0o644)
    return path


def files(version: str) -> Iterable[tuple[str, str]]:
    yield "sbin/init", INIT
    yield "bin/agent", AGENT
    yield "etc/version", f"{version}\n"
    yield "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"
    yield "etc/group", "root:x:0:\nalice:x:1000:\n"


def add(archive: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, **what: object) -> None:
    entry = tarfile.TarInfo(name)
    data = what.get("data", b"")
    assert isinstance(data, bytes)
    entry.type, entry.size = kind, len(data)
    entry.mode, entry.linkname = int(str(what.get("mode", 0o777))), str(what.get("link", ""))
    archive.addfile(entry, io.BytesIO(data))
