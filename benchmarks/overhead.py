"""Measure what the runbook costs over a plain shell script of the same commands, each on an embedded stack of its own."""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic

from outage import EVERY, watched

from runbook_lib.redaction import redact, register_environment
from runbook_lib.rehearsal.stack import Stack, stack
from runbook_lib.rehearsal.stack_file import SAMPLE

NAMES = (
    *("runbook plan", "runbook run", "runbook", "shell script", "papermill, empty notebook"),
    *("runbook, outage", "shell script, outage", "shell script, npm ci"),
)
ROOT = Path(__file__).resolve().parent.parent
PLAN = ROOT / "parameters" / "feat-2025-20251103111429.yaml"
BIN = Path(sys.executable).parent
TIMEOUT = 600  # seconds that one command may take

FUNCTIONS = r"""
export GIT_EDITOR=true
if command -v curl >/dev/null; then
    ask() { curl -fsS --noproxy '*' -H "Authorization: Bearer $REHEARSAL_API_TOKEN" "$1"; }
else
    ask() { "$BIN/python" -c 'if True:
        import os, sys, urllib.request as http
        request = http.Request(sys.argv[1], headers={"Authorization": "Bearer " + os.environ["REHEARSAL_API_TOKEN"]})
        print(http.build_opener(http.ProxyHandler({})).open(request, timeout=10).read().decode())' "$1"; }
fi
answers() {  # ADDRESS TEXT: waits until what the address serves holds the text
    left=100
    until ask "$1" 2>/dev/null | grep -q "$2"; do
        left=$((left - 1)); [ $left -gt 0 ] || { echo "$1 does not answer with $2" >&2; exit 1; }
        sleep 0.1
    done
}
take_back() {  # REPOSITORY: reverts the feature's commits, newest first, merges by their first parent
    cd "$REHEARSAL_ROOT/$1"
    before=$(git rev-parse HEAD)
    for commit in $(git log --first-parent --format=%H --grep="$FEATURE"); do
        if git rev-parse --quiet --verify "$commit^2" >/dev/null; then
            git revert --no-edit -m 1 "$commit"
        else
            git revert --no-edit "$commit"
        fi
    done
    if [ -n "$(git diff --name-only --diff-filter=D "$before" HEAD -- migrations)" ]; then
        git checkout "$before" -- migrations
        git commit -m "Keep the migration: its schema stays"
    fi
    build
}
"""

UNDER = {  # stack -> how its services stop and start, and how a repository is built
    SAMPLE: """
control() { "$BIN/supervisorctl" -s "unix://$REHEARSAL_ROOT/supervisor.sock" "$@"; }
build() { "$REHEARSAL_PYTHON" build.py; }
""",
    "node": """
control() { PM2_HOME=$REHEARSAL_PM2_HOME "$REHEARSAL_PM2" "$@"; }
build() {
    begun=$(date +%s.%N)
    npm ci --no-audit --no-fund
    echo "$begun $(date +%s.%N)" >>"$INSTALLING"
    npm run build
}
""",
}

QUICK = """
take_back frontend
control restart frontend
answers "$REHEARSAL_FRONTEND_URL/version.json" "$(git -C "$REHEARSAL_ROOT/frontend" rev-parse --short=12 HEAD)"
answers "$REHEARSAL_FRONTEND_URL/" '<html'
answers "$REHEARSAL_BACKEND_URL/api/messaging/conversations/1/messages" mediaUrl
"""

FULL = """
control stop frontend worker backend
"$REHEARSAL_PG_BIN/pg_dump" -Fc -f "$REHEARSAL_ROOT/backups/before_rollback.dump"
"$REHEARSAL_PG_BIN/psql" -v ON_ERROR_STOP=1 <<'SQL'
BEGIN;
UPDATE messages
SET attachments = '[]'::jsonb,
    updated_at = NOW()
WHERE attachments @> '[{"source": "legacy_migration"}]'::jsonb;
SELECT COUNT(*) as cleared FROM messages WHERE attachments != '[]'::jsonb;
COMMIT;
SQL
take_back backend
control start backend worker
answers "$REHEARSAL_BACKEND_URL/health" "$(git -C "$REHEARSAL_ROOT/backend" rev-parse --short=12 HEAD)"
take_back frontend
control start frontend
answers "$REHEARSAL_FRONTEND_URL/version.json" "$(git -C "$REHEARSAL_ROOT/frontend" rev-parse --short=12 HEAD)"
answers "$REHEARSAL_FRONTEND_URL/" '<html'
answers "$REHEARSAL_BACKEND_URL/api/messaging/conversations/1/messages" mediaUrl
"""


@dataclass(frozen=True)
class Case:
    """A rollback type, the fault it is for, its shell script, and how much longer the runbook may take.

    `wall` is in executions of an empty notebook by papermill, in the same run; `outage` is in outages of the script.
    """

    type: str
    fault: str
    script: str
    wall: float | None
    outage: float
    stack: str = SAMPLE


CASES = (
    Case("full", "all-media-missing", FULL, 4.5, 1.0),
    Case("frontend", "frontend-errors", QUICK, 3.0, 1.0),
    Case("full", "all-media-missing", FULL, None, 0.35, "node"),
)


def timed(command: Sequence[str | Path], directory: Path, environment: dict[str, str]) -> tuple[float, str]:
    """Run a command and return its seconds and output; end the benchmark if it fails."""
    begun = monotonic()
    ended = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    seconds = monotonic() - begun
    if ended.returncode:
        register_environment(environment)
        said = redact(ended.stdout + ended.stderr)[-3000:]
        sys.exit(f"{Path(command[0]).name} {command[1]} ended with exit code {ended.returncode}:\n{said}")
    return seconds, ended.stdout


