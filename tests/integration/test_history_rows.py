"""What a rollback does to the history of migrations, by how the tool keeps it."""

import json
from typing import Any

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.column_removal import Removal, drop_columns, restore_columns
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.restore.difference_kinds import Kind
from runbook_lib.postgres.restore.salvage import Salvage
from runbook_lib.postgres.round_trip import Statements

from ..support.bare import Bare, words
from ..support.recorded import recorded
from ..support.two import HISTORY, Two

ALEMBIC = (
    "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
    "INSERT INTO alembic_version VALUES ('ab12cd34ef56')",
)
GO_MIGRATE = (
    "CREATE TABLE go_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL)",
    "INSERT INTO go_migrations VALUES (39, false)",
)
DJANGO = (
    "CREATE TABLE django_migrations (id bigserial PRIMARY KEY, app text NOT NULL, name text NOT NULL, at timestamptz)",
    "INSERT INTO django_migrations (app, name) VALUES ('billing', '0002_attachments'), ('messaging', '0001_initial'), "
    "('messaging', '0002_attachments')",
)
FLYWAY = (
    "CREATE TABLE flyway_schema_history (installed_rank int PRIMARY KEY, version varchar(50), description text NOT NULL,"
    " type varchar(20) NOT NULL, script varchar(1000) NOT NULL, checksum int, installed_by varchar(100) NOT NULL,"
    " installed_on timestamp NOT NULL DEFAULT now(), execution_time int NOT NULL, success bool NOT NULL)",
    "INSERT INTO flyway_schema_history SELECT n, n + 36, 'of ' || n, 'SQL', 'V' || n, n, 'us', now(), 3, n <> 4 "
    "FROM generate_series(1, 5) n",
)
SQITCH = (
    "CREATE SCHEMA sqitch",
    "CREATE TABLE sqitch.projects (project text PRIMARY KEY, uri text, created_at timestamptz NOT NULL DEFAULT now())",
    "CREATE TABLE sqitch.changes (change_id text PRIMARY KEY, script_hash text, change text NOT NULL, project text NOT NULL"
    " REFERENCES sqitch.projects ON UPDATE CASCADE, note text, committed_at timestamptz NOT NULL DEFAULT clock_timestamp())",
    "CREATE TABLE sqitch.tags (tag_id text PRIMARY KEY, tag text NOT NULL, project text NOT NULL"
    " REFERENCES sqitch.projects ON UPDATE CASCADE, change_id text NOT NULL REFERENCES sqitch.changes ON UPDATE CASCADE)",
    "CREATE TABLE sqitch.dependencies (change_id text NOT NULL REFERENCES sqitch.changes ON DELETE CASCADE,"
    " type text NOT NULL, dependency text NOT NULL, dependency_id text REFERENCES sqitch.changes ON UPDATE CASCADE,"
    " PRIMARY KEY (change_id, dependency))",
    "INSERT INTO sqitch.projects VALUES ('shop')",
    "INSERT INTO sqitch.changes (change_id, change, project) VALUES ('c1', 'products', 'shop')",
    "INSERT INTO sqitch.changes (change_id, change, project) VALUES ('c2', 'fees', 'shop')",
    "INSERT INTO sqitch.tags VALUES ('t1', '@v1', 'shop', 'c1'), ('t2', '@v2', 'shop', 'c2')",
    "INSERT INTO sqitch.dependencies VALUES ('c2', 'require', 'products', 'c1')",
)
PRISMA = (
    "CREATE TABLE _prisma_migrations (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, finished_at timestamptz,"
    " migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz, started_at timestamptz NOT NULL"
    " DEFAULT clock_timestamp(), applied_steps_count int NOT NULL DEFAULT 0)",
    "INSERT INTO _prisma_migrations VALUES ('1', '', now(), '1_products', '', NULL), ('2', '', NULL, '2_fees', '', now()),"
    " ('3', '', now(), '2_fees', '', NULL), ('4', '', NULL, '3_names', '', now()), ('5', '', now(), '4_rates', '', NULL)",
)
OF_PRISMA = {"tool": "prisma", "versions": ["2_fees"]}
OF_SQITCH = {"tool": "sqitch", "versions": ["fees"]}
OF_ALEMBIC = {"tool": "alembic", "versions": ["ab12cd34ef56"]}
OF_GO = {"tool": "golang-migrate", "table": "go_migrations", "versions": ["39"]}
OF_DJANGO = {"tool": "django", "versions": ["0002_attachments"]}
OF_FLYWAY = {"tool": "flyway", "versions": ["38", "40"]}


