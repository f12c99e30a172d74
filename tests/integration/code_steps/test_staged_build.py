"""Renames put the proven build in place; an undo restores the previous one."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from runbook_lib.config.target import BuildLimits
from runbook_lib.context import old_code, staged_build
from runbook_lib.errors import PreconditionError
from runbook_lib.journal.state import StepState
from runbook_lib.results import Status
from runbook_lib.steps import Effect, Step
from runbook_lib.system import exchange
from runbook_lib.system.processes import Completed, LocalProcesses

from ...support.code_steps import BUILD, REBUILD, REVERT, Run

SCRIPT = """
import os, pathlib, sys, time
values = dict(line.split("=", 1) for line in pathlib.Path(".env").read_text().split()) if os.path.exists(".env") else {}
with open(sys.argv[1], "a") as file:
    file.write("built\\n")
print("building with", values.get("API_TOKEN"))
if "needs" in sys.argv and not values:
    sys.exit("API_URL is not set. Define it in .env before building.")
if "names" in sys.argv:
    pathlib.Path("out").mkdir(exist_ok=True)
    pathlib.Path("out/config.json").write_text(os.getcwd())
if "holds" in sys.argv:
    held = bytearray(200_000_000)
    time.sleep(30)
pathlib.Path("out/pages").mkdir(parents=True, exist_ok=True)
pathlib.Path("out/pages/index.html").write_text(f"old {values.get('API_URL')}")
"""


@pytest.fixture
def site(make: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """A frontend that `build.py` builds into out/, where the new version is served; builds are counted in a file."""

    def made(*words: str, env: str = "", **target: Any) -> Run:
        build = [sys.executable, "tool.py", str(tmp_path / "builds"), *words]
        run = make(build=build, artifact=None, **target)
        run.commit("Build with a tool", **{"tool.py": SCRIPT, ".gitignore": "out/\n.env\n*.log\n"})
        (run.path() / "out" / "pages").mkdir(parents=True)
        (run.path() / "out" / "pages" / "index.html").write_text("new")
        (run.path() / "out" / "pages" / "feature.html").write_text("new")
        if env:
            (run.path() / ".env").write_text(env)
        return run

    return made


def limits(memory: str) -> BuildLimits:
    return BuildLimits.model_validate({"memory": memory})


def builds(tmp_path: Path) -> int:
    return len((tmp_path / "builds").read_text().split()) if (tmp_path / "builds").exists() else 0


def page(run: Run) -> str:
    return (run.path() / "out" / "pages" / "index.html").read_text()


def undo(run: Run, name: str) -> Mapping[str, Any]:
    left = dict(run.step(name).undo())
    run.now(steps={**run.context.state.steps, name: StepState(name, name, "undone", outcome=left)})
    return left


def needs(step: Step) -> dict[str, tuple[Status, str]]:
    _, looks = step.previewed(begun=False)
    return {look.name.partition(": ")[2]: (look.status, look.summary) for look in looks}


def roll_back(run: Run) -> None:
    run.approve(REVERT, BUILD)
    run.step(BUILD).make_ready()
    run.apply(REVERT)
    run.apply(BUILD)


def test_the_proven_build_is_put_in_place_and_not_made_again(site: Callable[..., Run], tmp_path: Path) -> None:
    run = site()
    roll_back(run)

    assert (page(run), builds(tmp_path)) == ("old None", 1)
    assert not (run.path() / "out" / "pages" / "feature.html").exists()
    assert run.step(BUILD).probe().effect is Effect.DONE
    assert {result.status for result in run.step(BUILD).verify()} == {Status.PASS}
    assert run.git("status", "--porcelain") == ""


def test_undo_puts_back_what_was_there_and_builds_nothing(site: Callable[..., Run], tmp_path: Path) -> None:
    run = site()
    roll_back(run)
    assert list(run.debts) == [f"built-before-{BUILD}"]

    undo(run, BUILD)
    undo(run, REVERT)

    assert (page(run), builds(tmp_path), run.debts) == ("new", 1, {})
    assert (run.path() / "out" / "pages" / "feature.html").exists()
    assert not any((run.path() / ".git" / "runbook" / "builds").iterdir())


def test_once_what_was_there_is_purged_an_undo_builds(site: Callable[..., Run], tmp_path: Path) -> None:
    run = site()
    roll_back(run)
    [item] = run.debts
    assert "an undo builds it again" in run.step(BUILD).purge_preview(item).would[0]

    run.step(BUILD).purge(item)
    assert (run.debts, page(run), run.step(BUILD).probe().effect) == ({}, "old None", Effect.NOT_DONE)
    undo(run, BUILD)
    undo(run, REVERT)

    assert (builds(tmp_path), page(run)) == (2, "old None")


def test_whoever_serves_these_files_misses_none_at_any_moment(site: Callable[..., Run]) -> None:
    run = site()
    run.approve(REVERT, BUILD)
    run.step(BUILD).make_ready()
    run.apply(REVERT)
    seen, ended = set(), threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                seen.add(page(run))
            except OSError as error:
                seen.add(repr(error))

    server = threading.Thread(target=serve)
    server.start()
    for _ in range(50):
        run.apply(BUILD)
        undo(run, BUILD)
        run.step(BUILD).make_ready()
    ended.set()
    server.join()

    assert seen == {"new", "old None"}


@pytest.mark.parametrize("move", range(2))
def test_killed_between_two_renames_it_is_half_done_and_completed(
    site: Callable[..., Run], move: int, tmp_path: Path
) -> None:
    run = site()
    run.approve(REVERT, BUILD)
    run.step(BUILD).make_ready()
    run.apply(REVERT)
    with (
        patch.object(exchange, "swap", lambda *_: False),
        patch.object(exchange, "move", _dying(move)),
        pytest.raises(SystemExit),
    ):
        run.step(BUILD).apply()
    run.context.adapters.close()  # another process goes on

    assert run.step(BUILD).probe().effect is (Effect.HALF_DONE if move else Effect.NOT_DONE)
    run.apply(BUILD)

    assert (page(run), builds(tmp_path)) == ("old None", 1)
    undo(run, BUILD)
    assert page(run) == "new"


def _dying(after: int) -> Callable[[Path, Path], None]:
    left = [after]
    move = exchange.move

    def moved(source: Path, target: Path) -> None:
        if not left[0]:
            raise SystemExit
        left[0] -= 1
        move(source, target)

    return moved


def test_another_process_takes_the_kept_build_and_builds_nothing(site: Callable[..., Run], tmp_path: Path) -> None:
    run = site()
    run.approve(REVERT, BUILD)
    run.step(BUILD).make_ready()
    run.now(begun_since=(REVERT,))
    run.apply(REVERT)
    run.context.adapters.close()

    facts = run.step(BUILD).preview().facts
    run.apply(BUILD)

    assert (facts, builds(tmp_path)) == (run.context.state.approved_facts(BUILD), 1)


def test_a_build_that_names_its_own_folder_names_the_checkout(site: Callable[..., Run], tmp_path: Path) -> None:
    run = site("names")
    roll_back(run)

    assert (run.path() / "out" / "config.json").read_text() == str(run.path())
    assert builds(tmp_path) == 1


class NoNamespaces(LocalProcesses):
    """A system that lets no folder stand in another's place."""

    def run(self, command: Sequence[str], **how: Any) -> Completed:
        if how.get("confine"):
            how["confine"] = replace(how["confine"], place=None)
        return super().run(command, **how)


