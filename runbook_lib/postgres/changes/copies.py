"""Makes a run's scratch databases on the target's server, to try a rollback on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from psycopg import sql

from runbook_lib.errors import AdapterError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA
from runbook_lib.postgres.changes.objects import Object, quote
from runbook_lib.postgres.changes.trial import States
from runbook_lib.postgres.connection import MAINTENANCE, Postgres, owner_of
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.lease import exclusively, key_of
from runbook_lib.postgres.restore.staging_database import create_alike, drop
from runbook_lib.postgres.text_settings import fitted

TIMEOUT = 3600.0  # seconds for each of dumping and restoring
PATIENCE = "10s"  # how long to wait for another run's copies
LEFT_OUT = ("--no-publications", "--no-subscriptions", "--no-security-labels", "--no-tablespaces")
NOT_COPIED = ("other event trigger ", "other publication ")  # the start of keys of objects that a copy never has
EVENT_TRIGGERS = "(?:COMMENT - )?EVENT TRIGGER"  # only a superuser may create them
KEPT = {"first": "kept_first", "copy": "kept_copy"}  # the states before and after the rollback, which its undo needs


@dataclass(frozen=True)
class Copies(States):
    """A run's states, on the target's server."""

    target: Postgres
    tools: DumpTools
    scratch: Path

    def name(self, state: str) -> str:
        """Name the database of a state. Pure."""
        return fitted(self.target.database, f"_{state}_{self.target.run}")

    @contextmanager
    def alone(self) -> Iterator[Copies]:
        """Reserve the making of states for this run; at the end drop all but those kept.

        Changes the server.

        Raises:
            AdapterError: Another run is making states now.
        """
        with self.target.connect(MAINTENANCE) as maintenance:
            key = key_of(f"runbook copies of {self.target.database}")
            with exclusively(maintenance, key, PATIENCE) as got:
                if not got:
                    raise AdapterError(
                        "Another run is trying its rollback on copies of this database.",
                        where=f"database {self.target.database}",
                        state="Nothing was made.",
                        safe_next="Try again in a moment.",
                    )
                self._drop(maintenance)
                try:
                    yield self
                finally:
                    self._drop(maintenance)

    def make(self, state: str, of: str = "") -> None:
        """Create the database of a state, empty or as a copy of another state's. Changes the server."""
        with self.target.connect(MAINTENANCE) as maintenance:
            name = self.name(state)
            drop(maintenance, name, force=True)
            if of:
                command = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
                names = [sql.Identifier(each) for each in (name, self.owner, self.name(of))]
                maintenance.execute(command.format(*names))
            else:
                create_alike(maintenance, self.target.database, name)
            _comment(maintenance, name, self._said(self.target.run, "to try a rollback on"))

    def keep(self) -> None:
        """Keep the states that an undo needs, under separate names. Changes the server."""
        with self.target.connect(MAINTENANCE) as maintenance:
            for state, kept in KEPT.items():
                names = [sql.Identifier(self.name(each)) for each in (state, kept)]
                drop(maintenance, self.name(kept), force=True)
                maintenance.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*names))
                _comment(maintenance, self.name(kept), self._said(self.target.run, "kept for an undo"))

    @contextmanager
    def connected(self, state: str) -> Iterator[Connection]:
        """Connect to the database of a state, as the target's owner."""
        with self.target.connect(self.name(state)) as connection:
            connection.execute("SET statement_timeout = 0")
            connection.execute("SET idle_in_transaction_session_timeout = 0")
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self.owner)))
            yield connection

    def run(self, state: str, files: Sequence[Path]) -> str:
        """Run scripts until a statement fails; return the server's message, "" if none failed. Changes the database."""
        first, name = f"SET ROLE {quote(self.owner)}", self.name(state)
        return next((said for each in files if (said := self.tools.run_script(each, name, TIMEOUT, first))), "")

    def restore(self, state: str, dump: Path) -> None:
        """Restore a dump as a state, where the target's owner owns everything. Changes the server."""
        self.make(state)
        options = ("--no-owner", f"--role={self.owner}", *LEFT_OUT)
        self.tools.restore_listed(dump, self.name(state), TIMEOUT, *options, without=EVENT_TRIGGERS)

    def copy_live(self, state: str, left_out: Sequence[Object]) -> None:
        """Copy the target as a state, with owners and rights, without the runbook's schema. Changes the server.

        Tables left out are empty there. The target's owner restores it, so that it owns extensions too; if it may not, our
        role does.
        """
        dump = self.scratch / f"live-{self.target.run}.dump"
        without = [f"--exclude-schema={OWN_SCHEMA}", *(f"--exclude-table-data={each.quoted}" for each in left_out)]
        try:
            self.tools.dump_part(dump, TIMEOUT, *without, *LEFT_OUT, "--lock-wait-timeout=5000")
            for options in ([f"--role={self.owner}"], []):
                self.make(state)
                try:
                    self.tools.restore_listed(dump, self.name(state), TIMEOUT, *LEFT_OUT, *options, without=EVENT_TRIGGERS)
                    break
                except AdapterError:
                    if not options:
                        raise
        finally:
            dump.unlink(missing_ok=True)

    def kept(self) -> bool:
        """Report whether the states that an undo needs exist. Read-only."""
        with self.target.connect(MAINTENANCE) as maintenance:
            found = self._names(maintenance, f"^{re.escape(self._said(self.target.run, 'kept for an undo'))}$")
        return set(found) == {self.name(state) for state in KEPT.values()}

    def drop_kept(self) -> list[str]:
        """Drop all states of this run, including the kept ones; return their names. Changes the server."""
        with self.target.connect(MAINTENANCE) as maintenance:
            found = self._names(maintenance, f"^runbook {re.escape(self.target.run)}: a copy of ")
            for name in found:
                drop(maintenance, name, force=True)
        return found

    def _drop(self, maintenance: Connection) -> None:
        of_any_run = re.escape(self._said("", "to try a rollback on")).replace("runbook\\ :", "runbook [^ ]+:")
        for name in self._names(maintenance, f"^{of_any_run}$"):
            drop(maintenance, name, force=True)

    def _said(self, run: str, what: str) -> str:
        return f"runbook {run}: a copy of {self.target.database}, {what}"

    def _names(self, maintenance: Connection, comment: str) -> list[str]:
        rows = maintenance.execute(
            "SELECT datname AS name FROM pg_database WHERE shobj_description(oid, 'pg_database') ~ %s", [comment]
        )
        return [row["name"] for row in rows]

    @cached_property
    def owner(self) -> str:
        """Name the target's owner. Read-only."""
        with self.target.connect(MAINTENANCE) as maintenance:
            return owner_of(maintenance, self.target.database)


def _comment(maintenance: Connection, name: str, text: str) -> None:
    maintenance.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text)))
