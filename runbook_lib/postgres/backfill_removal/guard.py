"""Check that a transaction changes the expected rows and nothing else."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from runbook_lib.errors import AdapterError, StepFailed
from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.catalog import identify_rows, make_own_schema
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import in_parallel

Counts = tuple[int, int, int]  # rows inserted, updated, deleted
Written = dict[str, Counts]  # by table
Expected = list[tuple[sql.Identifier, Counts]]
NOTHING: Counts = (0, 0, 0)
UNEXPECTED = "RB002"  # the SQLSTATE of a block that wrote something else


@contextmanager
def transaction(connection: Connection, expected: Expected, allowed: Sequence[sql.Identifier] = ()) -> Iterator[None]:
    """Run a transaction that is rolled back unless it wrote exactly what `expected` says at its end.

    Changes what the block changes.

    Args:
        connection: In autocommit mode.
        expected: Tables, each with the rows inserted, updated and deleted; the block fills it in.
        allowed: Tables that triggers may write to freely.

    Raises:
        StepFailed: Something else was written, by a trigger or a rule.
    """
    with connection.transaction():
        before = _written(connection)
        yield
        require_only(connection, before, expected, allowed)


def require_only(
    connection: Connection,
    before: Written,
    expected: Sequence[tuple[sql.Identifier, Counts]],
    allowed: Sequence[sql.Identifier] = (),
) -> None:
    """Compare what this transaction has written with what is expected. Read-only.

    Raises:
        StepFailed: They differ.
    """
    meant = [(table, counts) for table, counts in expected if counts != NOTHING]
    named = dict(zip(_names(connection, [table for table, _ in meant]), (counts for _, counts in meant), strict=True))
    ignored = {*_names(connection, allowed)} - {*named}
    changed = {
        name: difference
        for name, counts in _written(connection).items()
        if name not in ignored and (difference := _minus(counts, before.get(name, NOTHING))) != NOTHING
    }
    if changed != named:
        raise _refusal(changed, named)


def block(
    work: sql.Composable,
    expected: Sequence[tuple[sql.Identifier, Sequence[sql.Composable]]],
    allowed: Sequence[sql.Identifier] = (),
) -> sql.Composed:
    """Return a DO block that does `work` and fails if anything else was written; `labelled` reports the failure.

    Args:
        work: A statement that gives one row.
        expected: Tables, each with the rows inserted, updated and deleted, as terms over that row, which is called `it`.
        allowed: Tables that triggers may write to freely.
    """
    meant = [sql.SQL("({})").format(sql.SQL(", ").join([_literal(table), *counts])) for table, counts in expected]
    ignored = sql.Literal([table.as_string() for table in allowed])
    body = sql.SQL(_BLOCK).format(work=sql.Literal(work.as_string()), meant=sql.SQL(", ").join(meant), ignored=ignored)
    return sql.SQL("DO {}").format(sql.Literal(body.as_string()))


@contextmanager
def labelled() -> Iterator[None]:
    """Report the failure of a `block` like that of a `transaction`.

    Raises:
        StepFailed: Something else was written, by a trigger or a rule.
    """
    try:
        yield
    except AdapterError as error:
        cause = error.__cause__
        if not isinstance(cause, psycopg.Error) or cause.sqlstate != UNEXPECTED:
            raise
        changed, named = json.loads(cause.diag.message_detail or "")
        raise _refusal(*({name: tuple(counts) for name, counts in of.items()} for of in (changed, named))) from None


def _refusal(changed: Mapping[str, Sequence[int]], named: Mapping[str, Sequence[int]]) -> StepFailed:
    return StepFailed(
        f"A transaction would have changed (inserted, updated, deleted): {changed}; expected: {named}.",
        where=", ".join(named) or "no change was expected",
        state="That transaction was rolled back; earlier ones are committed, each with its undo rows.",
        safe_next="Look for triggers and rules on the table; undo the step, or fix them and run it again.",
    )


def _minus(counts: Counts, before: Counts) -> Counts:
    return counts[0] - before[0], counts[1] - before[1], counts[2] - before[2]


def _names(connection: Connection, tables: Sequence[sql.Identifier]) -> list[str]:
    """Return the names of some tables in the server's statistics. Read-only."""
    asked = [table.as_string(connection) for table in tables]
    return list(one(connection, "SELECT %s::text[]::regclass[]::text[] AS names", [asked])["names"])


