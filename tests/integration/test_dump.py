"""Backups with PostgreSQL's own tools."""

from pathlib import Path

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.postgres.connection import Connection, Postgres, identity
from runbook_lib.postgres.dump import DumpTools, sha256
from runbook_lib.rehearsal.database import Database
from runbook_lib.system.processes import LocalProcesses


@pytest.fixture
def tools(postgres: Postgres, database: Database) -> DumpTools:
    return DumpTools(LocalProcesses(), str(database.server.tools), postgres.service)


def test_a_dump_can_be_read_back(tools: DumpTools, database: Database, tmp_path: Path) -> None:
    file = tmp_path / "all.dump"

    tools.dump(file, 60)
    tools.read_through(file, 60)
    contents = tools.contents(file)

    assert contents.database == database.name
    assert "public.messages" in contents.tables_with_data
    assert list(tmp_path.glob("*.partial")) == []


def test_a_dump_that_was_cut_short_cannot_be_read_through(tools: DumpTools, tmp_path: Path) -> None:
    file = tmp_path / "all.dump"
    tools.dump(file, 60)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    with pytest.raises(AdapterError):
        tools.read_through(file, 60)


def test_a_dump_that_fails_leaves_no_file_by_its_name(tools: DumpTools, database: Database, tmp_path: Path) -> None:
    database.drop()

    with pytest.raises(AdapterError):
        tools.dump(tmp_path / "all.dump", 60)

    assert not (tmp_path / "all.dump").exists()


def test_a_dump_never_replaces_another(tools: DumpTools, tmp_path: Path) -> None:
    file = tmp_path / "all.dump"
    file.write_text("an earlier one")

    with pytest.raises(AdapterError, match="exists"):
        tools.dump(file, 60)

    assert (file.read_text(), [path.name for path in tmp_path.glob("*.dump*")]) == ("an earlier one", ["all.dump"])


def test_each_try_writes_its_own_file_and_removes_that_of_a_killed_one(tools: DumpTools, tmp_path: Path) -> None:
    file = tmp_path / "all.dump"
    with (tmp_path / "all.dump.1a2b3c4d.partial").open("w") as killed:
        tools.dump(file, 60)
        killed.write("what a try that lives on still writes")

    tools.read_through(file, 60)
    assert [path.name for path in tmp_path.glob("*.dump*")] == ["all.dump"]


def test_the_objects_of_a_database_are_those_that_a_dump_of_it_names(tools: DumpTools, tmp_path: Path) -> None:
    tools.dump(tmp_path / "all.dump", 60)

    assert sorted(tools.objects(60), key=str) == sorted(tools.contents(tmp_path / "all.dump").entries, key=str)


def test_the_hash_changes_with_one_byte(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"abc")
    (tmp_path / "two").write_bytes(b"abd")

    assert sha256(tmp_path / "one") != sha256(tmp_path / "two")


def test_the_tools_say_their_version(tools: DumpTools, connection: Connection) -> None:
    server = identity(connection).server_version // 10_000

    assert {tools.version("pg_dump"), tools.version("pg_restore")} == {server}
