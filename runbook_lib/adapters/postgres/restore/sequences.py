"""Raises the sequences of a restored database, so that no value is issued again that the live one has issued."""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.restore.shape import Name, written
from runbook_lib.errors import PreconditionError


@dataclass(frozen=True)
class Sequence:
    """A sequence: the value issued last, None where none was; and whether it counts up."""

    last: int | None
    upward: bool


def sequences(connection: Connection) -> dict[Name, Sequence]:
    """Every sequence that is not the system's or the runbook's. Read-only.

    Raises:
        PreconditionError: Our role may not read one.
    """
    rows = connection.execute(
        """SELECT s.schemaname AS schema, s.sequencename AS name, s.last_value AS last, s.increment_by > 0 AS upward,
                  has_sequence_privilege(format('%%I.%%I', s.schemaname, s.sequencename), 'USAGE, SELECT') AS readable
           FROM pg_sequences s WHERE s.schemaname <> %s ORDER BY 1, 2""",
        [OWN_SCHEMA],
    ).fetchall()
    if unreadable := [written((row["schema"], row["name"])) for row in rows if not row["readable"]]:
        raise PreconditionError(
            f"Our role may not read these sequences: {', '.join(unreadable)}.",
            state="No sequence was changed.",
            safe_next="Grant the role USAGE on them, then run the step again.",
        )
    return {(row["schema"], row["name"]): Sequence(row["last"], row["upward"]) for row in rows}


def raised(live: Mapping[Name, Sequence], backup: Mapping[Name, Sequence]) -> dict[Name, int]:
    """The sequences that have gone on in the live database since the backup, and how far."""
    return {
        name: here.last
        for name, here in live.items()
        if name in backup and here.last is not None and _further(here.last, backup[name])
    }


def raise_to(connection: Connection, values: Mapping[Name, int]) -> None:
    """Set sequences so that the next value comes after the one given. Changes the target."""
    for name, value in values.items():
        sequence = sql.Identifier(*name).as_string(connection)
        connection.execute("SELECT setval(%s::regclass, %s, true)", [sequence, value])


def _further(value: int, there: Sequence) -> bool:
    return there.last is None or (value > there.last if there.upward else value < there.last)
