# -*- test-case-name: tests.unit.test_images_recipe -*-
"""What a desktop image is made from, as data: packages, and the script that sets them up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from attrs import frozen

from qvd.model.errors import InvalidRequest

LXC, KVM = "lxc", "kvm"
BASE = ("systemd-sysv", "dbus", "dbus-x11", "iproute2", "procps", "ca-certificates", "locales")
SESSION = ("nxagent", "x11-common", "xauth", "xfonts-base", "fonts-dejavu-core", "x11-utils", "xterm")
# What prints is the client's own CUPS, at the other end of the NX connection: the guest needs queues, and no filters.
PRINTING = ("cups-daemon", "cups-client")
SOUND = ("pulseaudio",)
MACHINE = ("linux-image-cloud-amd64", "initramfs-tools", "udev", "systemd-resolved", "grub-pc-bin")
"""Of a virtual machine: a kernel, its boot loader, and a network of its own."""

DESKTOPS: Mapping[str, Sequence[str]] = {
    "icewm": ("icewm", "pcmanfm"),
    "jwm": ("jwm", "pcmanfm"),
    "openbox": ("openbox", "tint2", "pcmanfm"),
    "xfce": ("xfce4",),
}
"""Packages by name; the first one registers itself as what C{/etc/X11/Xsession} starts."""

AGENT_UNIT = "qvd-vma.service"
ROOT_LABEL = "qvd-root"
# Thousands of machines from one image would do all of this at the same hour.
IDLE_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
)
# What a desktop's machine does without, and an emulated processor takes long for.
MACHINE_IDLE_UNITS = (
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-pstore.service",
    "systemd-network-generator.service",
    "systemd-binfmt.service",
    "systemd-machine-id-commit.service",
    "systemd-journal-flush.service",
    "systemd-modules-load.service",
    "systemd-sysusers.service",
    "systemd-update-utmp.service",
    "modprobe@.service",
    "getty@tty1.service",
)
IDLE_GENERATORS = (
    "systemd-bless-boot-generator",
    "systemd-cryptsetup-generator",
    "systemd-debug-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-run-generator",
    "systemd-system-update-generator",
    "systemd-veritysetup-generator",
)
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9]+)?([=/][A-Za-z0-9.+:~-]+)?")
SUITE = re.compile(r"[a-z][a-z0-9-]*")
LOCALE = re.compile(r"[A-Za-z_]+(\.UTF-8)(@[a-z]+)?")


@frozen
class Recipe:
    """What to build.

    @ivar kind: C{lxc} or C{kvm}.
    @ivar suite: code name of the Debian release.
    @ivar mirror: where its packages come from; L{None}: Debian's own.
    @ivar further: packages beside those that a desktop needs.
    @ivar disk: bytes of a virtual machine's disk.
    """

    kind: str
    suite: str = "bookworm"
    mirror: str | None = None
    desktop: str = "icewm"
    further: Sequence[str] = ()
    locale: str = "en_US.UTF-8"
    disk: int = 8 << 30

    @property
    def packages(self) -> Sequence[str]:
        """All that is asked for by name."""
        machine = MACHINE if self.kind == KVM else ()
        return (*BASE, *SESSION, *PRINTING, *SOUND, *DESKTOPS[self.desktop], *machine, *self.further)


def check_recipe(recipe: Recipe) -> None:
    """What is wrong with it is said before anything is fetched: these words end up in a shell.

    @raise InvalidRequest: a word is none of its kind.
    """
    for package in recipe.further:
        if not PACKAGE.fullmatch(package):
            raise InvalidRequest(f"{package!r} is not the name of a Debian package")
    if not SUITE.fullmatch(recipe.suite):
        raise InvalidRequest(f"{recipe.suite!r} is not the name of a Debian release: take its code name, bookworm")
    if not LOCALE.fullmatch(recipe.locale):
        raise InvalidRequest(f"{recipe.locale!r} is not a locale such as de_DE.UTF-8")


def script(recipe: Recipe, agent: str | None) -> str:
    """What is done inside the new system, as root, for C{sh}.

    @param agent: file name there of the package of the agent; L{None}: it comes from the repository of the suite.
    """
    install = " ".join((*recipe.packages, agent or "qvd-vma"))
    parts = [BEFORE, BEFORE_KERNEL if recipe.kind == KVM else "", INSTALL.format(packages=install)]
    language, _, charset = recipe.locale.partition(".")
    modifier = "".join(charset.partition("@")[1:])
    parts.append(LOCALES.format(locale=recipe.locale, language=language + modifier))
    idle = (*IDLE_UNITS, *(MACHINE_IDLE_UNITS if recipe.kind == KVM else ()))
    parts.append(UNITS.format(agent=AGENT_UNIT, idle=" ".join(idle)))
    parts.append(BOOTABLE.format(label=ROOT_LABEL, idle=" ".join(IDLE_GENERATORS)) if recipe.kind == KVM else "")
    return "".join((*parts, AFTER))


BEFORE = """\
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
mkdir -p /etc/dpkg/dpkg.cfg.d
cat >/etc/dpkg/dpkg.cfg.d/qvd-image <<'END'
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
END
"""
# The initial file system holds what finds the root and no more: a boot without KVM's help has to unpack it.
BEFORE_KERNEL = """\
mkdir -p /etc/initramfs-tools/conf.d /etc/initramfs-tools/hooks
printf 'MODULES=list\\nCOMPRESS=gzip\\n' >/etc/initramfs-tools/conf.d/qvd
cat >/etc/initramfs-tools/hooks/qvd <<'END'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
for module in virtio_pci virtio_blk virtio_scsi virtio_net virtio_console ext4; do force_load "$module"; done
END
chmod 755 /etc/initramfs-tools/hooks/qvd
"""
INSTALL = """\
apt-get -q -y -o APT::Install-Recommends=false -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io \\
    install {packages}
