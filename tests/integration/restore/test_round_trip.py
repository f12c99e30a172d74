"""A round trip of option C on a real server: the backup restored, the names exchanged, and the undo."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import LiteralString

import pytest

from runbook_lib.checks.prerequisites import looked
from runbook_lib.errors import StepFailed
from runbook_lib.postgres.dump import DumpContents
from runbook_lib.rehearsal.database import dump
from runbook_lib.run import engine
from runbook_lib.steps import Effect

from ...support.restoring import ADDED, ASIDE, ROWS, SWAP, Restoring


@pytest.mark.usefixtures("really_restored")
def test_the_database_is_the_backup_again_and_the_old_one_is_kept_dated(restoring: Restoring) -> None:
    before = restoring.ask(ROWS)
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    old = restoring.ask(ROWS)

    done = restoring.swap()

    kept = restoring.databases["kept"]
    assert restoring.ask(ROWS) == before
    assert restoring.ask(ROWS, kept) == old
    assert re.fullmatch(rf"{restoring.database.name}_before_rollback_{datetime.now(UTC):%Y%m%d}_[0-9a-f]{{12}}", kept)
    assert done.outcome["old database"] == kept
    assert {r.status for r in done.results} == {"PASS"}
    assert set(restoring.run.state.pending) == {"old-database"}


def test_undo_swaps_back_and_a_second_swap_is_possible(restoring: Restoring) -> None:
    before = restoring.ask(ROWS)
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    old = restoring.ask(ROWS)
    restoring.swap()

    engine.undo(restoring.run, SWAP)

    assert restoring.ask(ROWS) == old
    assert set(restoring.databases) == {"live", "restored"}
    assert set(restoring.run.state.pending) == {"restored-database"}
    restoring.approve()
    engine.apply(restoring.run, SWAP)
    assert restoring.ask(ROWS) == before


@pytest.mark.usefixtures("really_restored")
def test_undo_of_the_restore_staging_leaves_nothing_behind(restoring: Restoring) -> None:
    restoring.restore_staging()

    engine.undo(restoring.run, ASIDE)

    assert set(restoring.databases) == {"live"}
    assert restoring.run.state.pending == {}


def test_the_preview_writes_nothing(restoring: Restoring) -> None:
    catalog: LiteralString = "SELECT count(*), max(oid::bigint) FROM pg_class"
    before = restoring.ask(catalog), restoring.ask(ROWS)

    restoring.run.previews()

    assert (restoring.ask(catalog), restoring.ask(ROWS)) == before
    assert set(restoring.databases) == {"live"}


def test_only_the_cleanup_drops_the_old_database_for_good(restoring: Restoring) -> None:
    restoring.swap()
    kept, step = restoring.databases["kept"], restoring.run.steps[SWAP]

    shown = step.purge_preview("old-database")
    step.purge("old-database")

    assert kept in shown.would[0]
    assert "MB" in shown.would[0]
    assert shown.irreversible
    assert set(restoring.databases) == {"live"}
    assert restoring.run.state.pending == {}
    assert restoring.effect(SWAP) is Effect.DONE
    with pytest.raises(StepFailed, match="old database no longer exists"):
        engine.undo(restoring.run, SWAP)


# --- whatever a database may hold


def test_every_kind_of_object_comes_back_and_is_compared(restoring: Restoring) -> None:
    restoring.change(
        'CREATE SCHEMA "Other schema"',
        "CREATE TYPE mood AS ENUM ('good', 'bad')",
        "CREATE DOMAIN short AS text CHECK (length(VALUE) < 20)",
        """CREATE TABLE "Other schema"."Odd ""Table" ("Id" int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, feels mood,
           said short, twice int GENERATED ALWAYS AS (2) STORED)""",
        """INSERT INTO "Other schema"."Odd ""Table" (feels, said) VALUES ('good', 'yes'), ('bad', 'no')""",
        "CREATE TABLE parted (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE parted_2025 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
        "INSERT INTO parted SELECT n, '2025-05-05' FROM generate_series(1, 10) n",
        "CREATE TABLE keyless (what text)",
        "INSERT INTO keyless VALUES ('a'), ('a')",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON users USING (name = current_user)",
        "CREATE PUBLICATION told FOR TABLE messages",
        "SELECT lo_from_bytea(0, 'large')",
        "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM messages",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER tr BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE messages ADD CONSTRAINT odd CHECK (id > 100) NOT VALID",
        "GRANT SELECT ON messages TO pg_monitor",
    )
    restoring.replace_backup(lambda backups: dump(restoring.database, backups))
    restoring.change(
        """DELETE FROM "Other schema"."Odd ""Table" WHERE "Id" = 2""",
        "UPDATE parted SET at = '2025-06-06' WHERE id = 4",
        "INSERT INTO keyless VALUES ('b')",
        "INSERT INTO users (name) VALUES ('hidden by the policy')",
    )

    done = restoring.swap()

    assert {r.status for r in done.results} == {"PASS"}
    assert done.outcome["lost"] == {
        'Other schema."Odd ""Table": rows deleted since the backup, which come back': 1,
        "public.parted: rows written since the backup": 1,
        "public.parted: rows deleted since the backup, which come back": 1,
        "public.keyless: rows more or fewer (it has no key to identify them)": 1,
        "public.users: rows written since the backup": 1,
    }
    lost = [line for line in restoring.run.steps[ASIDE].preview().loses if line.startswith("not in the backup")]
    assert lost == []
    assert restoring.ask('SELECT * FROM "Other schema"."Odd ""Table" ORDER BY 1') == [
        (1, "good", "yes", 2),
        (2, "bad", "no", 2),
    ]
    assert restoring.ask("SELECT count(*) FROM parted_2025") == [(10,)]
    assert restoring.ask("SELECT count(*) FROM pg_publication_tables") == [(1,)]
    assert restoring.ask("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata") == [("large",)]


HEAD = """-- TOC entry 9999 (class {catalog} OID 9999)
-- Name: {name}; Type: {kind}; Schema: {schema}; Owner: {owner}

"""


def with_entry(contents: DumpContents, **entry: str) -> DumpContents:
    return replace(contents, schema=contents.schema + HEAD.format(catalog=1259, **entry))


def test_an_extension_of_the_backup_that_is_not_here_is_named_beforehand(restoring: Restoring) -> None:
    contents = restoring.run.context.dump.contents
    restoring.with_dump(with_entry(contents, kind="EXTENSION", schema="-", name="postgis_from_afar", owner=""))

    found = looked(restoring.run.context, "restorable-backup")

    assert (found.status, "postgis_from_afar" in found.summary) == ("FAIL", True)


def test_a_backup_of_a_newer_server_or_strange_owner_is_named_beforehand(restoring: Restoring) -> None:
    contents = replace(restoring.run.context.dump.contents, server=99)
    restoring.with_dump(with_entry(contents, kind="TABLE", schema="public", name="t", owner="somebody_else"))

    assert "it is from PostgreSQL 99" in looked(restoring.run.context, "restorable-backup").summary
    assert "the owner somebody_else" in looked(restoring.run.context, "restore-rights").summary
