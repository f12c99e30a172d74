"""Taking code back, building and pushing it: the steps, on real repositories with a remote each."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import loop, oldcode
from runbook_lib import run as run_module
from runbook_lib.adapters.processes import LocalProcesses
from runbook_lib.checks.prerequisites import looked
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.folder import RunFolder
from runbook_lib.journal import Journal
from runbook_lib.plan import Plan, Repository
from runbook_lib.rehearsal.faults import FAULTS
from runbook_lib.rehearsal.repositories import create_backend, create_frontend
from runbook_lib.results import Status
from runbook_lib.steps import step_named
from runbook_lib.steps.base import Effect, Step
from runbook_lib.target import Target, load_target

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REVERT, BUILD, PUSH = "revert-frontend", "build-frontend", "push-frontend"


class Run:
    """A run's record of a few steps, without its loop."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.debts: dict[str, str] = {}
        self.told: list[str] = []
        context.report = self._told
        context.debts = lambda: self.debts

    def step(self, name: str) -> Step:
        return step_named(self.context, name)

    def approve(self, *names: str) -> None:
        self.context.approved = {name: dict(self.step(name).preview().facts) for name in names}

    def apply(self, name: str) -> Mapping[str, Any]:
        left = dict(self.step(name).apply())
        self.context.outcomes = {**self.context.outcomes, name: left}
        return left

    def path(self, repository: str = "frontend") -> Path:
        return self.context.checkout(repository).path

    def git(self, *arguments: str, repository: str = "frontend") -> str:
        return git(self.path(repository), *arguments)

    def commit(self, message: str, **files: str) -> str:
        for name, text in files.items():
            (self.path() / name).write_text(text)
            self.git("add", name)
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")

    def remote_tip(self, repository: str = "frontend") -> str:
        return git(self.path().with_name(f"{repository}.git"), "rev-parse", "main")

    def _told(self, kind: str, **data: Any) -> None:
        if kind == "owed":
            self.debts[data["debt"]] = data["text"]
        elif kind == "paid":
            self.debts.pop(data["debt"])
        elif kind == "output":
            self.told.append(data["line"])


