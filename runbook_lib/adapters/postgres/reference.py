"""What was visible by a backup, held against what the table holds now; nothing here writes but to a temporary table."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from runbook_lib.adapters.postgres import dumped
from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.errors import PreconditionError

EMPTY = (dumped.NULL, b"", b"[]", b"null")  # what shows nothing, as COPY's text
EXAMPLES = 5


@dataclass(frozen=True)
class Missed:
    """Rows that showed something by the reference: all that are still there, those that show nothing now, those gone."""

    rows: int
    missing: int
    gone: int
    keys: list[str]  # of some of the missing


def missed(connection: Connection, backfill: Backfill, data: Path, column: str) -> Missed:
    """Compare a dump's rows of the table, in the file `data`, with what `column` holds now.

    The older column shows its own value; the backfilled one shows each object of its list, and stands by the reference
    for what either column held. Makes a temporary table, which ends with the session; else read-only.

    Raises:
        PreconditionError: The file holds no data of the table with its key and source.
    """
    spec = backfill.database.backfill
    of_list = column == spec.column
    connection.execute(
        backfill.filled(sql.SQL("CREATE TEMPORARY TABLE referred AS SELECT t.{key} AS key FROM {table} t WITH NO DATA"))
    )
    columns = [spec.source, *([spec.column] if of_list else [])]
    with connection.cursor() as cursor, cursor.copy("COPY pg_temp.referred FROM STDIN") as copy:
        for key in _visible(data, backfill.database.key, columns):
            copy.write(key + b"\n")
    connection.execute("ANALYZE pg_temp.referred")
    shown = (
        sql.SQL("EXISTS (SELECT FROM {elements} WHERE jsonb_typeof(e.value) = 'object')")
        if of_list
        else sql.SQL("coalesce(t.{source}::text, '') <> ''")
    )
    row = one(
        connection,
        backfill.filled(
            sql.SQL("""SELECT count(t.{key}) AS rows, count(*) FILTER (WHERE t.{key} IS NULL) AS gone,
                   count(*) FILTER (WHERE t.{key} IS NOT NULL AND NOT {shown}) AS missing,
                   (array_agg(t.{key}::text ORDER BY t.{key}) FILTER (WHERE t.{key} IS NOT NULL AND NOT {shown}))
                       [1:{examples}] AS keys
            FROM pg_temp.referred r LEFT JOIN {table} t ON t.{key} = r.key"""),
            shown=backfill.filled(shown),
            examples=sql.Literal(EXAMPLES),
        ),
    )
    connection.execute("DROP TABLE pg_temp.referred")
    return Missed(row["rows"], row["missing"], row["gone"], row["keys"] or [])


def _visible(path: Path, key: str, columns: list[str]) -> Iterator[bytes]:
    """The keys, as COPY's text, of the rows in which one of the columns holds something."""
    with dumped.rows(path) as (names, rows):
        if key not in names or columns[0] not in names:
            raise PreconditionError(
                f"The backup holds no data with {key} and {columns[0]}.",
                where=str(path),
                state="Nothing was changed.",
                safe_next="Name a backup in the target that holds the table.",
            )
        at = names.index(key)
        places = [names.index(name) for name in columns if name in names]
        yield from (fields[at] for fields in rows if any(fields[place] not in EMPTY for place in places))
