"""What a clearing keeps of itself in the target: undo rows, its transactions, and whether it is to go on."""

from typing import Literal

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.catalog import make_own_schema
from runbook_lib.adapters.postgres.connection import Connection, exists, one
from runbook_lib.adapters.postgres.named import Named, named
from runbook_lib.adapters.postgres.parallel import in_parallel

Wanted = Literal["go on", "pause", "abort"]
# The columns of a bundle of undo rows, and the undo rows of a bundle `b`.
BUNDLED = sql.SQL("array_agg(key), array_agg(old), array_agg(new), array_agg(touched)")
UNBUNDLED = sql.SQL("unnest(b.key, b.old, b.new, b.touched) AS u(key, old, new, touched)")


class Records:
    """The tables that one run's clearing keeps, each row committed with the data that it tells of."""

    def __init__(self, backfill: Backfill) -> None:
        self.backfill = backfill
        self.undo = backfill.undo
        self.bundles = backfill.own("bundles")
        self.writes = backfill.own("writes")
        self.control = backfill.own("control")

    def prepare(self, connection: Connection) -> None:
        """Make them, empty, where they are not there. Changes the target."""
        with connection.transaction():
            make_own_schema(connection)
            connection.execute(
                self.backfill.filled(
                    sql.SQL("""CREATE TABLE IF NOT EXISTS {bundles} WITH (parallel_workers = 2) AS
                    SELECT array_agg(t.{key}) AS key, array_agg(t.{column}) AS old, array_agg(t.{column}) AS new,
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
            connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} (wanted text NOT NULL)").format(self.control))
            connection.execute(
                sql.SQL("INSERT INTO {c} SELECT 'go on' WHERE NOT EXISTS (SELECT FROM {c})").format(c=self.control)
            )

    def exist(self, connection: Connection) -> bool:
        """Whether this run has begun to clear. Read-only."""
        return exists(connection, self.writes)

    def write(self, connection: Connection, rows: int) -> None:
        """Note that the present transaction changed `rows` rows. Changes the target."""
        connection.execute(
            sql.SQL("INSERT INTO {} VALUES (pg_current_xact_id()::xid, {})").format(self.writes, sql.Literal(rows))
        )

    def rows(self, connection: Connection) -> int:
        """How many changes of rows are on record, all transactions together. Read-only."""
        query = sql.SQL("SELECT coalesce(sum(rows), 0)::bigint AS n FROM {}").format(self.writes)
        return int(one(connection, query)["n"])

    def wanted(self, connection: Connection) -> Wanted:
        """Whether to go on, pause or abort; what cannot be read means pause. Read-only."""
        row = connection.execute(sql.SQL("SELECT wanted FROM {}").format(self.control)).fetchone()
        return row["wanted"] if row and row["wanted"] in ("go on", "pause", "abort") else "pause"

    def want(self, connection: Connection, wanted: Wanted) -> None:
        """Have the clearing go on, pause or abort before its next batch. Changes the runbook's own table."""
        connection.execute(sql.SQL("UPDATE {} SET wanted = {}").format(self.control, sql.Literal(wanted)))

    def undo_rows(self, connection: Connection) -> int:
        """How many undo rows there are. Read-only."""
        if not exists(connection, self.bundles):
            return 0
        query = sql.SQL("SELECT coalesce(sum(cardinality(key)), 0)::bigint AS n FROM {}")
        return int(one(connection, query.format(self.bundles))["n"])

    def drop(self, connection: Connection) -> None:
        """Drop them. Changes the target."""
        connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(self.undo))
        for table in (self.bundles, self.writes, self.control, self.backfill.approved, self.backfill.former):
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))


def unexpected(connection: Connection, backfill: Backfill, *, stopped: bool) -> Named:
    """The changed rows that do not hold the value that was computed for them. Read-only.

    Where others use the table meanwhile, what they have written since is theirs and does not count.
    """
    ours = sql.SQL("t.xmin IN (SELECT xid FROM {}) AND").format(Records(backfill).writes)
    query = sql.SQL("""SELECT u.key FROM {undo} u LEFT JOIN {table} t ON t.{key} = u.key
    WHERE {ours} (t.{key} IS NULL OR t.{column} IS DISTINCT FROM u.new)""")
    with in_parallel(connection, stopped):
        return named(connection, backfill.filled(query, ours=sql.SQL("") if stopped else ours))
