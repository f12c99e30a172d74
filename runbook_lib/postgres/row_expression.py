"""A plan's SQL expression on one row: the columns it names, and its term over a row `t`."""

from functools import cached_property

from pglast import ast, parse_sql
from pglast.parser import ParseError
from pglast.visitors import Visitor
from psycopg import sql

from runbook_lib.errors import ParametersError

QUERY = "SELECT ("


class RowExpression:
    """An expression from a plan, over a row of its table."""

    def __init__(self, text: str, key: str = "a backfill", where: str = "backfills") -> None:
        self.text = text
        self._key = key
        self._where = where

    @property
    def columns(self) -> list[str]:
        """The columns that it names.

        Raises:
            ParametersError: It is not an expression on the columns of one row.
        """
        return [name for name, _ in self._found.columns]

    @property
    def functions(self) -> list[str]:
        """The functions that it calls, without their schemas."""
        return self._found.functions

    @property
    def term(self) -> sql.Composable:
        """The same over a row `t`."""
        text = self.text
        for _, place in sorted(self._found.columns, key=lambda found: -found[1]):
            text = text[:place] + "t." + text[place:]
        return sql.SQL(f"({text}\n)")

    @cached_property
    def _found(self) -> "_Found":
        try:
            parse_sql(f"SELECT {self.text}")  # alone first, so that it cannot close our parenthesis
            statements = parse_sql(f"{QUERY}{self.text}\n)")
        except ParseError as error:
            raise self._wrong(f"it cannot be read: {error.args[0]}") from None
        found = _Found()
        select = statements[0].stmt
        if len(statements) != 1 or not isinstance(select, ast.SelectStmt) or len(select.targetList or ()) != 1:
            raise self._wrong("it is not a single expression")
        if select.fromClause or select.whereClause or select.op or select.sortClause or select.groupClause:
            raise self._wrong("it is not a single expression")
        found(statements)
        if found.wrong:
            raise self._wrong(found.wrong)
        return found

    def _wrong(self, why: str) -> ParametersError:
        return ParametersError(
            f"The SQL `{self.text}` of {self._key} is not an expression on the columns of one row: {why}.",
            where=self._where,
            state="Nothing was touched.",
            safe_next="Write an expression that names columns of the table, without the table's name.",
        )


class _Found(Visitor):
    """The names and calls in an expression."""

    def __init__(self) -> None:
        self.columns: list[tuple[str, int]] = []  # with the position in the text
        self.functions: list[str] = []
        self.wrong = ""

    def visit_ColumnRef(self, _: object, node: ast.ColumnRef) -> None:
        names = [each.sval for each in node.fields or () if isinstance(each, ast.String)]
        if len(names) != 1 or len(node.fields or ()) != 1:
            self.wrong = "it names a column with its table, or all columns"
            return
        self.columns.append((names[0] or "", (node.location or 0) - len(QUERY)))

    def visit_FuncCall(self, _: object, node: ast.FuncCall) -> None:
        self.functions.append((node.funcname or ())[-1].sval)

    def visit_SubLink(self, *_: object) -> None:
        self.wrong = "it contains a query"

    def visit_ParamRef(self, *_: object) -> None:
        self.wrong = "it contains a parameter"
