"""Finds the base backup and WAL that lead to the state just before a commit and the room needed, and recovers the state."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from runbook_lib.config.target import PointInTime
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.point_in_time.base_backup import BaseBackup, base_backups, control, refused, tablespaces
from runbook_lib.postgres.point_in_time.side_server import BEFORE_BASE, MISSING_WAL, Expected, SideServer, place, recovered
from runbook_lib.postgres.point_in_time.wal import Archive, Commit, not_before, number, precedes, written_by
from runbook_lib.postgres.programs import server_programs
from runbook_lib.system import temporary
from runbook_lib.system.processes import Processes, shown

EARLIER_BASE = "Name a base backup that was complete before the migration ran."
SPARE = 1.1  # times the base backup's size
WAL = 256_000_000  # bytes of WAL restored at a time, and of what recovery writes
SHOWN = 5  # segments shown
OLDEST_XID = 3  # smaller numbers are not transactions


@dataclass(frozen=True)
class Live:
    """The facts about the live server that recovery depends on."""

    system: str
    major: int
    timeline: int
    superuser: str
    database: str
    database_size: int
    size: int  # of all databases


@dataclass(frozen=True)
class Room:
    """The free bytes that a folder needs, and those that it has."""

    folder: Path
    needed: int
    free: int

    def __str__(self) -> str:
        return f"{self.needed / 1e9:.2f} GB of {self.free / 1e9:.2f} GB free in {self.folder}"


@dataclass(frozen=True)
class Way:
    """The recovery path: what is restored, where recovery stops, and the room it needs."""

    spec: PointInTime
    live: Live
    programs: Path
    rooms: Sequence[Room]
    xid: int | None = None  # recovery stops before this transaction's commit; None if `spec.at` gives the moment
    base: BaseBackup | None = None  # None if the target's command restores it
    commit: Commit | None = None  # None if only the server itself will find it

    def __str__(self) -> str:
        from_what = f"{self.base.path} and the WAL since" if self.base else f"what {shown(self.spec.command or [])} restores"
        where = f"commit of transaction {self.xid}" if self.xid else f"first commit at {self.spec.at} or later"
        when = f" at {self.commit.time:%Y-%m-%d %H:%M:%S.%f} UTC" if self.commit else ""
        return f"the state just before the {where}{when}, from {from_what}; needs {' and '.join(map(str, self.rooms))}"


def live_server(connection: Connection) -> Live:
    """Read the facts about the live server that recovery depends on. Read-only."""
    return Live(**one(connection, _LIVE))


def look(
    spec: PointInTime, live: Live, xids: Collection[int], tools: str | None, processes: Processes, backups: Path
) -> Way:
    """Find the recovery path to the state before the earliest of some commits. Read-only.

    Args:
        spec: Where the base backups and the WAL are.
        live: The server whose earlier state is needed.
        xids: The transactions that wrote what the feature's migrations left.
        tools: The target's directory of PostgreSQL programs.
        processes: What runs commands.
        backups: The folder for the dump of the state.

    Raises:
        PreconditionError: No base backup and WAL lead there, or there is no room.
    """
    programs = server_programs(live.major, tools)
    if programs is None:
        raise refused(
            f"There is no server of PostgreSQL {live.major}, the live server's major version, on this machine.",
            "Install it (the package postgresql of that version), or name the folder of its programs as database.tools.",
        )
    if not spec.at and (not xids or min(xids) < OLDEST_XID):
        raise refused(
            "The database does not show which transaction applied the migration.",
            "Name the moment in the target as before.at: recovery stops before the first commit at that time or later.",
        )
    if not backups.is_dir():
        raise refused(f"There is no folder {backups}.", "Create it, or correct backups.directory in the target.")
    way = Way(spec, live, programs, _rooms(live, None, backups), xid=oldest(xids) if not spec.at else None)
    if spec.base and spec.wal:
        way = _from_files(way, Path(spec.base), Path(spec.wal), xids, processes, backups)
    if short := [room for room in way.rooms if room.needed > room.free]:
        raise refused(
            f"No room: {' and '.join(map(str, short))}.",
            "Make room, or set TMPDIR to a folder that has it for the side instance.",
        )
    return way


@contextmanager
def carried_out(way: Way, processes: Processes) -> Iterator[SideServer]:
    """Restore and recover on a side instance, which ends with the block. Changes a temporary folder only.

    Raises:
        PreconditionError: The restored data are of another server, or do not lead to the state.
    """
    with place() as (root, data):
        if way.base:
            way.base.put_into(data, way.spec.timeout)
        else:
            command = [word.replace("{folder}", str(data)) for word in way.spec.command or []]
            processes.run(command, timeout=way.spec.timeout).require()
        _require_fitting(way, data, processes)
        target = ("recovery_target_xid", str(way.xid)) if way.xid else ("recovery_target_time", str(way.spec.at))
        fetch = f"cp {shlex.quote(way.spec.wal).replace('%', '%%')}/%f %p" if way.spec.wal else ""
        expected = Expected(way.live.major, way.live.superuser, way.live.database, target, fetch)
        with recovered(root, data, expected, way.programs, processes, way.spec.timeout) as server:
            yield server


def _from_files(way: Way, base: Path, wal: Path, xids: Collection[int], processes: Processes, backups: Path) -> Way:
    for folder, key in ((base, "base"), (wal, "wal")):
        if not folder.is_dir():
            raise refused(f"There is no folder {folder}.", f"Correct before.{key} in the target.")
    why: dict[str, PreconditionError] = {}
    for each in base_backups(base, processes):
        try:
            commit = _reached(way, each, Archive(wal, each.timeline, way.programs), xids, processes)
        except PreconditionError as error:
            why[f"{each.path.name}: {error.what}"] = error
        else:
            return replace(way, base=each, commit=commit, xid=commit.xid, rooms=_rooms(way.live, each.size, backups))
    raise refused(" ".join(why), list(why.values())[-1].safe_next)


def _reached(way: Way, base: BaseBackup, archive: Archive, xids: Collection[int], processes: Processes) -> Commit:
    """Find the commit that recovery from a base backup stops before. Read-only.

    Raises:
        PreconditionError: Recovery does not reach it.
    """
    if why := base.why_not():
        raise refused(f"The base backup cannot be restored: {why}.", "Name another base backup.")
    if base.archive is None:
        _require_major(way.live, (base.path / "PG_VERSION").read_text().strip())
    _require_system(way.live, archive.system)
    _require_timeline(way.live, base.timeline)
    lacking, at = archive.missing_since(base.start), way.spec.moment
    if archive.holds(base.start):
        running = archive.oldest_running(base.label["CHECKPOINT LOCATION"])
        if not at and (older := [xid for xid in xids if precedes(xid, running)]):
            raise _before_base(f"transaction {older[0]}, which applied the migration, had ended when it began")
        if at and base.archive is None:
            _require_later(at, control(base.path, way.programs, processes))
    commit = archive.commit_of(base.start, not_before(at) if at else written_by(xids))
    if commit is None:
        raise _missing(archive, lacking, f"at {way.spec.at} or later" if at else "of the migration")
    if base.end and number(commit.lsn) < number(base.end):
        raise _before_base(f"the migration committed at {commit.time:%Y-%m-%d %H:%M:%S.%f} UTC, before it was complete")
    return commit


def _require_fitting(way: Way, data: Path, processes: Processes) -> None:
    """Check that a restored data directory is of the live server, and from before the moment. Read-only.

    Raises:
        PreconditionError: It is of another server, or too late.
    """
    if not (data / "PG_VERSION").is_file():
        raise refused(
            f"Nothing was restored into {data.name}: it has no PG_VERSION.", "Correct before.command in the target."
        )
    _require_major(way.live, (data / "PG_VERSION").read_text().strip())
    if why := tablespaces(data):
        raise refused(f"The base backup cannot be restored: {why}.", "Name another base backup.")
    known = control(data, way.programs, processes)
    _require_system(way.live, known["Database system identifier"])
    _require_timeline(way.live, int(known["Latest checkpoint's TimeLineID"]))
    if at := way.spec.moment:
        _require_later(at, known)
    running = int(known["Latest checkpoint's oldestActiveXID"])
    if way.xid and running and precedes(way.xid, running):
        raise _before_base(f"transaction {way.xid}, which applied the migration, had ended when it began")


def _require_major(live: Live, major: str) -> None:
    if major != str(live.major):
        raise refused(
            f"Another major version: the base backup is of PostgreSQL {major}, the live server of {live.major}.",
            "Name a base backup of the live server since its upgrade; WAL is not replayed across versions.",
        )


def _require_system(live: Live, system: str) -> None:
    if system != live.system:
        raise refused(
            f"Another cluster: the backup is of system {system}, the live server is {live.system}.",
            "Name the base backups and the archive of the target's own server.",
        )


def _require_timeline(live: Live, timeline: int) -> None:
    if timeline != live.timeline:
        raise refused(
            f"A timeline switch: the base backup is on timeline {timeline}, the live server on {live.timeline}.",
            "Name a base backup from after the switch. If the migration is older, restore by hand to the moment "
            "before it, and name a dump of that under backups.",
        )


def _require_later(at: datetime, known: Mapping[str, str]) -> None:
    begun = datetime.strptime(known["Time of latest checkpoint"], "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    if at < begun:
        raise _before_base(f"{at} is before its checkpoint at {begun:%Y-%m-%d %H:%M:%S} UTC")


def _before_base(because: str) -> PreconditionError:
    return refused(f"{BEFORE_BASE}: {because}.", EARLIER_BASE)


def _missing(archive: Archive, lacking: Sequence[str], commit: str) -> PreconditionError:
    if lacking:
        return refused(
            f"{MISSING_WAL}: {archive.folder} lacks {', '.join(lacking[:SHOWN])}{' …' if lacking[SHOWN:] else ''}.",
            "Restore the segments, or name a base backup from after the gap and from before the migration.",
        )
    return refused(
        f"{MISSING_WAL}: {archive.folder} ends with {max(archive.segments.values())}, and holds no commit {commit}.",
        "Check that archiving works; SELECT pg_switch_wal() on the live server archives the rest.",
    )


def oldest(xids: Collection[int]) -> int:
    """Return the transaction that began first. Pure."""
    return next(xid for xid in xids if not any(precedes(other, xid) for other in xids))


def _rooms(live: Live, base: int | None, backups: Path) -> list[Room]:
    """Compute the room needed: for the side instance, and for the dump of its database. Read-only."""
    side, dump, scratch = int((base or live.size) * SPARE) + WAL, live.database_size, temporary.root().parent
    needed = {scratch: side, backups: dump}
    if os.stat(scratch).st_dev == os.stat(backups).st_dev:
        needed = {scratch: side + dump}
    return [Room(folder, bytes_, shutil.disk_usage(folder).free) for folder, bytes_ in needed.items()]


_LIVE = """
SELECT s.system_identifier::text AS system, current_setting('server_version_num')::int / 10000 AS major,
       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int AS timeline,
       (SELECT rolname FROM pg_roles WHERE oid = 10) AS superuser, current_database() AS database,
       pg_database_size(current_database()) AS database_size,
       (SELECT sum(pg_database_size(oid)) FROM pg_database WHERE has_database_privilege(oid, 'CONNECT'))::bigint AS size
FROM pg_control_system() s
"""