def _written(connection: Connection) -> Written:
    """Return what this session has written, earlier transactions included; only a difference shows one. Read-only."""
    return {row["name"]: (row["ins"], row["upd"], row["del"]) for row in connection.execute(_WRITTEN.encode())}


def _literal(table: sql.Identifier) -> sql.Composed:
    return sql.SQL("{}::regclass").format(sql.Literal(table.as_string()))


_WRITTEN = """SELECT relid::regclass::text AS name, n_tup_ins AS ins, n_tup_upd AS upd, n_tup_del AS del
FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"""

_BLOCK = """
DECLARE
    it record;
    before jsonb := (SELECT coalesce(jsonb_object_agg(w.name, jsonb_build_array(ins, upd, del)), '{{}}') FROM (<written>) w);
    changed jsonb;
    meant jsonb;
BEGIN
    EXECUTE {work} INTO it;
    SELECT coalesce(jsonb_object_agg(w.name, jsonb_build_array(w.ins - w.i, w.upd - w.u, w.del - w.d)), '{{}}') INTO changed
    FROM (SELECT w.*, coalesce((before->w.name->>0)::bigint, 0) AS i, coalesce((before->w.name->>1)::bigint, 0) AS u,
                 coalesce((before->w.name->>2)::bigint, 0) AS d FROM (<written>) w) w
    WHERE (w.ins, w.upd, w.del) <> (w.i, w.u, w.d) AND w.name <> ALL ({ignored}::text[]::regclass[]::text[]);
    SELECT coalesce(jsonb_object_agg(m.name::text, jsonb_build_array(m.ins, m.upd, m.del)), '{{}}') INTO meant
    FROM (VALUES {meant}) m(name, ins, upd, del) WHERE (m.ins, m.upd, m.del) <> (0, 0, 0);
    IF changed <> meant THEN
        RAISE EXCEPTION USING ERRCODE = '<code>', MESSAGE = 'something else was written than expected',
            DETAIL = jsonb_build_array(changed, meant)::text;
    END IF;
END""".replace("<written>", _WRITTEN).replace("<code>", UNEXPECTED)


SHOWN = 20


@dataclass(frozen=True)
class Named:
    """Rows of a table; `keys` are the first keys, as text, in order."""

    count: int
    keys: Sequence[str]

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = self.count - len(self.keys)
        return ", ".join(self.keys) + (f" and {more} more" if more else "")


def named(connection: Connection, query: sql.Composable) -> Named:
    """Return the rows that a query finds; it must select the `key` of each. Read-only."""
    first = sql.SQL("SELECT r.key::text AS key, count(*) OVER () AS n FROM ({}) r ORDER BY r.key LIMIT {}")
    rows = connection.execute(first.format(query, sql.Literal(SHOWN))).fetchall()
    return Named(rows[0]["n"] if rows else 0, [row["key"] for row in rows])


PURGED = "purged"
# The columns of a bundle of undo rows, and the undo rows in a bundle `b`.
BUNDLED = sql.SQL("array_agg(key), array_agg(old), array_agg(new), array_agg(touched)")
UNBUNDLED = sql.SQL("unnest(b.key, b.old, b.new, b.touched) AS u(key, old, new, touched)")


