"""The record of a green rehearsal: what it was of, by digests, and how it went. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from runbook_lib.config.loading import Model
from runbook_lib.records.walk import Walk
from runbook_lib.redaction import redact_values

VERSION = 1
SHOWN = 12  # characters of a digest


class Code(Model):
    """The code of one repository, by commits and by git's ids of all files in them."""

    commit: str
    """The commit that was deployed."""
    files: str
    """All files of it."""
    leads_to: str = ""
    """The commit without the feature, "" where no type is chosen yet."""
    files_left: str = ""
    """All files of that."""
    locks: dict[str, str] = {}
    """Each lock file, and git's id of its content."""


class Subject(Model):
    """What a rehearsal, or a run, is of."""

    type: str
    """The rollback type, "" where none is chosen yet, `migration` for a migration alone."""
    option: str
    """Its option."""
    plan: str
    """The SHA-256 of the plan."""
    changes: str
    """The SHA-256 of the draft's changes, "" where the plan has none."""
    catalog: str
    """The SHA-256 of the database's schema, "" where no step touches it."""
    code: dict[str, Code]
    """Each repository that is taken back."""
    runbook: str
    """The version of this library, and of its journals."""


class Record(Model):
    """A green rehearsal."""

    version: Literal[1] = 1
    """The version of this form."""
    at: datetime
    """When it ended."""
    subject: Subject
    """What it was of."""
    walk: Walk
    """How it went."""

    @property
    def name(self) -> str:
        """What places call it: the run's id, which begins with its time."""
        return self.walk.name

    def text(self) -> str:
        """Return the record as JSON, redacted."""
        return json.dumps(redact_values(self.model_dump(mode="json")), indent=2, ensure_ascii=False) + "\n"


def read(text: str) -> Record:
    """Read a record.

    Raises:
        ValueError: It is none, or of another version; the error says which.
    """
    try:
        version = json.loads(text)["version"]
    except (ValueError, KeyError, TypeError):
        raise ValueError("it is no record of a rehearsal") from None
    if version != VERSION:
        raise ValueError(f"it is of version {version}, and this runbook reads version {VERSION}")
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def differences(rehearsed: Subject, now: Subject) -> list[str]:
    """What was rehearsed otherwise than it is now, a line each with both values; what is not chosen yet counts not. Pure."""
    return [
        f"{what}: rehearsed {_shown(was)}, here {_shown(here)}" for what, was, here in _pairs(rehearsed, now) if was != here
    ]


def _pairs(rehearsed: Subject, now: Subject) -> Iterator[tuple[str, str, str]]:
    if now.type:
        yield "the type", rehearsed.type, now.type
        yield "the option", rehearsed.option, now.option
    yield "the plan", rehearsed.plan, now.plan
    yield "the draft's changes", rehearsed.changes, now.changes
    if now.type or rehearsed.catalog:
        yield "the schema", rehearsed.catalog, now.catalog
    nothing = Code(commit="", files="")
    for name in sorted({*now.code, *(rehearsed.code if now.type else ())}):
        was, here = rehearsed.code.get(name, nothing), now.code.get(name, nothing)
        if was.files != here.files:
            yield f"the commit of {name}", was.commit, here.commit
        if here.leads_to and was.files_left != here.files_left:
            yield f"the code that {name} goes back to", was.leads_to, here.leads_to
        for lock in sorted({*was.locks, *here.locks}):
            yield f"{lock} of {name}", was.locks.get(lock, ""), here.locks.get(lock, "")
    yield "the runbook", rehearsed.runbook, now.runbook


def _shown(value: str) -> str:
    """Return a digest in short, anything else as it is. Pure."""
    return (value[:SHOWN] if len(value) >= 40 else value) or "nothing"
