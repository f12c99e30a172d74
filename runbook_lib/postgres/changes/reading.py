"""Reads from migrations' SQL which tables and columns it reads, and by which time zone it converts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pglast import ast, enums, parse_sql
from pglast.parser import ParseError
from pglast.visitors import Visitor

WRITES = (
    ast.InsertStmt,
    ast.UpdateStmt,
    ast.DeleteStmt,
    ast.MergeStmt,
    ast.CreateTableAsStmt,
    ast.CopyStmt,
    ast.SelectStmt,
    ast.CallStmt,
)

ROW = re.compile(r"\b(NEW|OLD)\.", re.IGNORECASE)  # in a trigger function's body


@dataclass(frozen=True)
class _Read:
    tables: frozenset[str]
    columns: frozenset[str]
    everything: bool  # whether it reads all columns
    text: str = ""  # a body that is not parsed


@dataclass(frozen=True)
class Copied:
    """A column into which a statement copies a column of another table, unchanged."""

    into: str
    column: str | int  # its name, or its position if the statement names none
    source: str
    of: str


@dataclass
class Script:
    """What migrations read and convert; names are without schemas."""

    zones: dict[str, str] = field(default_factory=dict)  # column -> the time zone used to convert it
    copied: list[Copied] = field(default_factory=list)  # columns that inserted rows take from other tables
    _read: list[_Read] = field(default_factory=list)

    def reads(self, table: str, column: str | None) -> bool:
        """Report whether a statement that writes rows reads a table, or one of its columns."""
        for each in self._read:
            if each.text:
                if column and re.search(rf"\b(NEW|OLD)\.{re.escape(column)}\b", each.text, re.IGNORECASE):
                    return True
                if all(re.search(rf"\b{re.escape(word)}\b", each.text) for word in (table, column) if word):
                    return True
            elif table in each.tables and (column is None or each.everything or column in each.columns):
                return True
        return False


def read(scripts: Sequence[str], bodies: Mapping[str, str]) -> Script:
    """Parse SQL; text that cannot be parsed counts as reading all that it mentions. Pure.

    Args:
        scripts: The migrations.
        bodies: The text of each function and view that they may use, by its name.
    """
    found = Script()
    for script in scripts:
        try:
            statements = parse_sql(script)
        except ParseError:
            found._read.append(_Read(frozenset(), frozenset(), True, script))
            continue
        for statement in statements:
            _note(statement.stmt, found, bodies)
    return found


def require_expression(text: str) -> None:
    """Check that a text is exactly one expression or one query. Pure.

    Raises:
        ValueError: It is not.
    """
    try:
        statements = parse_sql(f"SELECT ({text}\n)")
    except ParseError as error:
        raise ValueError(f"{text!r} is no expression: {error.args[0]}") from None
    if len(statements) != 1:
        raise ValueError(f"{text!r} is more than one statement")


class _Names(Visitor):
    def __init__(self) -> None:
        self.tables: set[str] = set()
        self.columns: set[str] = set()
        self.everything = False
        self.functions: set[str] = set()

    def visit_FuncCall(self, _: object, node: Any) -> None:
        self.functions.add(node.funcname[-1].sval)

    def visit_RangeVar(self, _: object, node: Any) -> None:
        self.tables.add(node.relname)

    def visit_ColumnRef(self, _: object, node: Any) -> None:
        last = node.fields[-1]
        if isinstance(last, ast.A_Star):
            self.everything = True
        else:
            self.columns.add(last.sval)


def _note(statement: Any, found: Script, bodies: Mapping[str, str]) -> None:
    kind = type(statement)
    if kind is ast.DoStmt:
        body = " ".join(each.arg.sval for each in statement.args if each.defname == "as")
        found._read.append(_Read(frozenset(), frozenset(), True, body))
    elif kind in WRITES:
        names = _Names()
        names(statement)
        tables = names.tables - (set() if kind is ast.UpdateStmt else _written(statement))
        found._read.append(_Read(frozenset(tables), frozenset(names.columns), names.everything))
        fired = {name for name, text in bodies.items() if ROW.search(text)}
        used = _used(names.tables | names.functions | fired, bodies)
        found._read += [_Read(frozenset(), frozenset(), True, text) for text in used]
        found.copied += _copied(statement)
    elif kind is ast.CreateFunctionStmt:  # the migration's own trigger may call it
        body = " ".join(each.sval for option in statement.options if option.defname == "as" for each in option.arg)
        found._read.append(_Read(frozenset(), frozenset(), True, body))
    elif kind is ast.AlterTableStmt:
        found.zones |= dict(_zones(statement.cmds))


def _copied(statement: Any) -> Iterator[Copied]:
    match statement:
        case ast.InsertStmt(relation=relation, cols=cols, selectStmt=ast.SelectStmt() as query):
            names = [each.name for each in cols or ()]
        case ast.CreateTableAsStmt(into=ast.IntoClause(rel=relation), query=ast.SelectStmt() as query):
            names = []
        case _:
            return
    into = str(relation.relname) if relation else ""
    for select in _selects(query):
        tables = dict(_joined(select.fromClause or ()))
        for place, target in enumerate(select.targetList or ()):
            match target.val:
                case ast.ColumnRef(fields=(*_, ast.String(sval=called), ast.String(sval=name))):
                    source = tables.get(str(called), "")
                case ast.ColumnRef(fields=(ast.String(sval=name),)) if len(tables) == 1:
                    source = next(iter(tables.values()))
                case _:
                    continue
            yield Copied(into, names[place] if place < len(names) else place, source, str(name))


def _selects(query: Any) -> Iterator[Any]:
    """Yield the SELECTs of a UNION or the like."""
    if query.larg is None:
        yield query
    else:
        yield from _selects(query.larg)
        yield from _selects(query.rarg)


def _joined(parts: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Yield each alias in FROM, and its table; "" if it is not a table."""
    for part in parts:
        if isinstance(part, ast.JoinExpr):
            yield from _joined((part.larg, part.rarg))
        elif isinstance(part, ast.RangeVar):
            yield str(part.alias.aliasname if part.alias else part.relname), str(part.relname)
        else:
            yield "", ""


def _used(names: set[str], bodies: Mapping[str, str]) -> list[str]:
    """Return the bodies of named functions and views, and of those that they name in turn."""
    used, left = dict[str, str](), [name for name in names if name in bodies]
    while left:
        name = left.pop()
        used[name] = bodies[name]
        left += [each for each in bodies if each not in used and re.search(rf"\b{re.escape(each)}\b", bodies[name])]
    return list(used.values())


def _written(statement: Any) -> set[str]:
    relation = getattr(statement, "relation", None)
    return {relation.relname} if isinstance(statement, ast.InsertStmt) and relation else set()


def _zones(commands: Iterable[Any]) -> Iterable[tuple[str, str]]:
    for command in commands:
        if command.subtype == enums.AlterTableType.AT_AlterColumnType and command.def_ is not None:
            match command.def_.raw_default:
                case ast.FuncCall(
                    funcname=(*_, ast.String(sval="timezone")),
                    args=(ast.A_Const(val=ast.String(sval=str(zone))), ast.ColumnRef(fields=(*_, ast.String(sval=name)))),
                ) if name == command.name:
                    yield command.name, zone