class Records:
    """The tables that one run's removal keeps, each row committed with the data it describes."""

    def __init__(self, backfill: BackfillTerms) -> None:
        self.backfill = backfill
        self.undo = backfill.undo
        self.bundles = backfill.own("bundles")
        self.writes = backfill.own("writes")
        self.control = backfill.own("control")

    def prepare(self, connection: Connection) -> None:
        """Create them, empty, if they do not exist. Changes the target."""
        with connection.transaction():
            make_own_schema(connection)
            connection.execute(
                self.backfill.filled(
                    sql.SQL("""CREATE TABLE IF NOT EXISTS {bundles} WITH (parallel_workers = 2) AS
                    SELECT array_agg(t.{key}) AS key, array_agg({old}) AS old, array_agg({old}) AS new,
                           array_agg({touched}) AS touched FROM {table} t
                    WITH NO DATA"""),
                    bundles=self.bundles,
                    touched=self.backfill.touched(),
                )
            )
            connection.execute(
                sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT u.* FROM {} b, {}").format(self.undo, self.bundles, UNBUNDLED)
            )
            connection.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} (xid xid NOT NULL, rows bigint NOT NULL)").format(self.writes)
            )
            for table in (self.bundles, self.writes):
                connection.execute(identify_rows(table))

    def exist(self, connection: Connection) -> bool:
        """Whether this run has begun to clear. Read-only."""
        return exists(connection, self.writes)

    def write(self, statements: Statements, rows: int | sql.Composable) -> None:
        """Record that the present transaction changed `rows` rows, a number or an SQL term. Changes the target."""
        term = sql.Literal(rows) if isinstance(rows, int) else rows
        statements.write(sql.SQL("INSERT INTO {} VALUES (pg_current_xact_id()::xid, {})").format(self.writes, term))

    def rows(self, connection: Connection) -> int:
        """Return how many row changes are on record, over all transactions. Read-only."""
        query = sql.SQL("SELECT coalesce(sum(rows), 0)::bigint AS n FROM {}").format(self.writes)
        return int(one(connection, query)["n"])

    def mark_purged(self, connection: Connection) -> None:
        """Drop them, and leave a mark that they were purged. Changes the target."""
        with connection.transaction():
            self.drop(connection)
            make_own_schema(connection)
            if self.backfill.reads_earlier_values:  # with none known any more, no row is affected
                self.backfill.prepare_prior(connection)
            connection.execute(
                sql.SQL("CREATE TABLE {} AS SELECT {}::text AS state").format(self.control, sql.Literal(PURGED))
            )

    def purged(self, connection: Connection) -> bool:
        """Whether they were purged, so that nothing can be undone. Read-only."""
        if not exists(connection, self.control):
            return False
        row = connection.execute(sql.SQL("SELECT * FROM {}").format(self.control)).fetchone()
        return bool(row and PURGED in row.values())  # an older version named the column otherwise

    def undo_rows(self, connection: Connection) -> int:
        """Count the undo rows. Read-only."""
        if not exists(connection, self.bundles):
            return 0
        query = sql.SQL("SELECT coalesce(sum(cardinality(key)), 0)::bigint AS n FROM {}")
        return int(one(connection, query.format(self.bundles))["n"])

    def drop(self, connection: Connection) -> None:
        """Drop them. Changes the target."""
        connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(self.undo))
        for table in (self.bundles, self.writes, self.control, self.backfill.approved, self.backfill.prior):
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))


def unexpected(connection: Connection, backfill: BackfillTerms, *, stopped: bool) -> Named:
    """Return the changed rows that do not hold the value computed for them. Read-only.

    If others use the table meanwhile, rows they wrote since do not count.
    """
    ours = sql.SQL("t.xmin IN (SELECT xid FROM {}) AND").format(Records(backfill).writes)
    query = sql.SQL("""SELECT u.key FROM {undo} u LEFT JOIN {table} t ON t.{key} = u.key
    WHERE {ours} (t.{key} IS NULL OR {differ})""")
    differ = backfill.differ(backfill.of("t"), backfill.restored(sql.SQL("u.new")))
    with in_parallel(connection, stopped):
        return named(connection, backfill.filled(query, ours=sql.SQL("") if stopped else ours, differ=differ))
