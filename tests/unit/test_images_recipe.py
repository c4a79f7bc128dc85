"""What goes into a desktop image."""

from __future__ import annotations

import subprocess

import pytest
from attrs import evolve

from qvd.images.recipe import DESKTOPS, KVM, LXC, MACHINE, Recipe, check_recipe, script
from qvd.model.errors import InvalidRequest


@pytest.mark.parametrize("desktop", DESKTOPS)
def test_every_desktop_comes_with_all_that_a_session_needs(desktop: str) -> None:
    packages = Recipe(LXC, desktop=desktop).packages
    assert {"systemd-sysv", "nxagent", "x11-common", "xauth", "pulseaudio", "cups-daemon", "locales"} <= {*packages}
    assert {*DESKTOPS[desktop]} <= {*packages}


def test_only_a_machine_has_a_kernel() -> None:
    assert not {*MACHINE} & {*Recipe(LXC).packages}
    assert {*MACHINE} <= {*Recipe(KVM).packages}


@pytest.mark.parametrize("kind", [LXC, KVM])
def test_the_script_is_one(kind: str) -> None:
    """A shell can read it; and it installs what was asked for."""
    text = script(Recipe(kind, further=("gimp",)), "/.agent.deb")
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    assert "install systemd-sysv" in text
    assert "gimp /.agent.deb\n" in text
    assert "{" not in text.replace("${", "")


def test_the_agent_can_come_from_the_repository() -> None:
    assert " qvd-vma\n" in script(Recipe(LXC), None)


def test_the_kernel_comes_after_what_says_how_it_boots() -> None:
    text = script(Recipe(KVM), None)
    assert text.index("initramfs-tools/conf.d") < text.index("apt-get") < text.index("grub-mkimage")


def test_a_locale_with_a_modifier() -> None:
    text = script(Recipe(LXC, locale="ca_ES.UTF-8@valencia"), None)
    assert "localedef -i ca_ES@valencia -f UTF-8 ca_ES.UTF-8@valencia\n" in text


@pytest.mark.parametrize("package", ["gimp", "libc6:i386", "gimp=2.10.34-1+deb12u1", "gimp/bookworm-backports"])
def test_names_of_packages(package: str) -> None:
    check_recipe(Recipe(LXC, further=(package,)))


@pytest.mark.parametrize("package", ["", "-f", "a b", "a;b", "$(reboot)", "./a.deb", "Gimp"])
def test_what_is_no_package(package: str) -> None:
    with pytest.raises(InvalidRequest, match="is not the name of a Debian package"):
        check_recipe(Recipe(LXC, further=("xterm", package)))


def test_what_is_no_suite_and_no_locale() -> None:
    for wrong in (
        evolve(Recipe(LXC), suite="--help"),
        evolve(Recipe(LXC), locale="de_DE; reboot"),
        evolve(Recipe(LXC), locale="de_DE"),
    ):
        with pytest.raises(InvalidRequest):
            check_recipe(wrong)
