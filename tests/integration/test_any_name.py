"""Any name of a schema, table, column or index works: those of our own statements, words of SQL, quotes, 63 bytes."""

import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.config.plan import Plan, path_of
from runbook_lib.postgres import plan_fit
from runbook_lib.postgres.approved_rows import approved_keys
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval
from runbook_lib.postgres.backfill_statistics import BackfillStatistics
from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.column_removal import Removal, drop_columns, restore_columns
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.dependents import dependents, risks
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.migration_history import History
from runbook_lib.postgres.restore.dump_inspector import look
from runbook_lib.postgres.restore.part import Part, Source
from runbook_lib.postgres.restore.part_kinds import ColumnPart, RowsPart, TablePart
from runbook_lib.rehearsal.database import Database, dump
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.system.processes import LocalProcesses

from ..support.bare import Bare, bare, runbook
from ..support.recorded import recorded

ROLES = ("key", "column", "source", "touch", "type", "extra", "reply", "schema", "table", "index")
# What our statements call things, and what needs quotes.
NAMES = (
    *("kind", "rows", "shown", "place", "key", "old", "new", "touched", "value", "written", "taken", "ours", "since", "n"),
    *("s", "t", "k", "e", "u", "b", "c", "r", "x", "name", "last", "bucket", "meant", "restored", "number", "ins", "it"),
    *("list", "decided", "gone", "left", "ids", "key_1", "value_0", "marked", "bundles", "changed", "chosen", "batch"),
    *("order", "select", "User", "MixedCase", 'double "quoted"', "it's", "with space", "100%", "%s", "a{b}", "dotted.name"),
    *("back\\slash", "naïve", "消息", "-- no comment", "$1", "ctid_", "long_" * 12, "消" * 21),
)
CLASHING = {role: f"{'a' * 61}_{number}" for number, role in enumerate(ROLES)}  # alike in all that is left of them
OWN, LEGACY = {"source": "upload"}, "legacy"


@dataclass(frozen=True)
class Named:
    """A table whose columns have some names, by their roles."""

    names: dict[str, str]
    plan: DatabasePlan
    history: History
    application: psycopg.Connection

    def rows(self) -> list[Any]:
        query = sql.SQL("SELECT to_jsonb(q) FROM {} q ORDER BY 1").format(self.table)
        return self.application.execute(query).fetchall()

    @property
    def table(self) -> sql.Identifier:
        """Its schema and name."""
        return sql.Identifier(self.names["schema"], self.names["table"])


def table_of(names: dict[str, str], plan: Plan, application: psycopg.Connection) -> Named:
    """A small table with those names, and the plan of its feature."""
    of = {role: sql.Identifier(name) for role, name in names.items()}
    table = sql.Identifier(names["schema"], names["table"])
    of |= {"schema": sql.Identifier(names["schema"]), "table": table}
    application.execute(sql.SQL("DROP SCHEMA IF EXISTS {schema} CASCADE").format(**of))
    application.execute(sql.SQL("CREATE SCHEMA {schema}").format(**of))
    application.execute(
        sql.SQL("""CREATE TABLE {table} ({key} bigint PRIMARY KEY, {source} text, {type} text, {extra} text DEFAULT 'x',
        {touch} timestamptz DEFAULT '2020-01-01', {column} jsonb DEFAULT '[]', {reply} bigint)""").format(**of)
    )
    for number in range(30):
        element = {"type": "image", "url": f"/{number}", "source": LEGACY}
        lists = [[element], [element, OWN], [OWN], [], [{**element, "caption": "mine"}]]
        values = [number, f"/{number}", "image", number if number % 2 else None, json.dumps(lists[number % 5])]
        insert = sql.SQL("INSERT INTO {table} ({key}, {source}, {type}, {reply}, {column}) VALUES ({v})").format(
            **of, v=sql.SQL(", ").join(map(sql.Literal, values))
        )
        application.execute(insert)
    application.execute(sql.SQL("CREATE INDEX {index} ON {table} USING gin ({column})").format(**of))
    backfill = plan.database.backfill.model_dump() | {
        "column": path_of(names["column"]),
        "source": names["source"],
        "marker": {"source": LEGACY},
        "written": {"type": {"column": names["type"]}, "url": {"column": names["source"]}, "source": LEGACY},
        "touch_column": names["touch"],
    }
    database = plan.database.model_dump(by_alias=True) | {
        "schema": names["schema"],
        "table": names["table"],
        "key": names["key"],
        "columns": {names["column"]: "jsonb", names["reply"]: "bigint"},
        "kept_columns": {names["source"]: "text"},
        "indexes": [names["index"]],
        "constraints": [],
        "backfill": backfill,
    }
    return Named(names, DatabasePlan.model_validate(database), recorded(plan), application)


