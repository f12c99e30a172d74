"""Traces, statement by statement, which columns may have received another column's values from migrations. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pglast import ast, enums, parse_sql
from pglast.parser import ParseError
from pglast.visitors import Visitor

ALL = "*"  # any column of a table
_WRITES = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_HARMLESS = (  # statements that move no values; bodies of functions and views are read separately
    ast.CommentStmt,
    ast.CreateEnumStmt,
    ast.CreateFunctionStmt,
    ast.CreateSchemaStmt,
    ast.CreateSeqStmt,
    ast.CreateStmt,
    ast.CreateTrigStmt,
    ast.DeleteStmt,
    ast.DropStmt,
    ast.GrantStmt,
    ast.IndexStmt,
    ast.TransactionStmt,
    ast.TruncateStmt,
    ast.VariableSetStmt,
    ast.ViewStmt,
)


class _Names(Visitor):
    def __init__(self) -> None:
        self.tables: set[str] = set()
        self.columns: set[str] = set()
        self.writes = 0

    def visit_RangeVar(self, _: object, node: Any) -> None:
        self.tables |= {node.relname, *([node.alias.aliasname] if node.alias else [])}

    def visit_ColumnRef(self, _: object, node: Any) -> None:
        last = node.fields[-1]
        self.columns.add(ALL if isinstance(last, ast.A_Star) else last.sval)

    def visit(self, _: object, node: Any) -> None:
        self.writes += isinstance(node, _WRITES)


@dataclass(frozen=True)
class _Step:
    """What one statement writes into a table: for each column, the tables and columns that it reads."""

    table: str
    reads: Mapping[str, tuple[frozenset[str], frozenset[str]]]


def read(scripts: Sequence[str], bodies: Iterable[str]) -> Flow:
    """Trace the values that SQL moves. Pure.

    Args:
        scripts: The migrations.
        bodies: The text of each function and view, which any statement may use.
    """
    found = Flow(unseen=[*bodies])
    for script in scripts:
        try:
            for statement in parse_sql(script):
                found.note(statement.stmt)
        except ParseError:
            found.is_unclear = True
    return found


@dataclass
class Flow:
    """The statements that move values, in order, and the texts of functions and views that may move others."""

    steps: list[_Step] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    is_unclear: bool = False  # whether some statement cannot be traced

    def note(self, statement: Any) -> None:
        """Trace the next statement."""
        match statement:
            case ast.UpdateStmt(relation=ast.RangeVar(relname=str(table))):
                around = [statement.relation, statement.whereClause, statement.fromClause, statement.withClause]
                targets = {str(each.name): _reads(table, [each.val, *around]) for each in statement.targetList or ()}
                self.steps.append(_Step(table, targets))
            case ast.InsertStmt(relation=ast.RangeVar(relname=str(table)), onConflictClause=None):
                self.steps.append(_Step(table, {ALL: _reads(table, [statement.selectStmt, statement.withClause])}))
            case ast.CreateTableAsStmt(into=ast.IntoClause(rel=ast.RangeVar(relname=str(table)))):
                self.steps.append(_Step(table, {ALL: _reads(table, [statement.query])}))
            case ast.AlterTableStmt():
                self.is_unclear |= any(
                    command.subtype == enums.AlterTableType.AT_AlterColumnType and command.def_ and command.def_.raw_default
                    for command in statement.cmds or ()
                )
            case _ if not isinstance(statement, _HARMLESS):
                self.is_unclear = True
        counted = _Names()
        counted(statement)
        self.is_unclear |= counted.writes > isinstance(statement, _WRITES)  # a WITH that writes

    def keeps_apart(self, table: str, column: str, other: str) -> bool:
        """Report whether another column of a table holds none of the values that a column has lost.

        A value that is read after the column's last change is still in the column itself.
        """
        words = [rf"\b{re.escape(each)}\b" for each in (column, other)]
        wrote, filled = (
            [n for n, each in enumerate(self.steps) if each.table == table and c in each.reads] for c in (column, other)
        )
        if (
            self.is_unclear
            or not wrote
            or not filled
            or any(re.search(each, text) for each in words for text in self.unseen)
        ):
            return False
        holding = {(table, column)}
        for place, step in enumerate(self.steps):
            holding |= {(step.table, name) for name, read in step.reads.items() if _hits(read, holding)}
            if place == wrote[-1]:
                holding.discard((table, column))
        return not holding & {(table, other), (table, ALL)}


def _reads(table: str, parts: Iterable[Any]) -> tuple[frozenset[str], frozenset[str]]:
    names = _Names()
    for part in parts:
        if part is not None:
            names(part)
    tables = names.tables | {table}
    return frozenset(tables), frozenset({ALL} if names.columns & (tables | {ALL}) else names.columns)


def _hits(read: tuple[frozenset[str], frozenset[str]], holding: Iterable[tuple[str, str]]) -> bool:
    tables, columns = read
    return any(table in tables and ({column, ALL} & columns or column == ALL) for table, column in holding)