def silent(*_: object) -> None:
    return


@pytest.mark.parametrize(
    ("statements", "keys", "table", "before", "after"),
    [
        (ALEMBIC, {**OF_ALEMBIC, "previous": "9f8e7d6c5b4a"}, "alembic_version", ["ab12cd34ef56"], ["9f8e7d6c5b4a"]),
        (GO_MIGRATE, {**OF_GO, "previous": "38"}, "go_migrations", ["39 f"], ["38 f"]),
        (GO_MIGRATE, {**OF_GO, "previous": "base"}, "go_migrations", ["39 f"], []),
        (GO_MIGRATE, {**OF_GO, "versions": ["000039"], "previous": "000038"}, "go_migrations", ["39 f"], ["38 f"]),
        (
            ("CREATE TABLE now_at (version text)", "INSERT INTO now_at VALUES ('039')"),
            {"tool": "plain", "rows": "one", "table": "now_at", "versions": ["039"], "previous": "038"},
            "now_at",
            ["039"],
            ["038"],
        ),
        (
            (*GO_MIGRATE, "UPDATE go_migrations SET dirty = true"),
            {**OF_GO, "previous": "38"},
            "go_migrations",
            ["39 t"],
            ["38 f"],
        ),
        (
            DJANGO,
            {**OF_DJANGO, "where": {"app": "messaging"}},
            "django_migrations",
            ["1 billing 0002_attachments", "2 messaging 0001_initial", "3 messaging 0002_attachments"],
            ["1 billing 0002_attachments", "2 messaging 0001_initial"],
        ),
    ],
    ids=["alembic", "golang-migrate", "the first of all", "zeros", "zeros in a text", "half-applied", "django"],
)
@pytest.mark.parametrize("mode", ["quarantine", "drop"])
def test_only_the_plans_row_goes_or_holds_the_version_before_and_returns(
    target: Bare,
    plan: Plan,
    postgres: Postgres,
    statements: tuple[str, ...],
    keys: dict[str, Any],
    table: str,
    before: list[str],
    after: list[str],
    mode: str,
) -> None:
    for statement in statements:
        target.ask(statement)
    removal = Removal(postgres, plan.database, "r1", recorded(plan, **keys))

    def rows() -> list[str]:
        query = f"SELECT replace(trim(translate(h::text, '(),', '   ')), '\"', '') FROM {table} h ORDER BY 1"
        return [row[0] for row in target.ask(query)]

    assert rows() == before
    if mode == "drop":
        drop_columns.copy(removal, {}, silent, silent)
        drop_columns.drop(removal, silent)
    else:
        drop_columns.set_aside(removal, {}, silent)
    assert removal.history
    with postgres.connect() as connection:
        assert (rows(), removal.history.is_taken(connection)) == (after, True)

    restore_columns.restore(removal, silent, silent)

    assert rows() == before