def rotated(number: int) -> dict[str, str]:
    """Names for the roles, so that over all numbers each name has had each role."""
    return dict(zip(ROLES, itertools.islice(itertools.cycle(NAMES), number, None, 9), strict=False))


NUMBERS = range(0, len(NAMES), int(os.environ.get("STRIDE", "21")))


@pytest.fixture(params=[*NUMBERS, "clashing"])
def named(request: pytest.FixtureRequest, plan: Plan, application: psycopg.Connection) -> Iterator[Named]:
    names = CLASHING if request.param == "clashing" else rotated(request.param)
    yield table_of(names, plan, application)


@pytest.mark.parametrize("strategy", ["swap", "batched", "keyed"])
def test_a_clearing_its_proof_and_its_undo_work_with_any_names(
    postgres: Postgres, named: Named, strategy: str, tmp_path: Any
) -> None:
    database = named.plan
    if strategy == "swap":
        database = database.model_copy(update={"backfill": database.backfill.model_copy(update={"touch_column": None})})
    backfill, before = Backfill(database, "test"), named.rows()
    work, statistics = BackfillRemoval(postgres.connect, backfill, strategy, stopped=True), BackfillStatistics(backfill)
    with postgres.connect() as connection:
        shape = catalog(connection)
        lines = plan_fit.misfits(connection, database) + plan_fit.feature_misfits(connection, database)
        assert (lines, plan_fit.no_key(connection, database)) == ([], "")
        dependents(connection, database, [backfill.database.backfill.name], "test")
        risks(connection, database, [backfill.database.backfill.name])
        kinds = {row["kind"]: row["rows"] for row in statistics.kinds(connection)}
        samples, _ = statistics.samples(connection), statistics.invisible(connection)
        edited, malformed = list(statistics.edited(connection)), statistics.malformed(connection)
        keys = approved_keys(connection, backfill, tmp_path / "keys")
        Records(backfill).prepare(connection)
        work.proof.record(connection)
    assert (kinds["backfilled"], kinds["backfilled and own"], kinds["own"], kinds["edited since"]) == (6, 6, 6, 6)
    assert (len(edited), set(malformed.values()), keys.count) == (6, {0}, 12)
    assert {row[statistics.kind_label] for row in samples} == {"empty", *(kind for kind, rows in kinds.items() if rows)}

    work.apply([named.names["index"]])

    with postgres.connect() as connection:
        assert backfill.count(connection) == 0
        assert work.proof.differences(connection) == []
        assert not work.unexpected(connection)
    assert work.undo() == (12, [])
    assert named.rows() == before
    with postgres.connect() as connection:
        assert catalog(connection) == shape


@pytest.mark.parametrize("mode", ["quarantine", "drop"])
def test_a_removal_and_its_undo_work_with_any_names(postgres: Postgres, named: Named, mode: str) -> None:
    removal, before = Removal(postgres, named.plan, "test", named.history), named.rows()
    with removal.connect() as connection:
        shape = catalog(connection)
        removal.fingerprint.record(connection, without=named.plan.columns)
    if mode == "drop":
        drop_columns.copy(removal, {}, lambda *_: None, lambda _: None)
        drop_columns.drop(removal, lambda _: None)
    else:
        drop_columns.set_aside(removal, {}, lambda _: None)
    with removal.connect() as connection:
        record = removal.state(connection).record
        assert record
        without = [*named.plan.columns, *record.asides.values()]
        assert removal.fingerprint.differences(connection, without=without) == []

    restore_columns.restore(removal, lambda *_: None, lambda _: None)

    assert named.rows() == before
    with removal.connect() as connection:
        assert catalog(connection) == shape


def test_a_column_is_restored_with_any_names(postgres: Postgres, named: Named, database: Database, tmp_path: Any) -> None:
    before, source = named.rows(), sql.Identifier(named.names["source"])
    tools, path = DumpTools(LocalProcesses(), str(database.server.tools or binaries()), "test"), dump(database, tmp_path)
    named.application.execute(sql.SQL("UPDATE {} SET {} = NULL").format(named.table, source))
    place = (named.names["schema"], named.names["table"])
    part = ColumnPart(Source(postgres, tools, look(tools, path)), place, named.names["source"])

    assert part.count().restored == 30
    part.take()
    assert named.rows() == before
    assert part.give_back() == (30, 0)


