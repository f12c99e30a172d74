"""The files of the feature's migrations, and the facts on the history that only files show."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Protocol

from runbook_lib.config.plan import Companion, Migration, Plan
from runbook_lib.config.plan.migration import BASE
from runbook_lib.git import Checkout
from runbook_lib.journal.folder import RunFolder
from runbook_lib.postgres.migration_history import Applied, History

KEPT = "evidence/migration.json"  # the files' facts from before the code was reverted
_SCRIPT = re.compile(r"\.[cm]?[jt]s$")  # x.ts is in the history as x.js, which was compiled from it
Texts = Mapping[str, str]  # path in the repository -> text, "" if it was not read


@dataclass(frozen=True)
class Line:
    """The position of the feature's migrations, for a tool that keeps one row; `previous` is None if unknown."""

    previous: str | None
    above: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()
    problem: str = ""


class HasFiles(Protocol):
    """The part of a run with plan, folder and checkouts."""

    plan: Plan
    folder: RunFolder

    def checkout(self, repository: str) -> Checkout:
        """Return the checkout that a repository is deployed from."""


def history(context: HasFiles) -> History | None:
    """Return the feature's rows in the migration history; None if the plan names no migration. Read-only.

    Raises:
        AdapterError: The checkout cannot be read.
    """
    migration = context.plan.migration
    if migration is None:
        return None
    applied = Applied.by_version(migration, context.plan.history_schema)
    if migration.rows == "each" and migration.recorded is None:
        return History(applied)  # the plan is complete
    of = hashlib.sha256(migration.model_dump_json().encode()).hexdigest()
    kept = context.folder.read_json(KEPT)
    if kept is None or kept["of"] != of:
        found = asdict(of_files(applied, context.checkout(migration.repository)))
        kept = {"of": of, **{key: found[key] for key in ("values", "names", "previous", "above", "siblings", "problem")}}
        context.folder.write_json(KEPT, kept)
    return History(replace(applied, **{key: value for key, value in kept.items() if key != "of"}))


def of_files(applied: Applied, checkout: Checkout) -> Applied:
    """Add the facts from a checkout's files: journaled values, the previous version, later versions. Read-only."""
    migration = applied.migration
    if migration.rows == "one":
        found = line(migration, read(migration, checkout))
        previous = migration.previous or found.previous
        problem = "" if previous else found.problem
        return replace(applied, previous=previous, above=found.above, siblings=found.siblings, problem=problem)
    if migration.recorded is None:
        return applied
    path = _below(migration, migration.recorded.file)
    text = checkout.texts([path]).get(path) or checkout.texts_ever(path).get(path)
    listed = recorded(migration, text or "")
    values = {version: listed.get(version, version) for version in migration.versions}
    return replace(applied, values=values, names={value: version for version, value in listed.items()})


def read(migration: Migration, checkout: Checkout, *, ever: bool = False) -> dict[str, str]:
    """Read the files in the migrations' folder, now or `ever`, with their texts if these matter. Read-only."""
    if migration.content and ever:
        return checkout.texts_ever(migration.directory)
    files = checkout.files_ever(migration.directory) if ever else checkout.files(migration.directory)
    return checkout.texts(files) if migration.content else dict.fromkeys(files, "")


def files_of(migration: Migration, texts: Texts) -> dict[str, list[str]]:
    """Return version -> its files, as paths in the repository: 039_…, V39__…, 039/up.sql. Pure."""
    shown = {path: _shown(migration, path, text) for path, text in texts.items()}
    return {
        version: [path for path, names in shown.items() if any(_same(migration, name, version) for name in names)]
        for version in migration.versions
    }


def own_files(migration: Migration, texts: Texts) -> list[str]:
    """Return the files of all the feature's migrations. Pure."""
    return sorted({path for paths in files_of(migration, texts).values() for path in paths})


def companions(migration: Migration, files: Iterable[str]) -> dict[str, Companion]:
    """Return the files of a repository that all migrations share, and what happens to each. Pure."""
    patterns = {_below(migration, companion.file): companion for companion in migration.companions}
    found: dict[str, Companion] = {}
    for file in files:
        for pattern, companion in patterns.items():
            if fnmatchcase(file, pattern) and file.count("/") == pattern.count("/"):
                found.setdefault(file, companion)
    return found


