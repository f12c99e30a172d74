"""Runs a statement over many staged rows, and finds those that it fails for by halving."""

from collections.abc import Callable

from psycopg import errors, sql

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.restore.binding import Binding
from runbook_lib.adapters.postgres.restore.classes import Kind

ROW_ERRORS = (errors.IntegrityError, errors.DataError, errors.InternalError, errors.RaiseException)
PATIENCE = 200  # rows of a statement that may fail one by one; then the rest is not tried

Statement = Callable[[sql.Composable], sql.Composed]  # of the condition of the rows it is for
Failed = Callable[[sql.Composable, str], object]  # is told the condition of rows, and why they failed


def each(connection: Connection, binding: Binding, kind: Kind, statement: Statement, failed: Failed) -> int:
    """Run a statement for all rows of a kind that wait, leaving out those that it fails for; how many it changed.

    Changes the target.
    """
    refused = 0

    def run(low: int | None, high: int | None) -> int:
        nonlocal refused
        rows = binding.waiting(kind, low, high)
        try:
            with connection.transaction():
                return connection.execute(statement(rows)).rowcount
        except ROW_ERRORS as error:
            reason = str(error).splitlines()[0]
        span = one(
            connection,
            sql.SQL("""SELECT count(*) AS n, min(runbook_row) AS low, max(runbook_row) AS high,
            percentile_disc(0.5) WITHIN GROUP (ORDER BY runbook_row) AS middle FROM {} c WHERE {}""").format(
                binding.cargo.lies_in, rows
            ),
        )
        if span["n"] == 1 or refused >= PATIENCE:
            refused += 1
            failed(
                rows,
                reason if span["n"] == 1 else f"not tried, {PATIENCE} rows of its table having failed, the last: {reason}",
            )
            return 0
        return run(span["low"], span["middle"]) + run(span["middle"] + 1, span["high"])

    return run(None, None)
