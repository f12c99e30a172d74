"""Reads and writes drafts: what a feature's migrations changed, derived beforehand.

A draft is two files. `ID.changes.yaml`, for people, holds the net change object by object. `ID.states.zip` holds dumps of
the database before and after the migrations, and their scripts. The first names the second by its SHA-256.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml

from runbook_lib.config.loading import Model, load
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.changes.net_change import Rename
from runbook_lib.postgres.changes.objects import Catalog, Object, short
from runbook_lib.postgres.changes.work import Concerned, Reversal
from runbook_lib.postgres.dump import sha256

What = Literal["created", "dropped", "renamed", "changed", "retyped", "wrote", "inserted", "deleted"]

WAY_BACK: dict[What, str] = {
    "created": "dropped",
    "dropped": "recreated as before",
    "renamed": "renamed back",
    "changed": "gets its earlier definition",
    "retyped": "gets its earlier type, values converted",
    "wrote": "values go back where users have not changed them since",
    "inserted": "deleted, unless rows of users refer to them",
    "deleted": "inserted again, parents first",
}
LOSS: dict[What, str] = {
    "created": "what users wrote into it",
    "dropped": "",
    "renamed": "",
    "changed": "",
    "retyped": "",
    "wrote": "",
    "inserted": "what users changed in them",
    "deleted": "",
}
HOLDING = ("table", "column")  # kinds that users write into
FROM_ROWS: frozenset[What] = frozenset({"retyped", "wrote", "inserted", "deleted"})  # undone with rows from before


class Changed(Model):
    """What migrations did to an object, how it is undone, and what users lose by that; `rows` is how many they wrote."""

    object: str
    kind: str
    what: What
    rows: int
    way_back: str
    loss: str


class Renamed(Model):
    """An object that migrations renamed, by its catalog key; for an enum, its renamed labels too, new -> old."""

    before: str
    after: str
    labels: dict[str, str] = {}


class Undecided(Model):
    """What cannot be undone without a person's decision, and why."""

    object: str
    why: str


class Draft(Model):
    """What migrations changed, how each change is undone, and the file that holds the states."""

    feature: str
    made: str
    server: int
    migrations: dict[str, str]
    states: str
    stopped: str
    changes: list[Changed]
    undecided: list[Undecided]
    notes: list[str]
    renamed: list[Renamed]
    changing: list[str]
    tables: list[str] | None = None
    """The tables whose rows the states hold; None in an older draft, which holds all."""
    referred: list[str] = []
    """The tables among them whose rows no other table may refer to."""
    rehearsed: bool = False
    """Whether the states' rows come from a rehearsal instead of the migrated database."""

    @property
    def from_rows(self) -> list[Changed]:
        """Select the changes whose undo reads rows of the states."""
        return [each for each in self.changes if each.what in FROM_ROWS or (each.what == "dropped" and each.kind in HOLDING)]

    @property
    def concerned(self) -> Concerned | None:
        """Return the tables whose rows the change concerns; None if it may be all."""
        return None if self.tables is None else Concerned(frozenset(self.tables), frozenset(self.referred))

    @property
    def renamed_tables(self) -> list[tuple[str, str]]:
        """Return the addresses of renamed tables, before and after the migrations."""
        pairs = [(each.before.partition(" "), each.after.partition(" ")) for each in self.renamed]
        return [(before[2], after[2]) for before, after in pairs if before[0] == "table"]

    def renames(self, was: Catalog, made: Catalog) -> list[Rename]:
        """Find the renames in two catalogs; the second was restored, so OIDs do not match. Pure."""
        pairs = [(was.get(each.before), made.get(each.after), each.labels) for each in self.renamed]
        return [_renamed(before, after, labels) for before, after, labels in pairs if before and after]


def _renamed(before: Object, after: Object, labels: dict[str, str]) -> Rename:
    old, new = ({str(n): label for n, label in enumerate(side)} for side in (labels.values(), labels))
    kept = {**before.keeps, "label ids": old}, {**after.keeps, "label ids": new}
    schema = before.schema if before.parent else after.schema
    return Rename(replace(after, schema=schema, keeps=kept[1]), replace(before, keeps=kept[0]))


