"""Runs that an earlier version began, with their databases: made by `python -m tests.support.old_runs`, then only read.

They lie where they were made, so that nothing of what was sealed has to be changed.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from unittest.mock import patch

import yaml

from runbook_lib.rehearsal.database import Database, create_database
from runbook_lib.rehearsal.postgres import Server, binaries, embedded_server

from .bare import Bare, bare

PLACE = Path("/tmp/runbook-old-runs")
ARCHIVES = Path(__file__).with_name("old-runs")
ROWS = 600
HOURS_OF_TEN_YEARS = 24 * 3653  # an archive's backup is as old as the archive
CLEARING = "runbook_lib.postgres.backfill_removal"


def cleared(target: Bare) -> None:
    """Option A by swap, verified; the old column is kept."""
    assert target.planned("A", "STRATEGY=swap").exit_code == 0
    assert target.executed().exit_code == 0


def half_swapped(target: Bare) -> None:
    """Option A by swap, killed while the new column catches up."""
    assert target.planned("A", "STRATEGY=swap").exit_code == 0
    target.dying(f"{CLEARING}.swap:Swap._catch_up")
    assert target.executed().exit_code == 4
    target.dying("")


def half_cleared(target: Bare) -> None:
    """Option A in batches, killed in the middle."""
    assert target.planned("A", "STRATEGY=batched").exit_code == 0
    target.dying(f"{CLEARING}.batches:_patiently")
    assert target.executed().exit_code == 4
    target.dying("")


def quarantined(target: Bare) -> None:
    """Option B, verified; the columns are set aside."""
    target.steps("stop-services", "back-up", "remove-columns")
    assert target.planned("B", "REMOVAL=quarantine").exit_code == 0
    assert target.executed().exit_code == 0


def restored(target: Bare) -> None:
    """Option C, verified; the old database is kept."""
    target.steps("stop-services", "back-up", "restore-staging", "swap-database")
    assert target.planned("C").exit_code == 0
    assert target.executed().exit_code == 1
    target.digest = next(reversed(target.opened().state.previews))  # the loss is counted by now
    assert target.executed().exit_code == 0


KINDS: tuple[Callable[[Bare], None], ...] = (cleared, half_swapped, half_cleared, quarantined, restored)


@contextmanager
def taken_up(name: str, sample: Database) -> Iterator[Bare]:
    """One of the runs, as it was left, on the server of the sample database, whose roles it knows."""
    with _alone():
        root = PLACE / name
        shutil.rmtree(root, ignore_errors=True)
        shutil.unpack_archive(ARCHIVES / f"{name}.tar.gz", root)
        database = Database(sample.server, name, sample.application, sample.runbook)
        try:
            for path in (root / "databases").iterdir():
                command = [
                    binaries() / "pg_restore",
                    "--create",
                    f"--dbname={sample.server.conninfo(dbname='postgres')}",
                    path,
                ]
                subprocess.run(command, check=True)
            with _service(database, root):
                plan, target = (yaml.safe_load((root / f"{kind}.yaml").read_text()) for kind in ("plan", "target"))
                target["database"]["tools"] = str(binaries())
                target["backups"]["oldest_hours"] = HOURS_OF_TEN_YEARS
                (root / "target.yaml").write_text(yaml.safe_dump(target, sort_keys=False))
                (run,) = (root / "outputs").iterdir()
                yield Bare(root, database, plan, target, run)
        finally:
            for known in _databases(sample.server, name):
                Database(sample.server, known, database.application, database.runbook).drop()
            shutil.rmtree(root)


def _make(kind: Callable[[Bare], None], template: Database) -> None:
    root = PLACE / kind.__name__
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    database = template.clone(kind.__name__)
    with _service(database, root), bare(database, root) as target:
        target.plan["backfills"][0]["touch_column"] = None
        target.target["services"]["commands"]["logs"] = ["sh", "-c", 'echo "version $(git -C ../backend rev-parse HEAD)"']
        kind(target)
        (root / "databases").mkdir()
        for name in _databases(database.server, database.name):
            into = ["--format=custom", "--create", f"--file={root / 'databases' / name}.dump"]
            subprocess.run([binaries() / "pg_dump", *into, database.server.conninfo(dbname=name)], check=True)
        (root / "service").unlink()
        del target.target["database"]["tools"]
        (root / "target.yaml").write_text(yaml.safe_dump(target.target, sort_keys=False))
        with tarfile.open(ARCHIVES / f"{kind.__name__}.tar.gz", "w:gz") as archive:
            archive.add(root, arcname=".")
    shutil.rmtree(root)


@contextmanager
def _service(database: Database, root: Path) -> Iterator[None]:
    lines = (f"{name}={value}" for name, value in database.parameters(database.runbook).items())
    (root / "service").write_text("\n".join(["[test]", *lines, ""]))
    with patch.dict(os.environ, {"PGSERVICEFILE": str(root / "service"), "BARE_TOKEN": "a-token-of-the-tests"}):
        yield


@contextmanager
def _alone() -> Iterator[None]:
    PLACE.mkdir(exist_ok=True)
    with open(PLACE / "lock", "w", encoding="utf-8") as file:
        flock(file, LOCK_EX)
        yield


def _databases(server: Server, name: str) -> list[str]:
    query = "SELECT datname FROM pg_database WHERE datname = %s OR starts_with(datname, %s)"
    with server.connect() as connection:
        return [row[0] for row in connection.execute(query, [name, f"{name}_"]).fetchall()]


if __name__ == "__main__":
    with embedded_server(binaries()) as started:
        sample = create_database(started, ROWS)
        wanted = sys.argv[1:] or [kind.__name__ for kind in KINDS]
        for each in KINDS:
            if each.__name__ in wanted:
                _make(each, sample)
