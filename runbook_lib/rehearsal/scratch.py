"""Scratch databases of a rehearsal on one server, embedded or named, a database for each state, dropped at the end."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from runbook_lib.errors import AdapterError, ParametersError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.kinds import catalog_of
from runbook_lib.postgres.changes.losses import unstable
from runbook_lib.postgres.changes.rows import keys_watched
from runbook_lib.postgres.changes.trial import States
from runbook_lib.postgres.changes.work import Concerned
from runbook_lib.rehearsal.postgres import binaries, clean_environment, debian_programs, embedded_server

UNCHANGED = "Nothing was changed."
ANOTHER = "Name an empty database: it is filled, rolled back and left as it is then."


class Scratch(States):
    """Scratch databases on one server, a database for each state, dropped at the end."""

    def __init__(self, ending: ExitStack, conninfo: str = "", *, keeps: bool = False) -> None:
        self.keeps = keeps
        self._mark = f"runbook_rehearsal_{secrets.token_hex(4)}"
        self._names: dict[str, str] = {}
        if conninfo:
            self._parameters = _parameters(conninfo)
            if keeps:
                self._names["live"] = self._empty()
        else:
            self._parameters = dict(ending.enter_context(embedded_server()).parameters)
        try:
            with self._connect(dbname="postgres") as maintenance:
                self.major = maintenance.info.server_version // 10_000
        except psycopg.OperationalError as error:
            raise _out_of_reach("server", error, "Name one that answers, by a role that may make databases.") from None
        if conninfo:
            ending.callback(self._drop)
        self._programs = debian_programs(self.major) or binaries()

    def make(self, state: str, of: str = "") -> None:
        """Make the database of a state, empty or as a copy of another state's. Changes the server."""
        self._names[state] = f"{self._mark}_{state}"
        names = [sql.Identifier(self._names[state]), sql.Identifier(self._names[of] if of else "template0")]
        with self._connect(dbname="postgres") as maintenance:
            maintenance.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(*names))

    @contextmanager
    def connected(self, state: str) -> Iterator[Connection]:
        """Give a connection to the database of a state."""
        with self._connect(dbname=self._names[state]) as connection:
            yield connection

    def migrated(self, before: Path, migrations: Sequence[Path]) -> str:
        """Make the states before and, twice, after: what the server said of a statement that failed, "" where none did.

        Changes the server.
        """
        self.make("before")
        self.load("before", before)
        with ThreadPoolExecutor() as pool:
            second = pool.submit(self._migrated_again, migrations)
            self.make("after", "before")
            with self.connected("after") as after, keys_watched(after):
                stopped = self.run("after", migrations)
            second.result()
        return stopped

    def _migrated_again(self, migrations: Sequence[Path]) -> None:
        self.make("second", "before")
        self.run("second", migrations)

    def changing(self) -> list[str]:
        """Return the columns into which migrations write something else each time. Read-only."""
        with self.connected("after") as after, self.connected("second") as second:
            return unstable(after, second, catalog_of(after))

    def dump(self, state: str, to: Path, of: Concerned | None) -> None:
        """Write the database of a state to a file, with the rows of some tables alone. Changes that file."""
        with self.connected(state) as connection:
            tables = catalog_of(connection).of("table") if of else []
        without = [f"--exclude-table-data={each.quoted}" for each in tables if of and each.address not in of.tables]
        if said := self._client("pg_dump", state, "--format=custom", f"--file={to}", *without):
            raise AdapterError(f"The database {state} cannot be dumped: {said}", state="The scratch databases are dropped.")

    def load(self, state: str, file: Path) -> None:
        """Run a script, or restore a dump, which must not fail. Changes the database of a state.

        Raises:
            ParametersError: It did.
        """
        with file.open("rb") as data:
            is_dump = data.read(5) == b"PGDMP"
        said = self._client("pg_restore", state, "--no-owner", "--exit-on-error", str(file)) if is_dump else ""
        if said := said or ("" if is_dump else self.run(state, [file])):
            raise ParametersError(
                f"{file} cannot be loaded: {said}",
                state="The scratch databases are dropped.",
                safe_next="Correct it; each statement of a script runs in a transaction of its own.",
            )

    def run(self, state: str, files: Sequence[Path]) -> str:
        """Run scripts until a statement fails: what the server said of it, "" where none did. Changes the database."""
        for file in files:
            if said := self._client("psql", state, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={file}"):
                return said
        return ""

    def _client(self, program: str, state: str, *options: str) -> str:
        parameters = {**self._parameters, "dbname": self._names[state]}
        environment = {**clean_environment(), "PGCLIENTENCODING": "UTF8"}
        if password := parameters.pop("password", ""):
            environment["PGPASSWORD"] = password
        done = subprocess.run(
            [str(self._programs / program), *options, f"--dbname={make_conninfo('', **parameters)}"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.returncode:
            return ""
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()[-1:]
        return lines[0].rpartition("ERROR:")[2].strip() if lines else f"{program} ended with {done.returncode}"

    def _empty(self) -> str:
        """Return the name of the database that is kept.

        Raises:
            ParametersError: It cannot be reached, or holds something.
        """
        try:
            with self._connect() as connection:
                if [each for each in catalog_of(connection).objects if each != "schema public"]:
                    raise ParametersError(
                        f"The database {connection.info.dbname} is not empty.", state=UNCHANGED, safe_next=ANOTHER
                    )
                return str(connection.info.dbname)
        except psycopg.OperationalError as error:
            raise _out_of_reach("database to be kept", error, ANOTHER) from None

    @contextmanager
    def _connect(self, **parameters: str) -> Iterator[Connection]:
        conninfo = make_conninfo("", **{**self._parameters, **parameters})
        with psycopg.connect(conninfo, autocommit=True, row_factory=dict_row) as connection:
            connection.execute("SET client_min_messages = error")
            yield connection

    def _drop(self) -> None:
        with self._connect(dbname="postgres") as connection:
            for state, name in self._names.items():
                if state != "live" or not self.keeps:
                    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _parameters(conninfo: str) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    except psycopg.ProgrammingError as error:
        raise ParametersError(
            f"These are no settings of libpq: {str(error).strip()}",
            state=UNCHANGED,
            safe_next="Write them as “host=… port=… dbname=…”, or as postgresql://…",
        ) from None


def _out_of_reach(what: str, error: psycopg.Error, safe_next: str) -> ParametersError:
    return ParametersError(f"The {what} cannot be reached: {str(error).strip()}", state=UNCHANGED, safe_next=safe_next)
