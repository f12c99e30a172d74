"""Option A on a real database, and rows to try it on."""

import json
from typing import Any

import psycopg

from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.proof import Proof

LEGACY = {"type": "image", "url": "/media/x.svg", "source": "legacy_migration"}
OWN = {"type": "image", "url": "/media/own.svg", "source": "upload"}


def clearing(postgres: Postgres, backfill: Backfill, strategy: str, *, stopped: bool = True) -> BackfillRemoval:
    return BackfillRemoval(postgres.connect, backfill, strategy, stopped)


def proved(postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str) -> Proof:
    work = clearing(postgres, backfill, strategy)
    Records(backfill).prepare(connection)
    work.proof.record(connection)
    work.apply()
    return work.proof


def insert(application: psycopg.Connection, attachments: Any, media_url: str | None = "/media/x.svg") -> int:
    row = application.execute(
        """INSERT INTO messages (conversation_id, sender_id, content, media_type, media_url, attachments)
           VALUES (1, 1, 'test', 'image', %s, %s) RETURNING id""",
        [media_url, None if attachments is None else json.dumps(attachments)],
    ).fetchone()
    assert row is not None
    return int(row[0])


def attachments(application: psycopg.Connection, key: int) -> Any:
    row = application.execute("SELECT attachments FROM messages WHERE id = %s", [key]).fetchone()
    assert row is not None
    return row[0]


def rows(application: psycopg.Connection) -> list[Any]:
    return application.execute("SELECT to_jsonb(m) FROM messages m ORDER BY id").fetchall()
