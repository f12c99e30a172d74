"""The places that keep records of rehearsals: each kind does the same, as does the one in memory."""

from pathlib import Path

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.records import MemoryRecords, Records, connect, kinds
from runbook_lib.records.branch import BranchKeys
from runbook_lib.records.database import DatabaseKeys
from runbook_lib.records.folder import FolderKeys
from runbook_lib.system.processes import LocalProcesses

from ..support.repository import Repository

pytestmark = pytest.mark.newest

LOCAL = LocalProcesses()


class Contract:
    """What every place does."""

    def test_nothing_is_kept_at_first(self, place: Records) -> None:
        assert place.texts() == {}

    def test_what_is_added_is_there_as_it_was(self, place: Records) -> None:
        place.add("a", '{"é": 1}\n')
        place.add("b", "{}\n")

        assert place.texts() == {"a": '{"é": 1}\n', "b": "{}\n"}

    def test_what_is_there_stays(self, place: Records) -> None:
        place.add("a", "first")
        place.add("a", "second")

        assert place.texts() == {"a": "first"}


class TestMemory(Contract):
    @pytest.fixture
    def place(self) -> Records:
        return MemoryRecords()


class TestFolder(Contract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Records:
        return connect(FolderKeys(kind="folder", path=str(tmp_path / "records")), "", LOCAL)


class TestBranch(Contract):
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Repository:
        return Repository(tmp_path / "shop")

    @pytest.fixture
    def place(self, repository: Repository) -> Records:
        return connect(BranchKeys(kind="branch", repository=str(repository.path)), "", LOCAL)

    def test_no_checkout_is_touched(self, place: Records, repository: Repository) -> None:
        before = repository.git("rev-parse", "HEAD"), repository.git("status", "--porcelain", "--branch")

        place.add("a", "{}")

        assert (repository.git("rev-parse", "HEAD"), repository.git("status", "--porcelain", "--branch")) == before
        assert repository.git("rev-list", "--max-parents=0", "runbook-records") not in repository.git("rev-list", "HEAD")


class TestRemoteBranch(Contract):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> Repository:
        return Repository(tmp_path / "origin")

    @pytest.fixture
    def place(self, tmp_path: Path, origin: Repository) -> Records:
        return self.cloned(origin, tmp_path / "here")

    def cloned(self, origin: Repository, path: Path) -> Records:
        origin.git("clone", "--quiet", str(origin.path), str(path))
        return connect(BranchKeys(kind="branch", repository=str(path), remote="origin"), "", LOCAL)

    def test_another_clone_reads_and_adds_to_it(self, place: Records, tmp_path: Path, origin: Repository) -> None:
        there = self.cloned(origin, tmp_path / "there")
        place.add("a", "1")
        there.add("b", "2")

        assert place.texts() == there.texts() == {"a": "1", "b": "2"}


class TestDatabase(Contract):
    @pytest.fixture
    def place(self, postgres: Postgres) -> Records:
        return connect(DatabaseKeys(kind="database"), postgres.service, LOCAL)

    def test_looking_makes_no_schema(self, place: Records, connection: Connection) -> None:
        place.texts()

        assert connection.execute("SELECT to_regnamespace('runbook') AS there").fetchone() == {"there": None}


def test_a_repository_that_is_not_there_is_named(tmp_path: Path) -> None:
    place = connect(BranchKeys(kind="branch", repository=str(tmp_path / "none")), "", LOCAL)

    with pytest.raises(AdapterError, match="There is no repository"):
        place.texts()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("no folder")

    with pytest.raises(AdapterError, match="cannot be written"):
        connect(FolderKeys(kind="folder", path=str(tmp_path / "records")), "", LOCAL).add("a", "{}")


def test_each_kind_of_place_has_its_contract_here() -> None:
    assert {*kinds()} == {"folder", "branch", "database"}
