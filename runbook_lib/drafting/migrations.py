"""Find a feature's migrations: the tool that owns their files, and what its history table says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from runbook_lib.config.plan.migration import DEFAULT_SCHEMA, Migration, MigrationTool, migration_tools
from runbook_lib.context.migration_files import forms, of_files
from runbook_lib.context.migration_sql import scripts
from runbook_lib.drafting.code import Code
from runbook_lib.errors import RunbookError
from runbook_lib.git import Checkout
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import has_column
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.migration_history import Applied, History

ANY = "plain"  # the tool that accepts any file name: used only if no other fits
NOTHING, TABLE, ROWS = range(3)  # what a history table shows of the files
LAST = 20  # other files inspected to learn how the history names files


@dataclass(frozen=True)
class Candidate:
    """A tool that may have applied a feature's files, and what its history shows of them."""

    code: Code
    migration: Migration
    files: tuple[str, ...]
    shows: int = NOTHING

    @property
    def applied(self) -> bool:
        """Whether the history has rows for them."""
        return self.shows == ROWS

    def as_plan(self) -> dict[str, object]:
        """Return the keys of the plan. Pure."""
        migration, tool = self.migration, migration_tools()[self.migration.tool]
        found: dict[str, object] = {"tool": migration.tool, "repository": migration.repository}
        found["versions"] = list(migration.versions)
        found |= {"directory": migration.directory} if migration.directory != tool.directory else {}
        given = {name: value for name, value in migration.where.items() if name in tool.named_by}
        return found | ({"where": given} if given else {})


@dataclass(frozen=True)
class _Named:
    schema_: str
    table: str


def look(found: Sequence[Code], postgres: Postgres) -> tuple[list[Candidate], str]:
    """Return the tools that may have applied the feature's files, best evidence first, and why the database was not asked.

    Read-only.
    """
    fitting = [candidate for code in found for candidate in _by_files(code)]
    if not fitting:
        return [], ""
    unasked = ""
    try:
        with postgres.connect() as connection:
            fitting = [_by_history(connection, each) for each in fitting]
    except RunbookError as error:
        unasked = error.what
    most = max(each.shows for each in fitting)
    best = [each for each in fitting if each.shows == most]
    if most == NOTHING and len(best) > 1 and (with_sql := [each for each in best if _has_sql(each)]):
        return with_sql, unasked
    return [each for each in best if each.migration.tool != ANY] or best, unasked


def _has_sql(candidate: Candidate) -> bool:
    """Whether the tool can give the SQL of the files, and so may apply them."""
    try:
        return bool(scripts(candidate.migration, candidate.code.checkout))
    except RunbookError:
        return False


def _by_files(code: Code) -> Iterator[Candidate]:
    """Yield the tools, each with its folder and the files that the feature adds there."""
    texts = code.checkout.texts(code.added)
    for name, tool in migration_tools().items():
        found: dict[str, list[str]] = {}
        for path in code.added:
            for directory in _folders(tool, path):
                trial = _migration(name, tool, code.repository, directory, ["?"])
                if forms(trial, path, texts.get(path, "")):
                    found.setdefault(directory, []).append(path)
                    break
        for directory, files in found.items():
            trial = _migration(name, tool, code.repository, directory, ["?"])
            versions = dict.fromkeys(forms(trial, path, texts.get(path, ""))[0] for path in files)
            yield Candidate(code, trial.model_copy(update={"versions": list(versions)}), tuple(files))


def _folders(tool: MigrationTool, path: str) -> Iterator[str]:
    """Yield the parent folders where a tool may keep a file; for a tool that recognises text, the file's own folder."""
    folder = PurePosixPath(tool.directory).parts
    for parent in PurePosixPath(path).parents:
        if not folder or parent.parts[-len(folder) :] == folder:
            yield str(parent)
    if tool.content and not tool.files:
        yield str(PurePosixPath(path).parent)


def _migration(name: str, tool: MigrationTool, repository: str, directory: str, versions: Sequence[str]) -> Migration:
    where = dict.fromkeys(tool.named_by, PurePosixPath(directory).parent.name)
    data = {"tool": name, "repository": repository, "versions": list(versions), "directory": directory, "where": where}
    return Migration.model_validate(data)


def _by_history(connection: Connection, candidate: Candidate) -> Candidate:
    """Return the candidate with the versions named as the history names them."""
    migration, checkout = candidate.migration, candidate.code.checkout
    table = _Named(migration.schema_ or DEFAULT_SCHEMA, migration.table)
    needed = {migration.column, *migration.where, *migration.half_applied, *migration.settled}
    if not all(has_column(connection, table, name) for name in needed | {migration.order or migration.column}):
        return candidate
    texts = checkout.texts(candidate.files)
    called = {path: forms(migration, path, texts.get(path, "")) for path in candidate.files}
    place = _called(connection, candidate, checkout)
    versions, shows = dict[str, None](), TABLE
    for names in called.values():
        held = [name for name in names if _says(connection, migration, checkout, name)]
        shows = ROWS if held else shows
        versions.setdefault(held[0] if held else names[min(place, len(names) - 1)])
    return Candidate(candidate.code, migration.model_copy(update={"versions": list(versions)}), candidate.files, shows)


def _called(connection: Connection, candidate: Candidate, checkout: Checkout) -> int:
    """Return which of a file's possible names the history uses, judged by other files."""
    migration = candidate.migration
    others = [path for path in checkout.files(migration.directory) if path not in candidate.files][-LAST:]
    texts = checkout.texts(others) if migration.content else {}
    for path in reversed(others):
        for place, name in enumerate(forms(migration, path, texts.get(path, ""))):
            if _says(connection, migration, checkout, name):
                return place
    return 0


def _says(connection: Connection, migration: Migration, checkout: Checkout, version: str) -> bool:
    of = migration.model_copy(update={"versions": [version]})
    applied = Applied.by_version(of, migration.schema_ or DEFAULT_SCHEMA)
    return History(of_files(applied, checkout)).says_applied(connection)


def left(candidates: Sequence[Candidate]) -> list[str]:
    """Return a line for each migration that the plan leaves out, because it is in another folder. Pure."""
    own = candidates[0].files if candidates else ()
    return [
        f"{', '.join(each.files)} in {each.code.repository} ({each.migration.title}): a plan allows one tool only"
        for each in candidates[1:]
        if not set(each.files) & set(own)
    ]


def where_from(candidate: Candidate, unasked: str) -> str:
    """Describe the source of the migrations. Pure."""
    files, table = ", ".join(candidate.files), candidate.migration.table
    says: Mapping[int, str] = {
        ROWS: f"{table} lists them as applied",
        TABLE: f"{table} has no row for them: not applied yet",
        NOTHING: f"the database was not asked: {unasked}" if unasked else "the database has no table of this tool",
    }
    return f"{files}, added in {candidate.code.repository}; {says[candidate.shows]}."
