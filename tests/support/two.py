"""The live database and one restored from its backup."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.restore.diff import Ledger, diff
from runbook_lib.postgres.restore.difference_kinds import Kind
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import Server

BACKFILLED = "public.messages"
HISTORY = [("public", "schema_migrations")]


@dataclass
class Two:
    """Two databases that are equal at first; statements are made in the application's role, the diff in the runbook's."""

    live: psycopg.Connection
    backup: psycopg.Connection
    here: Postgres
    there: Postgres
    plan: DatabasePlan
    server: Server
    role: str  # the runbook's

    def as_superuser(self, *statements: str) -> None:
        for connection in (self.live, self.backup):
            with self.server.connect(dbname=connection.info.dbname) as superuser:
                for statement in statements:
                    superuser.execute(statement)  # type: ignore[call-overload]

    def both(self, *statements: str) -> None:
        for connection in (self.live, self.backup):
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]

    def diff(self) -> Ledger:
        return diff(self.here.connect, self.there.connect, self.plan, HISTORY)

    def counts(self, table: str) -> dict[str, int]:
        return {str(kind): number for kind, number in self.diff().table(table).counts.items()}

    def samples(self, table: str, kind: Kind) -> tuple[str, ...]:
        return self.diff().table(table).samples.get(kind, ())

    def restored(self, query: str) -> list[Any]:
        """What a query gives in the restored database."""
        return self.backup.execute(query).fetchall()  # type: ignore[call-overload]


@contextmanager
def two_of(template: Database, name: str, services: Path, plan: DatabasePlan) -> Iterator[Two]:
    live, backup = (template.clone(f"{name}_{which}") for which in ("live", "backup"))
    lines = []
    for database in (live, backup):
        lines += [f"[{database.name}]", *(f"{n}={value}" for n, value in database.parameters(database.runbook).items()), ""]
    services.write_text("\n".join(lines))
    with (
        psycopg.connect(live.conninfo(live.application), autocommit=True) as here,
        psycopg.connect(backup.conninfo(backup.application), autocommit=True) as there,
    ):
        yield Two(
            here, there, Postgres(live.name, "test"), Postgres(backup.name, "test"), plan, live.server, live.runbook.name
        )
    live.drop()
    backup.drop()
