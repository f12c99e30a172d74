"""What was written since a backup, and a salvage of it."""

from runbook_lib.postgres.restore.export import Outcome
from runbook_lib.postgres.restore.salvage import Salvage

from .two import HISTORY, Two

LEGACY = '{"url": "/media/x.svg", "type": "image", "source": "legacy_migration"}'
OWN = '{"url": "/media/own.svg", "type": "image", "source": "upload"}'


class Crash(Exception):
    """Ends a salvage between two of its parts."""


def salvage_of(two: Two) -> Salvage:
    return Salvage(two.here.connect, two.there.connect, two.plan, HISTORY, "test")


def carried(two: Two, *, deletes: bool = True) -> Outcome:
    salvage = salvage_of(two)
    salvage.stage()
    return salvage.carry(deletes=deletes)


def reasons(two: Two, table: str = "public.child") -> dict[str, str]:
    """The reasons in the restored database's list, by key."""
    with two.there.connect() as connection:
        rows = connection.execute('SELECT key, reason FROM runbook.conflicts_test WHERE "table" = %s', [table])
        return {row["key"]: row["reason"] for row in rows}


def written_since(two: Two, attachments: str, reply: str = "NULL") -> int:
    row = two.live.execute(
        f"""INSERT INTO messages (
                conversation_id, sender_id, content, media_type, media_url, attachments, replied_to_message_id
            ) VALUES (1, 1, 'later', 'image', '/media/x.svg', '{attachments}', {reply}) RETURNING id"""  # type: ignore[call-overload]
    ).fetchone()
    assert row is not None
    return int(row[0])


CHILD = "CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES child, name text UNIQUE, CHECK (name <> 'no'))"
