"""The state from before a migration is recovered out of a base backup and the archived WAL, or refused by name."""

import re
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from runbook_lib.context.before import newest_before
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.dump import DumpTools, rows
from runbook_lib.postgres.point_in_time import recovery
from runbook_lib.postgres.point_in_time.recovery import live_server
from runbook_lib.postgres.restore.dump_inspector import Dump, look
from runbook_lib.rehearsal.postgres import binaries, debian_programs
from runbook_lib.run.lifecycle import open_new
from runbook_lib.system.processes import LocalProcesses
from runbook_lib.system.temporary import has_ended

from ..support.archived import NOTED, Archived, archived
from ..support.bare import Bare, bare, words
from .conftest import EMBEDDED

NOTING = """
feature: F-7
title: Things
migration: {tool: plain, repository: backend, versions: ["7"], table: noted}
repositories: {backend: {}}
services: [backend]
steps: {stop: {kind: stop, services: [backend]}}
types: {full: {title: Full, steps: [stop], checks: []}}
"""
Usage = namedtuple("Usage", "total used free")
Past = Callable[..., Bare]
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def kept(version: int) -> Iterator[Archived]:
    programs = binaries() if version == EMBEDDED else debian_programs(version)
    if programs is None:
        pytest.skip(f"PostgreSQL {version} is not installed")
    with archived(programs) as made:
        yield made


