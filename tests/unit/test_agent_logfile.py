"""A log that stays small, and never stands in the way."""

from __future__ import annotations

from pathlib import Path

from qvd.agent.logfile import BoundedLog


def test_it_grows_up_to_its_limit_and_keeps_one_older_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = BoundedLog(path, limit=10)
    for text in (b"12345", b"67890", b"abc", b"defghijk"):
        log.write(text)
    assert path.read_bytes() == b"defghijk"
    assert (tmp_path / "log.1").read_bytes() == b"abc"
    assert len(list(tmp_path.iterdir())) == 2


def test_of_more_than_all_the_end_is_kept(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log", limit=4)
    log.write(b"123456789")
    assert (tmp_path / "log").read_bytes() == b"6789"


def test_it_goes_on_where_an_earlier_one_ended(tmp_path: Path) -> None:
    BoundedLog(tmp_path / "log").write(b"one ")
    BoundedLog(tmp_path / "log").write(b"two")
    assert (tmp_path / "log").read_bytes() == b"one two"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    BoundedLog(tmp_path / "log").write(b"text")
    assert not (tmp_path / "elsewhere").exists()


def test_where_it_cannot_be_written_it_gives_up(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "no" / "log")
    log.write(b"lost")
    (tmp_path / "no").mkdir()
    log.write(b"lost too")
    assert not (tmp_path / "no" / "log").exists()


def test_none_keeps_nothing() -> None:
    BoundedLog(None).write(b"lost")