def ours(up: Stack, case: Case, directory: Path) -> dict[str, float]:
    """Plan, approve and run a rollback without a person at the keyboard."""
    environment = {**os.environ, **up.environment}
    plan: list[str | Path] = [BIN / "runbook", "plan", "--plan", PLAN, "--target", up.described.target_file]
    plan += ["--type", case.type, "--json"]
    planning, output = timed(plan, directory, environment)
    planned = json.loads(output)
    command = [BIN / "runbook", "run", planned["run"], "--approve", planned["digest"], "--json"]
    with watched(*asked(up)) as seen:
        running, output = timed(command, directory, environment)
    assert json.loads(output)["outcome"]["status"] == "verified"
    return {"runbook plan": planning, "runbook run": running, "runbook": planning + running, "runbook, outage": seen.outage}


def script(up: Stack, case: Case, directory: Path) -> dict[str, float]:
    """Run the same commands from a shell script."""
    feature = next(line.split()[-1] for line in PLAN.read_text().splitlines() if line.startswith("feature:"))
    file = directory / "rollback.sh"
    installing = directory / "installing"  # where the script writes when installing packages began and ended
    names = f"BIN={shlex.quote(str(BIN))} FEATURE={feature} INSTALLING={shlex.quote(str(installing))}"
    file.write_text(f"{names}\n{FUNCTIONS}{UNDER[case.stack]}{case.script}")
    environment = {**os.environ, **up.environment, "PGSERVICE": "rehearsal"}
    with watched(*asked(up)) as seen:
        seconds, _ = timed(["sh", "-e", file], directory, environment)
    took = {"shell script": seconds, "shell script, outage": seen.outage}
    if installing.exists():
        moments = [line.split() for line in installing.read_text().splitlines()]
        took["shell script, npm ci"] = sum(float(end) - float(begin) for begin, end in moments)
    return took


def asked(up: Stack) -> tuple[list[str], str]:
    """Return the addresses that users request, page and API, and the API's token."""
    page, api = up.environment["REHEARSAL_FRONTEND_URL"], up.environment["REHEARSAL_BACKEND_URL"]
    return [f"{page}/", f"{api}/api/messaging/conversations/1/messages"], up.environment["REHEARSAL_API_TOKEN"]


def floor(up: Stack, case: Case, directory: Path) -> dict[str, float]:
    """Execute an empty notebook with plain papermill."""
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    empty = {"cells": [], "metadata": python, "nbformat": 4, "nbformat_minor": 5}
    (directory / "empty.ipynb").write_text(json.dumps(empty))
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "empty.ipynb", "executed.ipynb"]
    return {"papermill, empty notebook": timed(command, directory, {**os.environ, **up.environment})[0]}


def measure(case: Case, rows: int, rounds: int) -> dict[str, list[float]]:
    """Measure one case on two equal stacks per round, which take turns at being first; return the seconds by name."""
    walls: dict[str, list[float]] = {}
    for number in range(rounds):
        with (
            stack(rows, case.fault, case.stack) as one,
            stack(rows, case.fault, case.stack) as other,
            tempfile.TemporaryDirectory(prefix="overhead-") as temporary,
        ):
            turns = [(script, one), (floor, one), (ours, other)]
            for measured, up in turns if number % 2 == 0 else reversed(turns):
                for name, seconds in measured(up, case, Path(temporary)).items():
                    walls.setdefault(name, []).append(seconds)
    return walls


def report(case: Case, walls: dict[str, list[float]]) -> bool:
    """Print the figures of one case; return whether the runbook stays within the bar."""
    print(f"{case.type} ({case.fault}) on the stack {case.stack}, seconds: median (min to max)")
    for name in filter(walls.get, NAMES):
        print(f"  {name:26} {median(walls[name]):6.2f} ({min(walls[name]):.2f} to {max(walls[name]):.2f})")
    ours, rival, empty = (median(walls[name]) for name in ("runbook", "shell script", "papermill, empty notebook"))
    down, rival_down = median(walls["runbook, outage"]), median(walls["shell script, outage"])
    wall, outage = (ours - rival) / empty, down / max(rival_down, EVERY)
    print(f"  over the script by {ours - rival:.2f} s, {ours / rival:.1f} times its wall")
    within = [_held(f"in empty notebooks {wall:.2f}", wall, case.wall)]
    within.append(_held(f"outage over the script's {outage:.2f}", outage, case.outage))
    if installing := walls.get("shell script, npm ci"):
        without = rival_down - median(installing)
        _held(f"outage over the script's without its npm ci {down / max(without, EVERY):.2f}", 0, None)
    print(flush=True)
    return all(within)


def _held(what: str, measured: float, bar: float | None) -> bool:
    """Print a figure and whether it keeps its bar, if it has one; return the latter."""
    kept = bar is None or measured <= bar
    print(f"  {what}{'' if bar is None else f', bar {bar:g}: ' + ('PASS' if kept else 'over')}")
    return kept


def main() -> int:
    """Measure every case; return 1 if one is over its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="rows in the table (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each case (default: %(default)s)")
    parser.add_argument("--stack", choices=list(UNDER), default=SAMPLE, help="what is rolled back (default: %(default)s)")
    options = parser.parse_args()
    cases = [case for case in CASES if case.stack == options.stack]
    within = [report(case, measure(case, options.rows, options.rounds)) for case in cases]
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
