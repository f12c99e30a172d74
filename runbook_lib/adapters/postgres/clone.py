"""A schema-only clone of the target's database, in which DDL can be tried; it is dropped whatever happens.

Publications and subscriptions are left out, so nothing is sent anywhere. One clone of a target is made at a time, under an
advisory lock, so a clone that is found while the lock is held was left by a process that was killed, and is dropped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from runbook_lib.adapters.postgres.alone import alone, key_of
from runbook_lib.adapters.postgres.connection import MAINTENANCE, Connection, Postgres, identity
from runbook_lib.adapters.postgres.dump import DumpTools
from runbook_lib.adapters.postgres.restore.side import create_alike, drop, fitted
from runbook_lib.errors import AdapterError

TIMEOUT = 60.0  # seconds for each of dumping and restoring the schema
PATIENCE = "10s"  # for which another run's clone is waited for
LEFT_OUT = ("--schema-only", "--no-publications", "--no-subscriptions", "--no-security-labels", "--no-tablespaces")
WITHOUT_OWNERS = ("--no-owner", "--no-privileges")
COMMENT = "runbook: schema-only clone, to try DDL on; it holds no rows and can be dropped"


@dataclass(frozen=True)
class Clone(Postgres):
    """The clone as a run reaches it; `with_owners` says whether its objects belong to whom they belong in the target."""

    name: str = ""
    with_owners: bool = True

    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Connection]:
        """A connection to the clone in autocommit mode, or to another database of its server; closed afterwards.

        Raises:
            AdapterError: The database cannot be reached, or a statement failed.
        """
        with super().connect(database or self.name) as connection:
            yield connection


@contextmanager
def cloned(target: Postgres, there: Postgres, source: DumpTools, tools: DumpTools, scratch: Path) -> Iterator[Clone]:
    """A clone of `target` on the server that `there` leads to, for as long as the block runs.

    Changes that server, but nothing in the target's database.

    Args:
        target: The database whose schema is taken.
        there: Another connection to the target, or one to another server of the same version.
        source: The client tools for the target.
        tools: Those for the clone's server.
        scratch: A directory for the dump of the schema.

    Raises:
        AdapterError: The clone could not be made, or not be dropped.
    """
    dump = scratch / f"schema-{target.run}.dump"
    name = clone_name(target.database, target.run)
    with there.connect(MAINTENANCE) as maintenance, _alone(maintenance, target.database):
        for left in left_over(maintenance, target.database, target.run):
            drop(maintenance, left, force=True)
        source.dump_part(dump, TIMEOUT, *LEFT_OUT, "--lock-wait-timeout=5000")
        try:
            with_owners = _made(target, there, tools, dump, maintenance, name)
            yield Clone(there.service, target.run, None, name, with_owners)
        finally:
            drop(maintenance, name, force=True)
            dump.unlink(missing_ok=True)


def clone_name(database: str, run: str) -> str:
    """What a run's clone of a database is called."""
    return fitted(database, f"_tried_{run}")


def left_over(maintenance: Connection, database: str, run: str) -> list[str]:
    """The clones of a database that are there now: of any run where they say so, of this one by their name. Read-only."""
    found = maintenance.execute(
        """SELECT datname AS name, shobj_description(oid, 'pg_database') AS comment FROM pg_database
           WHERE NOT datistemplate AND datname LIKE %s""",
        ["%\\_tried\\_%"],
    )
    return [row["name"] for row in found if _is_clone(row["name"], row["comment"], database, run)]


def _is_clone(name: str, comment: str | None, database: str, run: str) -> bool:
    of_run = name.rpartition("_tried_")[2]
    return name == clone_name(database, of_run) and (comment == COMMENT or of_run == run)


def _made(target: Postgres, there: Postgres, tools: DumpTools, dump: Path, maintenance: Connection, name: str) -> bool:
    """Make the clone with its owners and rights, else without them; tells which it is."""
    with target.connect() as connection:
        here, other = identity(connection), identity(maintenance)
    versions = [found.server_version // 10000 for found in (other, here)]
    if len(set(versions)) > 1:
        raise AdapterError(
            f"The clone's server is of version {versions[0]}, the target's {versions[1]}.",
            where=f"libpq service {there.service}",
            state="Nothing was made.",
            safe_next="Name a server of the target's version, or none.",
        )
    same = here.system == other.system
    for options in [(), WITHOUT_OWNERS] if same else [WITHOUT_OWNERS]:
        drop(maintenance, name, force=True)
        if same:
            create_alike(maintenance, target.database, name)
        else:
            maintenance.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        maintenance.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(COMMENT)))
        try:
            tools.restore(dump, name, TIMEOUT, *options)
            return not options
        except AdapterError:
            if options:
                raise
    raise AssertionError


@contextmanager
def _alone(maintenance: Connection, database: str) -> Iterator[None]:
    """Hold the lock under which alone a clone of a database is made; it dies with the connection."""
    with alone(maintenance, key_of(f"runbook clone of {database}"), PATIENCE) as got:
        if not got:
            raise AdapterError(
                "Another run tries its DDL on a clone of this database now.",
                where=f"database {database}",
                state="Nothing was made.",
                safe_next="Take the preview again in a moment.",
            )
        yield
