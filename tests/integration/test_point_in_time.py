"""The state from before a migration is recovered out of a base backup and the archived WAL, or refused by name."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg.rows import dict_row

from runbook_lib.config.target import PointInTime
from runbook_lib.context.before import newest_before
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.dump import DumpTools, rows
from runbook_lib.postgres.point_in_time import recovery
from runbook_lib.postgres.restore.dump_inspector import Dump, look
from runbook_lib.rehearsal.postgres import binaries, debian_programs
from runbook_lib.run.lifecycle import open_new
from runbook_lib.system.processes import LocalProcesses, until
from runbook_lib.system.temporary import has_ended

from ..support.archived import NOTED, Archived, archived
from ..support.bare import Bare, bare, runbook, words
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
KILLED = """
import json, os, signal, sys
from pathlib import Path
from runbook_lib.config.target import PointInTime
from runbook_lib.postgres.point_in_time import recovery
from runbook_lib.system.processes import LocalProcesses

spec, live, xid = PointInTime.model_validate_json(sys.argv[1]), recovery.Live(**json.loads(sys.argv[2])), int(sys.argv[3])
way = recovery.look(spec, live, [xid], None, LocalProcesses(), Path("/"))
with recovery.carried_out(way, LocalProcesses()) as server:
    print(server.host.parent, (server.host.parent / "d" / "postmaster.pid").read_text().split()[0], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
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


def way_to(target: Bare, kept: Archived) -> recovery.Way:
    """How the state before the sample's migration is reached."""
    spec = PointInTime.model_validate(target.target["before"])
    with psycopg.connect(kept.database.conninfo(), autocommit=True, row_factory=dict_row) as connection:
        live = recovery.live_server(connection)
    ((xid,),) = target.ask("SELECT xmin::text::int FROM schema_migrations WHERE version = '039'")
    return recovery.look(spec, live, [xid], None, LocalProcesses(), target.root)


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


def test_of_several_base_backups_the_newest_from_before_is_taken_as_tar(past: Past, kept: Archived) -> None:
    target = past(base=str(kept.bases))

    ended = target.planned("C")

    assert ended.exit_code == 0, ended.text
    assert "/tar and the WAL since" in words(ended.text)
    assert applied(target, recovered(target)) == ["037", "038"]


def restoring(base: str, kept: Archived, wal: Path) -> list[str]:
    """A command that leaves a data directory, and a restore_command in its postgresql.auto.conf."""
    fetch = f"restore_command = 'cp {wal}/%f \"%p\"'"
    script = f"cp -r {kept.bases}/{base}/. {{folder}} && printf '%s\\n' \"$0\" >> {{folder}}/postgresql.auto.conf"
    return ["sh", "-c", script, fetch]


@pytest.mark.newest
def test_the_targets_command_restores_in_place_of_a_base_backup(past: Past, kept: Archived) -> None:
    """As pgBackRest and Barman do."""
    target = past(command=restoring("plain", kept, kept.wal))

    ended = target.planned("C")

    assert ended.exit_code == 0, ended.text
    assert applied(target, recovered(target)) == ["037", "038"]


def test_a_moment_that_the_target_names_is_recovered(past: Past, kept: Archived) -> None:
    """The first commit at that moment or later is the migration's, to the microsecond."""
    target = past()
    way = way_to(target, kept)
    assert way.commit
    at = f"{way.commit.time:%Y-%m-%d %H:%M:%S.%f}+00:00"

    assert past(at=at).planned("C").exit_code == 0
    assert recovered(target).made == way.commit.time
    assert applied(target, recovered(target)) == ["037", "038"]


@pytest.mark.newest
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


@pytest.mark.newest
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


@pytest.mark.newest
@pytest.mark.parametrize(
    ("base", "segments", "said"),
    [
        ("plain", 3, "Missing WAL: recovery came to the end of the WAL before it reached the migration's commit"),
        ("late", None, "T before the base backup: transaction"),
    ],
)
def test_what_a_command_restored_is_refused_by_name_too(
    past: Past, kept: Archived, tmp_path: Path, base: str, segments: int | None, said: str
) -> None:
    wal = kept.without(tmp_path, lambda there: there[segments:] if segments else [])
    target = past(command=restoring(base, kept, wal))

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
    with recovery.carried_out(way_to(past(), kept), LocalProcesses()) as server:
        pid = int((server.host.parent / "d" / "postmaster.pid").read_text().split()[0])
        assert server.host.stat().st_mode & 0o777 == 0o700
        with server.connect() as connection:
            assert one(connection, "SHOW listen_addresses") == {"listen_addresses": ""}
            assert one(connection, "SHOW archive_mode") == {"archive_mode": "off"}

    assert has_ended(pid)
    assert not server.host.parent.exists()


@pytest.mark.slow
def test_the_side_instance_ends_with_an_owner_that_is_killed(past: Past, kept: Archived) -> None:
    way = way_to(past(), kept)
    said = subprocess.run(
        [sys.executable, "-c", KILLED, way.spec.model_dump_json(), json.dumps(asdict(way.live)), str(way.xid)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    folder, pid = said.stdout.split()

    assert said.returncode == -signal.SIGKILL
    assert until(lambda: has_ended(int(pid)) and not Path(folder).exists(), 20, 0.1)


@pytest.mark.newest
def test_a_draft_takes_the_state_before_from_the_target(past: Past, kept: Archived) -> None:
    target = past()
    keys = {name: target.plan[name] for name in ("feature", "migration", "services")}
    plan = {**keys, "title": "Replies", "extends": "standard", "repositories": {"backend": {}}}
    (target.root / "plan.yaml").write_text(yaml.safe_dump(plan))
    (target.root / "target.yaml").write_text(yaml.safe_dump(target.target))
    script = target.root / "039.sql"
    script.write_text("ALTER TABLE messages ADD attachments jsonb")
    files = ["--plan", target.root / "plan.yaml", "--target", target.root / "target.yaml", "--migration", script]

    made = runbook("draft", *files, "--folder", target.root, "--server", kept.database.server.conninfo())

    assert made.exit_code == 0, made.text
    (changes,) = target.root.glob("*.changes.yaml")
    assert [each["object"] for each in yaml.safe_load(changes.read_text())["changes"]] == ["messages.attachments"]


@pytest.mark.newest
@pytest.mark.slow
def test_option_c_brings_the_recovered_state_live(past: Past) -> None:
    target = past()
    target.steps("stop-services", "back-up", "restore-staging", "swap-database", swap_database={"salvage": "nothing"})
    target.plan["types"]["full"]["checks"] = []
    was = target.ask("SELECT version FROM schema_migrations ORDER BY 1")
    planned = target.planned("C")
    assert planned.exit_code == 0, planned.text

    target.executed()  # until the loss is counted, which is approved next
    target.digest = target.opened().state.previewed
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert target.ask("SELECT version FROM schema_migrations ORDER BY 1") == [("037",), ("038",)]
    digest = re.findall(r"--approve (\w{16})", runbook("undo", target.run).text)[-1]
    runbook("undo", target.run, "--approve", digest)
    assert target.ask("SELECT version FROM schema_migrations ORDER BY 1") == was
