"""One table of a dump, fetched: its rows out of the dump's file, or the whole of it into a database of its own."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from psycopg import sql

from runbook_lib.adapters.postgres import dumped
from runbook_lib.adapters.postgres.connection import MAINTENANCE, Connection, Postgres
from runbook_lib.adapters.postgres.dump import DumpTools
from runbook_lib.adapters.postgres.restore.look import Dump
from runbook_lib.adapters.postgres.restore.shape import Name
from runbook_lib.adapters.postgres.restore.side import TIMEOUT, create_alike, drop, part_name
from runbook_lib.errors import PreconditionError

ROWS = 10_000  # read between two looks at whether to go on
FETCHED = sql.Identifier("pg_temp", "fetched")


@contextmanager
def aside(postgres: Postgres, tools: DumpTools, dump: Dump, table: Name) -> Iterator[str]:
    """A database with the dump's shape, but for foreign keys, and the rows of one table, by its name; gone afterwards.

    Changes the target by that database alone.

    Raises:
        PreconditionError: The dump does not hold the table.
        AdapterError: It could not be restored.
    """
    require_rows(dump, table)
    name = part_name(postgres.database, postgres.run)
    with postgres.connect(MAINTENANCE) as maintenance:
        drop(maintenance, name, force=True)
        create_alike(maintenance, postgres.database, name)
        try:
            tools.restore(dump.path, name, TIMEOUT, "--section=pre-data")
            tools.restore(dump.path, name, TIMEOUT, "--data-only", f"--schema={table[0]}", f"--table={table[1]}")
            tools.restore_listed(dump.path, name, TIMEOUT, "--section=post-data", without="FK CONSTRAINT")
            yield name
        finally:
            drop(maintenance, name, force=True)


def fetched(
    live: Connection,
    tools: DumpTools,
    dump: Dump,
    table: Name,
    names: Sequence[str],
    added: Mapping[str, str],
    look: Callable[[], object],
) -> None:
    """Read some columns of a table out of the dump into the temporary table `FETCHED` of the live database's session.

    Changes nothing that outlasts the session.

    Args:
        live: A connection to the live database.
        tools: The client tools.
        dump: What is read.
        table: Its schema and name.
        names: The columns wanted that the live table has.
        added: Those that it has not, with their types.
        look: Is called again and again; what it raises ends the reading.

    Raises:
        PreconditionError: The dump does not hold rows of the table, or not with these columns.
    """
    require_rows(dump, table)
    wanted = [*names, *added]
    live.execute("SET statement_timeout = 0")
    like = sql.SQL("CREATE TEMPORARY TABLE fetched AS SELECT {} FROM {} WITH NO DATA")
    live.execute(like.format(listed(names), sql.Identifier(*table)))
    for name, type_ in added.items():
        live.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(FETCHED, sql.Identifier(name), sql.SQL(type_)))
    with _written(tools, dump, table) as (held, rows), live.cursor() as writing:
        if missing := [name for name in wanted if name not in held]:
            raise _no_values(dump, table, ", ".join(missing))
        places = [held.index(name) for name in wanted]
        with writing.copy(sql.SQL("COPY {} FROM STDIN").format(FETCHED)) as into:
            for number, row in enumerate(rows):
                if number % ROWS == 0:
                    look()
                into.write(b"\t".join([row[place] for place in places]) + b"\n")
    live.execute(sql.SQL("ANALYZE {}").format(FETCHED))


def rows_in(tools: DumpTools, dump: Dump, table: Name) -> int:
    """How many rows the dump has of a table. Read-only.

    Raises:
        PreconditionError: It does not hold the table.
    """
    require_rows(dump, table)
    with _written(tools, dump, table) as (held, rows):
        if not held:
            raise _no_values(dump, table, "any column")
        return sum(1 for _ in rows)


def require_rows(dump: Dump, table: Name) -> None:
    """See that a dump holds the rows of a table. Read-only.

    Raises:
        PreconditionError: It does not.
    """
    if ".".join(table) not in dump.contents.tables_with_data:
        raise lacking(f"The backup {dump.path.name} does not hold the table {'.'.join(table)}.", "Choose another backup.")


def _no_values(dump: Dump, table: Name, of: str) -> PreconditionError:
    return lacking(f"The backup {dump.path.name} holds no values of {of} in {'.'.join(table)}.", "Choose another backup.")


@contextmanager
def _written(tools: DumpTools, dump: Dump, table: Name) -> Iterator[tuple[list[str], Iterator[dumped.Fields]]]:
    with tempfile.TemporaryDirectory(prefix="runbook-") as directory:
        file = Path(directory) / "rows"
        tools.rows_of(dump.path, *table, file, TIMEOUT)
        with dumped.rows(file) as found:
            yield found


def listed(names: Sequence[str], of: str = "") -> sql.Composed:
    """Columns, quoted and separated by commas, each with the alias `of` where there is one."""
    return sql.SQL(", ").join(sql.Identifier(*([of] if of else []), name) for name in names)


def lacking(what: str, safe_next: str) -> PreconditionError:
    """The error for something that is not there, before anything was changed."""
    return PreconditionError(what, state="Nothing was changed.", safe_next=safe_next)