def test_where_that_cannot_be_such_a_build_is_made_in_place(site: Callable[..., Run], tmp_path: Path) -> None:
    run = site("names")
    run.context.adapters = run.context.adapters.but(processes=NoNamespaces())

    would = run.step(BUILD).preview().would
    roll_back(run)

    assert "contain the path of the build folder (out/config.json)" in would[1]
    assert "lacks some for about" in would[2]
    assert (run.path() / "out" / "config.json").read_text() == str(run.path())
    assert (builds(tmp_path), run.debts) == (2, {})
    undo(run, BUILD)
    undo(run, REVERT)
    assert builds(tmp_path) == 3


def test_without_such_names_it_is_moved_there_too(site: Callable[..., Run], tmp_path: Path) -> None:
    run = site()
    run.context.adapters = run.context.adapters.but(processes=NoNamespaces())
    roll_back(run)

    assert (page(run), builds(tmp_path)) == ("old None", 1)


def test_a_link_that_leads_elsewhere_is_not_moved_away(site: Callable[..., Run], tmp_path: Path) -> None:
    run = site()
    (run.path() / "out").rename(tmp_path / "shared")
    (run.path() / "out").symlink_to(tmp_path / "shared")

    assert "out is a link to another place" in run.step(BUILD).preview().would[1]
    roll_back(run)

    assert (tmp_path / "shared" / "pages" / "index.html").read_text() == "old None"


def test_outputs_that_the_target_names_are_the_ones_that_move(site: Callable[..., Run]) -> None:
    run = site(outputs=["out/pages"])
    (run.path() / "out" / "uploads").mkdir()
    (run.path() / "out" / "uploads" / "picture").write_text("a user's")
    roll_back(run)

    assert (page(run), (run.path() / "out" / "uploads" / "picture").read_text()) == ("old None", "a user's")


def test_an_output_that_the_build_does_not_leave_stops_the_preview(site: Callable[..., Run]) -> None:
    status, said = needs(site(outputs=["dist"]).step(BUILD))["builds"]

    assert (status, "leaves no dist" in said) == (Status.FAIL, True)


def test_named_files_go_along_and_are_read_by_nobody_else(site: Callable[..., Run]) -> None:
    run = site("needs", env="API_URL=here\nAPI_TOKEN=0123456789abcdefghij\n", build_files=[".env"])
    old = old_code.prepare(run.context, "frontend")
    found = needs(run.step(BUILD))
    roll_back(run)

    assert {status for status, _ in found.values()} == {Status.PASS}
    assert (old.path / ".env").stat().st_mode & 0o777 == 0o600
    assert page(run) == "old here"
    said = (run.context.folder.path / "evidence" / f"{BUILD}-scratch.txt").read_text()
    assert "building with" in said
    everything = json.dumps(run.context.state.previews) + said + str(run.told)
    assert not [part for part in ("0123456789abcdefghij", "API_URL=here") if part in everything]


