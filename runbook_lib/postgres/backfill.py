"""What a backfill wrote into a JSON list column, and what is left of a row once that is taken out: the terms of its SQL.

Two sets of keys bind a removal, each in a table of the run's own: the rows that were approved, and those that held NULL
before the backfill.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from psycopg import sql
from psycopg.types.json import Jsonb

from runbook_lib.config.plan import Backfill as ListSpec
from runbook_lib.config.plan import ColumnOfRow, Database, path_of
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, dump
from runbook_lib.postgres.backfill_terms import UNBOUND, BackfillTerms, Bounds


class Backfill(BackfillTerms):
    """A backfill of a JSON list column, as SQL over its table `t`."""

    type_name = "jsonb"
    spec: ListSpec

    def __init__(self, database: Database, run: str, bounds: Bounds = UNBOUND) -> None:
        spec = database.backfill
        super().__init__(database, spec, run, bounds)
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
        self.perhaps = sql.SQL("t.{column} @> {marker}").format(**terms)
        self.fills_null = spec.cleared == "null"
        self.fill = sql.SQL("NULL::jsonb" if self.fills_null else "'[]'::jsonb")
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
        self.value = sql.SQL("CASE WHEN {}{} THEN {} ELSE {} END").format(
            self.alone, terms["approved"], self.empty, self.value_if_more
        )
        alone = sql.SQL(" OR {}").format(self.alone) if self._same_for_all else sql.SQL("")
        self.plain = sql.SQL("(t.{} IS NOT DISTINCT FROM {}{})").format(self.column, self.fill, alone)
        self.value_unless_plain = self.value_if_more if self._same_for_all else self.value

    @property
    def _same_for_all(self) -> bool:
        return self.spec.cleared in ("[]", "null") and not self.bounds.approved_only

    def over(self, column: str) -> "Backfill":
        """The same terms, over another column that holds such lists."""
        spec = self.spec.model_copy(update={"column": path_of(column)})
        return Backfill(self.database.model_copy(update={"backfill": spec}), self.run, self.bounds)

    def bound(self, bounds: Bounds) -> "Backfill":
        """The same, narrowed down."""
        return Backfill(self.database, self.run, bounds)

    @property
    def columns_read(self) -> list[str]:
        """The columns on which it depends whether and how a row is cleared."""
        values = self.spec.written.values()
        return [self.spec.name, *(value.column for value in values if isinstance(value, ColumnOfRow))]

    @property
    def decided(self) -> str:
        """What was decided on what is cleared and what is left then, as text."""
        return " ".join([self.spec.edited, self.spec.cleared, *sorted(self.bounds.decided)])

    def terms(self) -> dict[str, sql.Composable]:
        """The terms that every query may use, and those of lists, by name."""
        return {
            **super().terms(),
            "source": sql.Identifier(self.spec.source),
            "elements": self.elements,
            "marked": self.marked,
            "pristine": self.pristine,
            "written": self.written,
            "kept": self.kept,
            "empty": self.empty,
        }

    @contextmanager
    def expected(self, connection: Connection) -> Iterator[tuple[sql.Composable, sql.Composable]]:
        """What a row `t` is to hold once cleared, as a term for its text, and what it joins to `t`; within a transaction.

        The server scans with one core where a term holds a query of its own, as `value` does. Here a function of the
        runbook's schema goes through the elements; it is dropped again at the end. Changes nothing else.
        """
        left = self.own("left")
        gone = sql.SQL("{marked}" if self.spec.edited == "clear" else "e.value = written OR decided AND {marked}").format(
            marked=self.marked
        )
        body = sql.SQL(_BODY).format(gone=gone).as_string(connection)
        connection.execute(sql.SQL(_LEFT).format(left=left, body=sql.Literal(body)))
        decided = sql.SQL("t.{}::text = ANY ({}::text[])").format(self.key, sql.Literal(list(self.bounds.decided)))
        value = self.filled(
            sql.SQL(_EXPECTED),
            plain=self.plain,
            fill=self.fill,
            marker=self.marker,
            and_approved=self.and_approved(),
            decided=decided,
            left=left,
        )
        yield value, sql.SQL("")
        connection.execute(sql.SQL("DROP FUNCTION {}(jsonb, jsonb, boolean)").format(left))

    def prepare_prior(self, connection: Connection) -> None:
        """Make the empty table of the keys of rows that held NULL. Changes the runbook's own tables."""
        connection.execute(self.filled(sql.SQL("CREATE TABLE {prior} AS SELECT t.{key} AS key FROM {table} t WITH NO DATA")))

    def _written(self) -> list[sql.Composable]:
        parts: list[sql.Composable] = []
        for name, value in self.spec.written.items():
            parts.append(sql.Literal(name))
            parts.append(sql.Identifier("t", value.column) if isinstance(value, ColumnOfRow) else sql.Literal(Jsonb(value)))
        return parts

    def _alone(self) -> sql.Composable:
        """That the column holds an element of the backfill's and nothing else, as far as a glance tells.

        A JSON value has one text, so equal texts are equal values; to compare them takes half the time of building a value.
        What is the same for all rows stands in brackets, so that the server puts it together once.
        """
        pieces: list[tuple[bool, sql.Composable]] = [(True, sql.Literal("[{"))]
        for name, value in sorted(self.spec.written.items(), key=_place_of_key):
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
        if self.spec.edited == "clear":
            return self.marked
        if not self.bounds.decided:
            return self.pristine
        return sql.SQL("({} OR {} AND t.{}::text = ANY ({}))").format(
            self.pristine, self.marked, self.key, sql.Literal(list(self.bounds.decided))
        )

    def _empty(self) -> sql.Composable:
        match self.spec.cleared:
            case "[]":
                return sql.SQL("'[]'::jsonb")
            case "null":
                return sql.SQL("NULL::jsonb")
        return sql.SQL(
            "CASE WHEN EXISTS (SELECT FROM {} f WHERE f.key = t.{}) THEN NULL::jsonb ELSE '[]'::jsonb END"
        ).format(self.prior, self.key)


def _place_of_key(item: tuple[str, object]) -> tuple[int, bytes]:
    """Where a key stands in the text of a jsonb object: shorter ones first.

    Source: PostgreSQL, src/backend/utils/adt/jsonb_util.c, lengthCompareJsonbStringValue.
    """
    key = item[0].encode()
    return len(key), key


_LEFT = """CREATE FUNCTION {left}(list jsonb, written jsonb, decided boolean) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS {body}"""
_BODY = """SELECT jsonb_agg(e.value ORDER BY e.place) FROM jsonb_array_elements(list) WITH ORDINALITY e(value, place)
WHERE NOT ({gone})"""
_EXPECTED = """CASE WHEN {plain} THEN {fill}::text
WHEN t.{column} @> {marker} {and_approved} THEN coalesce({left}(t.{column}, {written}, {decided}), {empty})::text
ELSE t.{column}::text END"""


def load_prior_nulls(connection: Connection, backfill: Backfill, rows: Path) -> int:
    """Note the keys of the rows whose column is NULL in `rows`, a table's data as pg_restore writes it; returns how many.

    Changes the runbook's own tables.

    Raises:
        PreconditionError: The file holds no data of the table with its key and column.
    """
    found = 0
    with connection.transaction():
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(backfill.prior))
        backfill.prepare_prior(connection)
        with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(backfill.prior)) as copy:
            for key in _null_keys(rows, backfill.database.key, backfill.spec.name):
                copy.write(key + b"\n")
                found += 1
        connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (key)").format(backfill.prior))
    return found


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
