"""The schema is as the rollback leaves it, and migration history and files agree."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from runbook_lib.checks import CheckContext, check
from runbook_lib.checks.restorable import restores
from runbook_lib.config.plan import CheckSpec, RevertingStep
from runbook_lib.context import Context, old_code
from runbook_lib.context.before import newest_before
from runbook_lib.context.comparison import CATALOG_BEFORE, CATALOG_RESTORED
from runbook_lib.context.migration_files import files_of, history, own_files, read
from runbook_lib.errors import AdapterError
from runbook_lib.git import Checkout
from runbook_lib.postgres import plan_fit
from runbook_lib.postgres.catalog import catalog, differences, missing
from runbook_lib.postgres.clone import read_both
from runbook_lib.postgres.column_removal import Record, Removal, Stage, records
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.restore.dump_inspector import Dump, look
from runbook_lib.postgres.schema_objects import Objects, schema_objects, with_wholes, without
from runbook_lib.postgres.schema_objects import differences as object_differences
from runbook_lib.redaction import redact_values
from runbook_lib.results import Found, Result, Status


def agreement(context: Context, checkout: Checkout, *, recorded: bool) -> Found:
    """Check that a checkout has the migration's file exactly if the history has its row. Read-only.

    It is UNKNOWN if no file name was ever recognised as the migration's.

    Args:
        checkout: The deployed checkout, or a clone with its future code.
        recorded: Whether the history has the row.
    """
    migration = context.plan.migration
    if migration is None:
        return Status.PASS, "the plan names no migration"
    files = files_of(migration, read(migration, checkout))
    known = files
    if not all(files.values()):
        known = files_of(migration, read(migration, context.checkout(migration.repository), ever=True))
    found: list[Found] = []
    for version in migration.versions:
        row = f"migration {version} is {'in' if recorded else 'not in'} {migration.table}"
        if not (names := files[version] or known[version]):
            shows = "name" if not migration.content else "name or text"
            said = f"{row}, and no file in {migration.directory} is recognised as that migration's by its {shows}"
            found.append((Status.UNKNOWN, said))
        elif bool(files[version]) != recorded:
            found.append((Status.FAIL, f"{row}, but {', '.join(names)} {'exists' if files[version] else 'is missing'}"))
    bad = [each for each in found if each[0] is Status.FAIL] or found
    return (bad[0][0], "; ".join(said for _, said in bad)) if bad else (Status.PASS, "history and files agree")


def will_agree(context: Context) -> Found:
    """Check that they will agree after the rollback, by the code in the scratch clone. Read-only."""
    plan, migration, rows = context.plan, context.plan.migration, history(context)
    if migration is None or rows is None:
        return Status.PASS, "the plan names no migration"
    reverted = [spec.repository for spec in context.specs.values() if isinstance(spec, RevertingStep)]
    if migration.repository not in reverted and not any(
        isinstance(plan.checks[n], SchemaKeys) for n in plan.types[context.type].checks
    ):
        return Status.PASS, "this rollback changes neither"
    with context.adapters.postgres.connect() as connection:
        recorded = rows.says_applied(connection) and context.schema_stays
    deployed = context.checkout(migration.repository)
    after = deployed
    if migration.repository in reverted:
        after = Checkout(old_code.prepare(context, migration.repository).path, context.adapters.processes)
    status, summary = agreement(context, after, recorded=recorded)
    if status is Status.PASS:
        return status, f"{summary} as the rollback leaves them"
    left = own_files(migration, read(migration, after))
    if not left or recorded:
        return status, f"as the rollback would leave them, {summary}"
    added = "; ".join(deployed.added_by(left))
    return (
        status,
        f"as the rollback would leave them, {summary}: it was added by {added}, which is not one of the feature's commits. "
        f"If it is one, list it under repositories.{migration.repository}.commits in the plan",
    )


KEPT = "evidence/schema-left-over.json"  # the last findings, with their schema and backup
LOOKED_AT = 20  # newest backups to search for one from before the feature
AS_IN_BACKUP = "schema-as-in-backup"  # the name that waives it


def left_over(context: Context, taken: Collection[str]) -> tuple[Status, str]:
    """Check that only objects named in the plan differ from the backup from before the feature. Read-only.

    Args:
        context: The run's context.
        taken: The objects that the rollback removes or renames, with all their parts.
    """
    backup = from_before(context)
    if backup is None:
        return Status.PASS, "not compared: no backup from before the feature exists"
    try:
        found, from_text = _found(context, backup, taken)
    except AdapterError as error:
        return Status.UNKNOWN, f"{error.what} {error.safe_next}"
    like = f"{backup.path.name}, from before the feature"
    like += f" (by text of dumps, as no copy of the schema could be made: {from_text.rstrip('.')})" if from_text else ""
    if not found:
        return Status.PASS, f"all else is as in {like}"
    lines = [f"{name} {how}" for name, how in found.items()]
    return Status.FAIL, (
        f"this rollback leaves {len(found)} more differences from {like}: {'; '.join(lines)}. Remove them first, or list "
        f"those of others in the plan, under database.unmanaged: {json.dumps(list(found))}"
    )


def from_before(context: Context) -> Dump | None:
    """Return the newest backup without the feature's columns; None if there is none. Read-only."""
    backups = context.target.backups
    paths = sorted(Path(backups.directory).glob(backups.pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    if context.target.before:
        paths = [path] if (path := newest_before(context).path) else []
    for path in paths[:LOOKED_AT]:
        dump = look(context.adapters.dump_tools, path)
        database = context.plan.database
        if f"{database.schema_}.{database.table}" in dump.columns and not dump.columns_of_feature(database):
            return dump
    return None


def _found(context: Context, backup: Dump, taken: Collection[str]) -> tuple[dict[str, str], str]:
    with context.adapters.postgres.connect() as connection:
        state = {name: asdict(item) for name, item in schema_objects(connection).items()}
    names = {"taken": sorted(taken), "unmanaged": sorted(context.plan.database.unmanaged)}
    stat = backup.path.stat()
    looked_at = [state, names, str(backup.path), stat.st_size, stat.st_mtime_ns]
    key = hashlib.sha256(json.dumps(looked_at, sort_keys=True).encode()).hexdigest()
    kept = context.folder.read_json(KEPT)
    if kept is None or kept["of"] != key:
        found, from_text = _compared(context, backup, taken)
        kept = {"of": key, "found": found, "from text": from_text}
        context.folder.write_json(KEPT, kept)
    return kept["found"], kept["from text"]


def _compared(context: Context, backup: Dump, taken: Collection[str]) -> tuple[dict[str, str], str]:
    target = context.target.database
    name = None if target.clone_service else target.dbname
    there = Postgres(target.clone_service or target.service, context.folder.short, dbname=name)
    tools = DumpTools(context.adapters.processes, target.tools, there.service, dbname=name)
    two = read_both(context.adapters.postgres, there, context.adapters.dump_tools, tools, context.adapters.scratch, backup)
    unmanaged = set(context.plan.database.unmanaged)
    found = object_differences(without(two.backup, taken), without(two.live, taken))
    ours = {n: how for n, how in found.items() if not (unmanaged & {*_chain(two.live, n), *_chain(two.backup, n)})}
    return ours, two.from_text


def _chain(objects: Objects, name: str) -> list[str]:
    return list(with_wholes(objects, name))


class SchemaKeys(CheckSpec):
    """Whether the schema is as the rollback leaves it."""

    kind: Literal["schema"]

    area = "Database"
    requires = ("database",)


@check(SchemaKeys)
def as_expected(checked: CheckContext, name: str) -> Result:
    """Check that columns, indexes and constraints are as the option leaves them, all else as before. Read-only."""
    context = checked.context
    rows = history(context)
    with context.adapters.postgres.connect() as connection:
        present = catalog(connection, context.target.database.schema_)
        planned = plan_fit.in_words_of_server(connection, context.plan.database)
        kept = [name for name in present if name.endswith(f"__old_{context.folder.short}")]  # kept by a swap for its undo
        now = {name: definition for name, definition in present.items() if name not in kept}
        recorded = rows is not None and rows.says_applied(connection)
    migration = context.plan.migration
    agrees, summary = Status.PASS, ""
    if migration:
        agrees, summary = agreement(context, context.checkout(migration.repository), recorded=recorded)
    removes = any(spec.about.on_table == "schema" for spec in context.specs.values())
    restored = restores(context) is not None
    record = _record(context) if removes else None
    problems = missing(now, planned, feature=context.schema_stays)
    if removes:
        problems += records.left_over(now, context.plan.database, record)
    if agrees is Status.FAIL:
        problems.append(summary)
    before = context.folder.read_json(CATALOG_RESTORED if restored else CATALOG_BEFORE)
    changed, now = None, redact_values(now)  # the kept one is redacted too
    if before is not None:
        changed = records.changed(before, now, context.plan.database, record) if removes else differences(before, now)
    if changed:
        problems += changed
    compared = left_over(context, records.removed_by(context.plan.database, record)) if removes else (Status.PASS, "")
    waived = AS_IN_BACKUP in context.state.waivers
    if compared[0] is Status.FAIL and not waived:
        problems.append(compared[1])
    if problems:
        return checked.result(name, Status.FAIL, "; ".join(problems), problems=problems)
    if compared[0] is Status.UNKNOWN and not waived:
        return checked.result(name, *compared)
    parts = [
        _of_columns(context, removes, record),
        *(f"PENDING CLEANUP: {name} is kept" for name in kept),
        "older columns exist",
        summary,
    ]
    rest = "the rest of the catalog" if removes else "the whole catalog"
    like = "as in the backup" if restored else "as before the rollback"
    parts.append("not compared with a snapshot" if changed is None else f"{rest} is {like}")
    parts.append(f"waived: {compared[1]}" if waived and compared[0] is not Status.PASS else compared[1])
    return checked.result(name, agrees, ", ".join(filter(None, parts)), problems=problems)


def _of_columns(context: Context, removes: bool, record: Record | None) -> str:
    if removes:
        kept = record.asides.values() if record and record.stage is Stage.REMOVED else ()
        return "the feature's columns are gone" + (f" (PENDING CLEANUP: kept as {', '.join(kept)})" if kept else "")
    return f"the feature's columns stay (option {context.option})" if context.schema_stays else ""


def _record(context: Context) -> Record | None:
    """Return this run's record of the removed columns; None if it found them gone. Read-only."""
    removal = Removal(context.adapters.postgres, context.plan.database, context.folder.short, history(context))
    with removal.connect() as connection:
        return removal.state(connection).record
