"""The command line of C{qvd-image}."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qvd.images.build import Sources, mmdebstrap
from qvd.images.cli import arguments, main, recipe_of
from qvd.images.recipe import Recipe
from qvd.model.errors import InvalidRequest
from tests.unit.imagefiles import CONTAINER
from tests.unit.tars import tar_bytes


def test_a_recipe_from_words() -> None:
    words = (
        "build --type kvm --suite trixie --mirror http://m --desktop xfce --package a --package b --disk 20 -o x.qcow2"
    )
    recipe = recipe_of(arguments().parse_args(words.split()))
    assert recipe == Recipe("kvm", "trixie", "http://m", "xfce", ("a", "b"), "en_US.UTF-8", 20 << 30)


@pytest.mark.parametrize("words", ["build -o x.tar", "build --type vmware -o x", "register x --osf 1", "", "check"])
def test_wrong_usage(words: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("build --type lxc -o /no/such/folder/x.tar", "The folder /no/such/folder is not there"),
        ("build --type lxc -o /tmp/x.qcow2", "has a name that ends in .tar or"),
        ("build --type kvm -o /tmp/x.tar", "has a name that ends in .qcow2"),
        ("build --type lxc --agent /no.deb -o /tmp/x.tar", "/no.deb is not there"),
        ("build --type lxc --package -x -o /tmp/x.tar", ""),
    ],
)
def test_what_cannot_be_built(
    words: str, reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    try:
        assert main(words.split()) == 1
    except SystemExit as usage:
        assert usage.code == 2
    assert reason in capsys.readouterr().err


def test_only_root_builds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main("build --type lxc -o /tmp/x.tar".split()) == 1
    assert "by root only" in capsys.readouterr().err


def test_a_program_that_is_missing_is_named_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    assert main("build --type lxc -o /tmp/x.tar".split()) == 1
    assert capsys.readouterr().err == "qvd-image: The program mmdebstrap is missing: install it\n"


def test_a_check_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "desk.tar"
    path.write_bytes(tar_bytes(CONTAINER))
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: an image for lxc, nothing is missing\n"
    path.write_bytes(tar_bytes({**CONTAINER, "usr/bin/nxagent": "gone", "../x": b""}))
    assert main(["check", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1] == f"{path}: nxagent is missing (/usr/bin/nxagent): install the package nxagent"


def test_a_check_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "desk.tar"
    path.write_bytes(b"text")
    assert main(["check", "--json", str(path)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["file"], document["type"], document["good"]) == (str(path), None, False)


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "/no/such/file"]) == 1
    assert "No such file" in capsys.readouterr().err


def test_a_tag_needs_a_published_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("register x --osf 1 --version 1 --tag trial".split()) == 1
    assert "--publish" in capsys.readouterr().err


def test_the_words_of_mmdebstrap() -> None:
    sources = Sources(Path("/a b/agent.deb"), Path("/it's/base.tar"))
    words = mmdebstrap(Recipe("lxc", mirror="http://m"), sources, Path("/f"), Path("/f/root"))
    assert words[-3:] == ["bookworm", "/f/root", "http://m"]
    assert "--customize-hook=upload '/a b/agent.deb' /.qvd-vma.deb" in words
    assert any("-f '/it'\"'\"'s/base.tar' -C \"$1\"" in word for word in words)
    with pytest.raises(InvalidRequest, match="quote"):
        mmdebstrap(Recipe("lxc"), Sources(Path("/it's.deb")), Path("/f"), Path("/f/root"))
