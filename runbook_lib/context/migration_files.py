"""Which files are the feature's migrations, and what they say of the history that the database does not."""

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

KEPT = "evidence/migration.json"  # what the files said before the code went back
_SCRIPT = re.compile(r"\.[cm]?[jt]s$")  # x.ts is in the history as x.js, which was compiled from it
Texts = Mapping[str, str]  # path in the repository -> text, "" where it is not looked at


@dataclass(frozen=True)
class Line:
    """The place of the feature's migrations among all, of a tool that keeps one row; `previous` is None where unknown."""

    previous: str | None
    above: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()
    problem: str = ""


class HasFiles(Protocol):
    """A run, as far as its plan, folder and checkouts go."""

    plan: Plan
    folder: RunFolder

    def checkout(self, repository: str) -> Checkout:
        """The checkout that a repository is deployed from."""


def history(context: HasFiles) -> History | None:
    """The feature's rows in the migration history; None where the plan names no migration. Read-only.

    Raises:
        AdapterError: The checkout cannot be read.
    """
    migration = context.plan.migration
    if migration is None:
        return None
    applied = Applied.by_version(migration, context.plan.history_schema)
    if migration.rows == "each" and migration.recorded is None:
        return History(applied)  # the plan says it all
    of = hashlib.sha256(migration.model_dump_json().encode()).hexdigest()
    kept = context.folder.read_json(KEPT)
    if kept is None or kept["of"] != of:
        found = asdict(of_files(applied, context.checkout(migration.repository)))
        kept = {"of": of, **{key: found[key] for key in ("values", "names", "previous", "above", "siblings", "problem")}}
        context.folder.write_json(KEPT, kept)
    return History(replace(applied, **{key: value for key, value in kept.items() if key != "of"}))


def of_files(applied: Applied, checkout: Checkout) -> Applied:
    """The same with what a checkout's files say: values by a journal, the version before, what rests on it. Read-only."""
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
    """The files in the migrations' folder, or those that ever were there, with their texts where these count. Read-only."""
    if migration.content and ever:
        return checkout.texts_ever(migration.directory)
    files = checkout.files_ever(migration.directory) if ever else checkout.files(migration.directory)
    return checkout.texts(files) if migration.content else dict.fromkeys(files, "")


def files_of(migration: Migration, texts: Texts) -> dict[str, list[str]]:
    """Version -> the files that are its, each by its path in the repository: 039_…, V39__…, 039/up.sql. Pure."""
    shown = {path: _shown(migration, path, text) for path, text in texts.items()}
    return {
        version: [path for path, names in shown.items() if any(_same(migration, name, version) for name in names)]
        for version in migration.versions
    }


def own_files(migration: Migration, texts: Texts) -> list[str]:
    """The files of all the feature's migrations. Pure."""
    return sorted({path for paths in files_of(migration, texts).values() for path in paths})


def companions(migration: Migration, files: Iterable[str]) -> dict[str, Companion]:
    """The files of a repository that all migrations share, and what happens to each. Pure."""
    patterns = {_below(migration, companion.file): companion for companion in migration.companions}
    found: dict[str, Companion] = {}
    for file in files:
        for pattern, companion in patterns.items():
            if fnmatchcase(file, pattern) and file.count("/") == pattern.count("/"):
                found.setdefault(file, companion)
    return found


def line(migration: Migration, texts: Texts) -> Line:
    """The place of the feature's migrations among all that the files show. Pure."""
    known: dict[str, list[str]] = {}
    spelt: dict[str, str] = {}  # number -> with the zeros that its file has
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
        return Line(None, problem=f"the file of {mute[0]} does not say what comes before it in a way that can be read")
    return _by_parents(parents(migration, texts), own)


def parents(migration: Migration, texts: Texts) -> dict[str, tuple[str, ...]]:
    """Version -> the versions before, as the texts of the files name them. Pure."""
    found = {version: text for path, text in texts.items() for version in _shown(migration, path, text)}
    return {version: _parents(migration.parents or "", text) for version, text in found.items()}


def below(migration: Migration, path: str) -> str:
    """A file's path from the migrations' folder. Pure."""
    directory, whole = PurePosixPath(migration.directory), PurePosixPath(path)
    return str(whole.relative_to(directory) if whole.is_relative_to(directory) else whole)


def recorded(migration: Migration, journal: str) -> dict[str, str]:
    """Version -> what the history holds of it, by the text of the tool's journal. Pure."""
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
        return Line(None, problem=f"{', '.join(between)}, not the feature's, lies between its migrations")
    below, above = [n for n in others if n < first], tuple(str(n) for n in others if n > last)
    return Line(str(below[-1]) if below else BASE, above)


def _by_parents(parents: Mapping[str, tuple[str, ...]], own: set[str]) -> Line:
    before = sorted({parent for version in own for parent in parents[version]} - own)
    above = _descendants(parents, own) - own
    if len(before) > 1:
        return Line(None, tuple(sorted(above)), problem=f"the feature's migrations rest on several: {', '.join(before)}")
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
    """What the history may call a file, by its path from the migrations' folder and its text, likeliest first. Pure."""
    name = below(migration, path)
    found = [match["version"] for pattern in migration.files if (match := re.match(pattern, name))]
    if migration.content:
        for match in re.finditer(migration.content, text, re.MULTILINE):
            found += [value for value in match.groupdict().values() if value]
    return list(dict.fromkeys(found))


def _shown(migration: Migration, path: str, text: str) -> set[str]:
    """The versions that a file shows, as the history has them."""
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
