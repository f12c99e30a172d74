"""The staging database for a dump: created like the live one, filled, checked and marked complete."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import psycopg
from psycopg import sql

from runbook_lib.postgres import Connection, Open, Row
from runbook_lib.postgres.catalog import OWN_SCHEMA
from runbook_lib.postgres.connection import MAINTENANCE, Postgres, one, owner_of
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.restore.dump_inspector import Dump
from runbook_lib.postgres.script import written_down
from runbook_lib.postgres.sessions import cancelled_by
from runbook_lib.postgres.text_settings import fitted

TIMEOUT = 6 * 3600.0  # seconds for a restore
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


@dataclass(frozen=True)
class StagingState:
    """The existing databases of a run; each name is "" if that one does not exist."""

    live: str
    lets_in: bool  # whether the live one accepts connections
    staging: str
    restored_from: str  # SHA-256 of the dump that the staging database holds completely
    kept: str  # the old one, once another has its name


def staging_name(live: str, run: str) -> str:
    """Return the name of the database that a run restores into."""
    return fitted(live, f"_restored_{run}")


def kept_name(live: str, run: str, day: date) -> str:
    """Return the name of the old database, once another has its name."""
    return fitted(live, f"_before_rollback_{day:%Y%m%d}_{run}")


def migrated_name(live: str, run: str) -> str:
    """Return the name of the copy of a restored database on which the migrations run."""
    return fitted(live, f"_migrated_{run}")


def part_name(live: str, run: str) -> str:
    """Return the name of the database that part of a dump is restored into, to be copied from there."""
    return fitted(live, f"_part_{run}")


def _kept_pattern(live: str, run: str) -> str:
    day = "D" * 8
    return r"\d{8}".join(re.escape(fitted(live, f"_before_rollback_{day}_{run}")).rsplit(day, 1))


def staging_state(maintenance: Connection, live: str, run: str) -> StagingState:
    """Return the existing databases of a run. Read-only."""
    staging = staging_name(live, run)
    found: dict[str, Row] = {
        row["name"]: row
        for row in maintenance.execute(
            """SELECT datname AS name, datallowconn AS lets_in, shobj_description(oid, 'pg_database') AS comment
               FROM pg_database WHERE datname IN (%s, %s) OR datname ~ %s""",
            [live, staging, f"^{_kept_pattern(live, run)}$"],
        )
    }
    mark = re.fullmatch(_mark(run, "([0-9a-f]{64})"), found.get(staging, {}).get("comment") or "")
    return StagingState(
        live=live if live in found else "",
        lets_in=bool(found.get(live, {}).get("lets_in")),
        staging=staging if staging in found else "",
        restored_from=mark[1] if mark else "",
        kept=next((name for name in found if name not in (live, staging)), ""),
    )


def creation(maintenance: Connection, name: str, live: str) -> list[str]:
    """Return the statement that creates the staging database. Read-only."""
    with written_down(maintenance) as statements:
        create_alike(maintenance, live, name)
    return statements


def create_alike(maintenance: Connection, live: str, name: str) -> None:
    """Create an empty database with owner, encoding, collation and tablespace of the live one. Changes the target."""
    like = one(
        maintenance,
        """SELECT pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding, to_jsonb(d) AS it,
                  (SELECT nullif(spcname, 'pg_default') FROM pg_tablespace t WHERE t.oid = dattablespace) AS tablespace
           FROM pg_database d WHERE datname = %s""",
        [live],
    )
    it = like["it"]
    provider = PROVIDERS[it["datlocprovider"]]
    locale = it.get("datlocale") or it.get("daticulocale")  # named daticulocale before 17
    options = {
        "ENCODING": like["encoding"],
        "LOCALE_PROVIDER": provider,
        "LC_COLLATE": it["datcollate"],
        "LC_CTYPE": it["datctype"],
        **({f"{provider.upper()}_LOCALE": locale} if locale else {}),
        **({"ICU_RULES": it["daticurules"]} if it.get("daticurules") else {}),
    }
    # Naming even the default needs a privilege of its own.
    tablespace = sql.SQL("TABLESPACE {}" if like["tablespace"] else "").format(sql.Identifier(like["tablespace"] or "-"))
    maintenance.execute(
        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 {} {}").format(
            sql.Identifier(name),
            sql.Identifier(like["owner"]),
            tablespace,
            sql.SQL(" ").join(sql.SQL(f"{key} {{}}").format(sql.Literal(value)) for key, value in options.items()),
        )
    )


def restore_staging(
    postgres: Postgres,
    tools: DumpTools,
    live: str,
    dump: Path,
    sha256: str,
    jobs: int,
    look: Callable[[], object] = lambda: None,
    without: Collection[int] = (),
) -> None:
    """Restore a dump into a new staging database, gather statistics and mark it complete. Changes the target.

    First drops what an interrupted try left. An exception from `look` ends the work.
    Entries with the numbers `without` are left out.

    Raises:
        AdapterError: Something could not be restored; the staging database has no mark.
    """
    staging = staging_name(live, postgres.run)
    with postgres.connect(MAINTENANCE) as maintenance:
        drop(maintenance, staging, force=True)  # pg_restore of a killed try may still work in it
        create_alike(maintenance, live, staging)
        tools.restore_listed(dump, staging, TIMEOUT, f"--jobs={jobs}", left_out=without)
        with postgres.connect(staging) as connection, cancelled_by(connection, look):
            connection.execute("SET statement_timeout = 0")
            # Records of earlier runs, as old as the dump; the swap copies the live database's own.
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(OWN_SCHEMA)))
            connection.execute("ANALYZE")
        mark(maintenance, staging, postgres.run, sha256)


@contextmanager
def migrated(postgres: Postgres, tools: DumpTools, live: str, scripts: Iterable[Path]) -> Iterator[tuple[Open, str]]:
    """Yield a copy of the staging database on which the target's owner ran the migrations; drop it at the end.

    Changes the target only by that database. Also yields the server's message on a statement that failed, "" for none.
    """
    name, staging = migrated_name(live, postgres.run), staging_name(live, postgres.run)
    with postgres.connect(MAINTENANCE) as maintenance:
        drop(maintenance, name, force=True)
        owner = sql.Identifier(owner_of(maintenance, live))
        command = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
        maintenance.execute(command.format(sql.Identifier(name), owner, sql.Identifier(staging)))
        try:
            role = sql.SQL("SET ROLE {}").format(owner).as_string(maintenance)
            said = (tools.run_script(each, name, TIMEOUT, role) for each in scripts)
            yield lambda: postgres.connect(name), next(filter(None, said), "")
        finally:
            drop(maintenance, name, force=True)


def mark(maintenance: Connection, staging: str, run: str, sha256: str) -> None:
    """Mark the staging database as holding a whole dump. Changes the target."""
    maintenance.execute(
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(staging), sql.Literal(_mark(run, sha256)))
    )


def drop(maintenance: Connection, name: str, *, force: bool = False) -> None:
    """Drop a database if it exists; by force with every session in it. Changes the target, irreversibly."""
    maintenance.execute(
        sql.SQL("DROP DATABASE IF EXISTS {}{}").format(sql.Identifier(name), sql.SQL(" WITH (FORCE)" if force else ""))
    )


def tables(connection: Connection) -> list[tuple[str, str]]:
    """Return schema and name of every table that stores rows, except the runbook's and extensions'. Read-only."""
    return [(row["schema"], row["name"]) for row in connection.execute(_TABLES, [OWN_SCHEMA])]


def counts(connection: Connection, names: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Count the rows of some tables ("schema.table" -> rows). Read-only."""
    query = sql.SQL("SELECT count(*) AS n FROM ONLY {}")
    return {f"{s}.{t}": one(connection, query.format(sql.Identifier(s, t)))["n"] for s, t in names}