@pytest.fixture
def past(kept: Archived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Past]:
    """A target on the archived database, which has no dump; `before` is what it says of its past."""
    lines = (f"{name}={value}" for name, value in kept.database.parameters(kept.database.runbook).items())
    (tmp_path / "services.conf").write_text("\n".join(["[test]", *lines, ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services.conf"))
    monkeypatch.setenv("BARE_TOKEN", "t")
    with bare(kept.database, tmp_path) as target:
        for path in (tmp_path / "backups").iterdir():
            path.unlink()

        def told(**before: object) -> Bare:
            files = {"base": str(kept.bases / "plain"), "wal": str(kept.wal)}
            target.target["before"] = {"kind": "point-in-time", **(before if "command" in before else {**files, **before})}
            target.steps("restore-staging")
            return target

        yield told


def recovered(target: Bare) -> Dump:
    (path,) = (target.root / "backups").glob("before_*.dump")
    return look(DumpTools(LocalProcesses(), target.target["database"]["tools"], "test"), path)


def applied(target: Bare, dump: Dump, table: str = "schema_migrations") -> list[str]:
    """The migrations that the history in a dump names."""
    to = target.root / "history.sql"
    DumpTools(LocalProcesses(), target.target["database"]["tools"], "test").rows_of(dump.path, "public", table, to, 20)
    with rows(to) as (names, found):
        return [fields[names.index("version")].decode() for fields in found]


def test_the_preview_recovers_the_state_before_and_shows_the_room(past: Past) -> None:
    target = past()

    ended = target.planned("C")

    dump, said = recovered(target), words(ended.text)
    assert ended.exit_code == 0, ended.text
    assert applied(target, dump) == ["037", "038"]
    assert not {*target.plan["database"]["columns"]} & dump.columns["public.messages"].keys()
    assert "recovered now: the state just before the commit of transaction" in said
    assert re.search(r"needs \d\.\d\d GB of \d+\.\d\d GB free in /", said)
    assert f"made {dump.made:%Y-%m-%d %H:%M} UTC" in said
    assert target.planned("C").exit_code == 0
    assert recovered(target).path == dump.path


def test_the_tar_files_of_a_base_backup_lead_to_the_same(past: Past, kept: Archived) -> None:
    target = past(base=str(kept.bases / "tar"))

    assert target.planned("C").exit_code == 0
    assert applied(target, recovered(target)) == ["037", "038"]


def test_of_several_base_backups_the_newest_from_before_is_taken(past: Past, kept: Archived) -> None:
    target = past(base=str(kept.bases))

    ended = target.planned("C")

    assert ended.exit_code == 0, ended.text
    assert "/tar and the WAL since" in words(ended.text)


def test_the_targets_command_restores_in_place_of_a_base_backup(past: Past, kept: Archived) -> None:
    """As pgBackRest and Barman do: a data directory, and a restore_command in its postgresql.auto.conf."""
    fetch = f"restore_command = 'cp {kept.wal}/%f \"%p\"'"
    script = f"cp -r {kept.bases}/plain/. {{folder}} && printf '%s\\n' \"$0\" >> {{folder}}/postgresql.auto.conf"
    target = past(command=["sh", "-c", script, fetch])

    ended = target.planned("C")

    assert ended.exit_code == 0, ended.text
    assert applied(target, recovered(target)) == ["037", "038"]


def test_a_moment_that_the_target_names_is_recovered(past: Past, kept: Archived) -> None:
    """The first commit at that moment or later is the migration's, to the microsecond."""
    first = past()
    assert first.planned("C").exit_code == 0
    dump = recovered(first)
    dump.path.unlink()

    at = f"{dump.made:%Y-%m-%d %H:%M:%S.%f}+00:00"
    assert past(at=at).planned("C").exit_code == 0
    assert recovered(first).made == dump.made


def test_a_migration_recorded_in_several_transactions_leads_to_the_first(past: Past, kept: Archived) -> None:
    """As Prisma and golang-migrate do; the last of them wrote the row in a savepoint."""
    target = past()
    lines = (target.root / "services.conf").read_text().replace(f"dbname={kept.database.name}", f"dbname={NOTED}")
    (target.root / "services.conf").write_text(lines)
    (target.root / "plan.yaml").write_text(NOTING)
    (target.root / "target.yaml").write_text(yaml.safe_dump(target.target))
    run = open_new(target.root / "plan.yaml", target.root / "target.yaml", "full", outputs=target.root / "outputs")
    newest_before(run.context)
    run.close_adapters()

    assert list(recovered(target).columns["public.things"]) == ["id"]
    assert applied(target, recovered(target), "noted") == ["6"]


def edited(file: str, old: str, new: str) -> Change:
    def change(base: Path) -> None:
        text = (base / file).read_text()
        assert old in text
        (base / file).write_text(text.replace(old, new))

    return change


def with_tablespace(base: Path) -> None:
    (base / "pg_tblspc" / "16999").mkdir()


REFUSED: dict[str, tuple[str, Change | None, Callable[[list[str]], list[str]] | None, str]] = {
    "wal-gap": ("plain", None, lambda there: there[-2:-1], "Missing WAL: "),
    "wal-ends": ("plain", None, lambda there: there[3:], "holds no commit of the migration"),
    "wal-begins-later": ("plain", None, lambda there: there[:3], "Missing WAL: "),
    "late": ("late", None, None, "T before the base backup: transaction"),
    "timeline": (
        "plain",
        edited("backup_label", "TIMELINE: 1", "TIMELINE: 7"),
        None,
        "A timeline switch: the base",
    ),
    "major": (
        "plain",
        lambda base: (base / "PG_VERSION").write_text("9"),
        None,
        "Another major version: the base",
    ),
    "tablespace": ("plain", with_tablespace, None, "it has tablespaces (OID 16999)"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_leads_to_no_state_from_before_is_refused_by_name(past: Past, kept: Archived, tmp_path: Path, why: str) -> None:
    name, change, lacking, said = REFUSED[why]
    changed: dict[str, object] = {"base": str(kept.base(name, tmp_path, change or (lambda _: None)))}
    if lacking:
        changed["wal"] = str(kept.without(tmp_path, lacking))
    target = past(**changed)

    ended = target.planned("C")

    assert ended.exit_code == 3
    assert said in words(ended.text)
    assert list((target.root / "backups").iterdir()) == []


def test_too_little_room_is_refused_before_anything_is_restored(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 1000))
    target = past()

    ended = target.planned("C")

    assert ended.exit_code == 3
    assert "No room: " in words(ended.text)


def test_the_side_instance_is_private_and_ends_with_its_use(past: Past, kept: Archived) -> None:
    target = past()
    context = target.planned("C") and target.opened().context
    spec = context.target.before
    assert spec
    with context.adapters.postgres.connect() as connection:
        live = live_server(connection)
    xid = int(target.ask("SELECT xmin FROM schema_migrations WHERE version = '039'")[0][0])
    way = recovery.look(spec, live, [xid], None, LocalProcesses(), target.root)

    with recovery.carried_out(way, LocalProcesses()) as server:
        pid = int((server.host.parent / "d" / "postmaster.pid").read_text().split()[0])
        assert server.host.stat().st_mode & 0o777 == 0o700
        with server.connect() as connection:
            assert one(connection, "SHOW listen_addresses") == {"listen_addresses": ""}
            assert one(connection, "SHOW archive_mode") == {"archive_mode": "off"}

    assert has_ended(pid)
    assert not server.host.parent.exists()