@pytest.mark.newest
@pytest.mark.parametrize("name", ["kind", 'The "media"'])
@pytest.mark.parametrize(("step", "option"), [("clear-backfill", "A"), ("restore-media-url", "R")])
def test_a_run_works_where_the_source_has_such_a_name(target: Bare, name: str, step: str, option: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    target.ask(f"ALTER TABLE messages RENAME media_url TO {quoted}")
    database = target.plan["database"]
    database["kept_columns"] = {name: "text"}
    target.plan["backfills"][0]["source"] = name
    target.plan["backfills"][0]["written"]["url"] = {"column": name}
    target.backed_up()
    if option == "R":
        target.ask(f"UPDATE messages SET {quoted} = NULL WHERE id % 2 = 0")
    target.plan["types"]["full"]["checks"] = ["only-intended-rows", "backfill-intact"] if option == "A" else []
    target.steps("stop-services", step, restore_media_url={"column": name})

    ended = target.planned(option)
    assert ended.exit_code == 0, ended.text
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text


@pytest.mark.parametrize("kind", ["rows", "table"])
def test_rows_and_a_table_are_restored_with_any_names(
    postgres: Postgres, named: Named, database: Database, tmp_path: Any, kind: str
) -> None:
    before, place = named.rows(), (named.names["schema"], named.names["table"])
    tools, path = DumpTools(LocalProcesses(), str(database.server.tools or binaries()), "test"), dump(database, tmp_path)
    lost = "DELETE FROM {} WHERE {} < 7" if kind == "rows" else "DROP TABLE {}"
    named.application.execute(sql.SQL(lost).format(named.table, sql.Identifier(named.names["key"])))
    made: Part = (RowsPart if kind == "rows" else TablePart)(Source(postgres, tools, look(tools, path)), place)

    assert made.count().restored == (7 if kind == "rows" else 30)
    made.take()
    assert named.rows() == before
    assert made.give_back() == ((7, 0) if kind == "rows" else (30, 0))


AWKWARD = 'The "Data".v2 100% 消'


@pytest.mark.newest
@pytest.mark.parametrize(
    ("step", "option", "choose"),
    [
        *(("clear-backfill", "A", f"STRATEGY={strategy}") for strategy in ("swap", "batched", "keyed")),
        *(("remove-columns", "B", f"REMOVAL={mode}") for mode in ("drop", "quarantine")),
        ("restore-media-url", "R", ""),
    ],
)
def test_a_run_and_its_undo_work_where_a_table_has_such_a_name(target: Bare, step: str, option: str, choose: str) -> None:
    schema, table = f"{AWKWARD} schema", f"{AWKWARD} table"
    name = sql.Identifier(schema, table).as_string()
    moved = "CREATE SCHEMA {0}; ALTER TABLE messages RENAME TO {1}; ALTER TABLE {1} SET SCHEMA {0}"
    target.ask(sql.SQL(moved).format(sql.Identifier(schema), sql.Identifier(table)).as_string())
    target.plan["database"] |= {"schema": schema, "table": table}
    target.plan["migration"]["schema"] = "public"
    target.plan["backfills"][0] |= {"column": path_of(schema, table, "attachments"), "touch_column": None}
    target.backed_up()
    if option == "R":
        target.ask(f"UPDATE {name} SET media_url = NULL WHERE id % 2 = 0")
    rows = f"SELECT to_jsonb(m) - 'updated_at' FROM {name} m ORDER BY id"
    before = target.ask(rows)
    target.plan["types"]["full"]["checks"] = ["only-intended-rows"]
    target.steps("stop-services", "back-up", step, restore_media_url={"table": table})

    planned = target.planned(option, choose)
    assert planned.exit_code == 0, planned.text
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    digest = re.findall(r"--approve (\w{16})", runbook("undo", target.run, "--step", step).text)[-1]
    undone = runbook("undo", target.run, "--step", step, "--approve", digest)
    assert undone.exit_code == 0, undone.text
    assert target.ask(rows) == before


@pytest.mark.newest
def test_option_c_works_where_the_database_has_such_a_name(
    template: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = template.clone(f"{AWKWARD} {tmp_path.name}"[:63])
    lines = (f"{name}={value}" for name, value in database.parameters(database.runbook).items())
    (tmp_path / "services").write_text("\n".join(["[test]", *lines, ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("BARE_TOKEN", "a-token-of-the-tests")
    (tmp_path / "bare").mkdir()
    try:
        with bare(database, tmp_path / "bare") as target:
            target.plan["types"]["full"]["checks"] = []
            target.steps("restore-staging", "stop-services", "back-up", "swap-database")
            target.ask("UPDATE messages SET content = 'gone again' WHERE id = 3")
            assert target.planned("C").exit_code == 0
            target.executed()  # it stops where the loss is approved
            approved = target.opened().state.previews
            target.digest = next(reversed(approved))

            ended = target.executed()

            assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
            assert target.ask("SELECT count(*) FROM messages WHERE content = 'gone again'") == [(0,)]
    finally:
        with database.server.connect() as connection:
            for (name,) in connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE 'The \"Data\"%'"
            ).fetchall():
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
