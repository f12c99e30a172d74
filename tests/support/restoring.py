"""A run of option C on a clone of the sample database."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.dump import DumpContents
from runbook_lib.postgres.restore import staging_database
from runbook_lib.rehearsal.database import Database
from runbook_lib.run import Run, engine
from runbook_lib.steps import Effect

ROWS: LiteralString = "SELECT to_jsonb(m) FROM messages m ORDER BY id"
ADDED: LiteralString = "INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, 'written since')"
MINE: LiteralString = "SELECT id, content FROM messages WHERE content IN ('mine', 'written since') ORDER BY id"
ASIDE, SWAP = "restore-staging", "swap-database"


@dataclass
class Restoring:
    """A run of option C on a clone of the sample database; `backup` is restored once, and copied from then on."""

    run: Run
    database: Database
    backups: Path
    backup: Path
    copies: list[str] | None

    def with_dump(self, contents: DumpContents) -> None:
        """Have the backup hold something else."""
        context = self.run.context
        context.adapters = context.adapters.but(dump=replace(context.dump, contents=contents))

    def ask(self, query: LiteralString, database: str = "") -> list[Any]:
        with self.database.server.connect(dbname=database or self.database.name) as it:
            return it.execute(query).fetchall()

    def change(self, *queries: LiteralString) -> None:
        """Change the live database as the application would."""
        with psycopg.connect(self.database.conninfo(self.database.application), autocommit=True) as it:
            for query in queries:
                it.execute(query)

    def administer(self, *queries: LiteralString) -> None:
        """Do something as the superuser, {} being the live database."""
        with self.database.server.connect(dbname=self.database.name) as it:
            for query in queries:
                it.execute(sql.SQL(query).format(sql.Identifier(self.database.name)))

    def approve(self) -> None:
        digest, _ = self.run.previews()
        self.run.waive("same-database", "the backup is of the database that this one was cloned from")
        self.run.approve(digest, "tester")

    def restore_staging(self) -> engine.Done:
        self.approve()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                staging_database, "restore_staging", partial(self._restored_or_copied, staging_database.restore_staging)
            )
            return engine.apply(self.run, ASIDE)

    def _restored_or_copied(
        self, restore: Callable[..., None], postgres: Postgres, tools: Any, live: str, dump: Path, sha256: str, *more: Any
    ) -> None:
        name = staging_database.staging_name(live, postgres.run)
        copied = self.copies if dump.samefile(self.backup) else None
        if not copied:
            restore(postgres, tools, live, dump, sha256, *more)
        if copied is None:
            return
        source, copy = (copied[0], name) if copied else (name, f"copy_of_{name}")
        with self.database.server.connect() as it:
            owner = sql.Identifier(self.database.application.name)
            command = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy")
            it.execute(command.format(sql.Identifier(copy), owner, sql.Identifier(source)))
            if copied:
                staging_database.mark(it, name, postgres.run, sha256)
            else:
                copied.append(copy)

    def swap(self) -> engine.Done:
        self.restore_staging()
        self.approve()
        return engine.apply(self.run, SWAP)

    def replace_backup(self, made: Callable[[Path], Path]) -> None:
        """Have another backup be the newest and only one."""
        for old in self.backups.iterdir():
            old.unlink()
        made(self.backups)

    @property
    def databases(self) -> dict[str, str]:
        """The databases of this test: the live one, and others by what they are."""
        name = self.database.name
        rows = self.ask("SELECT datname FROM pg_database", "postgres")
        kinds = {"restored": f"{name}_restored_", "kept": f"{name}_before_rollback_"}
        found = {kind: each for (each,) in rows for kind, start in kinds.items() if each.startswith(start)}
        return {"live": name, **found} if (name,) in rows else found

    def effect(self, step: str) -> Effect:
        return self.run.steps[step].probe().effect

    def journaled(self, kind: str) -> list[Any]:
        return [event.data for event in self.run.journal.events() if event.kind == kind]