def line(migration: Migration, texts: Texts) -> Line:
    """Return the position of the feature's migrations among all in the files. Pure."""
    known: dict[str, list[str]] = {}
    spelt: dict[str, str] = {}  # number -> its spelling in the file name, with zeros
    for path, text in texts.items():
        for version in _shown(migration, path, text):
            spelt.setdefault(_number(version), version)
            known.setdefault(version if migration.parents else _number(version), []).append(text)
    own = {v if migration.parents else _number(v) for v in migration.versions}
    if absent := [version for version in own if version not in known]:
        return Line(None, problem=f"no file in {migration.directory} shows {', '.join(sorted(absent))}")
    if migration.parents is None:
        found = _by_number({version for version in known if version.isdecimal()}, own)
        return replace(found, previous=found.previous and spelt.get(found.previous, found.previous))
    if mute := [version for version in sorted(own) if not re.search(migration.parents, known[version][0], re.MULTILINE)]:
        return Line(None, problem=f"the file of {mute[0]} does not name its previous version in a readable way")
    return _by_parents(parents(migration, texts), own)


def parents(migration: Migration, texts: Texts) -> dict[str, tuple[str, ...]]:
    """Return version -> its previous versions, from the files' texts. Pure."""
    found = {version: text for path, text in texts.items() for version in _shown(migration, path, text)}
    return {version: _parents(migration.parents or "", text) for version, text in found.items()}


def below(migration: Migration, path: str) -> str:
    """Return a file's path relative to the migrations' folder. Pure."""
    directory, whole = PurePosixPath(migration.directory), PurePosixPath(path)
    return str(whole.relative_to(directory) if whole.is_relative_to(directory) else whole)


def recorded(migration: Migration, journal: str) -> dict[str, str]:
    """Return version -> its value in the history, from the text of the tool's journal. Pure."""
    assert migration.recorded
    try:
        entries = json.loads(journal)[migration.recorded.list]
        return {str(entry[migration.recorded.version]): str(entry[migration.recorded.value]) for entry in entries}
    except (ValueError, KeyError, TypeError):
        return {}


def _by_number(known: set[str], own: set[str]) -> Line:
    if not all(version.isdecimal() for version in own):
        return Line(None, problem=f"{', '.join(sorted(own))} are not all numbers")
    first, last = min(map(int, own)), max(map(int, own))
    others = sorted(map(int, known - own))
    if between := [str(number) for number in others if first < number < last]:
        return Line(None, problem=f"{', '.join(between)}, not the feature's, is between its migrations")
    below, above = [n for n in others if n < first], tuple(str(n) for n in others if n > last)
    return Line(str(below[-1]) if below else BASE, above)


def _by_parents(parents: Mapping[str, tuple[str, ...]], own: set[str]) -> Line:
    before = sorted({parent for version in own for parent in parents[version]} - own)
    above = _descendants(parents, own) - own
    if len(before) > 1:
        return Line(None, tuple(sorted(above)), problem=f"the feature's migrations depend on several: {', '.join(before)}")
    if not before:
        return Line(BASE, tuple(sorted(above)))
    siblings = _descendants(parents, set(before)) - own - above - set(before)
    return Line(before[0], tuple(sorted(above)), tuple(sorted(siblings)))


def _descendants(parents: Mapping[str, tuple[str, ...]], of: set[str]) -> set[str]:
    found = set(of)
    while more := {version for version, names in parents.items() if found & set(names)} - found:
        found |= more
    return found


def _parents(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text, re.MULTILINE)
    return tuple(re.findall(r"[\"']([^\"']+)[\"']", found["parents"])) if found else ()


def forms(migration: Migration, path: str, text: str) -> list[str]:
    """Return a file's possible names in the history, from its relative path and text, likeliest first. Pure."""
    name = below(migration, path)
    found = [match["version"] for pattern in migration.files if (match := re.match(pattern, name))]
    if migration.content:
        for match in re.finditer(migration.content, text, re.MULTILINE):
            found += [value for value in match.groupdict().values() if value]
    return list(dict.fromkeys(found))


def _shown(migration: Migration, path: str, text: str) -> set[str]:
    """Return the versions that a file shows, as spelled in the history."""
    of_file = forms(migration, path, text)
    return {"".join(character for character in each if character not in migration.without) for each in of_file}


def _same(migration: Migration, shown: str, version: str) -> bool:
    wanted = "".join(character for character in version if character not in migration.without)
    return _SCRIPT.sub("", shown) == _SCRIPT.sub("", wanted) or (
        _parts(shown) is not None and _parts(shown) == _parts(wanted)
    )


def _parts(version: str) -> tuple[int, ...] | None:
    words = re.split(r"[._]", version)
    return tuple(map(int, words)) if all(word.isascii() and word.isdecimal() for word in words) else None


def _number(version: str) -> str:
    return str(int(version)) if version.isascii() and version.isdecimal() else version


def _below(migration: Migration, file: str) -> str:
    return normpath(f"{migration.directory}/{file}")
