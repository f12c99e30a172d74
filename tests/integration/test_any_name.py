"""Any column name works: those that our own statements use, words of SQL, mixed case, quotes, spaces, percent signs."""

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.config.plan import Plan
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
from runbook_lib.postgres.restore.part import Source
from runbook_lib.postgres.restore.part_kinds import ColumnPart
from runbook_lib.rehearsal.database import Database, dump
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.system.processes import LocalProcesses

from ..support.bare import Bare
from ..support.recorded import recorded

ROLES = ("key", "column", "source", "touch", "type", "extra", "reply")
# What our statements call things, and what needs quotes.
NAMES = (
    *("kind", "rows", "shown", "place", "key", "old", "new", "touched", "value", "written", "taken", "ours", "since", "n"),
    *("s", "t", "k", "e", "u", "b", "c", "r", "x", "name", "last", "bucket", "meant", "restored", "number", "ins", "it"),
    *("list", "decided", "gone", "left", "ids", "key_1", "value_0", "marked", "bundles", "changed", "chosen", "batch"),
    *("order", "select", "User", "MixedCase", 'double "quoted"', "it's", "with space", "100%", "%s", "a{b}", "dotted.name"),
    *("back\\slash", "naïve", "消息", "-- no comment", "$1", "ctid_", "long_" * 12),
)
OWN, LEGACY = {"source": "upload"}, "legacy"


@dataclass(frozen=True)
class Named:
    """A table whose columns have some names, by their roles."""

    names: dict[str, str]
    plan: DatabasePlan
    history: History
    application: psycopg.Connection

    def rows(self) -> list[Any]:
        return self.application.execute("SELECT to_jsonb(q) FROM things q ORDER BY 1").fetchall()


def table_of(names: dict[str, str], plan: Plan, application: psycopg.Connection) -> Named:
    """A small table with those names, and the plan of its feature."""
    of = {role: sql.Identifier(name) for role, name in names.items()}
    application.execute("DROP TABLE IF EXISTS things")
    application.execute(
        sql.SQL("""CREATE TABLE things ({key} bigint PRIMARY KEY, {source} text, {type} text, {extra} text DEFAULT 'x',
        {touch} timestamptz DEFAULT '2020-01-01', {column} jsonb DEFAULT '[]', {reply} bigint)""").format(**of)
    )
    for number in range(30):
        element = {"type": "image", "url": f"/{number}", "source": LEGACY}
        lists = [[element], [element, OWN], [OWN], [], [{**element, "caption": "mine"}]]
        values = [number, f"/{number}", "image", number if number % 2 else None, json.dumps(lists[number % 5])]
        insert = sql.SQL("INSERT INTO things ({key}, {source}, {type}, {reply}, {column}) VALUES ({v})").format(
            **of, v=sql.SQL(", ").join(map(sql.Literal, values))
        )
        application.execute(insert)
    application.execute(sql.SQL("CREATE INDEX things_index ON things USING gin ({column})").format(**of))
    backfill = plan.database.backfill.model_dump() | {
        "column": names["column"],
        "source": names["source"],
        "marker": {"source": LEGACY},
        "written": {"type": {"column": names["type"]}, "url": {"column": names["source"]}, "source": LEGACY},
        "touch_column": names["touch"],
    }
    database = plan.database.model_dump(by_alias=True) | {
        "table": "things",
        "key": names["key"],
        "columns": {names["column"]: "jsonb", names["reply"]: "bigint"},
        "kept_columns": {names["source"]: "text"},
        "indexes": ["things_index"],
        "constraints": [],
        "backfill": backfill,
    }
    return Named(names, DatabasePlan.model_validate(database), recorded(plan), application)


def rotated(number: int) -> dict[str, str]:
    """Names for the roles, so that over all numbers each name has had each role."""
    return dict(zip(ROLES, itertools.islice(itertools.cycle(NAMES), number, None, 9), strict=False))


NUMBERS = range(0, len(NAMES), int(os.environ.get("STRIDE", "21")))


@pytest.fixture(params=NUMBERS)
def named(request: pytest.FixtureRequest, plan: Plan, application: psycopg.Connection) -> Iterator[Named]:
    yield table_of(rotated(request.param), plan, application)


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

    work.apply(["things_index"])

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
    named.application.execute(sql.SQL("UPDATE things SET {} = NULL").format(source))
    part = ColumnPart(Source(postgres, tools, look(tools, path)), ("public", "things"), named.names["source"])

    assert part.count().restored == 30
    part.take()
    assert named.rows() == before
    assert part.give_back() == (30, 0)


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
    ended = target.carried_out()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
