"""Derive what a feature's migrations changed, from the best state of before that is to be found. The target is only read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runbook_lib.config.plan import Migration
from runbook_lib.config.target import Target
from runbook_lib.context.migration_files import forms, read
from runbook_lib.context.migration_sql import scripts
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.git import Checkout
from runbook_lib.postgres.restore.dump_inspector import newest
from runbook_lib.rehearsal import draft as drafting
from runbook_lib.rehearsal.draft import Made

LARGEST = 256 * 2**20  # bytes of a backup that is loaded unasked
_ROWS = re.compile(
    r"\b(?:update|insert|delete|merge|copy|truncate|do|call|select|execute)\b|\bdrop\s+(?:column|table|schema)\b",
    re.IGNORECASE,
)
_NO_STATEMENT = re.compile(r"--[^\n]*|/\*.*?\*/|\bon\s+(?:update|delete)\b|\bdo\s+nothing\b", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Changes:
    """A draft of the changes with where its state of before comes from, or what is to be done for one."""

    made: Made | None = None
    source: str = ""
    asked: str = ""
    undecided: Mapping[str, str] = field(default_factory=dict)  # table or table.column -> why


def derive(
    target: Target,
    feature: str,
    migration: Migration | None,
    checkout: Checkout | None,
    given: tuple[Path | None, Sequence[Path]],
    server: str,
    folder: Path,
    own: Path,
    report: Callable[[str], None],
) -> Changes:
    """Draft what the migrations changed, and write the files of that. Changes `folder` and `own` alone.

    Args:
        target: Whose backups may be the state of before.
        feature: The feature's id, which names the files.
        migration: The migrations, None where only their scripts are given.
        checkout: What has their files.
        given: The state of before, and the scripts, as far as somebody names them.
        server: A server for it, as `rehearsal.draft.make` takes it.
        folder: Where the files go.
        own: A folder for what is needed meanwhile.
        report: Gets what is done.

    Raises:
        ParametersError: A file that is given is missing or cannot be loaded.
    """
    before, own_scripts = given

    def make(state: Path) -> Made:
        return drafting.make(feature, state, own_scripts, server, folder, report)

    if not own_scripts:
        assert migration and checkout
        try:
            own_scripts = drafting.written(scripts(migration, checkout), own)
        except RunbookError as error:
            return Changes(asked=f"{error.what} {error.safe_next}")
    if before:
        return _of(make(before), f"{before.name}, named with --before")
    backup = newest(Path(target.backups.directory), target.backups.pattern)
    if backup and backup.stat().st_size <= LARGEST:
        try:
            made = make(backup)
            if not made.draft.stopped:
                return _of(made, f"the newest backup, {backup.name}")
            report(f"{backup.name} is not from before the migrations: {made.draft.stopped}")
        except ParametersError as error:
            report(f"{backup.name} cannot be loaded: {error.what}")
        _remove(feature, folder)
    if migration and checkout and not _touch_rows(own_scripts):
        try:
            earlier = _earlier(migration, checkout)
        except RunbookError:
            earlier = {}
        if earlier:
            state = own / "before.sql"
            state.write_text("\n".join(earlier.values()))
            made = make(state)
            if not made.draft.stopped:
                return _of(made, f"the schema that the {len(earlier)} migrations before make; these write no rows")
            _remove(feature, folder)
    return Changes(asked=_ask(target, backup, feature))


def _ask(target: Target, backup: Path | None, feature: str) -> str:
    newer = f"the newest backup, {backup.name}, is not of before or is large" if backup else "there is no backup"
    return (
        f"what did the database hold before? {newer} ({target.backups.directory}). Run `runbook draft --feature {feature} "
        "--before DUMP --migration FILE` with a dump from before, and write here what it prints."
    )


def _of(made: Made, source: str) -> Changes:
    return Changes(made, source, undecided=drafting.undecided(made.draft))


def _touch_rows(files: Sequence[Path]) -> bool:
    """Whether any script may write or drop rows, which a state of before without rows would not show."""
    return any(_ROWS.search(_NO_STATEMENT.sub(" ", path.read_text())) for path in files)


def _earlier(migration: Migration, checkout: Checkout) -> dict[str, str]:
    """The SQL of the migrations before the feature's, in order."""
    texts = read(migration, checkout)
    own = set(migration.versions)
    shown = [forms(migration, path, text) for path, text in texts.items()]
    others = dict.fromkeys(names[0] for names in shown if names and not own & set(names))
    whole = scripts(migration.model_copy(update={"versions": [*others, *migration.versions]}), checkout)
    found = dict[str, str]()
    for version, script in whole.items():
        if version in own:
            return found
        found[version] = script
    return found


def _remove(feature: str, folder: Path) -> None:
    for path in drafting.files(feature, folder):
        path.unlink(missing_ok=True)
