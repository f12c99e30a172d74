"""What a backfill wrote into a JSON list column, and what is left of a row once that is taken out: the terms of its SQL.

Two sets of keys bind a removal, each in a table of the run's own: the rows that were approved, and those that held NULL
before the backfill.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from psycopg import sql
from psycopg.types.json import Jsonb

from runbook_lib.config.plan import ColumnOfRow, Database
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, dump
from runbook_lib.postgres.catalog import OWN_SCHEMA
from runbook_lib.postgres.connection import one


@dataclass(frozen=True)
class Bounds:
    """What narrows a clearing down: edited entries that were decided to go, and whether only approved rows count."""

    decided: Sequence[str] = ()  # keys, as text, of rows whose edited entries go too
    approved_only: bool = False


def written_by_triggers(database: Database) -> list[sql.Identifier]:
    """The tables that triggers may write when a row is changed, by the plan. Pure."""
    named = [name for tables in database.triggers.values() for name in tables]
    return [sql.Identifier(*(name.split(".") if "." in name else (database.schema_, name))) for name in named]


class Backfill:
    """The feature's backfill, as SQL over its table `t`; `run` names the tables that this run keeps of it."""

    def __init__(self, database: Database, run: str, bounds: Bounds = Bounds()) -> None:
        self.database = database
        self.run = run
        self.bounds = bounds
        spec = database.backfill
        self.table = sql.Identifier(database.schema_, database.table)
        self.key = sql.Identifier(database.key)
        self.column = sql.Identifier(spec.column)
        self.undo = self.own("undo")
        self.approved = self.own("approved")
        self.prior_nulls = self.own("former")
        terms: dict[str, sql.Composable] = {"column": self.column, "key": self.key}
        self.written = written = sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(self._written()))
        terms["elements"] = self.elements = sql.SQL(
            "jsonb_array_elements(CASE jsonb_typeof(t.{column}) WHEN 'array' THEN t.{column} ELSE '[]' END)"
            " WITH ORDINALITY e(value, place)"
        ).format(**terms)
        self.marked = sql.SQL("e.value @> {}").format(sql.Literal(Jsonb(spec.marker)))
        self.pristine = sql.SQL("e.value = {}").format(written)
        terms["cleared"] = self.cleared = self._cleared()
        terms["marker"] = self.marker = sql.Literal(Jsonb([spec.marker]))
        terms["approved"] = self.and_approved()
        terms["empty"] = self.empty = self._empty()
        terms["alone"] = self.alone = self._alone()
        terms["holds"] = sql.SQL("EXISTS (SELECT FROM {elements} WHERE {cleared})").format(**terms)
        self.affected = sql.SQL("t.{column} @> {marker} AND ({alone} OR {holds}){approved}").format(**terms)
        self.fill = sql.SQL("NULL::jsonb" if spec.cleared == "null" else "'[]'::jsonb")  # what most cleared rows then hold
        terms["rest"] = sql.SQL(
            "coalesce((SELECT jsonb_agg(e.value ORDER BY e.place) FROM {elements} WHERE NOT ({cleared})), {empty})"
        ).format(**terms)
        self.kept = sql.SQL("CASE WHEN {alone} THEN {empty} ELSE {rest} END").format(**terms)
        # What is left of an affected row: it holds an element to be cleared, and if that is its only one, nothing else.
        self.kept_of_affected = sql.SQL("CASE WHEN jsonb_array_length(t.{column}) = 1 THEN {empty} ELSE {rest} END").format(
            **terms
        )
        self.value_if_more = sql.SQL(
            "CASE WHEN t.{column} @> {marker} AND {holds}{approved} THEN {rest} ELSE t.{column} END"
        ).format(**terms)  # what a row that holds more than one element of the backfill's holds once cleared

    @property
    def value(self) -> sql.Composed:
        """What a row holds once it is cleared, whether it is affected or not."""
        return sql.SQL("CASE WHEN {}{} THEN {} ELSE {} END").format(
            self.alone, self.and_approved(), self.empty, self.value_if_more
        )

    @property
    def plain(self) -> sql.Composed:
        """That the column, once cleared, holds what most cleared rows hold; where a glance does not tell so, it is false."""
        alone = sql.SQL(" OR {}").format(self.alone) if self._same_for_all else sql.SQL("")
        return sql.SQL("(t.{} IS NOT DISTINCT FROM {}{})").format(self.column, self.fill, alone)

    @property
    def value_unless_plain(self) -> sql.Composed:
        """What a row that is not plain holds once it is cleared."""
        return self.value_if_more if self._same_for_all else self.value

    @property
    def _same_for_all(self) -> bool:
        return self.database.backfill.cleared in ("[]", "null") and not self.bounds.approved_only

    def over(self, column: str) -> "Backfill":
        """The same terms, over another column that holds such lists."""
        spec = self.database.backfill.model_copy(update={"column": column})
        return Backfill(self.database.model_copy(update={"backfill": spec}), self.run, self.bounds)

    def own(self, name: str) -> sql.Identifier:
        """A table of this run in the runbook's own schema."""
        return sql.Identifier(OWN_SCHEMA, f"{name}_{self.run}")

    @property
    def written_by_triggers(self) -> list[sql.Identifier]:
        """The tables that triggers may write when a row is cleared, by the plan."""
        return written_by_triggers(self.database)

    def bound(self, bounds: Bounds) -> "Backfill":
        """The same, narrowed down."""
        return Backfill(self.database, self.run, bounds)

    @property
    def columns_read(self) -> list[str]:
        """The columns on which it depends whether and how a row is cleared."""
        values = self.database.backfill.written.values()
        return [self.database.backfill.column, *(value.column for value in values if isinstance(value, ColumnOfRow))]

    def filled(self, query: sql.SQL, **parts: sql.Composable) -> sql.Composed:
        """A query with the backfill's own terms, and any others, put in."""
        own: dict[str, sql.Composable] = {
            "table": self.table,
            "key": self.key,
            "column": self.column,
            "source": sql.Identifier(self.database.backfill.source),
            "undo": self.undo,
            "elements": self.elements,
            "marked": self.marked,
            "pristine": self.pristine,
            "written": self.written,
            "affected": self.affected,
            "kept": self.kept,
            "kept_of_affected": self.kept_of_affected,
            "empty": self.empty,
        }
        return query.format(**{**own, **parts})

    def touch(self) -> sql.Composable:
        """The rest of an UPDATE's SET list: the plan's column that takes the present time, or nothing."""
        name = self.database.backfill.touch
        return sql.SQL(", {} = now()").format(sql.Identifier(name)) if name else sql.SQL("")

    def touched(self, of: str = "t") -> sql.Composable:
        """The value of the touched column, NULL where the plan touches none."""
        name = self.database.backfill.touch
        return sql.Identifier(of, name) if name else sql.SQL("NULL::timestamptz")

    def count(self, connection: Connection) -> int:
        """How many rows hold an element to be cleared. Read-only."""
        query = sql.SQL("SELECT count(*) AS n FROM {table} t WHERE {affected}")
        return int(one(connection, self.filled(query))["n"])

    def and_approved(self) -> sql.Composable:
        """The rest of a condition: that a row is among the approved ones, or nothing where all are."""
        if not self.bounds.approved_only:
            return sql.SQL("")
        return sql.SQL(" AND EXISTS (SELECT FROM {} a WHERE a.key = t.{})").format(self.approved, self.key)

    def _written(self) -> list[sql.Composable]:
        parts: list[sql.Composable] = []
        for name, value in self.database.backfill.written.items():
            parts.append(sql.Literal(name))
            parts.append(sql.Identifier("t", value.column) if isinstance(value, ColumnOfRow) else sql.Literal(Jsonb(value)))
        return parts

    def _alone(self) -> sql.Composable:
        """That the column holds an element of the backfill's and nothing else, as far as a glance tells.

        A JSON value has one text, so equal texts are equal values; to compare them takes half the time of building a value.
        What is the same for all rows stands in brackets, so that the server puts it together once.
        """
        pieces: list[tuple[bool, sql.Composable]] = [(True, sql.Literal("[{"))]
        for name, value in sorted(self.database.backfill.written.items(), key=_place_of_key):
            comma = ", " if len(pieces) > 1 else ""
            pieces.append((True, sql.Literal(f"{comma}{json.dumps(name, ensure_ascii=False)}: ")))
            if isinstance(value, ColumnOfRow):
                pieces.append((False, sql.SQL("to_json(t.{})::text").format(sql.Identifier(value.column))))
            else:
                pieces.append((True, sql.SQL("{}::text").format(sql.Literal(Jsonb(value)))))
        pieces.append((True, sql.Literal("}]")))
        together = [
            sql.SQL("({})").format(sql.SQL(" || ").join(piece for _, piece in group))
            for _, group in groupby(pieces, itemgetter(0))
        ]
        return sql.SQL("coalesce(t.{}::text = {}, FALSE)").format(self.column, sql.SQL(" || ").join(together))

    def _cleared(self) -> sql.Composable:
        if self.database.backfill.edited == "clear":
            return self.marked
        if not self.bounds.decided:
            return self.pristine
        return sql.SQL("({} OR {} AND t.{}::text = ANY ({}))").format(
            self.pristine, self.marked, self.key, sql.Literal(list(self.bounds.decided))
        )

    def _empty(self) -> sql.Composable:
        match self.database.backfill.cleared:
            case "[]":
                return sql.SQL("'[]'::jsonb")
            case "null":
                return sql.SQL("NULL::jsonb")
        return sql.SQL(
            "CASE WHEN EXISTS (SELECT FROM {} f WHERE f.key = t.{}) THEN NULL::jsonb ELSE '[]'::jsonb END"
        ).format(self.prior_nulls, self.key)


