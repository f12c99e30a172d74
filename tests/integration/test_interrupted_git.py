"""Runs killed with all their processes while git moves the checkout, by the command line; and lock files of anybody's."""

import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.git import Checkout
from runbook_lib.rehearsal.workspace import until
from runbook_lib.system.processes import LocalProcesses

from ..support import quick_site
from ..support.quick_site import Planned, Site, git, killed

HOUR = 3600


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose checkout of the frontend writes files slowly while `hold` exists, by a smudge filter."""
    made = quick_site.make(tmp_path / "site")
    slow = f'while test "$PWD" = {made.frontend} -a -e {made.root}/hold; do sleep 0.05; done; cat'
    git(made.frontend, "config", "filter.slow.smudge", f"sh -c '{slow}'")
    (made.frontend / ".git" / "info").mkdir(exist_ok=True)
    (made.frontend / ".git" / "info" / "attributes").write_text("*.js filter=slow\n*.css filter=slow\n")
    return made


def lock(site: Site) -> Path:
    return site.frontend / ".git" / "index.lock"


def moving(site: Site) -> bool:
    return lock(site).exists() and bool(site.git("ls-files", "--deleted"))


def kill_in_the_move(site: Site, run: Planned) -> None:
    (site.root / "hold").touch()
    process = run.start()
    assert until(lambda: moving(site), 60)
    killed(process)
    (site.root / "hold").unlink()
    assert moving(site)


@pytest.mark.slow
def test_the_same_command_completes_a_checkout_half_moved_by_a_killed_run(site: Site) -> None:
    ann = site.plan()
    kill_in_the_move(site, ann)
    again = site.plan(operator="Bo")

    code, said = ann.run()

    assert (code, ann.state.outcome and ann.state.outcome["status"]) == (0, "verified"), said
    assert (site.git("status", "--porcelain"), lock(site).exists()) == ("", False)
    assert site.remote("rev-parse", "main") == site.git("rev-parse", "HEAD")
    assert any(
        note.startswith(f"Removed a lock of this run's own git, which was killed: {lock(site)}") for note in ann.state.notes
    )
    assert "no visible process holds it" in str(again.error)  # to another run it is somebody else's


@pytest.mark.slow
def test_a_checkout_half_moved_by_a_run_taken_over_is_rolled_back(site: Site) -> None:
    ann, bo = site.plan(), site.plan(operator="Bo")
    kill_in_the_move(site, ann)

    _, said = site.command("run", str(bo.folder), "--take-over", "Ann's laptop is broken")
    code, done = site.command("run", str(bo.folder), "--approve", re.findall(r"--approve (\w+)", said)[-1])

    assert (code, bo.state.outcome and bo.state.outcome["status"]) == (0, "verified"), said + done
    assert (site.git("status", "--porcelain"), lock(site).exists(), site.frozen) == ("", False, False)
    assert any(note.startswith("Put frontend back: the run taken over had left it half-way to ") for note in bo.state.notes)


def test_a_file_that_somebody_changed_after_the_kill_is_not_overwritten(site: Site) -> None:
    ann = site.plan()
    kill_in_the_move(site, ann)
    (site.frontend / "README.md").write_text("mine\n")

    code, said = ann.run()

    assert (code, "uncommitted changes" in said, (site.frontend / "README.md").read_text()) == (3, True, "mine\n"), said


def test_a_lock_of_somebody_else_stops_the_run_and_stays(site: Site) -> None:
    ann = site.plan()
    kill_in_the_move(site, ann)
    other = site.frontend / ".git" / "refs" / "heads" / "main.lock"
    other.touch()
    os.utime(other, (time.time() - 5 * HOUR, time.time() - 5 * HOUR))

    code, said = ann.run()

    assert (code, other.exists()) == (3, True)
    assert f"{other} (5 h old, no visible process holds it)" in said
    assert f"rm {other}" in said


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "checkout")
    made = Checkout(tmp_path / "checkout", LocalProcesses())
    git(made.path, "commit", "--quiet", "--allow-empty", "--message=One")
    return made


@pytest.mark.parametrize(
    ("text", "half_moved"),
    [("", True), ("const ", True), ("const wanted = ", False), ("m", False), (None, True)],
    ids=["nothing of it", "a first part", "something else", "a short text of somebody's", "not yet"],
)
def test_a_file_half_written_by_git_is_distinguished_from_a_persons(
    checkout: Checkout, text: str | None, half_moved: bool
) -> None:
    file = checkout.path / "app.js"
    for content in ("old\n", "const it = 1;\n"):
        file.write_text(content)
        git(checkout.path, "add", "app.js")
        git(checkout.path, "commit", "--quiet", "--message=Two")
    wanted = checkout.head()
    git(checkout.path, "reset", "--quiet", "--hard", "HEAD~1")
    file.unlink() if text is None else file.write_text(text)

    assert checkout.half_way_to(wanted) is half_moved


# --- every kind of lock


@pytest.mark.parametrize(
    "name",
    [
        "index",
        "HEAD",
        "packed-refs",
        "config",
        "shallow",
        "MERGE_RR",
        "refs/heads/main",
        "refs/remotes/origin/main",
        "objects/maintenance",
        "objects/info/commit-graph",
        "objects/info/commit-graphs/commit-graph-chain",
    ],
)
def test_a_lock_of_any_kind_is_named_with_its_age_and_the_way_on(checkout: Checkout, name: str) -> None:
    file = checkout.path / ".git" / f"{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (time.time() - 200, time.time() - 200))

    with pytest.raises(PreconditionError, match=rf"{name}.lock \(3 min old, no visible process") as refused:
        checkout.require_ready()

    assert refused.value.safe_next.endswith(f"rm {file}")


def test_a_process_that_holds_a_lock_is_named_by_its_pid(checkout: Checkout) -> None:
    file = checkout.path / ".git" / "index.lock"
    with file.open("w") as opened, subprocess.Popen(["sleep", "60"], stdout=opened) as process:
        try:
            with pytest.raises(PreconditionError, match=rf"held by pid {process.pid} \(sleep 60\)") as refused:
                checkout.require_ready()
        finally:
            process.kill()

    assert refused.value.safe_next == "Wait until that process ends, or end it by its pid."


def test_a_lock_that_goes_away_by_itself_is_nothing(checkout: Checkout) -> None:
    file = checkout.path / ".git" / "index.lock"
    file.touch()
    timer = threading.Timer(0.5, file.unlink)
    timer.start()

    checkout.require_ready()

    timer.join()


def test_a_branch_called_lock_is_no_lock(checkout: Checkout) -> None:
    git(checkout.path, "branch", "lock/index")

    checkout.require_ready()
