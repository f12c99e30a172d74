"""What a salvage did not carry: exported, and put back by one command later."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.restore.diff import compare
from runbook_lib.postgres.restore.difference_kinds import CARRIED, Kind
from runbook_lib.postgres.restore.export import Export, Outcome, reapply

from ...support.places import PLAN
from ...support.salvaging import LEGACY, OWN, Crash, salvage_of
from ...support.two import Two


def exported(two: Two, folder: Path, *, carry: bool = False, deletes: bool = True) -> Export:
    salvage = salvage_of(two)
    salvage.stage()
    if carry:
        salvage.carry(deletes=deletes)
    return salvage.export(folder)


def again(two: Two, folder: Path) -> Outcome:
    return reapply(two.there.connect, folder)


def reasons_of(outcome: Outcome) -> dict[str, str]:
    return {f"{conflict.table} {conflict.key}": conflict.reason for conflict in outcome.samples}


def prepare(two: Two) -> None:
    two.both(
        "CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES child, name text UNIQUE)",
        "INSERT INTO child VALUES (1, NULL, 'a'), (2, NULL, 'b'), (3, NULL, 'c')",
    )
    two.live.execute("INSERT INTO child VALUES (8, 9, 'h'), (9, 8, 'i')")
    two.live.execute("UPDATE child SET name = E'x\\t\\\\N\\n' WHERE id = 1")
    two.live.execute("DELETE FROM child WHERE id = 2")
    two.live.execute(
        f"""INSERT INTO messages (conversation_id, sender_id, content, media_type, media_url, attachments)
            VALUES (1, 1, 'later', 'image', '/media/x.svg', '[{LEGACY}, {OWN}]')"""  # type: ignore[call-overload]
    )


def test_rows_not_carried_over_can_be_reapplied_later(two: Two, tmp_path: Path) -> None:
    prepare(two)
    ledger = two.diff()
    made = exported(two, tmp_path / "export")
    assert made.rows == {"public.child": {"changed": 1, "deleted": 1, "new": 2}, "public.messages": {"new": 1}}
    assert compare(ledger, two.diff()) == []

    outcome = again(two, tmp_path / "export")

    assert (outcome.conflicts, outcome.finished) == ({}, True)
    assert compare(ledger.after(outcome.carried), two.diff(), CARRIED) == []
    assert two.restored("SELECT * FROM child ORDER BY id") == [
        (1, None, "x\t\\N\n"),
        (3, None, "c"),
        (8, 9, "h"),
        (9, 8, "i"),
    ]


def test_what_the_backfill_wrote_is_not_in_the_export(two: Two, tmp_path: Path) -> None:
    prepare(two)
    made = exported(two, tmp_path / "export")

    for path in made.files:
        text = path.read_bytes() if path.suffix == ".json" else gzip.decompress(path.read_bytes())
        assert b"legacy_migration" not in text
    again(two, tmp_path / "export")
    assert two.restored("SELECT jsonb_array_length(attachments) FROM messages WHERE content = 'later'") == [(1,)]


def test_one_command_puts_it_back_and_a_conflict_shows_in_its_exit_code(two: Two, tmp_path: Path) -> None:
    prepare(two)
    made = exported(two, tmp_path / "export")
    two.backup.execute("UPDATE child SET name = 'h' WHERE id = 3")
    command = made.command.replace("SERVICE", two.there.service).replace("FOLDER", str(made.folder)).split()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    result = subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True, text=True, check=False)

    assert result.returncode == 3, result.stderr
    answer = json.loads(result.stdout)
    assert answer["carried"]["public.messages"] == {"new": 1}
    assert answer["samples"][0] == "public.child 8 (new): another row has its name"


def test_what_was_written_since_the_restore_is_listed_and_not_overwritten(two: Two, tmp_path: Path) -> None:
    prepare(two)
    exported(two, tmp_path / "export")
    two.backup.execute("UPDATE child SET name = 'newer' WHERE id IN (1, 2)".replace("'newer'", "'newer' || id"))
    two.backup.execute("INSERT INTO child VALUES (9, NULL, 'another 9')")

    outcome = again(two, tmp_path / "export")

    assert reasons_of(outcome) == {
        "public.child 1": "the row was changed since",
        "public.child 2": "the row was changed since",
        "public.child 9": "another row has its id",
    }
    assert two.restored("SELECT id, name FROM child ORDER BY id") == [
        *((1, "newer1"), (2, "newer2"), (3, "c"), (8, "h"), (9, "another 9"))
    ]


def test_a_row_that_is_gone_since_the_restore_is_listed(two: Two, tmp_path: Path) -> None:
    prepare(two)
    exported(two, tmp_path / "export")
    two.backup.execute("DELETE FROM child WHERE id IN (1, 2)")

    assert reasons_of(again(two, tmp_path / "export")) == {"public.child 1": "the row does not exist"}


def test_only_rows_not_carried_over_are_exported(two: Two, tmp_path: Path) -> None:
    prepare(two)
    two.backup.execute("INSERT INTO child VALUES (99, NULL, 'h')")

    made = exported(two, tmp_path / "export", carry=True, deletes=False)

    assert made.rows == {"public.child": {"deleted": 2, "new": 2}}
    two.backup.execute("UPDATE child SET name = 'let go' WHERE id = 99")
    assert reasons_of(again(two, tmp_path / "export")) == {"public.child 99": "the row was changed since"}
    assert two.counts("public.child") == {"deleted": 1}


def test_where_all_is_carried_over_the_export_is_empty(two: Two, tmp_path: Path) -> None:
    prepare(two)
    made = exported(two, tmp_path / "export", carry=True)

    assert (made.rows, made.whole) == ({}, {})
    assert again(two, tmp_path / "export").conflicts == {}


def test_what_users_put_into_the_features_columns_is_exported_to_put_back(two: Two, tmp_path: Path) -> None:
    two.backup.execute("UPDATE messages SET attachments = '[]' WHERE id IN (3, 12)")  # 3: backfilled, 12: with an upload too

    made = exported(two, tmp_path / "export", carry=True)

    assert made.rows == {"public.messages": {"feature": 1}}
    assert again(two, tmp_path / "export").carried == {"public.messages": {Kind.FEATURE: 1}}
    assert two.restored("SELECT id, attachments -> 0 ->> 'source' FROM messages WHERE id IN (3, 12) ORDER BY 1") == [
        (3, None),
        (12, "upload"),
    ]


def test_a_table_the_backup_lacks_or_without_a_key_is_exported_whole(two: Two, tmp_path: Path) -> None:
    two.both("CREATE TABLE loose (a int)")
    two.live.execute("INSERT INTO loose VALUES (1), (1)")
    two.live.execute("CREATE TABLE later AS SELECT 7 AS a")

    made = exported(two, tmp_path / "export", carry=True)
    outcome = again(two, tmp_path / "export")

    assert made.whole == {"public.later": "it is not in the backup", "public.loose": "its rows have no key"}
    rows = [gzip.decompress(path.read_bytes()) for path in made.files if path.name.startswith("public.l")]
    assert rows == [b"7\n", b"1\n1\n"]
    assert outcome.conflicts == {"public.later": 1, "public.loose": 1}
    assert "2 rows are in public.loose" in reasons_of(outcome)["public.loose "]
    assert two.restored("SELECT count(*) FROM loose") == [(0,)]


def test_into_a_database_without_the_table_its_rows_are_conflicts(two: Two, tmp_path: Path) -> None:
    prepare(two)
    exported(two, tmp_path / "export")
    two.backup.execute("DROP TABLE child")

    outcome = again(two, tmp_path / "export")

    assert outcome.conflicts == {"public.child": 4}
    assert outcome.carried == {"public.messages": {Kind.NEW: 1}}


def test_a_second_time_changes_nothing_and_reports_the_same(two: Two, tmp_path: Path) -> None:
    prepare(two)
    exported(two, tmp_path / "export")
    first = again(two, tmp_path / "export")
    two.backup.execute("DELETE FROM child WHERE id = 8 OR id = 9")

    assert again(two, tmp_path / "export") == first
    assert two.restored("SELECT count(*) FROM child WHERE id IN (8, 9)") == [(0,)]


@pytest.mark.parametrize("part", ["loaded public.child", "1 new public.messages"])
def test_after_a_crash_it_resumes_where_it_stopped(two: Two, tmp_path: Path, part: str) -> None:
    prepare(two)
    exported(two, tmp_path / "export")

    def between(done: str) -> None:
        if done == part:
            raise Crash

    with pytest.raises(Crash):
        reapply(two.there.connect, tmp_path / "export", between=between)

    assert again(two, tmp_path / "export").carried == {
        "public.child": {Kind.DELETED: 1, Kind.NEW: 2, Kind.CHANGED: 1},
        "public.messages": {Kind.NEW: 1},
    }


def test_an_export_that_is_not_whole_is_refused_before_anything_is_touched(two: Two, tmp_path: Path) -> None:
    prepare(two)
    exported(two, tmp_path / "export")
    before = two.restored("SELECT relname FROM pg_class ORDER BY 1")

    next((tmp_path / "export").glob("*.gz")).write_bytes(gzip.compress(b"other\n"))
    with pytest.raises(PreconditionError, match="changed since they were written"):
        again(two, tmp_path / "export")
    next((tmp_path / "export").glob("*.gz")).unlink()
    with pytest.raises(PreconditionError, match="cannot be read"):
        again(two, tmp_path / "export")

    assert two.restored("SELECT relname FROM pg_class ORDER BY 1") == before


def test_the_rest_is_not_exported_while_rows_are_still_carried_over(two: Two, tmp_path: Path) -> None:
    prepare(two)
    salvage = salvage_of(two)
    salvage.stage()

    def between(done: str) -> None:
        raise Crash

    with pytest.raises(Crash):
        salvage.carry(between=between)

    with pytest.raises(PreconditionError, match="Only some"):
        salvage.export(tmp_path / "export")


def test_names_that_a_file_system_does_not_take_are_no_hindrance(two: Two, tmp_path: Path) -> None:
    two.both('CREATE TABLE "a/b" (id bigint PRIMARY KEY)', 'CREATE TABLE "a_b" (id bigint PRIMARY KEY)')
    two.live.execute('INSERT INTO "a/b" VALUES (1)')
    two.live.execute('INSERT INTO "a_b" VALUES (2)')

    exported(two, tmp_path / "export")
    again(two, tmp_path / "export")

    assert two.restored('SELECT * FROM "a/b", "a_b"') == [(1, 2)]


SCRIPT = """
import re, sys
from pathlib import Path
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.restore.export import reapply
from runbook_lib.postgres.restore.salvage import Salvage
from runbook_lib.documents import load_plan

