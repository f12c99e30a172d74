"""Makes a schema-only clone of the target's database to try DDL in, and drops it whatever happens.

The clone has no publications or subscriptions, so nothing is sent anywhere. An advisory lock allows one clone of a target at
a time. Any clone found under that lock was left by a killed process, and is dropped.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from runbook_lib.errors import AdapterError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA
from runbook_lib.postgres.connection import MAINTENANCE, Postgres, identity
from runbook_lib.postgres.dump import OBJECT, DumpTools
from runbook_lib.postgres.lease import exclusively, key_of
from runbook_lib.postgres.restore.dump_inspector import Dump, items_by_table
from runbook_lib.postgres.restore.staging_database import create_alike, drop
from runbook_lib.postgres.schema_objects import OWNER, RIGHTS, Item, Objects, schema_objects
from runbook_lib.postgres.text_settings import fitted

TIMEOUT = 60.0  # seconds for each of dumping and restoring the schema
PATIENCE = "120s"  # to wait for other runs' clones: several targets may be schemas of one database
LEFT_OUT = ("--schema-only", "--no-publications", "--no-subscriptions", "--no-security-labels", "--no-tablespaces")
EVENT_TRIGGERS, NOTHING = "(?:COMMENT - )?EVENT TRIGGER", "-"  # patterns for kinds of dump entries
SECTIONS = [("--section=pre-data",), ("--section=post-data",)]  # rows are inserted between them, so nothing fires
WITHOUT_OWNERS = ("--no-owner", "--no-privileges")
SAYS = "runbook: schema-only clone"  # the start of its comment
COMMENT = f"{SAYS}, to try DDL on; it holds a few copied rows at most, and can be dropped"


@dataclass(frozen=True)
class Clone(Postgres):
    """Connects a run to the clone; `with_owners` says whether its objects have the same owners as in the target."""

    name: str = ""
    with_owners: bool = True

    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Connection]:
        """Open a connection in autocommit mode to the clone, or to another database of its server; closed afterwards.

        Raises:
            AdapterError: The database cannot be reached, or a statement failed.
        """
        with super().connect(database or self.name) as connection:
            yield connection


@contextmanager
def cloned(
    target: Postgres,
    there: Postgres,
    source: DumpTools,
    tools: DumpTools,
    scratch: Path,
    backup: Path | None = None,
    *,
    to_read: bool = False,
    fill: Callable[[Connection], object] | None = None,
) -> Iterator[Clone]:
    """Clone `target`, or a backup of it, on the server that `there` connects to; drop the clone after the block.

    Changes that server, but nothing in the target's database.

    Args:
        target: The database whose schema is taken.
        there: Another connection to the target, or one to another server of the same version.
        source: The client tools for the target.
        tools: Those for the clone's server.
        scratch: A directory for the dump of the schema.
        backup: A dump to take the schema from, instead of from the target.
        to_read: Whether it is only read. It then has no event triggers, which only a superuser may create.
        fill: Inserts rows into its tables, before they have constraints, indexes and triggers.

    Raises:
        AdapterError: The clone could not be created or dropped.
    """
    dump = scratch / f"schema-{target.run}.dump"
    name = clone_name(target.database, target.run)
    with there.connect(MAINTENANCE) as maintenance, _locked(maintenance, target.database):
        for left in left_over(maintenance, target.database, target.run):
            drop(maintenance, left, force=True)
        if backup is None:
            source.dump_part(dump, TIMEOUT, *LEFT_OUT, "--lock-wait-timeout=5000")
        try:
            without = EVENT_TRIGGERS if to_read else NOTHING
            with_owners = _made(target, there, tools, backup or dump, maintenance, name, without, fill)
            yield Clone(there.service, target.run, name=name, with_owners=with_owners)
        finally:
            drop(maintenance, name, force=True)
            dump.unlink(missing_ok=True)


def clone_name(database: str, run: str) -> str:
    """Name a run's clone of a database."""
    return fitted(database, f"_tried_{run}")


def left_over(maintenance: Connection, database: str, run: str) -> list[str]:
    """List the existing clones of a database: any run's by their comment, this run's by their name. Read-only."""
    found = maintenance.execute(
        """SELECT datname AS name, shobj_description(oid, 'pg_database') AS comment FROM pg_database
           WHERE NOT datistemplate AND datname LIKE %s""",
        ["%\\_tried\\_%"],
    )
    return [row["name"] for row in found if _is_clone(row["name"], row["comment"], database, run)]


def _is_clone(name: str, comment: str | None, database: str, run: str) -> bool:
    of_run = name.rpartition("_tried_")[2]
    return name == clone_name(database, of_run) and ((comment or "").startswith(SAYS) or of_run == run)


