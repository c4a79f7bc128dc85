# -*- test-case-name: tests.unit.test_agent_settings -*-
"""
The keys of C{/etc/qvd/vma.conf}.

Where the original has both a key and others below it (C{command.nxagent}, C{command.nxagent.args.extra}), which TOML
cannot say, the longer one has another name here.
"""

from __future__ import annotations

from qvd.model.settings import Key

VMA_KEYS: tuple[Key, ...] = (
    Key("vma.guest_file", str, "/.qvd/guest.json", "written by the driver; without it the agent does not start"),
    Key("vma.channel", str, "/dev/virtio-ports/org.qvd.agent.0", "port to the node, which says in place of that file"),
    Key("internal.vm.port.vma", int, 3030, "port of the agent, where the driver names none", minimum=1),
    Key("internal.nxagent.display", int, 100, "X display, where the driver names none", minimum=0),
    Key("internal.nxagent.timeout.initiating", float, 20.0, "until nxagent listens, seconds", minimum=1),
    Key("internal.nxagent.timeout.listening", float, 65.0, "until its client has come; it gives up at 60 s", minimum=1),
    Key("internal.nxagent.timeout.suspending", float, 20.0, "until it is suspended, seconds", minimum=1),
    Key("internal.nxagent.timeout.stopping", float, 20.0, "from TERM to KILL, seconds", minimum=1),
    Key("internal.vma.nxagent.tolerancechecks", str, "risky", "which NX versions may meet: strict, safe, risky"),
    Key("command.nxagent", str, "/usr/bin/nxagent", "the X server"),
    Key("command.x-session", str, "/etc/X11/Xsession", "program of the X session, where the driver names none"),
    Key("command.useradd", str, "/usr/sbin/useradd", "makes the user's account"),
    Key("command.groupadd", str, "/usr/sbin/groupadd", "makes the user's group"),
    Key("command.poweroff", str, "/sbin/poweroff", "turns the machine off"),
    Key("command.message", str, "", "shows {text} under {title} in a session; empty: a usual program that is there"),
    Key("command.reboot", str, "/sbin/reboot", "starts it anew"),
    Key("vma.nxagent.extra_args", str, "", "more arguments of nxagent, quoted as for a shell"),
    Key("vma.x-session.extra_args", str, "", "more arguments of the session program, likewise"),
    Key("vma.user.default.name", str, "qvd", "login of a session that names none"),
    Key("vma.user.default.groups", str, "qvduser", "further groups of new accounts, with commas"),
    Key("vma.user.home.path", str, "/home", "where homes are"),
    Key("vma.user.home.drive", str, "/dev/vdb", "disk of a virtual machine that is mounted there; empty: none"),
    Key("vma.user.shell", str, "/bin/bash", "login shell of new accounts"),
    Key("vma.default.lang", str, "C.UTF-8", "LANG where the system's own files set none"),
    Key("vma.on_action.pre-connect", str, "", "hook before a session starts or resumes"),
    Key("vma.on_action.connect", str, "", "hook once the account is ready"),
    Key("vma.on_action.stop", str, "", "hook before an X session is stopped on request"),
    Key("vma.on_action.suspend", str, "", "hook before an X session is suspended on request"),
    Key("vma.on_action.poweroff", str, "", "hook before the power is turned off"),
    Key("vma.on_action.expire", str, "", "hook of expiry warnings"),
    Key("vma.on_state.connected", str, "", "hook when a client has the X session"),
    Key("vma.on_state.suspended", str, "", "hook when the X session is suspended"),
    Key("vma.on_state.disconnected", str, "", "hook when the X session is stopped"),
    Key("vma.on_provisioning.mount_home", str, "", "hook where the home does not exist"),
    Key("vma.on_provisioning.add_user", str, "", "hook that makes the account, instead of useradd"),
    Key("vma.on_provisioning.after_add_user", str, "", "hook after the account was made"),
    Key("path.run", str, "/run/qvd", "files of a running session"),
    Key("path.log", str, "/var/log/qvd", "logs"),
)
