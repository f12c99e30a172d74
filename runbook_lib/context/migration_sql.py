"""The SQL of the feature's migrations, in order: from their files, or printed by their tool."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import NoReturn

from runbook_lib.config.plan import Migration
from runbook_lib.config.plan.migration import BASE
from runbook_lib.context.migration_files import below, files_of, parents, read
from runbook_lib.errors import ParametersError
from runbook_lib.git import Checkout
from runbook_lib.postgres.recording import without_record

TIMEOUT = 120  # seconds for a tool to print the SQL of a migration
NOTHING = "Nothing was started."


def scripts(migration: Migration, checkout: Checkout) -> dict[str, str]:
    """Return version -> the SQL at the checkout's HEAD that applies it, without recording it. Read-only.

    Raises:
        AdapterError: The checkout cannot be read, or the tool's command cannot be started.
        ParametersError: No file shows a version, or its tool prints no SQL for it.
    """
    texts = read(migration, checkout)
    files = files_of(migration, texts)
    if absent := [version for version, paths in files.items() if not paths]:
        raise ParametersError(
            f"No file in {migration.directory} of {checkout.path} shows {', '.join(absent)}.",
            state=NOTHING,
            safe_next="Check out the feature's release, or correct `migration` in the plan: versions, directory.",
        )
    before = parents(migration, texts) if migration.parents else {}
    found = {}
    for version in _in_order(list(files), before):
        if migration.sql.printed_by:
            script = _printed(migration, checkout, version, before.get(version, ()))
        else:
            script = _of_files(migration, checkout, version, files[version])
        found[version] = without_record(script, migration.table)
    return found


def _in_order(versions: Sequence[str], before: Mapping[str, Sequence[str]]) -> list[str]:
    """Sort by the versions they depend on, else by their leading numbers, else as the plan lists them."""
    if before:
        order = TopologicalSorter({version: before.get(version, ()) for version in before}).static_order()
        return [version for version in order if version in versions]
    numbers = {v: found[1] for v in versions if (found := re.match(r"\D?(\d+(?:[._-]\d+)*)", v))}
    if len(numbers) < len(versions):
        return list(versions)
    return sorted(versions, key=lambda version: [*map(int, re.split(r"[._-]", numbers[version]))])


def _of_files(migration: Migration, checkout: Checkout, version: str, files: Sequence[str]) -> str:
    """Return the parts of a migration's files that apply it."""
    wanted = migration.sql.files
    chosen = [path for path in files if wanted and re.search(wanted, below(migration, path))]
    if not chosen:
        shown, where = _filled(migration, migration.sql.shown_by, version), migration.sql.shown_where
        also = f" ({where})" if where else ""
        how = f"`{shlex.join(shown)}` shows its SQL{also} while it applies it to a copy. " if shown else ""
        _refuse(f"{migration.title} applies {version} with {', '.join(files)}, which is not SQL.", how)
    texts = checkout.texts(chosen)
    return "\n".join(_part(migration, version, path, texts[path]) for path in chosen)


def _part(migration: Migration, version: str, path: str, text: str) -> str:
    begins, ends = (
        each and each.replace("{version}", re.escape(version)) for each in (migration.sql.begins, migration.sql.ends)
    )
    if not begins:
        return text
    begun = re.search(begins, text, re.MULTILINE | re.IGNORECASE)
    if begun is None:
        _refuse(f"{path} has no part that applies {version}: no line has the mark of {migration.title} ({begins}).")
    rest = text[begun.end() :]
    ended = re.search(ends, rest, re.MULTILINE | re.IGNORECASE) if ends else None
    return rest[: ended.start()] if ended else rest


def _printed(migration: Migration, checkout: Checkout, version: str, before: Sequence[str]) -> str:
    """Return the output of the tool's own command."""
    if len(before) > 1:
        _refuse(f"{version} depends on several versions, {', '.join(before)}; {migration.title} cannot print its SQL alone.")
    command = _filled(migration, migration.sql.printed_by, version, next(iter(before), BASE))
    done = checkout.processes.run(command, cwd=checkout.path, timeout=TIMEOUT)
    if done.exit_code:
        last = (done.errors.strip() or done.output.strip()).splitlines()[-1:]
        _refuse(f"`{shlex.join(command)}` in {checkout.path} ended with {done.exit_code}: {''.join(last)}")
    incomplete = migration.sql.incomplete
    if incomplete and re.search(incomplete, done.output):
        _refuse(f"A part of {version} is code, so {migration.title} does not print all of it.")
    return done.output


def _filled(migration: Migration, command: Sequence[str], version: str, previous: str = "") -> list[str]:
    values = {"version": version, "previous": previous, **migration.where}
    return [re.sub(r"\{(\w+)\}", lambda match: str(values.get(match[1], match[0])), word) for word in command]


def _refuse(what: str, how: str = "") -> NoReturn:
    raise ParametersError(what, state=NOTHING, safe_next=f"{how}Give its SQL by --migration.")