def _made(
    target: Postgres,
    there: Postgres,
    tools: DumpTools,
    dump: Path,
    maintenance: Connection,
    name: str,
    without: str,
    fill: Callable[[Connection], object] | None,
) -> bool:
    """Create the clone, with owners and rights if possible; return whether it has them."""
    with target.connect() as connection:
        here, other = identity(connection), identity(maintenance)
    versions = [found.server_version // 10000 for found in (other, here)]
    if len(set(versions)) > 1:
        raise AdapterError(
            f"The clone's server runs version {versions[0]}, the target's {versions[1]}.",
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
            for section in SECTIONS if fill else [()]:
                tools.restore_listed(dump, name, TIMEOUT, *LEFT_OUT, *options, *section, without=without)
                if fill and section == SECTIONS[0]:
                    with there.connect(name) as connection:
                        fill(connection)
            return not options
        except AdapterError:
            if options:
                raise
    raise AssertionError


@contextmanager
def _locked(maintenance: Connection, database: str) -> Iterator[None]:
    """Hold the lock that allows one clone of a database at a time; it ends with the connection."""
    with exclusively(maintenance, key_of(f"runbook clone of {database}"), PATIENCE) as got:
        if not got:
            raise AdapterError(
                "Another run is trying its DDL on a clone of this database.",
                where=f"database {database}",
                state="Nothing was made.",
                safe_next="Take the preview again in a moment.",
            )
        yield


CLUSTER_WIDE = ("publication", "subscription", "event trigger")  # kinds that a schema-only copy leaves out
_OF_TABLE = ("constraint", "trigger", "policy", "rule", "default", "index")  # kinds whose names begin with their table's
_INDEX_OF = re.compile(r" ON (?:ONLY )?(?:\w+|\"[^\"]+\")\.(?P<table>\w+|\"[^\"]+\") ")
_NOISE = re.compile(r"^(?:--.*|SET .*;|SELECT pg_catalog\.set_config.*|\\\\.*)$", re.MULTILINE)
_KINDS = {"fk constraint": "constraint", "check constraint": "constraint", "row security": "row security of table"}


def objects_in_text(schema: str) -> dict[str, Item]:
    """Split the SQL of pg_dump --verbose into objects, each with its SQL, except the runbook's own. Pure."""
    entries = list(OBJECT.finditer(schema))
    ends = [entry.start() for entry in entries[1:]] + [len(schema)]
    found: dict[str, Item] = {}
    for entry, end in zip(entries, ends, strict=True):
        kind = _KINDS.get(entry["kind"].lower(), entry["kind"].lower())
        if OWN_SCHEMA not in (entry["schema"], entry["name"]):
            found |= _objects_of_text(
                kind, entry["schema"], entry["name"], entry["owner"], _NOISE.sub("", schema[entry.end() : end])
            )
    return found


def only(objects: Objects, *beginnings: str) -> dict[str, Item]:
    """Select the objects whose names begin with one of `beginnings`. Pure."""
    return {name: item for name, item in objects.items() if name.startswith(beginnings)}


def _objects_of_text(kind: str, schema: str, name: str, owner: str, text: str) -> dict[str, Item]:
    before = "" if schema == "-" else f"{schema}."
    definition = " ".join(text.split())
    if kind in ("comment", "acl"):
        of, _, thing = name.partition(" ")
        whole = f"{of.lower()} {before}{thing.replace('.', ' ', 1) if of == 'COLUMN' else thing}"
        return {f"{'comment on ' if kind == 'comment' else RIGHTS}{whole}": Item(definition, whole)}
    if kind == "index" and (of_table := _INDEX_OF.search(text)):
        name = f"{of_table['table'].replace(chr(34), '')} {name}"
    key = f"{kind} {before}{name}"
    found = {f"{OWNER}{key}": Item(owner, key)} if owner else {}
    if kind == "table":
        parts = items_by_table(text)
        (items,) = parts.values() if len(parts) == 1 else ([],)
        definition = " ".join(text.partition("\n)")[2].split()) if items else definition
        found |= {f"{of} {before}{name} {part}": Item(" ".join(rest.split()), key) for of, part, rest in items}
    part_of = f"table {before}{name.partition(' ')[0]}" if kind in _OF_TABLE else ""
    if kind == "default":
        part_of = f"column {before}{name}"
    return found | {key: Item(definition, part_of)}


@dataclass(frozen=True)
class TwoSchemas:
    """The objects of a backup and of the live database, and why they were read from text ("" if from the catalog)."""

    backup: dict[str, Item]
    live: dict[str, Item]
    from_text: str


def read_both(
    target: Postgres, there: Postgres, source: DumpTools, tools: DumpTools, scratch: Path, backup: Dump
) -> TwoSchemas:
    """Read the schema of the target and of a backup of it. Changes nothing in the target's database.

    Both are read from copies, since a restored database deparses some definitions differently from its origin. Owners and
    rights come from the text if a copy cannot have them, and so does whatever a schema-only copy leaves out.

    Raises:
        AdapterError: No copy can be made, and the dump is from another major version.
    """
    texts = objects_in_text(backup.contents.schema), objects_in_text(source.schema(TIMEOUT))
    try:
        with cloned(target, there, source, tools, scratch, to_read=True) as clone:
            live, live_owned = _objects(clone), clone.with_owners
        with cloned(target, there, source, tools, scratch, backup.path, to_read=True) as clone:
            restored, backup_owned = _objects(clone), clone.with_owners
    except AdapterError as error:
        _require_same_version(target, backup, error)
        return TwoSchemas(*texts, error.what)
    owned = live_owned and backup_owned
    found = []
    for objects, text in ((restored, texts[0]), (live, texts[1])):
        kept = {name: item for name, item in objects.items() if owned or not name.startswith((OWNER, RIGHTS))}
        found.append(kept | only(text, *CLUSTER_WIDE, *(() if owned else (OWNER, RIGHTS))))
    return TwoSchemas(found[0], found[1], "")


def _objects(clone: Clone) -> dict[str, Item]:
    with clone.connect() as connection:
        return schema_objects(connection)


def _require_same_version(target: Postgres, backup: Dump, error: AdapterError) -> None:
    with target.connect() as connection:
        here = identity(connection).server_version // 10000
    if backup.contents.server != here:
        raise AdapterError(
            f"The schema of {backup.path.name}, from PostgreSQL {backup.contents.server}, cannot be compared with that of "
            f"PostgreSQL {here} without a copy of it: {error.what}",
            state="Nothing was changed.",
            safe_next="Let our role make databases (CREATEDB), or name a server for copies as database.clone_service.",
        )