def _place_of_key(item: tuple[str, object]) -> tuple[int, bytes]:
    """Where a key stands in the text of a jsonb object: shorter ones first.

    Source: PostgreSQL, src/backend/utils/adt/jsonb_util.c, lengthCompareJsonbStringValue.
    """
    key = item[0].encode()
    return len(key), key


@dataclass(frozen=True)
class KeySet:
    """A set of keys: how many, and the SHA-256 of their sorted list."""

    count: int
    sha256: str


def approved_keys(connection: Connection, backfill: Backfill, path: Path) -> KeySet:
    """Write the keys of all affected rows to `path`, sorted, one a line. Read-only."""
    query = backfill.filled(
        sql.SQL("COPY (SELECT t.{key}::text FROM {table} t WHERE {affected} ORDER BY t.{key}) TO STDOUT")
    )
    digest, count = hashlib.sha256(), 0
    with open(path, "wb") as file, connection.cursor() as cursor, cursor.copy(query) as copy:
        for block in copy:
            data = bytes(block)
            digest.update(data)
            count += data.count(b"\n")
            file.write(data)
    return KeySet(count, digest.hexdigest())


def load_approved(connection: Connection, backfill: Backfill, path: Path) -> int:
    """Put the approved keys of `path` into this run's table of them; returns how many affected rows are not among them.

    Changes the runbook's own tables.
    """
    with connection.transaction():
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(backfill.approved))
        connection.execute(
            backfill.filled(
                sql.SQL("CREATE TABLE {approved} AS SELECT t.{key} AS key FROM {table} t WITH NO DATA"),
                approved=backfill.approved,
            )
        )
        with (
            open(path, "rb") as file,
            connection.cursor() as cursor,
            cursor.copy(sql.SQL("COPY {} FROM STDIN").format(backfill.approved)) as copy,
        ):
            while data := file.read(1 << 20):
                copy.write(data)
        connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (key)").format(backfill.approved))
        connection.execute(sql.SQL("ANALYZE {}").format(backfill.approved))
    query = sql.SQL(
        "SELECT count(*) AS n FROM {table} t WHERE {affected}"
        " AND NOT EXISTS (SELECT FROM {approved} a WHERE a.key = t.{key})"
    )
    return int(one(connection, backfill.filled(query, approved=backfill.approved))["n"])


