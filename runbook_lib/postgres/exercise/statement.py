"""Parses a statement of the application: what it names, and which column each parameter belongs to. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pglast import ast, enums, parse_sql
from pglast.parser import ParseError
from pglast.visitors import Visitor

LONGEST = 100  # characters of a statement that are shown
_EXERCISED = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_SYSTEM = ("pg_catalog", "information_schema")
_LISTS = (enums.A_Expr_Kind.AEXPR_OP_ANY, enums.A_Expr_Kind.AEXPR_OP_ALL)


class Unfit(Exception):
    """A statement cannot be exercised; the text says why."""


@dataclass(frozen=True)
class Named:
    """A table or view that a statement names."""

    schema: str  # "" where the search path decides
    name: str
    alias: str


@dataclass(frozen=True)
class Use:
    """A column that a parameter is compared with or assigned to; `listed` if the parameter is an array of such values."""

    qualifier: str  # "" where there is none
    column: str
    way: Literal["compared", "set", "inserted"]
    listed: bool = False


@dataclass(frozen=True)
class Statement:
    """A statement with parameters, and what it names."""

    text: str
    tables: tuple[Named, ...] = ()
    columns: frozenset[tuple[str, str]] = frozenset()  # qualifier and name
    uses: Mapping[int, Use] = field(default_factory=dict)  # by the number of the parameter
    given: Mapping[int, str | None] = field(default_factory=dict)  # values by the number, as text

    def __str__(self) -> str:
        shown = " ".join(self.text.split())
        return f"`{shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + '…'}`"


def read(text: str, given: Mapping[int, str | None] | None = None) -> Statement:
    """Read a statement.

    Raises:
        Unfit: It does not read or write rows, or cannot be parsed.
    """
    try:
        found = parse_sql(text)
    except ParseError as error:
        raise Unfit(f"cannot be read: {error.args[0]}") from None
    if len(found) != 1:
        raise Unfit("not one statement")
    if not isinstance(found[0].stmt, _EXERCISED):
        raise Unfit("neither reads nor writes rows")
    names = _Names()
    names(found)
    tables = tuple(each for each in names.tables if each.schema or each.name not in names.of_query)
    if tables and all(each.schema in _SYSTEM or (not each.schema and each.name.startswith("pg_")) for each in tables):
        raise Unfit("reads only the server's own tables")
    for start, end, number in sorted(names.typed, reverse=True):
        text = f"{text[:start]}${number}::{text[start:end].strip()}{text[end + len(f'${number}') :]}"
    return Statement(text.strip().rstrip(";"), tables, frozenset(names.columns), names.uses, given or {})


class _Names(Visitor):
    def __init__(self) -> None:
        self.tables: list[Named] = []
        self.of_query: set[str] = set()  # names that WITH defines
        self.columns: set[tuple[str, str]] = set()
        self.uses: dict[int, Use] = {}
        self.typed: list[tuple[int, int, int]] = []  # `interval $1`, which the server does not parse: both places, number

    def visit_RangeVar(self, _: object, node: Any) -> None:
        alias = node.alias.aliasname if node.alias else node.relname
        self.tables.append(Named(node.schemaname or "", node.relname, alias))

    def visit_TypeCast(self, _: object, node: Any) -> None:
        start, end = node.typeName.location, getattr(node.arg, "location", None)
        if isinstance(node.arg, ast.ParamRef) and node.location is None and end is not None and start < end:
            self.typed.append((start, end, int(node.arg.number or 0)))

    def visit_CommonTableExpr(self, _: object, node: Any) -> None:
        self.of_query.add(node.ctename)

    def visit_ColumnRef(self, _: object, node: Any) -> None:
        if column := _column(node):
            self.columns.add(column)

    def visit_A_Expr(self, _: object, node: Any) -> None:
        for one, other in ((node.lexpr, node.rexpr), (node.rexpr, node.lexpr)):
            if column := _column(_bare(one)):
                for number in _parameters(other):
                    self.uses[number] = Use(*column, "compared", node.kind in _LISTS)

    def visit_InsertStmt(self, _: object, node: Any) -> None:
        target = node.relation.alias.aliasname if node.relation.alias else node.relation.relname
        named = [each.name for each in node.cols or ()]
        self.columns |= {(target, name) for name in named}
        lists = getattr(node.selectStmt, "valuesLists", None) or ()
        for row in lists:
            for name, value in zip(named, row, strict=False):
                self._assigned(target, name, value, "inserted")
        if node.onConflictClause:
            self._set(target, node.onConflictClause.targetList)

    def visit_UpdateStmt(self, _: object, node: Any) -> None:
        target = node.relation.alias.aliasname if node.relation.alias else node.relation.relname
        self._set(target, node.targetList)

    def _set(self, target: str, targets: Any) -> None:
        for each in targets or ():
            self.columns.add((target, each.name))
            self._assigned(target, each.name, each.val, "set")

    def _assigned(self, target: str, name: str, value: Any, way: Literal["set", "inserted"]) -> None:
        for number in _parameters(value):
            self.uses[number] = Use(target, name, way)


def _bare(node: Any) -> Any:
    """Return a node without its casts."""
    while isinstance(node, ast.TypeCast):
        node = node.arg
    return node


def _parameters(node: Any) -> Iterator[int]:
    """Yield the parameter numbers of a term, or of the terms in a list."""
    for each in node if isinstance(node, tuple) else (node,):
        bare = _bare(each)
        if isinstance(bare, ast.ParamRef):
            yield int(bare.number or 0)


def _column(node: Any) -> tuple[str, str] | None:
    """Return a column's qualifier and name; None if the node is not a column."""
    if not isinstance(node, ast.ColumnRef):
        return None
    names = [each.sval or "" for each in node.fields or () if isinstance(each, ast.String)]
    if not names or len(names) != len(node.fields or ()):  # the last one is a star
        return None
    return (names[-2] if len(names) > 1 else "", names[-1])
