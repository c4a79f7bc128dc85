"""The least files with which nothing is missing in an image."""

from __future__ import annotations

from tests.unit.tars import Content

CONTAINER: dict[str, Content] = {
    "sbin": "usr/sbin",
    "bin": "usr/bin",
    "lib": "usr/lib",
    "usr/sbin/init": "/lib/systemd/systemd",
    "usr/lib/systemd/systemd": b"init",
    "usr/sbin/poweroff": "/bin/systemctl",
    "usr/bin/systemctl": b"x",
    "usr/bin/qvd-vma": b"x",
    "usr/bin/nxagent": b"x",
    "usr/bin/xauth": b"x",
    "usr/bin/pulseaudio": b"x",
    "usr/bin/lp": b"x",
    "usr/sbin/cupsd": b"x",
    "usr/sbin/useradd": b"x",
    "usr/sbin/groupadd": b"x",
    "usr/bin/bash": b"x",
    "usr/bin/icewm-session": b"x",
    "etc/X11/Xsession": b"x",
    "etc/alternatives/x-session-manager": "/usr/bin/icewm-session",
    "etc/systemd/system/multi-user.target.wants/qvd-vma.service": "/lib/systemd/system/qvd-vma.service",
    "usr/lib/systemd/system/qvd-vma.service": b"x",
    "usr/share/fonts/truetype/": b"",
    "etc/machine-id": b"",
}
MACHINE: dict[str, Content] = {
    **CONTAINER,
    "boot/vmlinuz-6.1": b"x",
    "boot/initrd.img-6.1": b"x",
    "etc/systemd/system/multi-user.target.wants/systemd-networkd.service": (
        "/lib/systemd/system/systemd-networkd.service"
    ),
    "usr/lib/systemd/system/systemd-networkd.service": b"x",
}
MISSING = {
    "usr/lib/systemd/systemd": "the init is missing",
    "usr/bin/qvd-vma": "the agent is missing",
    "usr/bin/nxagent": "nxagent is missing",
    "etc/X11/Xsession": "the session program is missing",
    "usr/bin/icewm-session": "the desktop is missing",
    "usr/bin/xauth": "xauth is missing",
    "usr/sbin/useradd": "useradd is missing",
    "usr/sbin/groupadd": "groupadd is missing",
    "usr/bin/bash": "the users' shell is missing",
    "usr/bin/systemctl": "poweroff is missing",
    "usr/bin/pulseaudio": "sound is missing",
    "usr/sbin/cupsd": "printing is missing",
    "usr/bin/lp": "the command lp is missing",
    "etc/systemd/system/multi-user.target.wants/qvd-vma.service": "the agent does not start with the system",
    "usr/lib/systemd/system/qvd-vma.service": "the agent does not start with the system",
    "usr/share/fonts/truetype/": "there are no fonts",
}
"""What is said where one of them is not there."""
MACHINE_MISSING = {
    "boot/vmlinuz-6.1": "it has no kernel",
    "boot/initrd.img-6.1": "it has no kernel",
    "usr/lib/systemd/system/systemd-networkd.service": "nothing in it asks for an address",
}