def test_a_named_file_that_is_not_there_is_one_clear_error_beforehand(site: Callable[..., Run]) -> None:
    status, said = needs(site(build_files=[".env", ".npmrc"]).step(BUILD))["preview"]

    assert status is Status.FAIL
    assert ".env, .npmrc is not a file" in said


def test_a_build_that_fails_for_want_of_a_file_says_which_the_clone_lacks(site: Callable[..., Run]) -> None:
    found = needs(site("needs", env="API_URL=here\n").step(BUILD))

    assert found["builds"][0] is Status.FAIL
    assert "API_URL is not set" in found["builds"][1]
    assert "The checkout has .env, out/, which git ignores" in found["builds"][1]
    assert "repositories.frontend.build_files" in found["builds"][1]
    assert found["files"][0] is Status.PASS


def test_a_build_without_files_of_the_checkout_is_unknown(site: Callable[..., Run]) -> None:
    found = needs(site(env="API_URL=here\n").step(BUILD))
    assert (found["builds"][0], found["files"][0]) == (Status.PASS, Status.UNKNOWN)
    assert ".env" in found["files"][1]


def test_a_target_that_names_none_is_believed(site: Callable[..., Run]) -> None:
    assert needs(site(env="API_URL=here\n", build_files=[]).step(BUILD))["files"][0] is Status.PASS


@pytest.mark.parametrize("change", ["file", "tool"])
def test_what_it_was_built_from_is_bound_by_the_approval(site: Callable[..., Run], change: str, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    run = site("needs", env="API_URL=here\n", build_files=[".env"], install=[str(tool)])
    before = dict(run.step(BUILD).preview().facts)
    run.step(BUILD).make_ready()
    if change == "file":
        (run.path() / ".env").write_text("API_URL=there\n")
    else:
        os.utime(tool, (1, 1))

    after = run.step(BUILD).preview().facts
    run.step(BUILD).make_ready()

    assert {name for name in before if before[name] != after[name]} == {"built from"}
    roll_back(run)
    assert page(run) == f"old {'there' if change == 'file' else 'here'}"


def test_the_preview_says_what_a_build_needs_and_what_is_free(site: Callable[..., Run]) -> None:
    would = " ".join(site().step(BUILD).preview().would)

    assert "MB of memory and" in would
    assert "MB of memory are free" in would


def test_a_build_that_holds_more_memory_than_it_may_stops_the_preview(site: Callable[..., Run]) -> None:
    run = site("holds", build_limits=limits("50MB"))

    status, said = needs(run.step(BUILD))["builds"]

    assert (status, "was ended: it used" in said, "build_limits.memory" in said) == (Status.FAIL, True, True)


def test_memory_that_is_not_free_stops_the_preview_before_the_build(site: Callable[..., Run], tmp_path: Path) -> None:
    run = site(build_limits=limits("1PB"))

    status, said = needs(run.step(BUILD))["builds"]

    assert (status, "are free" in said, builds(tmp_path)) == (Status.FAIL, True, 0)


def test_a_rebuild_is_a_build_of_its_own_and_clears_more(site: Callable[..., Run], tmp_path: Path) -> None:
    run = site()
    roll_back(run)
    spec = run.context.plan.steps[REBUILD].model_copy(update={"clear": ["cache"]})
    run.context.plan = run.context.plan.model_copy(update={"steps": {**run.context.plan.steps, REBUILD: spec}})
    (run.path() / "cache").mkdir()
    (run.path() / "cache" / "stale").touch()
    (run.path() / "out" / "pages" / "stale.html").touch()

    assert run.step(REBUILD).probe().effect is Effect.NOT_DONE
    left = run.apply(REBUILD)

    assert (builds(tmp_path), left["replaced"]) == (2, ["out", "cache"])
    assert not (run.path() / "cache").exists()
    assert not (run.path() / "out" / "pages" / "stale.html").exists()
    undo(run, REBUILD)
    assert (run.path() / "cache" / "stale").exists()


def test_what_is_staged_is_not_seen_in_the_checkout(site: Callable[..., Run]) -> None:
    run = site()
    run.approve(REVERT, BUILD)
    before = run.git("status", "--porcelain", "--ignored")
    run.step(BUILD).make_ready()

    assert run.git("status", "--porcelain", "--ignored") == before
    kept = staged_build.kept_in(run.context, "frontend")
    assert subprocess.run(["ls", kept], capture_output=True, text=True, check=True).stdout.startswith(BUILD)


def test_a_cache_that_git_tracks_stops_the_preview(site: Callable[..., Run]) -> None:
    run = site()
    spec = run.context.plan.steps[BUILD].model_copy(update={"clear": ["src"]})
    run.context.plan = run.context.plan.model_copy(update={"steps": {**run.context.plan.steps, BUILD: spec}})

    with pytest.raises(PreconditionError, match="git tracks files in it"):
        run.step(BUILD).preview()
