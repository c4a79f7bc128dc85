"""Whose a folder of the storage is, and what is mounted in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qvd.hkd.garbage import places
from qvd.hkd.garbage.places import CLAIM, claimed, mounts_below, opened_aside, opened_parent, opened_root
from qvd.model.errors import Conflict, PermanentError


def claim(folder: Path, installation: str, take: bool = True) -> str | None:
    with opened_root(folder) as root:
        return claimed(root, folder, installation, take)


def test_a_folder_gets_a_name_once(tmp_path: Path) -> None:
    assert claim(tmp_path, "ours", take=False) is None
    assert list(tmp_path.iterdir()) == []
    name = claim(tmp_path, "ours")
    assert name
    assert claim(tmp_path, "ours") == claim(tmp_path, "ours", take=False) == name
    assert [path.name for path in tmp_path.iterdir()] == [CLAIM]


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    claim(tmp_path, "theirs")
    with pytest.raises(Conflict, match="another installation"):
        claim(tmp_path, "ours")


def test_of_two_that_come_together_one_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, names = places.write_claim, []

    def second(root: int, mine: places.Claim) -> None:
        monkeypatch.setattr(places, "write_claim", write)
        names.append(claim(tmp_path, "ours"))
        write(root, mine)

    monkeypatch.setattr(places, "write_claim", second)
    assert claim(tmp_path, "ours") == names[0]
    assert [path.name for path in tmp_path.iterdir()] == [CLAIM]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"installation": "ours"}', "x" * 9000])
def test_a_name_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    (tmp_path / CLAIM).write_text(content)
    with pytest.raises(PermanentError, match="does not say whose"):
        claim(tmp_path, "ours")


def test_a_name_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("{}")
    (tmp_path / CLAIM).symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        claim(tmp_path, "ours")


def test_no_link_is_followed_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "real" / "57").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    with opened_root(tmp_path) as root:
        with opened_parent(root, "real/57") as (_, name):
            assert name == "57"
        for path in ("link/57", "../57", "/real/57", "real//57", ""):
            with pytest.raises(PermanentError), opened_parent(root, path):
                raise AssertionError(path)


def test_what_is_put_aside_is_not_put_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".trash").symlink_to("elsewhere")
    with opened_root(tmp_path) as root, pytest.raises(PermanentError), opened_aside(root, ".trash"):
        raise AssertionError


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "homes").symlink_to("real")
    assert claim(tmp_path / "homes", "ours")


MOUNTINFO = r"""22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /srv/homes rw - nfs server:/x rw
31 30 0:41 / /srv/homes/1/57/a\040b rw - tmpfs tmpfs rw
32 30 0:42 / /srv/homes2/1 rw - tmpfs tmpfs rw
33 30 0:43 / /srv/homes/2/\303\251 rw - tmpfs tmpfs rw
"""


def test_mounts() -> None:
    assert mounts_below(Path("/srv/homes"), MOUNTINFO) == ["1/57/a b", "2/é"]
    assert mounts_below(Path("/srv/homes/1/57"), MOUNTINFO) == ["a b"]
    assert mounts_below(Path("/srv/other"), MOUNTINFO) == []