def renamed(reversal: Reversal) -> list[Renamed]:
    """Convert the renames that a reversal found to the draft's form. Pure."""
    return [Renamed(before=each.before.key, after=each.after.key, labels=each.labels) for each in reversal.renames]


def changed(thing: str, kind: str, what: What, rows: int = 0) -> Changed:
    """Describe a change of an object, with its undo. Pure."""
    holds = kind in HOLDING
    loss = LOSS[what] if holds or what != "created" else ""
    way_back = WAY_BACK[what] + (", its values by key" if holds and what == "dropped" else "")
    return Changed(object=short(thing), kind=kind, what=what, rows=rows, way_back=way_back, loss=loss)


def listed(reversal: Reversal) -> list[Changed]:
    """Describe what migrations changed, without what is dropped or created with its table. Pure."""
    apart = {each.key for each in reversal.changes if None in (each.before, each.after)}
    found = [
        changed(each.key.partition(" ")[2], each.key.partition(" ")[0], each.what)
        for each in reversal.changes
        if not ({each.before.parent if each.before else "", each.after.parent if each.after else ""} & apart)
    ]
    found += [changed(each.after.address, each.after.kind, "renamed") for each in reversal.renames]
    found += [changed(thing, "column", "wrote", rows) for thing, rows in reversal.wrote.items()]
    found += [changed(thing, "table", "inserted", rows) for thing, rows in reversal.inserted.items()]
    return found + [changed(thing, "table", "deleted", rows) for thing, rows in reversal.deleted.items()]


BEFORE, AFTER, SCRIPTS = "before.dump", "after.dump", "migrations"
HEAD = "# Made by `runbook draft`; do not edit: a plan names this file by its SHA-256.\n"


def states_of(changes: Path) -> Path:
    """Name the file of a draft's states. Pure."""
    return changes.with_name(changes.name.removesuffix(".changes.yaml") + ".states.zip")


def write(draft: Draft, changes: Path) -> str:
    """Write a draft whose states file exists, and return its SHA-256. Changes that file."""
    changes.write_text(
        HEAD + yaml.safe_dump(draft.model_dump(), sort_keys=False, allow_unicode=True, width=125), encoding="utf-8"
    )
    return sha256(changes)


def pack(to: Path, before: Path, after: Path, scripts: list[Path]) -> None:
    """Pack the states of a draft into one file that only its owner may read: it holds rows. Changes that file."""
    to.touch(mode=0o600)
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as packed:
        packed.write(before, BEFORE)
        packed.write(after, AFTER)
        for place, script in enumerate(scripts):
            packed.write(script, f"{SCRIPTS}/{place:04}-{script.name}")


@dataclass(frozen=True)
class Unpacked:
    """The states of a draft, as files."""

    before: Path
    after: Path
    scripts: list[Path]


def read(changes: Path, digest: str) -> Draft:
    """Read a draft, which must have that SHA-256 and its own states. Read-only.

    Raises:
        ParametersError: It is not a draft.
        PreconditionError: It is another draft, or its states are missing or another draft's.
    """
    if not changes.is_file():
        raise _unfit(f"The draft {changes} does not exist.")
    if (found := sha256(changes)) != digest:
        raise _unfit(f"The draft {changes} is not the one that the plan names: its SHA-256 is {found}.")
    draft = load(changes, Draft)
    states = states_of(changes)
    if not states.is_file() or sha256(states) != draft.states:
        raise _unfit(f"The states of the draft, {states}, are {'not its own' if states.is_file() else 'missing'}.")
    return draft


def unpack(changes: Path, to: Path) -> Unpacked:
    """Extract a draft's states into a directory. Changes that directory."""
    with zipfile.ZipFile(states_of(changes)) as packed:
        packed.extractall(to)
    return Unpacked(to / BEFORE, to / AFTER, sorted((to / SCRIPTS).glob("*")))


def _unfit(what: str) -> PreconditionError:
    return PreconditionError(
        what,
        state="Nothing was touched.",
        safe_next="Put the files that `runbook draft` wrote into the backups folder, and their SHA-256 into the plan; "
        "or make the draft again.",
    )
