"""A query from a plan: checked before use, and executed without any right to write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import errors, sql
from psycopg.rows import tuple_row

from runbook_lib.postgres import Connection

MOST = 6  # rows read
MISSING = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.UndefinedFunction,
    errors.UndefinedObject,
    errors.InvalidSchemaName,
)
# What can change something even in a read-only transaction.
_ACTING = re.compile(
    r"pg_(terminate_backend|cancel_backend|reload_conf|rotate_logfile|switch_wal|promote|notify|export_snapshot)"
    r"|pg_(create|drop|copy|backup|file|log|logical|replication|sync|wal_replay|stat_reset|stat_statements_reset)\w*"
    r"|pg_(try_)?advisory\w*|pg_read\w*file|pg_ls\w*|set_config|nextval|setval|lo_\w+|dblink\w*",
    re.I,
)


@dataclass(frozen=True)
class Rows:
    """The first rows of a query's result, at most MOST, and the names of its columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def problem(text: str) -> str:
    """Return why a text is not a single reading query, "" if it is one. Pure."""
    from pglast import ast, parse_sql
    from pglast.parser import ParseError
    from pglast.visitors import Visitor

    class Writes(Visitor):
        found = ""

        def visit(self, _: object, node: ast.Node) -> None:
            if isinstance(node, ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt | ast.MergeStmt):
                self.found = "it writes"
            if isinstance(node, ast.SelectStmt) and (node.intoClause or node.lockingClause):
                self.found = "it writes or locks"
            if isinstance(node, ast.FuncCall) and _ACTING.fullmatch(name := (node.funcname or ())[-1].sval):
                self.found = f"it calls {name}, which does more than read"
            if isinstance(node, ast.ParamRef):
                self.found = "it has a parameter"

    try:
        statements = parse_sql(text)
    except ParseError as error:
        return f"it cannot be read: {error.args[0]}"
    if len(statements) != 1 or not isinstance(statements[0].stmt, ast.SelectStmt):
        return "it is no single query (SELECT, WITH or VALUES)"
    writes = Writes()
    writes(statements)
    return writes.found


def explained(connection: Connection, text: str, seconds: float) -> str:
    """Return the server's message on an object that a query names and that is missing, "" if all exist. Read-only.

    Raises:
        psycopg.Error: The query cannot be executed for another reason.
    """
    try:
        with connection.transaction(force_rollback=True):
            _limit(connection, seconds)
            connection.execute(sql.SQL("EXPLAIN ") + sql.SQL(_plain(text)))
    except MISSING as error:
        return str(error).strip().splitlines()[0]
    return ""


def queried(connection: Connection, text: str, seconds: float) -> Rows:
    """Return the first rows of a query, run in a read-only transaction within so many seconds. Read-only.

    Raises:
        psycopg.Error: It failed, would have written, or took longer.
    """
    with connection.transaction(force_rollback=True):
        _limit(connection, seconds)
        with connection.cursor("plan_query", row_factory=tuple_row) as cursor:
            cursor.execute(sql.SQL(_plain(text)))
            return Rows([each.name for each in cursor.description or ()], cursor.fetchmany(MOST))


def records(connection: Connection, text: str, seconds: float) -> list[dict[str, Any]]:
    """Every row of a query by its columns' names, in a transaction that may only read. Read-only.

    Raises:
        psycopg.Error: It failed, would have written, or took longer.
    """
    with connection.transaction(force_rollback=True):
        _limit(connection, seconds)
        return connection.execute(sql.SQL(_plain(text))).fetchall()


def _limit(connection: Connection, seconds: float) -> None:
    connection.execute("SET TRANSACTION READ ONLY")
    connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{max(1, round(seconds * 1000))}ms"])


def _plain(text: str) -> Any:
    """Return the text of one query without its terminator."""
    return text.strip().rstrip(";")