def written_since(connection: Connection, table: tuple[str, str], column: str, moment: datetime) -> int | None:
    """Count the rows written after a moment, by a column; None if the table cannot be read. Read-only."""
    query = sql.SQL("SELECT count(*) AS n FROM {} WHERE {} > {}").format(
        sql.Identifier(*table), sql.Identifier(column), sql.Literal(moment)
    )
    try:
        return int(one(connection, query)["n"])
    except psycopg.DatabaseError:
        return None


def problems(connection: Connection, dump: Dump) -> list[str]:
    """Return the faults of a database restored from a dump: missing tables, invalid constraints or indexes. Read-only."""
    there = {
        row["it"]
        for row in connection.execute(
            "SELECT nspname || '.' || relname AS it FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        )
    }
    expected = [name for name in dump.contents.tables_with_data if not name.startswith(f"{OWN_SCHEMA}.")]
    not_valid = connection.execute(
        """SELECT format('the constraint %%s of %%s', conname, conrelid::regclass) AS it FROM pg_constraint
           WHERE NOT convalidated AND conname <> ALL (%s) AND pg_get_constraintdef(oid) NOT LIKE '%%NOT ENFORCED%%'
           UNION ALL SELECT format('the index %%s', indexrelid::regclass) FROM pg_index WHERE NOT indisvalid""",
        [list(dump.not_valid)],
    )
    return [f"the table {name} is missing" for name in expected if name not in there] + [
        f"{row['it']} is not valid" for row in not_valid
    ]


_TABLES = """
SELECT nspname AS schema, relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND relpersistence <> 't' AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%%'
  AND nspname <> %s
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY 1, 2
"""


def _mark(run: str, sha256: str) -> str:
    return f"runbook {run}: restored from {sha256}"
