"""Keeps a run's journal and files in the target's database too, and reads the journal from there; nothing waits for it.

Nothing is written before an approval, nor while a database is being put in another's place: a session would be in the way.
What could not be written is caught up with later, also in a database that has taken the other's place.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from runbook_lib.adapters.postgres import mirror, mirror_files
from runbook_lib.adapters.postgres.connection import Connection, Postgres
from runbook_lib.errors import ParametersError
from runbook_lib.folder import RunFolder
from runbook_lib.journal import Event, Journal, line_of
from runbook_lib.plan import Plan, SwapDatabaseStep
from runbook_lib.run import Run
from runbook_lib.state import RunState, replay
from runbook_lib.target import Target

PERIOD = 1.0  # seconds between two writings at least
LARGEST = 8 * 1024**2  # bytes; a larger file stays where it is
MADE_ANEW = {"journal.jsonl", "manifest.json", "report.html", "rollback-log.md", "postmortem.md", "lab"}


class _Follower:
    """A thread that writes what is new in a run's journal into its target's database."""

    def __init__(self) -> None:
        self.run: Run
        self.news = threading.Event()

    def follow(self) -> None:
        while True:
            self.news.wait()
            time.sleep(PERIOD)
            self.news.clear()
            send(self.run)


_followers: dict[str, _Follower] = {}  # run folder -> what mirrors it in this kernel


def begin(run: Run) -> None:
    """Mirror the journal of a run from now on, on a thread of its own; one that is opened again keeps its thread."""
    follower = _followers.get(run.folder.id)
    if follower is None:
        follower = _followers[run.folder.id] = _Follower()
        threading.Thread(target=follower.follow, name=f"mirror-{run.folder.id}", daemon=True).start()
    follower.run = run
    run.journal.appended = follower.news.set


def send(run: Run) -> int:
    """Write what the target's database does not hold yet; returns how many lines. What goes wrong is left for later.

    Changes the runbook's own table in the target only.
    """
    try:
        journal = Journal(run.folder.journal_path)
        events = journal.events()
        if not may_write(run.context.plan, replay(events)):
            return 0
        with run.context.postgres.connect() as connection:
            last = mirror.last(connection, run.folder.id)
            if mirror.is_ahead(last, events):
                return 0
            new = [(event.seq, line_of(event)) for event in events[last[0] if last else 0 :]]
            if new:
                mirror.send(connection, run.folder.id, new)
            there = mirror_files.kept(connection, run.folder.id)
            files = worth_keeping(run.folder.path)
            changed = [name for name, path in files.items() if _hash(path) != there.get(name)]
            if changed:
                mirror_files.keep(connection, run.folder.id, {name: files[name].read_bytes() for name in changed})
            return len(new)
    except Exception:  # whatever it is, the journal itself is what counts
        return 0


def _hash(path: Path) -> str:
    stat = path.stat()
    return _hash_of(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _hash_of(path: Path, changed: int, size: int) -> str:
    """The SHA-256 of a file as it was then: most stay as they are from one sending to the next."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def may_write(plan: Plan, state: RunState) -> bool:
    """Whether a session in the target's database is in nobody's way, and allowed by an approval. Pure."""
    acting = [plan.steps.get(name) for name, step in state.steps.items() if step.status == "started"]
    return bool(state.approved) and not any(isinstance(spec, SwapDatabaseStep) for spec in acting)


def worth_keeping(folder: Path) -> dict[str, Path]:
    """What of a run's folder another machine cannot make anew: name -> file. Read-only."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if not any(part.startswith(".") for part in name.parts)
        and name.parts[0] not in MADE_ANEW
        and path.suffix != ".ipynb"
        and path.stat().st_size <= LARGEST
    }


def read(target: Target, run: str = "") -> tuple[str, Sequence[Event]]:
    """A run, the newest where none is named, and its events as the target's database holds them. Read-only.

    Raises:
        ParametersError: The target holds no such run.
        JournalError: A line was changed, taken out or put in.
        AdapterError: The server cannot be reached.
    """
    with Postgres(target.database.service, "status").connect() as connection:
        name, lines = received(connection, target, run)
    with tempfile.TemporaryDirectory(prefix="runbook-") as directory:
        return name, written(Path(directory), lines).events()


def received(connection: Connection, target: Target, run: str) -> tuple[str, list[str]]:
    """A run, the newest where none is named, and the lines of its journal. Read-only.

    Raises:
        ParametersError: The target holds no such run.
    """
    known = mirror.runs(connection)
    name = run or next(iter(known), "")
    lines = mirror.received(connection, name) if name in known else []
    if not lines:
        raise ParametersError(
            f"The target's database holds no run {run!r}." if run else "The target's database holds no run.",
            where=f"target {target.name}",
            state="Nothing was touched.",
            safe_next=f"Name one of: {', '.join(known)}." if known else "Ask whoever has the run folder.",
        )
    return name, lines


def written(folder: Path, lines: Sequence[str]) -> Journal:
    """The journal that these lines make in a folder; reading its events tells whether they are as they were written."""
    journal = Journal(RunFolder(folder).journal_path)
    journal.path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return journal


def hand_over(run: Run, to: str) -> str:
    """Note that somebody else carries the run on from here; returns who did so before.

    Raises:
        ParametersError: Nobody is named, or it is the same person.
    """
    before, name = run.state.operator, to.strip()
    if not name or name == before:
        raise ParametersError(
            f"A handover needs the name of somebody else than {before or 'nobody'}: {to!r}.",
            state="Nothing was changed.",
            safe_next="Give the name of the engineer who takes over.",
        )
    run.journal.append("handed-over", **{"from": before, "to": name})
    run.context.operator = name
    send(run)
    return before
