"""SQL terms of a backfill of a JSON list column: which elements it wrote, and what a row holds without them.

A removal uses two sets of keys, each in a table of its run: the approved rows, and the rows that held NULL before the
backfill.
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
from runbook_lib.postgres import Connection, Row, dump
from runbook_lib.postgres.backfill_statistics import BackfillStatistics
from runbook_lib.postgres.backfill_terms import EDITED, UNBOUND, BackfillTerms, Bounds, EarlierRows, Survey
from runbook_lib.postgres.list_column import JSONB, KINDS, ColumnTypes, column_types, not_json
from runbook_lib.postgres.written_value import SAME_VALUE, Same

OF_JSONB = ColumnTypes({}, {})  # a column of jsonb, whose elements hold texts


class Backfill(BackfillTerms):
    """A backfill of a JSON list column, as SQL over its table `t`; `types` are those of its columns."""

    spec: ListSpec

    def __init__(self, database: Database, run: str, bounds: Bounds = UNBOUND, types: ColumnTypes = OF_JSONB) -> None:
        spec = database.backfill
        super().__init__(database, spec, run, bounds)
        self.types = types
        self.base = types.base.get(spec.name, "jsonb")
        self.kind = KINDS.get(self.base, JSONB)  # `list_misfits` refuses any other type
        self.type_name = types.full.get(spec.name, "jsonb")
        self.list = sql.SQL(self.kind.value).format(c=self.of("t"))
        terms: dict[str, sql.Composable] = {"column": self.column, "key": self.key, "list": self.list}
        self.written = written = sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(self._written()))
        terms["elements"] = self.elements = sql.SQL(self.kind.elements).format(c=self.of("t"))
        self.marked = sql.SQL("e.value @> {}").format(sql.Literal(Jsonb(spec.marker)))
        self.pristine = self._as_written(written)
        terms["cleared"] = self.cleared = self._cleared()
        terms["marker"] = self.marker = sql.Literal(Jsonb([spec.marker]))
        terms["approved"] = self.and_approved()
        terms["empty"] = self.empty = self._empty()
        terms["alone"] = self.alone = self._alone()
        terms["holds"] = sql.SQL("EXISTS (SELECT FROM {elements} WHERE {cleared})").format(**terms)
        self.perhaps = sql.SQL("coalesce({list} @> {marker}, FALSE)" if self.kind.by_text else "{list} @> {marker}").format(
            **terms
        )
        terms["perhaps"] = self.perhaps
        self.affected = sql.SQL("{perhaps} AND ({alone} OR {holds}){approved}").format(**terms)
        self.fills_null = spec.cleared == "null"
        self.fill = self._null if self.fills_null else self._none
        terms["rest"] = self._rest(self.elements, self.cleared, self.empty)
        self.kept = sql.SQL("CASE WHEN {alone} THEN {empty} ELSE {rest} END").format(**terms)
        # What an affected row keeps. It holds an element to clear; if that is its only element, nothing is left.
        self.kept_of_affected = sql.SQL("CASE WHEN jsonb_array_length({list}) = 1 THEN {empty} ELSE {rest} END").format(
            **terms
        )
        self.value_if_more = sql.SQL("CASE WHEN {perhaps} AND {holds}{approved} THEN {rest} ELSE t.{column} END").format(
            **terms
        )  # the cleared value of a row that holds more than one backfilled element
        self.value = sql.SQL("CASE WHEN {}{} THEN {} ELSE {} END").format(
            self.alone, terms["approved"], self.empty, self.value_if_more
        )
        alone = sql.SQL(" OR {}").format(self.alone) if self._same_for_all else sql.SQL("")
        self.plain = sql.SQL("({}{})").format(self.same(self.of("t"), self.fill), alone)
        self.value_unless_plain = self.value_if_more if self._same_for_all else self.value

    @property
    def _same_for_all(self) -> bool:
        return self.spec.cleared in ("[]", "null") and not self.bounds.approved_only

    def over(self, column: str) -> "Backfill":
        """Return the same terms over another column that holds such lists."""
        spec = self.spec.model_copy(update={"column": path_of(column)})
        types = ColumnTypes({**self.types.full, column: self.type_name}, {**self.types.base, column: self.base})
        return Backfill(self.database.model_copy(update={"backfill": spec}), self.run, self.bounds, types)

    def bound(self, bounds: Bounds) -> "Backfill":
        """Return the same terms within other bounds."""
        return Backfill(self.database, self.run, bounds, self.types)

    @property
    def columns_read(self) -> list[str]:
        """Name the columns that decide whether and how a row is cleared."""
        values = self.spec.written.values()
        return [self.spec.name, *(value.column for value in values if isinstance(value, ColumnOfRow))]

    @property
    def decided(self) -> str:
        """Return, as text, the decisions on what to clear and what to leave."""
        return " ".join([self.spec.edited, self.spec.cleared, *sorted(self.bounds.decided)])

    def terms(self) -> dict[str, sql.Composable]:
        """Return by name the terms that every query may use, and those of lists."""
        return {
            **super().terms(),
            "source": sql.Identifier(self.spec.source),
            "list": self.list,
            "elements": self.elements,
            "marked": self.marked,
            "pristine": self.pristine,
            "written": self.written,
            "kept": self.kept,
            "empty": self.empty,
        }

    @contextmanager
    def expected(self, connection: Connection) -> Iterator[tuple[sql.Composable, sql.Composable]]:
        """Yield the term for a cleared row's text, and what the term joins to `t`; the caller opens a transaction.

        A term with a subquery, such as `value`, makes the server scan with one core. Here a function in the runbook's
        schema reads the elements instead; it is dropped at the end. Changes nothing else.
        """
        left, asked = self.own("left"), sql.SQL("list")
        of_user = sql.SQL("{marked}" if self.spec.edited == "clear" else "decided AND {marked}").format(marked=self.marked)
        gone = sql.SQL("({} OR {})").format(self._as_written(sql.SQL("written")), of_user)
        if self.spec.edited == "clear":
            gone = self.marked
        elements = sql.SQL(self.kind.elements).format(c=asked)
        holds = sql.SQL("EXISTS (SELECT FROM {} WHERE {})").format(elements, gone) if self.kind.by_text else sql.SQL("TRUE")
        rest = self._rest(elements, gone, sql.SQL("NULL"))
        body = sql.SQL("SELECT CASE WHEN {} THEN {} ELSE list END").format(holds, rest)
        base = sql.SQL(self.base)
        made = sql.SQL(_LEFT).format(left=left, base=base, body=sql.Literal(body.as_string(connection)))
        connection.execute(made)
        decided = sql.SQL("t.{}::text = ANY ({}::text[])").format(self.key, sql.Literal(list(self.bounds.decided)))
        value = self.filled(
            sql.SQL(_EXPECTED),
            plain=self.plain,
            fill=self.fill,
            perhaps=self.perhaps,
            and_approved=self.and_approved(),
            decided=decided,
            left=left,
        )
        yield value, sql.SQL("")
        connection.execute(sql.SQL("DROP FUNCTION {}({}, jsonb, boolean)").format(left, base))

    def comparable(self, term: sql.Composable) -> sql.Composable:
        """Return a value in a form that is equal exactly where two values of the column are the same."""
        return sql.SQL('(({})::text COLLATE "C")').format(term) if self.kind.by_text else term

    def saved(self, term: sql.Composable) -> sql.Composable:
        """Return a value of the column in a form that an array can hold."""
        return sql.SQL("({})::text").format(term) if self.kind.by_text else term

    def restored(self, term: sql.Composable) -> sql.Composable:
        """Turn a `saved` value back into a value of the column."""
        return sql.SQL("CAST({} AS {})").format(term, sql.SQL(self.type_name)) if self.kind.by_text else term

    def prepare_prior(self, connection: Connection) -> None:
        """Create the empty table for the keys of rows that held NULL. Changes the runbook's own tables."""
        connection.execute(self.filled(sql.SQL("CREATE TABLE {prior} AS SELECT t.{key} AS key FROM {table} t WITH NO DATA")))

    def keep_earlier(self, connection: Connection, backup: EarlierRows) -> None:
        """Record which rows held NULL before the backfill, if they must hold it again."""
        if self.spec.cleared == "from_backup":
            load_prior_nulls(connection, self, backup.file())

    def in_brief(self, connection: Connection) -> tuple[str, str]:
        """Summarise how many rows lose entries, and what older code does not show. Read-only."""
        rows, hidden = self.count(connection), BackfillStatistics(self).invisible(connection)
        unseen = ", ".join(f"{what}: {number} rows" for what, number in hidden.items())
        return (
            f"{rows} rows of {self.database.table} lose the backfilled entries",
            f"no row; older code does not show {unseen}",
        )

    def survey(self, connection: Connection, backup: EarlierRows) -> Survey:
        """Count what the rows hold. Read-only."""
        if misfits := list_misfits(connection, self):
            return Survey(self, misfits=tuple(misfits))
        kinds, invisible = BackfillStatistics(self).kinds_and_invisible(connection)
        rows = {row["kind"]: int(row["rows"]) for row in kinds}
        total, since = sum(rows.values()), rows["edited since"]
        return Survey(
            self,
            total,
            total - rows["null" if self.fills_null else "empty"] - rows["backfilled"],
            would=(
                f"remove the backfilled entries from {{rows}} rows of {self.database.table}",
                f"{rows['backfilled and own']} of them keep their own entries, in order",
                f"{since} rows hold entries that were edited since the backfill: {EDITED[self.spec.edited]}",
            ),
            loses=tuple(f"{n} rows: {what} (older code does not show it)" for what, n in invisible.items() if n),
        )

    def edited_rows(self, connection: Connection) -> Iterator[Row]:
        """Yield each row with backfilled entries that a user has edited. Read-only."""
        return BackfillStatistics(self).edited(connection)

    @property
    def _null(self) -> sql.Composable:
        return sql.SQL("NULL::{}").format(sql.SQL(self.base))

    @property
    def _none(self) -> sql.Composable:
        return sql.SQL("{}::{}").format(sql.Literal(self.kind.empty), sql.SQL(self.base))

    def _rest(self, elements: sql.Composable, gone: sql.Composable, empty: sql.Composable) -> sql.Composed:
        """Return the list without some elements, or `empty` if none are left."""
        return sql.SQL("coalesce((SELECT {put_together} FROM {elements} WHERE ({gone}) IS NOT TRUE), {empty})").format(
            put_together=sql.SQL(self.kind.put_together), elements=elements, gone=gone, empty=empty
        )

    def _as_written(self, written: sql.Composable) -> sql.Composable:
        """Match an element that the backfill wrote, even if a client has rewritten a number or time differently."""
        plain = sql.SQL("e.value = {}").format(written)
        compared = {name: same for name, value in self.spec.written.items() if (same := self._same_value(value))}
        if not compared:
            return plain
        return sql.SQL(_AS_WRITTEN).format(
            plain=plain,
            written=written,
            compared=sql.Literal(list(compared)),
            each=sql.SQL(" AND ").join(
                sql.SQL("({} OR e.value -> {name} = {written} -> {name})").format(
                    same(
                        sql.SQL("(e.value ->> {})").format(sql.Literal(name)),
                        sql.SQL("({} ->> {})").format(written, sql.Literal(name)),
                    ),
                    name=sql.Literal(name),
                    written=written,
                )
                for name, same in compared.items()
            ),
        )

    def _same_value(self, value: object) -> Same | None:
        return SAME_VALUE.get(self.types.base.get(value.column, "")) if isinstance(value, ColumnOfRow) else None

    def _written(self) -> list[sql.Composable]:
        parts: list[sql.Composable] = []
        for name, value in self.spec.written.items():
            parts.append(sql.Literal(name))
            parts.append(sql.Identifier("t", value.column) if isinstance(value, ColumnOfRow) else sql.Literal(Jsonb(value)))
        return parts

    def _alone(self) -> sql.Composable:
        """Match a column that holds one backfilled element and nothing else, as far as its text shows.

        Equal texts are equal JSON values; to compare them takes half the time of building a value. Brackets group what is
        the same for all rows, so that the server builds it once.
        """
        if self.kind.by_text:
            return sql.SQL("FALSE")
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
                return self._none
            case "null":
                return self._null
        return sql.SQL("CASE WHEN EXISTS (SELECT FROM {} f WHERE f.key = t.{}) THEN {} ELSE {} END").format(
            self.prior, self.key, self._null, self._none
        )


