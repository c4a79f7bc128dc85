"""Tables of mounts."""

from __future__ import annotations

from pathlib import Path

from qvd.doctor.mounts import Mount, expected, missing, mount_of, mounts, nearest

TEXT = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /srv/a\\040b rw - nfs4 files:/qvd rw
31 22 0:26 / /srv/fuse rw - fuse.glusterfs vol rw
32 22 0:27 / /srv/local rw - fuse.snapfuse snap rw
33 22 0:28 / /srv rw - tmpfs tmpfs rw
"""
TABLE = """\
# a remark
UUID=1 / ext4 defaults 0 1
files:/qvd /srv/a\\040b nfs4 defaults 0 0
files:/homes /srv/homes/ nfs4 defaults 0 0
/dev/sdb none swap sw 0 0
broken
"""


def test_the_mount_of_a_path() -> None:
    found = mounts(TEXT)
    assert mount_of("/srv/a b/images", found) == Mount("/srv/a b", "nfs4", "files:/qvd")
    assert mount_of("/srv/a bc", found) == Mount("/srv", "tmpfs", "tmpfs")
    assert mount_of("/var", found) == Mount("/", "ext4", "/dev/vda")
    assert mount_of("/var", ()) is None


def test_the_upper_of_two_counts() -> None:
    lower, upper = Mount("/a", "ext4", "x"), Mount("/a", "tmpfs", "y")
    assert mount_of("/a/b", [lower, upper]) == upper


def test_who_else_may_see_it() -> None:
    assert [each.shared for each in mounts(TEXT)] == [False, True, True, False, False]


def test_what_should_be_there() -> None:
    found = mounts(TEXT)
    assert [each.point for each in expected(TABLE)] == ["/", "/srv/a b", "/srv/homes"]
    assert missing("/srv/homes/acme", found, TABLE) == Mount("/srv/homes", "nfs4", "files:/homes")
    assert missing("/srv/a b/images", found, TABLE) is None
    assert missing("/srv/homesick", found, TABLE) is None


def test_the_nearest_that_is_there(tmp_path: Path) -> None:
    assert nearest(tmp_path / "a/b/c") == tmp_path
