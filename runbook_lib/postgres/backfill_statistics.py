"""Counts and shows what a backfilled column holds. Read-only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, Row, dump
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.connection import one

KINDS = ("null", "not a list", "empty", "backfilled", "backfilled and own", "edited since", "own")


class BackfillStatistics:
    """Counts rows by what the backfill and users wrote into them."""

    def __init__(self, backfill: BackfillTerms) -> None:
        self.backfill = backfill

    def kinds(self, connection: Connection) -> list[Row]:
        """Count rows by what the column holds (`kind`, `rows`, `shown by old code`), in a fixed order. Read-only."""
        return self._kinds(connection, {})[0]

    def kinds_and_invisible(self, connection: Connection) -> tuple[list[Row], dict[str, int]]:
        """Return the results of `kinds` and `invisible` from one scan of the table. Read-only."""
        return self._kinds(connection, self._invisible())

    def _kinds(self, connection: Connection, counts: Mapping[str, sql.Composed]) -> tuple[list[Row], dict[str, int]]:
        """Count rows by what the column holds, with further counts over `t` by label."""
        columns = [sql.SQL(", {} AS {}").format(each, sql.Identifier(f"n{n}")) for n, each in enumerate(counts.values())]
        query = self.backfill.filled(
            sql.SQL("""SELECT {kind} AS kind, count(*) AS rows, count(t.{source}) AS shown {counts}
            FROM {table} t GROUP BY 1"""),
            kind=self._kind(),
            counts=sql.Composed(columns),
        )
        found = {row["kind"]: row for row in connection.execute(query)}
        kinds = [
            {"kind": kind, "rows": found[kind]["rows"], "shown by old code": found[kind]["shown"]}
            if kind in found
            else {"kind": kind, "rows": 0, "shown by old code": 0}
            for kind in KINDS
        ]
        return kinds, {label: sum(row[f"n{n}"] for row in found.values()) for n, label in enumerate(counts)}

    def invisible(self, connection: Connection) -> dict[str, int]:
        """Count the rows whose content older code will not show, by reason. Read-only."""
        return self._kinds(connection, self._invisible())[1]

    def _invisible(self) -> dict[str, sql.Composed]:
        """Map each reason why older code does not show a row to the count of such rows."""
        database = self.backfill.database
        column, source = database.backfill.name, database.backfill.source
        others = [name for name in database.columns if name != column]
        lost = self.backfill.filled(
            sql.SQL("count(*) FILTER (WHERE t.{source} IS NULL AND EXISTS (SELECT FROM {elements} WHERE NOT {marked}))")
        )
        filled = {f"{name} filled": sql.SQL("count(t.{})").format(sql.Identifier(name)) for name in others}
        return {f"own {column} without {source}": lost, **filled}

    @property
    def kind_label(self) -> str:
        """Name the samples' column for the kind of row, distinct from their other columns."""
        spec = self.backfill.database.backfill
        return "kind" if "kind" not in (self.backfill.database.key, spec.source, spec.name) else "kind of row"

    def samples(self, connection: Connection, each: int = 2) -> list[Row]:
        """Return a few rows of each kind: the kind as `kind_label`, the key, the column and its source. Read-only."""
        query = self.backfill.filled(
            sql.SQL("""SELECT p.kind AS {label}, p.key AS {key}, p.source AS {source}, p.value AS {column} FROM (
                SELECT k.*, row_number() OVER (PARTITION BY k.kind ORDER BY k.key) AS place FROM (
                    SELECT t.{key} AS key, t.{source} AS source, t.{column} AS value, {kind} AS kind FROM {table} t) k) p
            WHERE p.place <= {each} ORDER BY p.kind, p.key"""),
            kind=self._kind(),
            each=sql.Literal(each),
            label=sql.Identifier(self.kind_label),
        )
        return connection.execute(query).fetchall()

    def rows(self, connection: Connection, keys: list[Any]) -> list[Row]:
        """Return the rows with these keys: the key, the column and its source. Read-only."""
        query = self.backfill.filled(
            sql.SQL("SELECT t.{key}, t.{source}, t.{column} FROM {table} t WHERE t.{key} = ANY({keys}) ORDER BY t.{key}"),
            keys=sql.Literal(keys),
        )
        return connection.execute(query).fetchall()

    def edited(self, connection: Connection) -> Iterator[Row]:
        """Yield each row with marked entries that a user has edited: `key` as text, `edited`, and `written`. Read-only."""
        query = self.backfill.filled(
            sql.SQL("""SELECT t.{key}::text AS key, {written} AS written,
                (SELECT jsonb_agg(e.value ORDER BY e.place) FROM {elements} WHERE {marked} AND NOT {pristine}) AS edited
            FROM {table} t WHERE EXISTS (SELECT FROM {elements} WHERE {marked} AND NOT {pristine}) ORDER BY t.{key}""")
        )
        with connection.transaction(), connection.cursor("edited") as cursor:
            yield from cursor.execute(query)

    def malformed(self, connection: Connection) -> dict[str, int]:
        """Count rows whose column is not a list of objects, and rows with marked elements but no source. Read-only."""
        query = self.backfill.filled(
            sql.SQL("""SELECT
            count(*) FILTER (WHERE jsonb_typeof({list}) <> 'array') AS "not a list",
            count(*) FILTER (WHERE EXISTS (SELECT FROM {elements} WHERE jsonb_typeof(e.value) <> 'object'))
                AS "elements that are no objects",
            count(*) FILTER (WHERE t.{source} IS NULL AND EXISTS (SELECT FROM {elements} WHERE {marked}))
                AS "backfilled without a source"
            FROM {table} t"""),
        )
        return dict(one(connection, query))

    def _kind(self) -> sql.Composed:
        return self.backfill.filled(
            sql.SQL("""CASE
            WHEN t.{column} IS NULL THEN 'null'
            WHEN jsonb_typeof({list}) <> 'array' THEN 'not a list'
            WHEN coalesce({list} = '[]', TRUE) THEN 'empty'
            WHEN EXISTS (SELECT FROM {elements} WHERE {marked} AND NOT {pristine}) THEN 'edited since'
            WHEN NOT EXISTS (SELECT FROM {elements} WHERE {marked}) THEN 'own'
            WHEN EXISTS (SELECT FROM {elements} WHERE NOT {marked}) THEN 'backfilled and own'
            ELSE 'backfilled' END""")
        )


EMPTY = (dump.NULL, b"", b"[]", b"{}", b"null")  # values that show nothing, as COPY's text
EXAMPLES = 5


@dataclass(frozen=True)
class Missed:
    """Rows that showed something in the reference: how many still exist, show nothing now, or are gone."""

    rows: int
    missing: int
    gone: int
    keys: list[str]  # of some of the missing


def missed(connection: Connection, backfill: BackfillTerms, data: Path, column: str) -> Missed:
    """Compare a dump's rows of the table, in the file `data`, with what `column` holds now.

    The older column shows its own value; the backfilled one shows each object of its list, and its reference is whatever
    either column held. Creates a temporary table, which ends with the session; otherwise read-only.

    Raises:
        PreconditionError: The file holds no data of the table with its key and source.
    """
    spec = backfill.database.backfill
    of_list = column == spec.name
    connection.execute(
        backfill.filled(sql.SQL("CREATE TEMPORARY TABLE referred AS SELECT t.{key} AS key FROM {table} t WITH NO DATA"))
    )
    columns = [spec.source, *([spec.name] if of_list else [])]
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
    """Yield the keys, as COPY's text, of the rows in which one of the columns holds something."""
    with dump.rows(path) as (names, rows):
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