@pytest.mark.newest
@pytest.mark.parametrize(
    ("statements", "keys", "said"),
    [
        (ALEMBIC, OF_ALEMBIC, "no file in alembic/versions shows ab12cd34ef56); name it as migration.previous"),
        (ALEMBIC, {**OF_ALEMBIC, "rows": "each"}, "alembic_version would become empty"),
        (ALEMBIC, {**OF_ALEMBIC, "versions": ["0011aabb"], "previous": "x"}, "0011aabb in alembic_version, which says ab12"),
        (GO_MIGRATE, OF_GO, "name it as migration.previous in the plan"),
        (DJANGO, {**OF_DJANGO, "named_by": []}, "2 rows of django_migrations have name = 0002_attachments"),
        (
            DJANGO,
            {**OF_DJANGO, "where": {"app": "messaging"}, "rows": "one", "previous": "0001_initial"},
            "already has a row of 0001",
        ),
        (DJANGO, {**OF_DJANGO, "where": {"app": "mesaging"}}, "migration 0002_attachments, app = mesaging in django_migr"),
        (DJANGO, {**OF_DJANGO, "where": {"app": "x", "apps": "y"}}, "django_migrations has no column apps"),
        (GO_MIGRATE, {**OF_GO, "versions": ["v39"]}, "go_migrations.version holds bigint, which 'v39' is not"),
        (FLYWAY, {**OF_FLYWAY, "versions": ["38", "98"]}, "migration 98 in flyway_schema_history"),
        (FLYWAY, {**OF_FLYWAY, "related": {"lost": "script"}}, 'migration.related: there is no table "public"."lost"'),
    ],
    ids=[
        "one row",
        "one row of a tool of many",
        "another version",
        "one row of two columns",
        "two rows",
        "a row each and previous",
        "value",
        "column",
        "type",
        "one of two",
        "no table that goes with it",
    ],
)
def test_a_history_that_would_be_harmed_stops_before_downtime(
    target: Bare, statements: tuple[str, ...], keys: dict[str, Any], said: str
) -> None:
    for statement in statements:
        target.ask(statement)
    target.steps("remove-columns")
    target.plan["migration"] = {"repository": "backend", **keys}

    planned = target.planned("B")

    assert planned.exit_code == 3
    assert said in words(planned.text)
    assert "waive ddl-on-clone" not in planned.text


@pytest.mark.newest
def test_the_preview_shows_which_version_the_one_row_is_set_to(target: Bare) -> None:
    for statement in ALEMBIC:
        target.ask(statement)
    target.steps("remove-columns")
    target.plan["migration"] = {"repository": "backend", **OF_ALEMBIC, "previous": "9f8e7d6c5b4a"}

    planned = words(target.planned("B").text)

    assert "set alembic_version from ab12cd34ef56 back to 9f8e7d6c5b4a" in planned
    assert "✔ PASS Option B: remove the feature's columns The DDL runs on a schema-only clone" in planned


@pytest.mark.newest
def test_rows_between_and_after_stay_and_what_stopped_midway_is_named(target: Bare, plan: Plan, postgres: Postgres) -> None:
    for statement in FLYWAY:
        target.ask(statement)
    target.steps("remove-columns")
    target.plan["migration"] = {"repository": "backend", **OF_FLYWAY}

    planned = words(target.planned("B").text)

    assert "delete migrations 38, 40 from flyway_schema_history" in planned
    assert "`flyway validate` is not run afterwards; set `validate: true` in the plan to run it" in planned
    assert "LATER MIGRATIONS stay applied, with their rows: 39, 41" in planned
    assert "applying these below them again needs flyway.outOfOrder=true" in planned
    assert "HALF-APPLIED: flyway_schema_history says that migration 40 stopped midway (success = false)" in planned

    everything = "SELECT h::text FROM flyway_schema_history h ORDER BY installed_rank"
    before, removal = target.ask(everything), Removal(postgres, plan.database, "r1", recorded(plan, **OF_FLYWAY))
    drop_columns.set_aside(removal, {}, silent)
    assert target.ask("SELECT version FROM flyway_schema_history ORDER BY 1") == [("37",), ("39",), ("41",)]
    restore_columns.restore(removal, silent, silent)
    assert target.ask(everything) == before


@pytest.mark.newest
def test_rows_of_other_tables_go_with_the_migrations_and_return(target: Bare, plan: Plan, postgres: Postgres) -> None:
    for statement in SQITCH:
        target.ask(statement)
    target.steps("remove-columns")
    target.plan["migration"] = {"repository": "backend", **OF_SQITCH}
    joined = "sqitch.changes JOIN sqitch.tags USING (change_id) LEFT JOIN sqitch.dependencies USING (change_id)"
    whole = f"SELECT * FROM {joined} ORDER BY change_id"
    before, removal = target.ask(whole), Removal(postgres, plan.database, "r1", recorded(plan, **OF_SQITCH))

    planned = words(target.planned("B").text)
    assert "delete migration fees from changes" in planned
    assert "✔ PASS Option B: remove the feature's columns The DDL runs on a schema-only clone" in planned

    drop_columns.set_aside(removal, {}, silent)
    assert target.ask(whole) == before[:1]
    assert target.ask("SELECT tag FROM sqitch.tags") == [("@v1",)]
    assert target.ask("SELECT * FROM sqitch.dependencies") == []
    restore_columns.restore(removal, silent, silent)
    assert target.ask(whole) == before