def _place_of_key(item: tuple[str, object]) -> tuple[int, bytes]:
    """Order keys as the text of a jsonb object does: shorter ones first.

    Source: PostgreSQL, src/backend/utils/adt/jsonb_util.c, lengthCompareJsonbStringValue.
    """
    key = item[0].encode()
    return len(key), key


_AS_WRITTEN = """({plain} OR CASE WHEN jsonb_typeof(e.value) = 'object'
THEN e.value - {compared}::text[] = {written} - {compared}::text[] AND {each} ELSE FALSE END)"""

_LEFT = """CREATE FUNCTION {left}(list {base}, written jsonb, decided boolean) RETURNS {base}
LANGUAGE sql STABLE PARALLEL SAFE AS {body}"""
_EXPECTED = """CASE WHEN {plain} THEN {fill}::text
WHEN {perhaps} {and_approved} THEN coalesce({left}(t.{column}, {written}, {decided}), {empty})::text
ELSE t.{column}::text END"""


def list_terms(connection: Connection, database: Database, run: str) -> Backfill:
    """Build the terms of a JSON list backfill from its table's column types. Read-only."""
    return Backfill(database, run, UNBOUND, column_types(connection, sql.Identifier(database.schema_, database.table)))


def list_misfits(connection: Connection, backfill: Backfill) -> list[str]:
    """List why the column cannot be used as a JSON list, one line each. Read-only."""
    if backfill.base not in KINDS:
        return [f"{backfill.spec.name} is {backfill.type_name}, which holds no JSON list"]
    unreadable = not_json(connection, backfill.table, backfill.database.key, backfill.spec.name, backfill.kind)
    return [unreadable] if unreadable else []


def load_prior_nulls(connection: Connection, backfill: Backfill, rows: Path) -> int:
    """Record the keys of rows whose column is NULL in `rows` (table data from pg_restore), and return their number.

    Changes the runbook's own tables.

    Raises:
        PreconditionError: The file lacks the table's data, or its key.
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
    """Yield the keys, as COPY's text, of the rows whose column is NULL."""
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
