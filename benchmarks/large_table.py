"""A PostgreSQL server with one large table as the backfill leaves it, with a fresh copy for each measurement."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psycopg
from disk import limited
from psycopg import sql

from runbook_lib.postgres.connection import Postgres
from runbook_lib.rehearsal import postgres as embedded
from runbook_lib.rehearsal.database import Database, create_empty_database, make_history, migrate
from runbook_lib.rehearsal.stack_file import named

# As PostgreSQL comes, but that no checkpoint and no autovacuum falls into one side's measurement by chance.
SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}
INDEX = "idx_messages_attachments"
NEWEST = 10  # one row in so many came after the feature; every second of those holds an entry of the user's own


@dataclass(frozen=True)
class Bench:
    """The server, the database to copy, and the file through which copies are reached."""

    original: Database
    services: Path
    rows: int

    @contextmanager
    def copy(self, name: str = "bench") -> Iterator[tuple[Database, Postgres]]:
        """Yield a fresh copy of the original, and how the runbook reaches it; drop it afterwards."""
        copied = self.original.clone(name)
        lines = (f"{key}={value}" for key, value in copied.parameters(copied.runbook).items())
        self.services.write_text("\n".join([f"[{name}]", *lines, ""]))
        with copied.server.connect() as connection:
            connection.execute("CHECKPOINT")
        try:
            yield copied, Postgres(name, "bench")
        finally:
            with copied.server.connect() as connection:
                found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{name}%"]).fetchall()
                for (each,) in found:
                    connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(each)))


@contextmanager
def large_table(rows: int, *, holes: bool, disk: float = 0) -> Iterator[Bench]:
    """Yield a server with `rows` rows, a third of them backfilled, one in 20 with the user's own entry, among the newest.

    The table is dense; with `holes` the backfill was one UPDATE and has been vacuumed, so that a quarter of it is free. Once
    the rows are there, the server writes to a disk of no more than `disk` MB/s, where that is given.
    """
    embedded.SETTINGS.update(SETTINGS)
    with embedded.embedded_server() as server, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        database = create_empty_database(server)
        with psycopg.connect(database.conninfo(database.application), autocommit=True) as connection:
            _fill(connection, rows, holes=holes)
        services = Path(directory) / "services"
        os.environ["PGSERVICEFILE"] = str(services)
        data = Path(server.parameters["host"]) / "data"
        pid = int((data / "postmaster.pid").read_text().split()[0])
        with limited(pid, data, disk) if disk else nullcontext():
            yield Bench(database, services, rows)


_LEGACY = sql.SQL("""jsonb_build_array(
    jsonb_build_object('type', media_type, 'url', media_url, 'source', 'legacy_migration'))""")
_MESSAGES = sql.SQL("""INSERT INTO messages
    (conversation_id, sender_id, content, media_type, media_url, replied_to_message_id, attachments)
SELECT (n - 1) / 25 + 1, n * 7 % 40 + 1, 'Have a look at this, it is message number ' || n, media_type, media_url,
       CASE WHEN n % 5 = 0 THEN n - 1 END,
       CASE WHEN n > {rows} - {rows} / {newest} AND n % 2 = 0 THEN jsonb_build_array(jsonb_build_object(
           'type', 'image', 'url', '/media/upload-' || n || '.svg', 'source', 'upload')) ELSE '[]' END
       || CASE WHEN media_url IS NULL THEN '[]' ELSE {legacy} END
FROM (SELECT n, CASE WHEN n % 3 = 0 THEN 'image' END AS media_type,
             CASE WHEN n % 3 = 0 THEN '/media/' || lpad(n::text, 7, '0') || '.svg' END AS media_url
      FROM generate_series(1, {rows}) n) m ORDER BY n""")


def _fill(connection: psycopg.Connection, rows: int, *, holes: bool) -> None:
    make_history(named("sample"), connection)
    migrate(named("sample"), connection, "037", "038", "039")
    connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(INDEX)))
    connection.execute("INSERT INTO users (name) SELECT 'User ' || n FROM generate_series(1, 40) n")
    connection.execute(
        "INSERT INTO conversations (title) SELECT 'Conversation ' || n FROM generate_series(1, %s) n", [rows // 25 + 1]
    )
    connection.execute(_MESSAGES.format(legacy=sql.SQL("'[]'::jsonb") if holes else _LEGACY, newest=NEWEST, rows=rows))
    if holes:
        connection.execute(
            sql.SQL("UPDATE messages SET attachments = attachments || {} WHERE media_url IS NOT NULL").format(_LEGACY)
        )
    connection.execute(
        sql.SQL("CREATE INDEX {} ON messages USING gin (attachments jsonb_path_ops)").format(sql.Identifier(INDEX))
    )
    connection.execute("VACUUM (ANALYZE)")
