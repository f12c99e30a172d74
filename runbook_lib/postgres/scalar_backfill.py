"""The SQL terms of a backfill of a plain column of any type: what was written, and what its rows hold again.

With `from_backup`, a table of the run holds the previous values of rows; a row that is not in it is not affected.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.config.plan import ColumnOfRow, Database, Expression, ScalarBackfill, path_of
from runbook_lib.config.plan.steps import Scalar
from runbook_lib.errors import ParametersError
from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.backfill_removal.guard import Named, named
from runbook_lib.postgres.backfill_terms import EDITED, UNBOUND, BackfillTerms, Bounds, EarlierRows, Survey
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.list_column import KINDS, TEXT
from runbook_lib.postgres.restore.fetch import FETCHED, PRIOR
from runbook_lib.postgres.row_expression import RowExpression
from runbook_lib.postgres.scalar_fit import scalar_misfits, value_misfits
from runbook_lib.postgres.written_value import SAME_VALUE

TRUE = sql.SQL("TRUE")
_VALUE = """CASE WHEN {mine} THEN (SELECT it.value FROM (
    SELECT f.value FROM {prior} f WHERE f.key = t.{key} AND {differ} UNION ALL SELECT {own}) it LIMIT 1) ELSE {own} END"""

NO_JSONB = r"\\u(0000|d[89a-f])"  # allowed in json, refused by jsonb
_SAME_JSON = """({exact} OR CASE WHEN concat({own}, {written}) !~* {no_jsonb}
THEN coalesce({own}::jsonb = {written}::jsonb, FALSE) ELSE FALSE END)"""


@dataclass(frozen=True)
class ColumnType:
    """The type of a column, from its catalog."""

    name: str
    by_text: bool = False  # compare by text, because equal values may differ or have no comparison
    is_array: bool = False
    base: str = ""  # the type under a domain, without a length
    source: str = ""  # the type of the column whose value was written


class ScalarTerms(BackfillTerms):
    """A backfill of a plain column, as SQL over a row `t` of its table."""

    spec: ScalarBackfill

    def __init__(
        self, database: Database, spec: ScalarBackfill, run: str, type_: ColumnType, bounds: Bounds = UNBOUND
    ) -> None:
        super().__init__(database, spec, run, bounds)
        self.type = type_
        self.type_name = type_.name
        self.fills_null = spec.from_backup or spec.cleared is None
        self.fill = self._cast(sql.SQL("NULL") if self.fills_null else _literal(spec.cleared))
        self.written = self._cast(self._written())
        own: sql.Composable = self.of("t")
        self.scope: sql.Composable = TRUE
        if spec.where is not None:
            self.scope = sql.SQL("({} IS TRUE)").format(RowExpression(spec.where).term)
        self.pristine = self._as_written(own)
        cleared, self.differs_from_earlier = self._earlier()
        self.affected = self.perhaps = sql.SQL("({} AND {} AND {}{})").format(
            self.scope, self._mine(), self.differs_from_earlier, self.and_approved()
        )
        self.kept_of_affected = cleared
        self.value = sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(self.affected, cleared, own)
        if bounds.prior is not None:  # the same with one lookup in that table
            self.value = sql.SQL(_VALUE).format(
                mine=sql.SQL("{} AND {}{}").format(self.scope, self._mine(), self.and_approved()),
                prior=bounds.prior,
                key=self.key,
                own=own,
                differ=self.differ(sql.SQL("f.value"), own),
            )
        self.value_unless_plain = self.value
        as_filled = self.same(own, self.fill)
        self.plain = (
            sql.SQL("({} AND NOT {})").format(as_filled, self.affected)
            if spec.from_backup
            else sql.SQL("({} OR {})").format(as_filled, self.affected)
        )

    def _earlier(self) -> tuple[sql.Composable, sql.Composable]:
        """Return the restored value of an affected row, and the condition that it differs from the present one."""
        own = self.of("t")
        if not self.spec.from_backup:
            return self.fill, self.differ(own, self.fill)
        if self.bounds.prior is None:  # not read yet: any row may be in the backup, with any value
            return own, TRUE
        of_row = sql.SQL("FROM {} f WHERE f.key = t.{}").format(self.bounds.prior, self.key)
        differs = self.differ(sql.SQL("f.value"), own)
        return sql.SQL("(SELECT f.value {})").format(of_row), sql.SQL("EXISTS (SELECT {} AND {})").format(of_row, differs)

    def over(self, column: str) -> "ScalarTerms":
        """Return the same terms over another column with such values."""
        named = self.spec.model_copy(update={"column": path_of(self.database.schema_, self.database.table, column)})
        return ScalarTerms(self.database, named, self.run, self.type, self.bounds)

    def bound(self, bounds: Bounds) -> "ScalarTerms":
        """Return the same terms, narrowed down."""
        return ScalarTerms(self.database, self.spec, self.run, self.type, bounds)

    @property
    def columns_read(self) -> list[str]:
        """The columns that decide whether and how a row is cleared."""
        read = [self.spec.written.column] if isinstance(self.spec.written, ColumnOfRow) else []
        texts = [self.spec.where, self.spec.written.sql if isinstance(self.spec.written, Expression) else None]
        read += [name for text in texts if text is not None for name in RowExpression(text).columns]
        return list(dict.fromkeys([self.spec.name, *read]))

    @property
    def decided(self) -> str:
        """The decisions on what is cleared and on its result, as text."""
        return " ".join([self.spec.edited, repr(self.spec.cleared), *sorted(self.bounds.decided)])

    def terms(self) -> dict[str, sql.Composable]:
        """The terms that every query may use, and those of plain values, by name."""
        return {
            **super().terms(),
            "scope": self.scope,
            "pristine": self.pristine,
            "written": self.written,
            "differs_from_earlier": self.differs_from_earlier,
            "value": self.value,
            "fill": self.fill,
        }

    @contextmanager
    def expected(self, connection: Connection) -> Iterator[tuple[sql.Composable, sql.Composable]]:
        """Yield a row `t`'s expected value after clearing, as a term for its text, and what to join to `t`. Pure.

        The server scans with one core if a term has a subquery, as `value` may; here it is a join instead.
        """
        own: sql.Composable = self.of("t")
        cleared = self.fill
        conditions: list[sql.Composable] = [self.scope, self._mine()]
        joined: list[sql.Composable] = [sql.SQL("")]
        if self.spec.from_backup:
            joined.append(sql.SQL("LEFT JOIN {} f ON f.key = t.{}").format(self.bounds.prior or self.prior, self.key))
            cleared = sql.SQL("f.value")
            conditions += [sql.SQL("f.key IS NOT NULL")]
        conditions += [self.differ(cleared, own)]
        if self.bounds.approved_only:
            joined.append(sql.SQL("LEFT JOIN {} a ON a.key = t.{}").format(self.approved, self.key))
            conditions += [sql.SQL("a.key IS NOT NULL")]
        yield (
            sql.SQL("CASE WHEN {} THEN {}::text ELSE {}::text END").format(sql.SQL(" AND ").join(conditions), cleared, own),
            sql.SQL(" ").join(joined),
        )

    def prepare_prior(self, connection: Connection, into: sql.Identifier | None = None) -> None:
        """Create the empty table of previous values. Changes that table alone."""
        query = sql.SQL("CREATE TABLE {own} AS SELECT t.{key} AS key, t.{column} AS value FROM {table} t WITH NO DATA")
        connection.execute(self.filled(query, own=into or self.prior))

    @property
    def reads_earlier_values(self) -> bool:
        """Whether each row gets its own value from the backup."""
        return self.spec.from_backup

    def keep_prior(self, connection: Connection, read: sql.Identifier, into: sql.Identifier) -> "ScalarTerms":
        """Keep the values that were `read` from the backup, for rows that now hold another one; return terms with them.

        Changes that table alone.
        """
        query = sql.SQL("""INSERT INTO {own} SELECT f.{key}, f.{column} FROM {read} f JOIN {table} t ON t.{key} = f.{key}
            WHERE {differ}""")
        differ = self.differ(self.of("f"), self.of("t"))
        with connection.transaction():
            self.prepare_prior(connection, into)
            connection.execute(self.filled(query, own=into, read=read, differ=differ))
            connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (key)").format(into))
        connection.execute(sql.SQL("ANALYZE {}").format(into))
        return self.with_prior(into)

    def keep_earlier(self, connection: Connection, backup: EarlierRows) -> None:
        """Keep the values to be restored, once for the whole run."""
        if self.spec.from_backup and self.bounds.prior is None:
            self._fetch(connection, backup)
            self.keep_prior(connection, FETCHED, self.prior)

    def in_brief(self, connection: Connection) -> tuple[str, str]:
        """Count the rows that get an earlier value again. Read-only."""
        changed = (
            f"up to {self.count(connection)} rows of {self.database.table} get the earlier value of {self.spec.name} again"
        )
        return changed, "no row"

    def survey(self, connection: Connection, backup: EarlierRows) -> Survey:
        """Examine what the rows hold, and may hold again. Creates temporary tables, which end with the session."""
        spec = self.spec
        if misfits := scalar_misfits(connection, self, spec):
            return Survey(self, misfits=tuple(misfits))
        terms, newer = self, None
        if spec.from_backup and self.bounds.prior is None:
            self._fetch(connection, backup)
            newer = self._without_earlier_value(connection, FETCHED)
            terms = self.keep_prior(connection, FETCHED, PRIOR)
        rows, kept, edited = terms._counts(connection)
        again = "its value in the backup" if spec.from_backup else "NULL" if spec.cleared is None else repr(spec.cleared)
        gone = edited if spec.edited == "clear" else 0
        return Survey(
            terms,
            rows,
            kept,
            would=(
                f"give {{rows}} rows of {self.database.table} {again} in {spec.name} again",
                f"{edited} rows hold another value than the backfill wrote, by users since: {EDITED[spec.edited]}",
                *([f"{newer.count} rows came since the backup, so they keep what they hold: {newer}"] if newer else []),
            ),
            loses=(f"{gone} values of {spec.name} that users gave since the backfill",) if gone else (),
            volumes={f"rows without a value of {spec.name} in the backup": newer.count} if newer else {},
            misfits=tuple(value_misfits(connection, terms)),
        )

    def edited_rows(self, connection: Connection) -> Iterator[Row]:
        """Each row with another value than was written. Read-only."""
        query = self.filled(
            sql.SQL("""SELECT t.{key}::text AS key, to_jsonb(t.{column}) AS edited, to_jsonb({written}) AS written
            FROM {table} t WHERE {scope} AND NOT {pristine} AND {differs_from_earlier} ORDER BY t.{key}""")
        )
        with connection.transaction(), connection.cursor("edited") as cursor:
            yield from cursor.execute(query)

    def _fetch(self, connection: Connection, backup: EarlierRows) -> None:
        if self.spec.edited == "list":
            raise ParametersError(
                f"Users' edits of {self.spec.column} cannot be decided row by row if the backup supplies the values.",
                state="Nothing was touched.",
                safe_next="Choose `edited: keep` or `edited: clear` in the plan.",
            )
        backup.fetch(connection, self.database.key, self.spec.name)

    def _counts(self, connection: Connection) -> tuple[int, int, int]:
        """Count all rows, those that will not hold the usual cleared value, and those that users edited. Read-only."""
        query = self.filled(
            sql.SQL("""SELECT count(*) AS rows, count(*) FILTER (WHERE NOT {plain}) AS kept,
                count(*) FILTER (WHERE {scope} AND NOT {pristine} AND {differs_from_earlier}) AS edited FROM {table} t"""),
            plain=self.plain,
        )
        found = one(connection, query)
        return found["rows"], found["kept"], found["edited"]

    def _without_earlier_value(self, connection: Connection, read: sql.Identifier) -> Named:
        """Return the rows that still hold what the job wrote and are not among those `read` from the backup. Read-only."""
        query = sql.SQL("""SELECT t.{key} AS key FROM {table} t
        WHERE {scope} AND {pristine} AND NOT EXISTS (SELECT FROM {read} r WHERE r.{key} = t.{key})""")
        return named(connection, self.filled(query, read=read))

    def comparable(self, term: sql.Composable) -> sql.Composable:
        """Return a value of the column in a form that is equal exactly if the values are the same."""
        return sql.SQL('(({})::text COLLATE "C")').format(term) if self.type.by_text else term

    def saved(self, term: sql.Composable) -> sql.Composable:
        """Return a value of the column in a form that fits into an array: for an array, its text."""
        return sql.SQL("({})::text").format(term) if self.type.is_array else term

    def restored(self, term: sql.Composable) -> sql.Composable:
        """Return a value that was `saved` as a value of the column."""
        return self._cast(term) if self.type.is_array else term

    def _as_written(self, own: sql.Composable) -> sql.Composable:
        """Return the condition that the value is the one the job wrote, even if a client reformatted it since."""
        exact = self.same(own, self.written)
        terms = {"exact": exact, "own": own, "written": self.written}
        if self.type.base == "json":
            return sql.SQL(_SAME_JSON).format(no_jsonb=sql.Literal(NO_JSONB), **terms)
        if self.type.is_array and self.type.base.removesuffix("[]") in SAME_VALUE:
            return sql.SQL("({exact} OR coalesce({own} = {written}, FALSE))").format(**terms)
        if (
            KINDS.get(self.type.base) is TEXT
            and self.type.source in SAME_VALUE
            and isinstance(self.spec.written, ColumnOfRow)
        ):
            source = sql.SQL("(to_jsonb(t.{}) #>> '{{}}')").format(sql.Identifier(self.spec.written.column))
            same = SAME_VALUE[self.type.source](own, source)
            return sql.SQL("({exact} OR coalesce({same}, FALSE))").format(exact=exact, same=same)
        return exact

    def _written(self) -> sql.Composable:
        written = self.spec.written
        if isinstance(written, ColumnOfRow):
            return sql.Identifier("t", written.column)
        return RowExpression(written.sql).term if isinstance(written, Expression) else _literal(written)

    def _mine(self) -> sql.Composable:
        """Return the condition that the value is the job's, or that its removal was decided."""
        if self.spec.edited == "clear":
            return TRUE
        if not self.bounds.decided:
            return self.pristine
        decided = sql.SQL("t.{}::text = ANY ({})").format(self.key, sql.Literal(list(self.bounds.decided)))
        return sql.SQL("({} OR {})").format(self.pristine, decided)

    def _cast(self, term: sql.Composable) -> sql.Composable:
        return sql.SQL("CAST({} AS {})").format(term, sql.SQL(self.type_name))


def _literal(value: Scalar) -> sql.Composable:
    """Return a value of a plan as text that the server can read as any type."""
    if value is None:
        return sql.SQL("NULL")
    return sql.Literal(str(value).lower() if isinstance(value, bool) else str(value))
