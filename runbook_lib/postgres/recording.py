"""Remove from a migration's SQL the statements that record it in its tool's history. Pure."""

from __future__ import annotations

from pglast import ast, parse_sql
from pglast.parser import ParseError

WRITING = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.CreateStmt)


def without_record(script: str, table: str) -> str:
    """Leave out writes to the tool's history; a script that cannot be parsed is returned unchanged. Pure."""
    try:
        statements = parse_sql(script)
    except ParseError:
        return script
    left, end = list[str](), 0
    for each in statements:
        relation = each.stmt.relation if isinstance(each.stmt, WRITING) else None
        if relation and relation.relname == table:
            begins, length = each.stmt_location or 0, each.stmt_len or len(script)
            left.append(script[end:begins])
            end = begins + length + len(";")
    return "".join([*left, script[end:]])
