"""A run folder on a disk that is full: each try ends with a clear error, and the same command resumes once there is room."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runbook_lib.journal import Journal

from ..support.command_line import planned
from ..support.stacks import up

ROOMS = (0, 24, 80)  # kilobytes: not enough for a first event, for the first steps, for the archive

# In a mount namespace of its own, which an ordinary user may have too. $1 is a file system that holds the run folder $2.
TRIES = """
set -e
mount -t tmpfs -o size=16m tmpfs "$1/small"
cp -a "$2" "$1/small/run"
used=$(du -sk "$1/small" | cut -f1)
cd "$3"
for room in 0 24 80 4096; do
    mount -o remount,size=$((used + room))k "$1/small"
    code=0
    "$4" -c "from runbook_lib.cli import main; main()" run "$1/small/run" --approve "$5" > "$1/said" 2>&1 || code=$?
    cp "$1/small/run/journal.jsonl" "$1/journal-$room"
    cp "$1/said" "$1/said-$room"
    echo "$code"
done
rm -r "$2"
cp -a "$1/small/run" "$2"
"""


@pytest.mark.slow
def test_each_try_ends_with_a_runbook_error_and_the_last_completes(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with up("none") as stack, planned(stack, tmp_path) as plan:
        words = [str(tmp_path), str(plan.folder), os.getcwd(), sys.executable, plan.digest]
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        done = subprocess.run(
            ["unshare", "--mount", *user, "sh", "-c", TRIES, "sh", *words],
            env=plan.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        said = [(tmp_path / f"said-{room}").read_text() for room in ROOMS]

        *full, last = map(int, done.stdout.split())
        assert (set(full), last) == ({3}, 0), [*zip(full, said, strict=True)]
        for room, text in zip(ROOMS, said, strict=True):
            assert "Traceback" not in text, room
            assert "No space left on device" in text, room
            assert Journal(tmp_path / f"journal-{room}").events(), room  # and its chain holds
        assert plan.run.state.outcome["status"] == "verified"