live, side, run, plan, folder = sys.argv[1:]
salvage = Salvage(Postgres(live, run).connect, Postgres(side, run).connect, load_plan(Path(plan)).database, [], run)
salvage.stage()
salvage.export(Path(folder))
reapply(Postgres(side, run).connect, Path(folder))
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)  # its own, not its parent's
"""


@pytest.mark.newest
def test_the_clients_memory_does_not_grow_with_the_rows(two: Two, tmp_path: Path) -> None:
    plan = PLAN
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    two.both("CREATE TABLE many (id bigint PRIMARY KEY, v text)")

    def peak(rows: int) -> int:
        """In MB, of carrying a third of the rows."""
        two.both("TRUNCATE many", f"INSERT INTO many SELECT n, n FROM generate_series(1, {rows}) n WHERE n % 3 > 0")
        two.live.execute(f"INSERT INTO many SELECT n, n FROM generate_series(1, {rows}) n WHERE n % 3 = 0")  # type: ignore[call-overload]
        arguments = [two.here.service, two.there.service, f"of_{rows}", str(plan), str(tmp_path / str(rows))]
        command = [sys.executable, "-c", SCRIPT, *arguments]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert two.counts("public.many") == {}
        return int(result.stdout)

    few, many = peak(60_000), peak(240_000)

    assert many < few + 10
    assert many < 200
