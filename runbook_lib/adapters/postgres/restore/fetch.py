"""One table of a dump, fetched: restored into a database of its own, and streamed from there into the live one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, Postgres
from runbook_lib.adapters.postgres.dump import DumpTools
from runbook_lib.adapters.postgres.lease import MAINTENANCE
from runbook_lib.adapters.postgres.restore.look import Dump
from runbook_lib.adapters.postgres.restore.shape import Name
from runbook_lib.adapters.postgres.restore.side import TIMEOUT, create_alike, drop, part_name
from runbook_lib.errors import PreconditionError

FETCHED = sql.Identifier("pg_temp", "fetched")


@contextmanager
def aside(postgres: Postgres, tools: DumpTools, dump: Dump, table: Name, *, whole: bool = False) -> Iterator[str]:
    """A database with the dump's shape and the rows of one table, by its name; gone afterwards.

    Where it is to be `whole`, with indexes, constraints and triggers, but for foreign keys. Changes the target by that
    database alone.

    Raises:
        PreconditionError: The dump does not hold the table.
        AdapterError: It could not be restored.
    """
    if ".".join(table) not in dump.contents.tables_with_data:
        raise lacking(f"The backup {dump.path.name} does not hold the table {'.'.join(table)}.", "Choose another backup.")
    name = part_name(postgres.database, postgres.run)
    with postgres.connect(MAINTENANCE) as maintenance:
        drop(maintenance, name, force=True)
        create_alike(maintenance, postgres.database, name)
        try:
            tools.restore(dump.path, name, TIMEOUT, "--section=pre-data")
            tools.restore(dump.path, name, TIMEOUT, "--data-only", f"--schema={table[0]}", f"--table={table[1]}")
            if whole:
                tools.restore_listed(dump.path, name, TIMEOUT, "--section=post-data", without="FK CONSTRAINT")
            yield name
        finally:
            drop(maintenance, name, force=True)


def streamed(postgres: Postgres, source: str, live: Connection, table: Name, names: Sequence[str]) -> None:
    """Stream some columns of a table into the temporary table `FETCHED` of the live database's session.

    The table must be there in both. Changes nothing that outlasts the session.
    """
    columns, rows = listed(names), sql.Identifier(*table)
    live.execute("SET statement_timeout = 0")
    live.execute(sql.SQL("CREATE TEMPORARY TABLE fetched AS SELECT {} FROM {} WITH NO DATA").format(columns, rows))
    with (
        postgres.connect(source) as there,
        there.cursor() as reading,
        live.cursor() as writing,
        reading.copy(sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(columns, rows)) as out,
        writing.copy(sql.SQL("COPY {} FROM STDIN").format(FETCHED)) as into,
    ):
        for block in out:
            into.write(block)
    live.execute(sql.SQL("ANALYZE {}").format(FETCHED))


def listed(names: Sequence[str], of: str = "") -> sql.Composed:
    """Columns, quoted and separated by commas, each with the alias `of` where there is one."""
    return sql.SQL(", ").join(sql.Identifier(*([of] if of else []), name) for name in names)


def lacking(what: str, safe_next: str) -> PreconditionError:
    """The error for something that is not there, before anything was changed."""
    return PreconditionError(what, state="Nothing was changed.", safe_next=safe_next)
