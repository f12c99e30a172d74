"""The targets of a fleet: listed, found as files, or asked of a directory database; each with a plan and a target file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import yaml

from runbook_lib.config.fleet import Fleet, Member
from runbook_lib.config.loading import NOTHING_TOUCHED, ROOT, located, read
from runbook_lib.errors import AdapterError, ParametersError
from runbook_lib.postgres import plan_query
from runbook_lib.postgres.connection import Postgres

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the fast one where it is built in
DIRECTORY_SECONDS = 30.0  # that the directory database may take to answer
QUERY = "targets.query"
PLACEHOLDER = re.compile(r"\{target\.(\w+)\}")  # as {target.name}; others are the target file's own


@dataclass(frozen=True)
class Target:
    """One target of a fleet, as it is before any run: its labels, its server, and the contents of its two files."""

    name: str
    server: str
    labels: Mapping[str, str]
    target: Mapping[str, Any]
    plan: Mapping[str, Any] | None  # None where it is the fleet's own
    source: str  # the file that its target file is made from


def targets(fleet: Fleet, file: Path) -> list[Target]:
    """Every target that a fleet file names, in its order. Reads a directory database where the file names one. Read-only.

    Raises:
        ParametersError: None is found, two have one name, a label or a canary is missing, or a name cannot be a folder's.
        AdapterError: The directory database cannot be asked.
    """
    found = list(_from_files(fleet, file) if fleet.targets.glob else _from_template(fleet, file))
    if not found:
        raise _wrong(file, "targets", "no target was found", "Correct it: at least one must be found.")
    if twice := [name for name, count in Counter(each.name for each in found).items() if count > 1]:
        raise _wrong(file, "targets", f"two targets are called {twice[0]}", "Give each target a name of its own.")
    if strange := [name for name in fleet.canaries if name not in {each.name for each in found}]:
        raise _wrong(file, "canaries", f"no target is called {strange[0]}", "Name targets of this fleet.")
    return [replace(each, target=_with_shared_code(each.target)) for each in found] if fleet.shared else found


def _with_shared_code(target: Mapping[str, Any]) -> Mapping[str, Any]:
    """A target whose checkouts the others use too, so that their runs do not exclude one another."""
    repositories = target.get("repositories")
    if not isinstance(repositories, dict):
        return target
    of_all = {name: {**each, "shared": True} if isinstance(each, dict) else each for name, each in repositories.items()}
    return {**target, "repositories": of_all}


def _from_template(fleet: Fleet, file: Path) -> Iterator[Target]:
    with named_by(file, "template"):
        template = read(Path(str(fleet.template)))
    with named_by(file, "plan"):
        plan = read(Path(fleet.plan)) if fleet.per_target else None
    for member in _members(fleet, file):
        labels = {"name": member.name, **member.labels}
        target = _filled(template, labels, str(fleet.template))
        over = _filled(fleet.per_target, labels, str(located(file)), "per_target")
        server, own = _server(fleet, file, target, labels), _over(plan, over) if plan else None
        yield Target(member.name, server, labels, target, own, str(fleet.template))


def _from_files(fleet: Fleet, file: Path) -> Iterator[Target]:
    found = glob(str(ROOT / str(fleet.targets.glob)), recursive=True)
    for path in sorted(path for path in map(Path, found) if path.is_file()):
        with named_by(file, "targets.glob"):
            target = read(path)
        member = _member(path, {"name": target.get("name", path.stem)})
        labels = {"name": member.name}
        yield Target(member.name, _server(fleet, file, target, labels), labels, target, None, str(path))


def _members(fleet: Fleet, file: Path) -> Iterator[Member]:
    for listed in fleet.targets.list_ or ():
        yield listed if isinstance(listed, Member) else _member(file, {"name": listed})
    if query := fleet.targets.query:
        if why := plan_query.problem(query.sql):
            raise _wrong(file, QUERY, f"the query is refused: {why}", "Write one query that only reads.")
        try:
            with Postgres(query.service, "fleet").connect() as connection:
                rows = plan_query.records(connection, query.sql, DIRECTORY_SECONDS)
        except AdapterError as error:
            raise AdapterError(
                f"In {located(file)}, key {QUERY}: the targets cannot be listed. {error.what}",
                where=error.where,
                state=NOTHING_TOUCHED,
                safe_next="Correct the query, or see that its database answers; then repeat the command.",
            ) from None
        for row in rows:
            if row.get("name") is None:
                raise _wrong(file, QUERY, "a row has no `name`", "Select each target's name AS name; it must not be null.")
            yield _member(file, row)


def _member(file: Path, row: Mapping[str, Any]) -> Member:
    labels = {key: str(value) for key, value in row.items() if key != "name" and value is not None}
    try:
        return Member(name=str(row["name"]), labels=labels)
    except ValueError as error:
        _, about, said, *_ = str(error).splitlines()
        said = said.partition(" [")[0].removeprefix("  Value error, ").strip()
        if about == "name":
            raise _wrong(
                file, "targets", f"{row['name']!r} cannot name a target: {said}", "Give that target another name."
            ) from None
        label = about.split(".")[1]
        raise _wrong(file, "targets", f"the label {label!r} cannot be used: {said}", "Call that column otherwise.") from None


def _server(fleet: Fleet, file: Path, target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    if fleet.server:
        return str(_filled(fleet.server, labels, str(located(file)), "server"))
    database = target.get("database")
    return str(database.get("service", "")) if isinstance(database, dict) else ""


def _filled(value: Any, labels: Mapping[str, str], file: str, key: str = "") -> Any:
    """A value with each {target.LABEL} in its texts filled in."""
    if isinstance(value, dict):
        keys = {each: f"{key}.{each}".lstrip(".") for each in value}
        return {_filled(each, labels, file, keys[each]): _filled(value[each], labels, file, keys[each]) for each in value}
    if isinstance(value, list):
        return [_filled(each, labels, file, f"{key}.{number}") for number, each in enumerate(value)]
    if not isinstance(value, str):
        return value

    def label(match: re.Match[str]) -> str:
        if match[1] not in labels:
            raise ParametersError(
                f"{labels['name']} has no label {match[1]!r}, which {file}, key {key} fills in.",
                state=NOTHING_TOUCHED,
                safe_next=f"Give it one, or use one of: {', '.join(labels)}.",
            )
        return labels[match[1]]

    return PLACEHOLDER.sub(label, value)


def _over(under: Any, over: Any) -> Any:
    """Mappings key by key, without those that `over` has as null; all else as `over` has it."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    merged = under | {key: _over(under[key], value) if key in under else value for key, value in over.items()}
    return {key: value for key, value in merged.items() if over.get(key, value) is not None}


def written(target: Target, write: Callable[[str, str], object]) -> tuple[str, str | None]:
    """Write a target's two files below the fleet's folder; returns their names there, None for the fleet's own plan."""
    name = f"targets/{target.name}.yaml"
    write(name, _dumped(target.target))
    if target.plan is None:
        return name, None
    write(plan := f"plans/{target.name}.yaml", _dumped(target.plan))
    return name, plan


def _dumped(values: Mapping[str, Any]) -> str:
    return str(yaml.dump(dict(values), Dumper=DUMPER, sort_keys=False, allow_unicode=True))


@contextmanager
def named_by(file: Path, key: str) -> Iterator[None]:
    """Have an error of a file name the key of the fleet file that refers to it."""
    try:
        yield
    except ParametersError as error:
        where = f"{located(file)}, key {key}" + (f": {error.where}" if error.where else "")
        raise ParametersError(error.what, where=where, state=error.state, safe_next=error.safe_next) from None


def _wrong(file: Path, key: str, what: str, remedy: str) -> ParametersError:
    return ParametersError(f"In {located(file)}, key {key}: {what}.", state=NOTHING_TOUCHED, safe_next=remedy)
