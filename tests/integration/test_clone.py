"""Before anybody approves it, the DDL is tried on a schema-only clone, and nothing is left of that."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.errors import PreconditionError, UnknownOutcome
from runbook_lib.journal import Journal
from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.clone import COMMENT, clone_name, cloned
from runbook_lib.postgres.connection import Postgres, one
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import Server, embedded_server
from runbook_lib.results import Result, Status
from runbook_lib.run import Run
from runbook_lib.steps import ddl_dry_run
from runbook_lib.steps.clear_backfill import ClearBackfill
from runbook_lib.steps.remove_columns import RemoveColumns

from ..support.cloned import WAYS, all_tried, as_superuser, context_of, has_superuser_service


@pytest.fixture
def context(plan: Plan, database: Database, postgres: Postgres, tmp_path: Path) -> Context:
    return context_of(plan, database, postgres, tmp_path)


def tried(context: Context, way: str) -> Result | None:
    return next(iter(all_tried(context, way)), None)


def databases(database: Database) -> list[str]:
    with database.server.connect() as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s ORDER BY 1", [f"{database.name}%"])
        return [name for (name,) in rows]


def contents(postgres: Postgres, application: psycopg.Connection) -> tuple[Any, Any]:
    rows = application.execute("SELECT md5(string_agg(m::text, ',' ORDER BY id)) FROM messages m").fetchone()
    with postgres.connect() as connection:
        own = one(connection, "SELECT count(*) AS n FROM pg_namespace WHERE nspname = 'runbook'")
        return rows, (catalog(connection), own)


@pytest.mark.parametrize("way", WAYS)
def test_the_ddl_makes_a_round_trip_on_the_clone_which_is_then_dropped(
    context: Context, postgres: Postgres, database: Database, application: psycopg.Connection, way: str
) -> None:
    before = contents(postgres, application)

    found = tried(context, way)

    assert found is not None
    said = f"{way} and undo: applied and undone on a clone; its schema is as before"
    assert (found.status, found.summary[: len(said)]) == (Status.PASS, said)
    assert contents(postgres, application) == before
    assert databases(database) == [database.name]


@pytest.mark.newest
@pytest.mark.parametrize("way", WAYS)
def test_what_the_catalog_does_not_show_fails_on_the_clone_alone(
    context: Context, postgres: Postgres, database: Database, application: psycopg.Connection, tmp_path: Path, way: str
) -> None:
    as_superuser(
        database,
        """CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE '%messages%') THEN
               RAISE EXCEPTION 'change requests only'; END IF; END $$;
           CREATE EVENT TRIGGER no_ddl ON ddl_command_end EXECUTE FUNCTION no_ddl()""",
    )
    has_superuser_service(database, tmp_path)
    before = contents(postgres, application)

    found = tried(context, way)

    assert found is not None
    assert (found.status, "change requests only" in found.summary) == (Status.FAIL, True)
    assert contents(postgres, application) == before
    assert databases(database) == [database.name]


def test_a_typed_table_fails_on_the_clone(context: Context, application: psycopg.Connection) -> None:
    columns = application.execute(
        """SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
           FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attnum > 0"""
    ).fetchone()
    assert columns
    application.execute(f"CREATE TYPE message AS ({columns[0]}); ALTER TABLE messages OF message")  # type: ignore[arg-type]

    found = tried(context, "swap")

    assert found is not None
    assert (found.status, "typed table" in found.summary) == (Status.FAIL, True)


def test_without_the_right_to_make_databases_it_is_unknown(
    context: Context, database: Database, request: pytest.FixtureRequest
) -> None:
    as_superuser(database, "ALTER ROLE runbook NOCREATEDB")
    request.addfinalizer(lambda: as_superuser(database, "ALTER ROLE runbook CREATEDB"))

    found = tried(context, "swap")

    assert found is not None
    assert found.status is Status.UNKNOWN
    assert "permission denied to create database" in found.summary
    assert "to continue without it, waive ddl-on-clone with a reason" in found.summary


def test_objects_our_role_may_not_give_away_are_tried_without_owners(context: Context, database: Database) -> None:
    as_superuser(database, "CREATE TABLE elsewhere (it int); GRANT SELECT ON elsewhere TO postgres")

    found = tried(context, "quarantine")

    assert found is not None
    assert (found.status, "on which our role owns all objects" in found.summary) == (Status.PASS, True), found.summary


def test_a_table_of_another_owner_fails_though_the_clone_passes(context: Context, database: Database) -> None:
    as_superuser(database, "ALTER TABLE messages OWNER TO postgres")

    found = tried(context, "quarantine")

    assert found is not None
    assert (found.status, "belongs to postgres" in found.summary) == (Status.FAIL, True)


def test_publications_are_not_cloned(context: Context, postgres: Postgres, database: Database, tmp_path: Path) -> None:
    as_superuser(database, "CREATE PUBLICATION everything FOR ALL TABLES")
    tools = DumpTools(context.adapters.processes, str(database.server.tools), "test")

    with cloned(postgres, postgres, tools, tools, tmp_path) as clone, clone.connect() as connection:
        assert one(connection, "SELECT count(*) AS n FROM pg_publication")["n"] == 0
        assert one(connection, "SELECT count(*) AS n FROM messages")["n"] == 0


def elsewhere(context: Context, server: Server, tmp_path: Path) -> None:
    """Have the target name another server for clones."""
    with (tmp_path / "services").open("a") as file:
        file.write("\n".join(["[elsewhere]", *(f"{name}={value}" for name, value in server.parameters.items()), ""]))
    named = context.target.database.model_copy(update={"clone_service": "elsewhere"})
    context.target = context.target.model_copy(update={"database": named})


def test_the_clone_is_made_on_another_server_where_the_target_names_one(
    context: Context, database: Database, tmp_path: Path
) -> None:
    as_superuser(database, "ALTER ROLE runbook NOCREATEDB")
    try:
        with embedded_server(database.server.tools) as other:
            elsewhere(context, other, tmp_path)
            found = tried(context, "swap")
            with other.connect() as connection:
                left = connection.execute("SELECT count(*) FROM pg_database WHERE datname LIKE '%tried%'").fetchone()
    finally:
        as_superuser(database, "ALTER ROLE runbook CREATEDB")

    assert found is not None
    assert (found.status, "on which our role owns all objects" in found.summary) == (Status.PASS, True), found.summary
    assert left == (0,)


def test_a_server_of_another_version_is_no_place_for_a_clone(
    context: Context, version: int, servers: Callable[[int], Server], tmp_path: Path
) -> None:
    elsewhere(context, servers(33 - version), tmp_path)

    found = tried(context, "swap")

    assert found is not None
    assert (found.status, f"the target's {version}" in found.summary) == (Status.UNKNOWN, True)


@pytest.mark.newest
def test_a_clone_is_dropped_after_a_kill_by_whoever_comes_next(
    context: Context, postgres: Postgres, database: Database
) -> None:
    of_another_run, not_ours = clone_name(database.name, "0123456789ab"), clone_name(database.name, "not")
    with postgres.connect("postgres") as connection:
        for name in (of_another_run, not_ours, clone_name(database.name, "test")):
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        connection.execute(f"""COMMENT ON DATABASE "{of_another_run}" IS '{COMMENT}'""".encode())
    try:
        tried(context, "swap")
        assert databases(database) == [database.name, not_ours]
    finally:
        as_superuser(database, f'DROP DATABASE "{not_ours}"')


@pytest.mark.newest
def test_a_step_that_has_begun_is_not_tried_again(context: Context, plan: Plan) -> None:
    for way in ("swap", "quarantine"):
        name, choices = WAYS[way]
        context.state = replace(context.state, choices=choices)
        agreed: dict[str, Any] = {name: {"facts": {"strategy": way}}}
        context.state = replace(context.state, previews={"d": agreed}, approved="d")
        step = (ClearBackfill if way == "swap" else RemoveColumns)(name, context)
        preview = step.preview()
        agreed[name]["keys"] = preview.keys
        step.apply()

        assert step.dry_run_of_ddl(preview) == []
        step.undo()


def run_of(context: Context, result: Result, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[str]]:
    """A run of nothing but the step that clears, whose trial on the clone ends so; and the trials made."""
    Journal(context.folder.journal_path).append("opened", type="full", option="A")
    run, made = Run(context.folder, context), list[str]()
    step = ClearBackfill("clear-backfill", context)
    monkeypatch.setattr(Run, "steps", property(lambda run: {step.name: step}))
    monkeypatch.setattr(ClearBackfill, "dry_run_of_ddl", lambda step, preview: made.append(preview.step) or [result])
    return run, made


def result(status: Status) -> Result:
    return Result(ddl_dry_run.NAME, "The DDL runs", status, "as it does")


@pytest.mark.parametrize(("status", "error"), [(Status.FAIL, PreconditionError), (Status.UNKNOWN, UnknownOutcome)])
def test_what_failed_on_the_clone_is_not_approved_unless_waived(
    context: Context, monkeypatch: pytest.MonkeyPatch, status: Status, error: type[Exception]
) -> None:
    run, _ = run_of(context, result(status), monkeypatch)
    digest, _ = run.previews()

    with pytest.raises(error, match="The DDL runs"):
        run.approve(digest, "Dana")
    assert not run.state.approved

    run.waive(ddl_dry_run.NAME, "the server lets nobody make databases")
    run.approve(digest, "Dana")
    assert run.state.approved == digest


@pytest.mark.parametrize(("status", "times"), [(Status.PASS, 1), (Status.UNKNOWN, 2)])
def test_what_passed_on_the_clone_is_not_tried_again_for_the_same_previews(
    context: Context, monkeypatch: pytest.MonkeyPatch, status: Status, times: int
) -> None:
    run, made = run_of(context, result(status), monkeypatch)

    first, _ = run.previews()
    again, _ = run.previews()

    assert first == again
    assert len(made) == times
    assert [found.status for found in run.dry_run_of_ddl(again)] == [status]