def git(path: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    done = subprocess.run(command, cwd=path, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def target(tmp_path: Path) -> Target:
    names = ("BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN")
    environment = {f"REHEARSAL_{name}": f"http://{name.lower()}.test" for name in names}
    environment |= {"REHEARSAL_ROOT": str(tmp_path), "REHEARSAL_PYTHON": sys.executable, "REHEARSAL_APPLICATION_ROLE": "app"}
    return load_target(ROOT / "parameters" / "rehearsal.yaml", environment)


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("repositories")
    create_backend(made / "backend", FAULTS[0])
    create_frontend(made / "frontend", FAULTS[0])
    return made


@pytest.fixture
def make(plan: Plan, target: Target, repositories: Path, tmp_path: Path) -> Callable[..., Run]:
    """A run on fresh repositories, with what a test changes in plan or target."""

    def made(repository: Repository | None = None, **changed: Any) -> Run:
        for name in ("backend", "frontend"):
            shutil.copytree(repositories / name, tmp_path / name)
            shutil.copytree(repositories / f"{name}.git", tmp_path / f"{name}.git")
            git(tmp_path / name, "remote", "set-url", "origin", str(tmp_path / f"{name}.git"))
            git(tmp_path / name, "status")  # the index knows the copies again
        changed_repositories = {**plan.repositories, "frontend": repository or plan.repositories["frontend"]}
        own = target.repositories["frontend"].model_copy(update=changed)
        where = target.model_copy(update={"repositories": {**target.repositories, "frontend": own}})
        folder = RunFolder.create(tmp_path / "outputs", "INC-1", "full")
        what = plan.model_copy(update={"repositories": changed_repositories})
        context = Context(what, where, folder, "full", "A", "Dana", AT)
        context.__dict__["processes"] = LocalProcesses()
        return Run(context)

    return made


@pytest.fixture
def run(make: Callable[..., Run]) -> Run:
    return make()


# --- which commits, shown before anything happens


def test_every_commit_of_the_feature_is_shown_with_what_becomes_of_it(run: Run) -> None:
    preview = run.step("revert-backend").preview()

    head, *rows = preview.table
    merged = [row for row in rows if row[3].startswith("goes with the merge ")]
    assert head == ["commit", "subject", "found by", "what becomes of it"]
    assert {row[2] for row in rows} == {"message"}
    assert [row[3] for row in rows if row not in merged] == ["is taken back"] * 3
    assert len(merged) == 2
    assert [line for line in preview.would if line.endswith("(a merge, by its first parent)")] != []


def test_commits_that_the_plan_lists_or_spans_are_taken_back_too(make: Callable[..., Run]) -> None:
    run = make()
    listed, first, last = run.commit("A"), run.commit("B"), run.commit("C", extra="here\n")
    run.commit("Later work")
    run.context.plan = run.context.plan.model_copy(
        update={"repositories": {"frontend": Repository(commits=[listed[:12]], range=f"{first}..{last}")}}
    )

    table = run.step(REVERT).preview().table

    assert {row[1]: row[2:] for row in table if row[1] in "ABC"} == {
        "A": ["list", "was taken back before, without a word of it"],  # an empty commit leaves nothing to take back
        "C": ["range", "is taken back"],
    }


def test_a_commit_that_the_plan_lists_and_nobody_knows_is_named(make: Callable[..., Run]) -> None:
    run = make(Repository(commits=["0123abc"]))

    with pytest.raises(PreconditionError, match=r"lists 0123abc under repositories.frontend.commits, which is no commit"):
        run.step(REVERT).preview()


def test_a_commit_that_the_plan_lists_from_another_branch_is_shown_as_such(make: Callable[..., Run]) -> None:
    run = make()
    run.git("switch", "--quiet", "--create", "side")
    side = run.commit("Elsewhere")
    run.git("switch", "--quiet", "main")
    run.context.plan = run.context.plan.model_copy(update={"repositories": {"frontend": Repository(commits=[side])}})

    assert [side[:12], "Elsewhere", "list", "is not in the branch checked out"] in run.step(REVERT).preview().table


# --- revert


def test_a_conflict_is_known_by_the_preview_and_leaves_everything_as_it_was(run: Run) -> None:
    later = run.commit("Rewrite", **{"src/app.js": "something else altogether\n"})

    with pytest.raises(PreconditionError, match=r"conflicts with later work in: src/app.js") as caught:
        run.step(REVERT).preview()

    assert (caught.value.state, bool(caught.value.safe_next)) == ("The deployed checkout was not touched.", True)
    assert (run.git("rev-parse", "HEAD"), run.git("status", "--porcelain")) == (later, "")


@pytest.mark.parametrize("spoil", [["switch", "--quiet", "--detach"], ["config", "core.bare", "true"]])
def test_what_is_in_the_way_fails_the_prerequisite_with_its_way_on(run: Run, spoil: list[str]) -> None:
    run.git(*spoil)

    result = looked(run.context, "checkouts")

    assert result.status is Status.FAIL
    assert result.summary.endswith(("git switch -c NAME`.", "it is the checkout that is deployed from."))


def test_a_revert_is_undone_by_moving_back(run: Run) -> None:
    before = run.git("rev-parse", "HEAD")
    run.approve(REVERT)

    run.apply(REVERT)
    assert run.step(REVERT).probe().effect is Effect.DONE
    assert {r.status for r in run.step(REVERT).verify()} == {Status.PASS}
    run.step(REVERT).undo()

    assert run.git("rev-parse", "HEAD") == before
    assert run.step(REVERT).probe().effect is Effect.NOT_DONE


def test_a_move_that_was_cut_short_is_seen_and_ended(run: Run) -> None:
    run.approve(REVERT)
    wanted = run.context.approved[REVERT]["commit"]
    old = oldcode.prepare(run.context, "frontend")
    run.context.checkout("frontend").bring(old.path, wanted)
    run.git("read-tree", "-m", "-u", "HEAD", wanted)  # what git does before it moves the branch

    assert run.step(REVERT).probe().effect is Effect.HALF_DONE
    run.apply(REVERT)

    assert run.step(REVERT).probe().effect is Effect.DONE
    assert run.git("status", "--porcelain") == ""


def test_a_change_of_somebodys_own_is_not_taken_for_a_move_cut_short(run: Run) -> None:
    run.approve(REVERT)
    (run.path() / "README.md").write_text("mine\n")

    assert run.step(REVERT).probe().effect is Effect.NOT_DONE
    with pytest.raises(PreconditionError, match=r"uncommitted changes: README.md"):
        run.apply(REVERT)
    assert (run.path() / "README.md").read_text() == "mine\n"


# --- reset


@pytest.fixture
def resettable(run: Run) -> Run:
    """A run with CODE=reset on a frontend on which nothing lies on top of the feature."""
    run.git("reset", "--quiet", "--hard", "HEAD~1")
    run.git("push", "--quiet", "--force", "origin", "main")
    run.context.choices = {"CODE": "reset"}
    return run


def test_a_reset_that_would_lose_later_work_is_refused_by_its_name(run: Run) -> None:
    run.context.choices = {"CODE": "reset"}

    with pytest.raises(PreconditionError, match=r"would lose what is not the feature's \(1 commits\): .*[Tt]itle") as caught:
        run.step(REVERT).preview()

    assert caught.value.safe_next == "Choose CODE=revert, which keeps it."


def test_a_reset_is_refused_on_a_dirty_tree(resettable: Run) -> None:
    resettable.approve(REVERT)
    (resettable.path() / "README.md").write_text("mine\n")

    with pytest.raises(PreconditionError, match="uncommitted changes"):
        resettable.apply(REVERT)

    assert (resettable.path() / "README.md").read_text() == "mine\n"


def test_a_reset_goes_below_the_feature_and_its_former_head_outlives_a_gc(resettable: Run) -> None:
    run = resettable
    before = run.git("rev-parse", "HEAD")
    run.approve(REVERT)

    run.apply(REVERT)
    assert run.git("rev-parse", "HEAD") == run.git("rev-parse", "v1.4.0^{commit}")
    assert {r.status for r in run.step(REVERT).verify()} == {Status.PASS}
    assert list(run.debts) == ["former-head-frontend"]
    run.git("update-ref", "-d", "refs/remotes/origin/main")
    run.git("reflog", "expire", "--expire=now", "--all")
    run.git("gc", "--quiet", "--prune=now")
    run.step(REVERT).undo()

    assert run.git("rev-parse", "HEAD") == before
    assert (run.debts, run.git("for-each-ref", "refs/runbook")) == ({}, "")


def test_a_purge_gives_the_former_head_up(resettable: Run) -> None:
    run = resettable
    run.approve(REVERT)
    run.apply(REVERT)

    assert run.step(REVERT).purge_preview("former-head-frontend").title.startswith("IRREVERSIBLE")
    run.step(REVERT).purge("former-head-frontend")

    assert (run.debts, run.git("for-each-ref", "refs/runbook")) == ({}, "")


def test_where_the_schema_stays_a_reset_keeps_the_migrations_file(run: Run) -> None:
    run.git("reset", "--quiet", "--hard", "HEAD~1", repository="backend")  # without the later work
    run.context.choices = {"CODE": "reset"}
    run.approve("revert-backend")

    run.apply("revert-backend")

    assert run.git("diff", "--name-only", "v1.4.0", "HEAD", repository="backend").startswith("migrations/039")
    assert run.step("revert-backend").probe().effect is Effect.DONE


# --- push


def test_a_push_puts_the_reverts_where_the_next_deployment_takes_the_code_from(run: Run) -> None:
    run.approve(REVERT, PUSH)
    preview = run.step(PUSH).preview()
    assert run.step(PUSH).probe().effect is Effect.NOT_DONE
    run.apply(REVERT)

    assert {r.status for r in run.step(PUSH).preconditions()} == {Status.PASS}
    run.apply(PUSH)

    assert f"push {len(preview.table) - 1} commits to origin/main: " in preview.would[0]
    assert all(row[1].startswith("Revert ") for row in preview.table[1:])
    assert run.step(PUSH).probe().effect is Effect.DONE
    assert run.remote_tip() == run.git("rev-parse", "HEAD")
    assert run.step(PUSH).preview().facts == preview.facts  # nothing drifts by being done


def test_a_preview_of_a_push_writes_neither_here_nor_there(run: Run) -> None:
    def files() -> dict[Path, bytes]:
        folders = run.path(), run.path().with_name("frontend.git")
        return {p: p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()}

    before = files()

    run.step(PUSH).preview()
    run.step(PUSH).probe()

    assert files() == before


def test_an_undone_push_brings_the_feature_back_by_commits_on_top(run: Run) -> None:
    run.approve(REVERT, PUSH)
    was = run.remote_tip()
    run.apply(REVERT)
    pushed = run.apply(PUSH)["commit"]

    run.step(PUSH).undo()

    bare = run.path().with_name("frontend.git")
    assert git(bare, "diff", was, "main") == ""
    git(bare, "merge-base", "--is-ancestor", pushed, "main")
    assert run.step(PUSH).probe().effect is Effect.NOT_DONE
    run.step(REVERT).undo()
    run.git("pull", "--quiet", "--ff-only")


def push_from_elsewhere(run: Run) -> str:
    elsewhere = run.path().with_name("elsewhere")
    git(run.path().parent, "clone", "--quiet", "frontend.git", str(elsewhere))
    git(elsewhere, "commit", "--quiet", "--allow-empty", "--message=Somebody else's")
    git(elsewhere, "push", "--quiet")
    return run.remote_tip()


def test_a_branch_that_the_push_made_is_not_undone_by_it(run: Run) -> None:
    git(run.path().with_name("frontend.git"), "update-ref", "-d", "refs/heads/main")
    run.approve(REVERT, PUSH)
    assert run.step(PUSH).preview().would[0].startswith("make the branch origin/main at ")
    run.apply(REVERT)
    run.apply(PUSH)

    with pytest.raises(PreconditionError, match="there was no such branch before"):
        run.step(PUSH).undo()

    assert run.step(PUSH).probe().effect is Effect.DONE


@pytest.mark.parametrize("mode", ["revert", "reset"])
def test_a_remote_that_has_moved_is_left_alone(run: Run, resettable: Run, mode: str) -> None:
    run.context.choices = {"CODE": mode}
    run.approve(REVERT, PUSH)
    theirs = push_from_elsewhere(run)
    run.apply(REVERT)

    (result,) = run.step(PUSH).preconditions()
    with pytest.raises(AdapterError):
        run.apply(PUSH)

    assert (result.name, result.status) == (PUSH, Status.FAIL)
    assert "holds commits that this checkout did not have" in result.summary
    assert "stop: origin/main holds commits" in run.step(PUSH).preview().would[0]
    assert run.remote_tip() == theirs


def test_a_reset_replaces_what_it_was_approved_to_replace_and_can_put_it_back(resettable: Run) -> None:
    run = resettable
    was = run.remote_tip()
    run.approve(REVERT, PUSH)
    assert run.context.approved[PUSH]["replaces"] == was
    assert "IRREVERSIBLE" in run.step(PUSH).preview().undone_by
    run.apply(REVERT)

    assert {r.status for r in run.step(PUSH).preconditions()} == {Status.PASS}
    run.apply(PUSH)
    assert run.remote_tip() == run.git("rev-parse", "v1.4.0^{commit}")
    run.step(PUSH).undo()

    assert run.remote_tip() == was


def test_a_reset_is_not_put_back_over_what_somebody_pushed_since(resettable: Run) -> None:
    run = resettable
    run.approve(REVERT, PUSH)
    run.apply(REVERT)
    run.apply(PUSH)
    theirs = push_from_elsewhere(run)

    with pytest.raises(PreconditionError, match="was pushed to since"):
        run.step(PUSH).undo()

    assert run.remote_tip() == theirs


@pytest.mark.parametrize(
    ("spoil", "status", "told"),
    [
        pytest.param(["remote", "remove", "origin"], Status.FAIL, "follows no branch of a remote", id="no remote"),
        pytest.param(["remote", "set-url", "origin", "/nowhere"], Status.UNKNOWN, "does not answer", id="remote away"),
    ],
)
def test_without_a_remote_the_step_says_so_and_only_a_waiver_of_it_goes_on(
    run: Run, spoil: list[str], status: Status, told: str
) -> None:
    run.git(*spoil)
    run.approve(REVERT, PUSH)
    run.apply(REVERT)

    (result,) = run.step(PUSH).preconditions()

    assert (result.name, result.status) == (PUSH, status)
    assert told in result.summary
    assert told in run.step(PUSH).preview().would[0]
    assert run.step(PUSH).verify()[0].status is Status.FAIL


def test_a_waiver_by_its_name_leaves_the_push_for_later(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    context = run.context
    context.type = "frontend"
    about = {"target": "t", "environment": "rehearsal", "operator": "Dana", "reason": "", "incident": "", "plan": "p"}
    Journal(context.folder.journal_path).append("opened", type="frontend", option="A", **about)
    monkeypatch.setattr(run_module, "steps_of", lambda context: {n: step_named(context, n) for n in (REVERT, PUSH)})
    run.git("remote", "remove", "origin")
    recorded = run_module.Run(context.folder, context)
    recorded.approve(recorded.previews()[0], "Dana")
    loop.apply(recorded, REVERT)

    with pytest.raises(PreconditionError, match="follows no branch of a remote"):
        loop.apply(recorded, PUSH)
    recorded.waive(PUSH, "the remote moves house tonight")
    done = loop.apply(recorded, PUSH)

    assert done.how == "failed, and waived: the remote moves house tonight"
    assert not recorded.state.step(PUSH).is_done


def test_code_that_was_not_taken_back_is_not_pushed(run: Run) -> None:
    run.approve(REVERT, PUSH)

    (result,) = run.step(PUSH).preconditions()

    assert (result.status, "not the code taken back" in result.summary) == (Status.FAIL, True)


# --- build


def npm_package(run: Run, build: str = "mkdir -p .next && node build.js") -> None:
    package = f'{{"name": "frontend", "version": "1.0.0", "scripts": {{"build": "{build}"}}}}'
    lock = '{"name": "frontend", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "frontend"}}}'
    script = "const fs = require('fs'); fs.appendFileSync('.next/built', 'once ');\nconsole.log('compiled it');\n"
    run.commit("Build with npm", **{"package.json": package, "package-lock.json": lock, "build.js": script})
    (run.path() / ".git" / "info").mkdir(exist_ok=True)
    (run.path() / ".git" / "info" / "exclude").write_text(".next\nnode_modules\n")


NPM = {"install": ["npm", "ci", "--no-audit", "--no-fund"], "build": ["npm", "run", "build"], "artifact": None}


def test_npm_installs_and_builds_with_the_cache_cleared(make: Callable[..., Run]) -> None:
    run = make(**NPM)
    npm_package(run)
    (run.path() / ".next").mkdir()
    (run.path() / ".next" / "built").write_text("stale ")
    (run.path() / "node_modules").mkdir()
    (run.path() / "node_modules" / "stale.js").touch()
    run.approve(REVERT, BUILD)
    run.apply(REVERT)

    left = run.apply(BUILD)

    assert (run.path() / ".next" / "built").read_text() == "once "
    assert not (run.path() / "node_modules" / "stale.js").exists()
    said = (run.context.folder.path / left["output"]).read_text()
    assert said.index("$ npm ci") < said.index("$ npm run build") < said.index("compiled it")
    assert run.told
    assert "remove .next, where it is there" in run.step(BUILD).preview().would


def test_a_build_that_changes_a_tracked_file_does_not_stop_what_comes_after(make: Callable[..., Run]) -> None:
    run = make(build=["sh", "-c", "echo built >>README.md"], artifact=None)
    run.approve(REVERT, BUILD, PUSH)
    run.apply(REVERT)
    run.apply(BUILD)

    assert run.step(PUSH).preview().facts == run.context.approved[PUSH]
    assert oldcode.prepare(run.context, "frontend").commit == run.context.approved[REVERT]["commit"]


def test_what_npm_said_before_it_failed_is_kept_and_told(make: Callable[..., Run]) -> None:
    run = make(**NPM)
    npm_package(run, "echo cannot find the module && exit 3")

    with pytest.raises(AdapterError, match=r"(?s)npm run build ended with exit code 3.*cannot find the module"):
        run.apply(BUILD)

    said = (run.context.folder.path / "evidence" / f"{BUILD}.txt").read_text()
    assert "cannot find the module" in said
    assert "[exit code 3 after" in said


def test_what_a_build_that_does_not_end_has_said_is_kept(make: Callable[..., Run]) -> None:
    command = [sys.executable, "-uc", "import time; print('compiling'); time.sleep(1000)"]
    run = make(build=command, timeout=1)

    with pytest.raises(AdapterError, match=r"(?s)did not end within 1 s.*compiling"):
        run.apply(BUILD)

    assert "compiling" in (run.context.folder.path / "evidence" / f"{BUILD}.txt").read_text()


def test_the_old_code_is_built_once_for_any_number_of_previews(make: Callable[..., Run], tmp_path: Path) -> None:
    run = make(build=["sh", "-c", f"echo built >>'{tmp_path}/builds'"], artifact=None)

    run.step(BUILD).preview()
    run.step(BUILD).preview()

    assert (tmp_path / "builds").read_text().count("built") == 1


def clearing(run: Run, path: str) -> None:
    spec = run.context.plan.steps[BUILD].model_copy(update={"clear": [path]})
    run.context.plan = run.context.plan.model_copy(update={"steps": {**run.context.plan.steps, BUILD: spec}})
    run.apply(BUILD)


def test_a_cache_that_is_a_link_is_not_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (run.path() / "link").symlink_to(tmp_path / "precious")

    for path in ("link", "link/file"):
        with pytest.raises(PreconditionError, match="is a link, and leads elsewhere"):
            clearing(run, path)

    assert (tmp_path / "precious" / "file").exists()


def test_a_cache_that_leads_out_of_the_repository_is_not_removed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()

    with pytest.raises(PreconditionError, match="leads out of the repository"):
        clearing(run, "../precious")

    assert (tmp_path / "precious").exists()


def test_files_that_git_tracks_are_no_cache(run: Run) -> None:
    with pytest.raises(PreconditionError, match="git tracks files in it"):
        clearing(run, "src")

    assert run.git("status", "--porcelain") == ""
