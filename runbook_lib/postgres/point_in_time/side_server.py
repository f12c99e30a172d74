"""Runs a second server next to the live one on a restored base backup, recovers it to a point in time, and ends it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.point_in_time.base_backup import control, refused
from runbook_lib.postgres.programs import SOCKET_PATH_LIMIT, clean_environment, user_namespace
from runbook_lib.system import temporary
from runbook_lib.system.processes import Processes, until
from runbook_lib.system.signals import with_default_signals

LOOK = 0.2  # seconds between two checks whether it answers
STOP = 20.0  # seconds for it to end
BEFORE_BASE = "T before the base backup"
MISSING_WAL = "Missing WAL"
OWN = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf", "postmaster.pid", "standby.signal")
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "hot_standby": "off",  # refuses connections until the state is reached
    "archive_mode": "off",
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_preload_libraries": "",
    "ssl": "off",
    "jit": "off",
    "lc_messages": "C",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "log_min_messages": "log",
    "recovery_target_inclusive": "off",
    "recovery_target_action": "promote",
}
SETTINGS_SINCE = {18: {"io_method": "sync"}}  # first major version that has them -> settings
OF_CONTROL = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}
_STOPPED = re.compile(r"recovery stopping before commit of transaction \d+, time (\S+ \S+?)\+00$", re.MULTILINE)
_SAID = re.compile(r"(?:FATAL|PANIC):  (.*)")
_RESTORED_BY = re.compile(r"^\s*restore_command\s*=\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class SideServer:
    """Connects as superuser to the recovered server."""

    host: Path
    user: str
    database: str
    moment: datetime

    @property
    def conninfo(self) -> str:
        """Return its libpq connection string: by its socket, in a folder that nobody else may enter."""
        return make_conninfo("", host=str(self.host), port=5432, user=self.user, dbname=self.database)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection in autocommit mode; closed afterwards."""
        with psycopg.connect(self.conninfo, autocommit=True, row_factory=dict_row) as connection:
            yield connection


@dataclass(frozen=True)
class Expected:
    """The expected server: the live one's major version, superuser and database, and where recovery stops."""

    major: int
    user: str
    database: str
    target: tuple[str, str]  # the setting that says where recovery stops, and its value
    restore_command: str  # "" for the restored folder's own


@contextmanager
def recovered(
    root: Path, data: Path, expected: Expected, programs: Path, processes: Processes, timeout: float
) -> Iterator[SideServer]:
    """Recover a restored data directory and run its server until the block ends. Changes only what is below `root`.

    Raises:
        PreconditionError: WAL is missing, or the moment is before the base backup.
        AdapterError: The server does not start, or not in time.
    """
    socket, log = root / "s", root / "postgres.log"
    if len(bytes(socket / ".s.PGSQL.5432")) > SOCKET_PATH_LIMIT:
        raise AdapterError(
            "The path of the side instance's socket is too long for the operating system.",
            where=str(socket),
            state="Nothing was started.",
            safe_next="Set TMPDIR to a shorter directory.",
        )
    socket.mkdir(mode=0o700)
    _configure(data, expected, control(data, programs, processes))
    command = [*user_namespace(), str(programs / "postgres"), "-D", str(data), "-k", str(socket)]
    environment = clean_environment()
    with log.open("wb") as output:  # by this file it is found and ended if its owner dies
        process = subprocess.Popen(
            with_default_signals(command, env=environment), env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    reached = SideServer(socket, expected.user, expected.database, datetime.now(UTC))
    try:
        if not until(lambda: process.poll() is not None or _answers(reached), timeout, LOOK):
            raise AdapterError(
                f"The side instance was not recovered within {timeout:g} s.",
                where="target, key before",
                state="It was stopped; the target was only read.",
                safe_next="Give a longer `timeout` there, or name a base backup from nearer to the migration.",
            )
        if process.poll() is not None:
            raise _why(log.read_text(errors="replace"))
        yield SideServer(socket, expected.user, expected.database, _moment(log.read_text(errors="replace")))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def place() -> Iterator[tuple[Path, Path]]:
    """Create a private folder with an empty data directory; both go with the block, or with this process."""
    with temporary.directory() as root:
        data = root / "d"
        data.mkdir(mode=0o700)
        yield root, data


def _configure(data: Path, expected: Expected, known: dict[str, str]) -> None:
    left = "".join((data / name).read_text() for name in OWN[:2] if (data / name).is_file())
    commands = _RESTORED_BY.findall(left)
    for name in OWN:
        (data / name).unlink(missing_ok=True)
    for slot in (data / "pg_replslot").glob("*"):
        shutil.rmtree(slot)
    since = [settings for first, settings in SETTINGS_SINCE.items() if expected.major >= first]
    settings = {name: value for each in (SETTINGS, *since) for name, value in each.items()}
    settings |= {name: known[key] for name, key in OF_CONTROL.items() if key in known}
    settings |= dict([expected.target]) | {"recovery_target_timeline": "current"}
    lines = [f"{name} = {_quoted(value)}" for name, value in settings.items()]
    if expected.restore_command:
        lines.append(f"restore_command = {_quoted(expected.restore_command)}")
    elif commands:
        lines.append(f"restore_command = {commands[-1]}")
    else:
        raise refused(
            f"{MISSING_WAL}: the command of before.command left no restore_command in {data.name}/postgresql.auto.conf.",
            "Have it write one (pgBackRest does; Barman with --get-wal), or name the folder of the archive as `wal`.",
        )
    (data / "postgresql.conf").write_text("\n".join([*lines, ""]))
    (data / "pg_hba.conf").write_text("local all all trust\n")
    (data / "pg_ident.conf").touch()
    (data / "recovery.signal").touch()
    data.chmod(0o700)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _answers(server: SideServer) -> bool:
    try:
        psycopg.connect(server.conninfo).close()
    except psycopg.OperationalError as error:
        return "does not exist" in str(error)  # it answers, so it is up
    return True


def _moment(log: str) -> datetime:
    """Return when the transaction committed that recovery stopped before."""
    stopped = _STOPPED.findall(log)
    if not stopped:
        raise AdapterError(
            "The side instance's log does not say where its recovery stopped.",
            where="target, key before",
            state="It was stopped; the target was only read.",
            safe_next="Restore the base backup by hand to that moment, and name a dump of it under backups.",
        )
    return datetime.fromisoformat(stopped[-1]).replace(tzinfo=UTC)


def _why(log: str) -> PreconditionError | AdapterError:
    said = _SAID.findall(log)
    text = "; ".join(dict.fromkeys(said)) or log.strip()[-300:]
    if any("before consistent recovery point" in line for line in said):
        return refused(f"{BEFORE_BASE}: {text}.", "Name a base backup that was complete before the migration ran.")
    if any("before configured recovery target was reached" in line or "checkpoint record" in line for line in said):
        return refused(
            f"{MISSING_WAL}: recovery came to the end of the WAL before it reached the migration's commit ({text}).",
            "Complete the archive (SELECT pg_switch_wal() on the live server archives the rest), or name a base "
            "backup from before the migration.",
        )
    return AdapterError(
        f"The side instance did not start: {text}.",
        where="target, key before",
        state="It has ended; the target was only read.",
        safe_next="Correct what the message names.",
    )