@pytest.mark.newest
def test_undo_stops_where_another_migration_has_a_rows_place(target: Bare, plan: Plan, postgres: Postgres) -> None:
    for statement in FLYWAY:
        target.ask(statement)
    removal = Removal(postgres, plan.database, "r1", recorded(plan, **OF_FLYWAY))
    drop_columns.set_aside(removal, {}, silent)
    target.ask("UPDATE flyway_schema_history SET installed_rank = 4 WHERE installed_rank = 5")

    with pytest.raises(PreconditionError, match="has another row of installed_rank 2, 4 by now"):
        restore_columns.restore(removal, silent, silent)


@pytest.mark.newest
def test_a_try_that_was_given_up_stays_in_prismas_history(target: Bare, plan: Plan, postgres: Postgres) -> None:
    for statement in PRISMA:
        target.ask(statement)
    removal = Removal(postgres, plan.database, "r1", recorded(plan, **OF_PRISMA))
    assert removal.history
    with postgres.connect() as connection:
        assert removal.history.later(connection) == ["4_rates"]

    drop_columns.set_aside(removal, {}, silent)

    assert target.ask("SELECT id FROM _prisma_migrations ORDER BY 1") == [("1",), ("2",), ("4",), ("5",)]


@pytest.mark.newest
def test_undo_stops_where_one_of_several_was_applied_again(target: Bare, plan: Plan, postgres: Postgres) -> None:
    for statement in FLYWAY:
        target.ask(statement)
    removal = Removal(postgres, plan.database, "r1", recorded(plan, **OF_FLYWAY))
    drop_columns.set_aside(removal, {}, silent)
    target.ask("UPDATE flyway_schema_history SET version = '38' WHERE version = '41'")

    with pytest.raises(PreconditionError, match="has rows of 38 again, by another run of the migration"):
        restore_columns.restore(removal, silent, silent)


def test_the_history_is_never_carried_to_before_the_migration(two: Two) -> None:
    two.backup.execute("DELETE FROM schema_migrations WHERE version = '039'")
    two.live.execute("INSERT INTO schema_migrations (version, name) VALUES ('040', 'of somebody else')")
    two.live.execute("INSERT INTO users (name) VALUES ('Later')")
    salvage = Salvage(two.here.connect, two.there.connect, two.plan, HISTORY, "test")
    salvage.stage()

    outcome = salvage.carry()

    assert outcome.carried == {"public.users": {Kind.NEW: 1}}
    assert two.restored("SELECT version FROM schema_migrations ORDER BY 1") == [("037",), ("038",)]


@pytest.mark.newest
def test_undo_stops_where_another_migration_ran_since(target: Bare, plan: Plan, postgres: Postgres) -> None:
    for statement in ALEMBIC:
        target.ask(statement)
    removal = Removal(postgres, plan.database, "r1", recorded(plan, **OF_ALEMBIC, previous="9f8e7d6c5b4a"))
    drop_columns.set_aside(removal, {}, silent)
    target.ask("UPDATE alembic_version SET version_num = 'later'")

    with pytest.raises(PreconditionError, match="does not say 9f8e7d6c5b4a any more"):
        restore_columns.restore(removal, silent, silent)

    assert target.ask("SELECT version_num FROM alembic_version") == [("later",)]
    columns = target.ask("SELECT attname FROM pg_attribute WHERE attrelid = 'messages'::regclass")
    assert ("attachments",) not in columns


@pytest.mark.newest
def test_a_row_restored_twice_exists_once(target: Bare, plan: Plan, postgres: Postgres) -> None:
    for statement in ALEMBIC:
        target.ask(statement)
    history = recorded(plan, **OF_ALEMBIC, previous="9f8e7d6c5b4a")
    with postgres.connect() as connection:
        taken = history.take(Statements(connection))

        for _ in range(2):
            history.put_back(Statements(connection), taken)

        assert [json.loads(row) for row in history.everything(connection)] == [{"version_num": "ab12cd34ef56"}]
