"""Mirrors a run's journal and files to the target's database, and reads them from there; nothing waits for it.

Nothing is written before an approval, nor during a database swap, which a session would block.
Missed lines are written later, also to the database that was swapped in.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from runbook_lib.config.loading import ROOT
from runbook_lib.config.plan import Plan
from runbook_lib.config.plan.steps import DATABASE, RESTORED
from runbook_lib.config.target import Target
from runbook_lib.documents import load_target
from runbook_lib.errors import ParametersError
from runbook_lib.journal import Journal, line_of
from runbook_lib.journal.event import Event
from runbook_lib.journal.folder import RunFolder, make_private, private
from runbook_lib.journal.state import RunState, replay
from runbook_lib.postgres import Connection, mirror
from runbook_lib.postgres.connection import Postgres
from runbook_lib.run import Run, lifecycle
from runbook_lib.system import temporary

PERIOD = 1.0  # seconds between two writes at least
LARGEST = 8 * 1024**2  # bytes; a larger file is not mirrored
MADE_AGAIN = {"journal.jsonl", "manifest.json", "report.html", "rollback-log.md", "postmortem.md", "lab"}


class _Follower:
    """A thread that writes new journal lines of a run to its target's database."""

    def __init__(self) -> None:
        self.run: Run
        self.news = threading.Event()

    def follow(self) -> None:
        while True:
            self.news.wait()
            time.sleep(PERIOD)
            self.news.clear()
            send(self.run)


_followers: dict[str, _Follower] = {}  # run folder -> its follower in this kernel


def begin(run: Run) -> None:
    """Mirror the journal of a run from now on, on its own thread; a reopened run keeps its thread."""
    follower = _followers.get(run.folder.id)
    if follower is None:
        follower = _followers[run.folder.id] = _Follower()
        threading.Thread(target=follower.follow, name=f"mirror-{run.folder.id}", daemon=True).start()
    follower.run = run
    run.journal.appended = follower.news.set


def send(run: Run) -> int:
    """Write the lines that the target's database lacks, and return their number. Errors are ignored; the next call retries.

    Changes only the runbook's own table in the target.
    """
    try:
        journal = Journal(run.folder.journal_path)
        events = journal.events()
        if not may_write(run.context.plan, replay(events)):
            return 0
        with run.context.adapters.postgres.connect() as connection:
            last = mirror.last(connection, run.folder.id)
            if mirror.is_ahead(last, events):
                return 0
            new = [(event.seq, line_of(event)) for event in events[last[0] if last else 0 :]]
            if new:
                mirror.send(connection, run.folder.id, new)
            there = mirror.kept(connection, run.folder.id)
            files = worth_keeping(run.folder.path)
            changed = [name for name, path in files.items() if _hash(path) != there.get(name)]
            if changed:
                mirror.keep(connection, run.folder.id, {name: files[name].read_bytes() for name in changed})
            return len(new)
    except Exception:  # the journal in the run folder counts, whatever fails here
        return 0


def _hash(path: Path) -> str:
    stat = path.stat()
    return _hash_of(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _hash_of(path: Path, changed: int, size: int) -> str:
    """The SHA-256 of a file, cached by its time and size: most files do not change between two sends."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def may_write(plan: Plan, state: RunState) -> bool:
    """Whether a session in the target's database blocks nothing and is covered by an approval. Pure."""
    acting = [plan.steps.get(name) for name, step in state.steps.items() if step.status == "started"]
    return bool(state.approved) and not any(spec and {RESTORED, DATABASE} <= spec.touches().changes for spec in acting)


def worth_keeping(folder: Path) -> dict[str, Path]:
    """The files of a run folder that another machine cannot recreate: name -> file. Read-only."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if not any(part.startswith(".") for part in name.parts)
        and name.parts[0] not in MADE_AGAIN
        and path.suffix != ".ipynb"
        and path.stat().st_size <= LARGEST
    }


def read(target: Target, run: str = "") -> tuple[str, Sequence[Event]]:
    """A run, by default the newest, and its events from the target's database. Read-only.

    Raises:
        ParametersError: The target holds no such run.
        JournalError: A line was changed, removed or added.
        AdapterError: The server cannot be reached.
    """
    with Postgres(target.database.service, "status", dbname=target.database.dbname).connect() as connection:
        name, lines = received(connection, target, run)
    with temporary.directory() as directory:
        return name, written(directory, lines).events()


def received(connection: Connection, target: Target, run: str) -> tuple[str, list[str]]:
    """A run, by default the newest, and the lines of its journal. Read-only.

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
    """Write these lines as a journal in a folder; reading its events verifies the hash chain."""
    journal = Journal(RunFolder(folder).journal_path)
    with open(journal.path, "w", encoding="utf-8", opener=private) as file:
        file.writelines(f"{line}\n" for line in lines)
    return journal


def hand_over(run: Run, to: str) -> str:
    """Record that another person continues the run, and return the previous operator.

    Raises:
        ParametersError: No name is given, or it is the same person.
    """
    before, name = run.state.operator, to.strip()
    if not name or name == before:
        raise ParametersError(
            f"A handover needs the name of another person than {before or 'nobody'}; it got {to!r}.",
            state="Nothing was changed.",
            safe_next="Give the name of the engineer who takes over.",
        )
    run.journal.append("handed-over", **{"from": before, "to": name})
    run.context.operator = name
    send(run)
    return before


def take_up(target_file: Path, run: str, to: str, outputs: Path = ROOT / "outputs") -> Run:
    """Recreate the folder of a run, by default the newest, on this machine, and let `to` continue it.

    From then on, the run's folder elsewhere refuses every step of a type that touches the database.

    Changes only the runbook's own tables in the target.

    Raises:
        ParametersError: The target holds no such run, the run is here already, or no name is given.
        JournalError: A line of its journal was changed, removed or added.
        AdapterError: The server cannot be reached.
    """
    target, to = load_target(target_file), to.strip()
    if not to:
        raise ParametersError(
            "No name is given of who continues the run.", state="Nothing was changed.", safe_next="Give the name with --to."
        )
    with Postgres(target.database.service, "status", dbname=target.database.dbname).connect() as connection:
        name, lines = received(connection, target, run)
        files = mirror.received_files(connection, name)
    path = outputs / PurePosixPath(name).name
    if path.exists():
        raise ParametersError(
            f"The run {name} is here already.",
            where=str(path),
            state="Nothing was changed.",
            safe_next="Continue it there: runbook run, or runbook lab, with this folder.",
        )
    made = _made(path, lines, files)
    opened = lifecycle.open_existing(made, to)
    gone = sorted({e["file"] for e in opened.state.evidence if not (made / e["file"]).exists()})
    opened.journal.append("taken-up", by=to, host=socket.gethostname(), files=len(files), missing=gone)
    if to != opened.state.operator:
        hand_over(opened, to)
    send(opened)
    return opened


def _made(path: Path, lines: list[str], files: dict[str, bytes]) -> Path:
    """Write the folder under a temporary name first, so that it is complete or absent."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    make_private(part / "evidence", part.parent)
    written(part, lines).events()  # raises where the chain is broken
    for name, content in files.items():
        file = part / name
        if not file.resolve().is_relative_to(part.resolve()):
            raise ParametersError(
                f"The target's database holds a file with the name {name!r}, which is outside the run's folder.",
                state="Nothing was changed.",
                safe_next="First find out who put it there.",
            )
        make_private(file.parent)
        with open(file, "wb", opener=private) as made:
            made.write(content)
    return part.rename(path)