"""
LOCALES = """\
localedef -i {language} -f UTF-8 {locale}
printf 'LANG=%s\\n' {locale} >/etc/default/locale
"""
UNITS = """\
systemctl enable {agent}
systemctl mask {idle}
systemctl disable cups.service
systemctl enable cups.socket cups.path
systemctl set-default multi-user.target
"""
# no_timer_check: where the host emulates the processor, the kernel's test of the timer now and then fails.
BOOTABLE = """\
printf 'LABEL=%s / ext4 errors=remount-ro 0 0\\n' {label} >/etc/fstab
printf '[Match]\\nType=ether\\n\\n[Network]\\nDHCP=ipv4\\n\\n[DHCPv4]\\nClientIdentifier=mac\\n' \\
    >/etc/systemd/network/80-qvd.network
systemctl enable systemd-networkd systemd-resolved
systemctl disable systemd-networkd-wait-online
mkdir -p /etc/systemd/system-generators /boot/grub
for name in {idle}; do ln -sf /dev/null "/etc/systemd/system-generators/$name"; done
cp /usr/lib/grub/i386-pc/boot.img /boot/grub/boot.img
printf 'search --no-floppy --label --set=root %s\\nset prefix=($root)/boot/grub\\n' {label} >/boot/grub/find.cfg
grub-mkimage -O i386-pc -o /boot/grub/core.img -c /boot/grub/find.cfg -p /boot/grub \\
    biosdisk part_msdos ext2 linux normal search search_label configfile serial terminal
cat >/boot/grub/grub.cfg <<'END'
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
linux /vmlinuz root=LABEL={label} ro console=ttyS0 no_timer_check quiet
initrd /initrd.img
boot
END
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
"""
# What must differ from machine to machine, and what only the building needed.
AFTER = """\
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/journal /root/.cache
rm -f /etc/hostname /etc/ssh/ssh_host_*_key* /var/lib/dbus/machine-id /etc/ssl/private/ssl-cert-snakeoil.key
find /var/log -type f -delete
: >/etc/machine-id
printf '127.0.0.1 localhost\\n::1 localhost\\n' >/etc/hosts
[ -L /etc/resolv.conf ] || rm -f /etc/resolv.conf
"""
