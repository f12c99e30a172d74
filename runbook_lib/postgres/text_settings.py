"""Names and values as text: quoted, within PostgreSQL's length limit, and the same for every session."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.postgres import Connection

SAME_TEXT: Mapping[str, str] = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmloption": "content",
    "lc_monetary": "C",
}
ALL_ROWS: Mapping[str, str] = {"row_security": "off"}  # rows hidden by a policy are an error, not absent


def pin(connection: Connection, *, local: bool, **more: str) -> None:
    """Pin the settings of a session, or only of its transaction, and `more` of them by name. Read-only."""
    settings = {**SAME_TEXT, **more}
    connection.execute(
        "SELECT set_config(name, value, %s) FROM unnest(%s::text[], %s::text[]) s (name, value)",
        [local, list(settings), list(settings.values())],
    )


_SETTINGS = """SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0; SET LOCAL enable_nestloop = off"""


@contextmanager
def in_parallel(connection: Connection, several: bool = True) -> Iterator[None]:
    """Open a transaction whose queries may use several cores, if `several`. Changes what the block changes."""
    with connection.transaction():
        if several:
            connection.execute(_SETTINGS)
        yield


LONGEST = 63  # bytes of an identifier: NAMEDATALEN - 1


def fitted(name: str, suffix: str = "") -> str:
    """Cut a name so that it is at most 63 bytes long with its suffix, at a character boundary.

    Example:
        >>> fitted("ü" * 40, "__old")
        'üüüüüüüüüüüüüüüüüüüüüüüüüüüüü__old'
    """
    return name.encode()[: LONGEST - len(suffix.encode())].decode(errors="ignore") + suffix


def identifier(database: Database) -> sql.Identifier:
    """Return the plan's table, quoted, with its schema."""
    return sql.Identifier(database.schema_, database.table)