def load_prior_nulls(connection: Connection, backfill: Backfill, rows: Path) -> int:
    """Note the keys of the rows whose column is NULL in `rows`, a table's data as pg_restore writes it; returns how many.

    Changes the runbook's own tables.

    Raises:
        PreconditionError: The file holds no data of the table with its key and column.
    """
    found = 0
    with connection.transaction():
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(backfill.prior_nulls))
        prepare_prior_nulls(connection, backfill)
        with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(backfill.prior_nulls)) as copy:
            for key in _null_keys(rows, backfill.database.key, backfill.database.backfill.column):
                copy.write(key + b"\n")
                found += 1
        connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (key)").format(backfill.prior_nulls))
    return found


def prepare_prior_nulls(connection: Connection, backfill: Backfill) -> None:
    """Make the empty table of such keys. Changes the runbook's own tables."""
    connection.execute(
        backfill.filled(
            sql.SQL("CREATE TABLE {prior_nulls} AS SELECT t.{key} AS key FROM {table} t WITH NO DATA"),
            prior_nulls=backfill.prior_nulls,
        )
    )


def _null_keys(path: Path, key: str, column: str) -> Iterator[bytes]:
    """The keys, as COPY's text, of the rows whose column is NULL."""
    with dump.rows(path) as (names, rows):
        if key not in names:
            raise PreconditionError(
                f"The backup holds no data with the key {key}.",
                where=str(path),
                state="Nothing was changed.",
                safe_next='Choose `cleared: "[]"` or `null` in the plan, or another backup.',
            )
        if column not in names:
            return  # the backup is from before the column: every row had its default
        at, where = names.index(key), names.index(column)
        yield from (fields[at] for fields in rows if fields[where] == dump.NULL)
