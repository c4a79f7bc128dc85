"""L{qvd.db.migrate}: which files there are and which are to apply."""

from __future__ import annotations

from pathlib import Path

import pytest

from qvd.db.migrate import Migration, SchemaError, pending, read_migrations, schema_version


def migration(number: int, checksum: str = "sum") -> Migration:
    return Migration(number, "name", "", checksum, None)


ONE, TWO, THREE = migration(1), migration(2), migration(3)


def test_read(tmp_path: Path) -> None:
    (tmp_path / "0010_later.sql").write_text("SELECT 1;\n-- compatible: 9\n")
    (tmp_path / "0002_first.sql").write_text("SELECT 2; -- compatible: 1 is no line of its own\n")
    (tmp_path / "README").write_text("no SQL")
    first, later = read_migrations(tmp_path)
    assert (first.title, first.compatible) == ("0002_first", None)
    assert (later.title, later.compatible) == ("0010_later", 9)
    assert first.checksum != later.checksum
    assert schema_version(tmp_path) == 10


@pytest.mark.parametrize(
    "names", [["initial.sql"], ["1_initial.sql"], ["0001-initial.sql"], ["0001_a.sql", "0001_b.sql"]]
)
def test_wrong_names(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("")
    with pytest.raises(SchemaError, match=names[0].split(".")[0] if len(names) == 1 else "number 1"):
        read_migrations(tmp_path)


def test_this_release() -> None:
    numbers = [found.number for found in read_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert schema_version() == numbers[-1]
    # Without it, an older node would believe that it can work on any schema.
    assert read_migrations()[0].compatible in (None, 1)


def test_pending() -> None:
    assert pending((ONE, TWO), ()) == (ONE, TWO)
    assert pending((ONE, TWO), ((1, "name", "sum"),)) == (TWO,)
    assert pending((ONE,), ((1, "name", "sum"),)) == ()


def test_contradictions() -> None:
    with pytest.raises(SchemaError, match="0001_name was changed"):
        pending((ONE,), ((1, "name", "other"),))
    with pytest.raises(SchemaError, match="0002_name is unknown here"):
        pending((ONE,), ((1, "name", "sum"), (2, "name", "sum")))
    with pytest.raises(SchemaError, match="0002_name was not applied, but later ones were"):
        pending((ONE, TWO, THREE), ((1, "name", "sum"), (3, "name", "sum")))
