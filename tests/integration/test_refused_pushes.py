"""A remote that refuses the push, and hooks that take too long: by the command line, with real git and its hooks."""

from pathlib import Path

import psutil
import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.git import Checkout
from runbook_lib.rehearsal.workspace import until
from runbook_lib.system.processes import LocalProcesses

from ..support import quick_site
from ..support.quick_site import Site, git

PROTECTED = """while read old new name; do
  if test "$name" = refs/heads/main; then
    echo 'error: GH006: Protected branch update failed for refs/heads/main.'
    echo 'error: Changes must be made through a pull request.'
    exit 1
  fi
done"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return quick_site.make(tmp_path / "site")


@pytest.mark.slow
def test_the_same_approval_makes_a_pull_request_for_a_protected_branch(site: Site) -> None:
    site.hook("pre-receive", PROTECTED, site.root / "frontend.git")
    was = site.remote("rev-parse", "main")
    ann = site.plan()
    branch = (
        next(line for line in ann.would("push-frontend") if "rule or a hook" in line).split("if so, ")[1].split(" can")[0]
    )

    refused, said = ann.run()
    pushed, done = ann.run("--choose", "PUSH=branch")
    early = site.command("purge", str(ann.folder), "--approve", purge_digest(site, ann.folder))

    assert (refused, "GH006" in said, f"Push the branch {branch} for a pull request instead" in said) == (3, True, True), (
        said
    )
    assert "the same command with --choose PUSH=branch" in said
    assert (pushed, ann.state.outcome and ann.state.outcome["status"]) == (0, "verified"), done
    assert site.remote("rev-parse", branch.removeprefix("origin/")) == site.git("rev-parse", "HEAD")
    assert (site.remote("rev-parse", "main"), site.frozen) == (was, False)
    assert "a deployment from origin/main brings the feature back" in ann.state.pending["pull-request-frontend"]["text"]
    assert (early[0], "is not merged" in early[1]) == (3, True), early

    site.remote("update-ref", "refs/heads/main", branch.removeprefix("origin/"))  # somebody merges the pull request
    code, said = site.command("purge", str(ann.folder), "--approve", purge_digest(site, ann.folder))

    assert (code, ann.state.pending, site.remote("branch", "--list", "rollback/*")) == (0, {}, ""), said


def purge_digest(site: Site, folder: Path) -> str:
    return site.command("purge", str(folder))[1].rsplit("--approve ", 1)[1].strip()


def test_a_plan_may_push_a_branch_from_the_start(site: Site) -> None:
    site.hook("pre-receive", PROTECTED, site.root / "frontend.git")
    site.change_plan(**{"steps__push-frontend__push": "branch"})
    ann = site.plan()

    code, said = ann.run()

    assert ann.would("push-frontend")[0].endswith("for a pull request into origin/main")
    assert (code, site.remote("rev-parse", site.remote("branch", "--list", "rollback/*").strip())) == (
        0,
        site.git("rev-parse", "HEAD"),
    ), said


def test_a_choice_that_is_none_is_refused_before_anything(site: Site) -> None:
    ann = site.plan()

    code, said = ann.run("--choose", "PUSH=somewhere")

    assert (code, "somewhere is not a value of PUSH" in said, ann.state.choices, site.frozen) == (2, True, {}, False), said


def test_a_remote_that_may_not_be_pushed_to_is_known_by_the_preview(site: Site) -> None:
    site.git("config", "remote.origin.pushurl", str(site.root / "nowhere.git"))

    planned = site.plan()

    assert "push-frontend" in str(planned.said.get("error") or planned.error)
    assert "nowhere.git" in str(planned.said.get("error") or planned.error)


@pytest.mark.slow
def test_a_pre_push_hook_that_takes_too_long_is_ended_with_its_children(site: Site) -> None:
    site.hook("pre-push", f"sleep 300 & echo $! >{site.root}/child\nwait")
    site.change_target(repositories__frontend__hook_timeout=1)
    ann = site.plan()

    code, said = ann.run()

    assert (code, "The hook pre-push did not end within 1 s, and was ended" in said, "hook_timeout" in said) == (
        3,
        True,
        True,
    )
    assert f"run the hook {site.frontend}/.git/hooks/pre-push first, for at most 1 s" in ann.would("push-frontend")
    child = int((site.root / "child").read_text())
    assert until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE, 5)
    site.hook("pre-push", "true")
    code, said = ann.run()
    assert (code, site.remote("rev-parse", "main")) == (0, site.git("rev-parse", "HEAD")), said


@pytest.mark.parametrize("hook", ["post-checkout", "pre-commit", "reference-transaction"])
def test_any_hook_of_git_has_the_time_limit(tmp_path: Path, hook: str) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "checkout")
    checkout = Checkout(tmp_path / "checkout", LocalProcesses(), hook_timeout=0.5)
    git(checkout.path, "commit", "--quiet", "--allow-empty", "--message=One")
    site = Site(tmp_path, {})
    site.hook(hook, "sleep 300", checkout.path / ".git")

    with pytest.raises(AdapterError, match=f"The hook {hook} did not end within 0.5 s"):
        checkout.git("switch", "--quiet", "--create", "other")
        checkout.git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "--allow-empty", "--message=Two")


def test_no_hook_has_a_hand_in_what_is_previewed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = site.root / "gitconfig"
    settings.write_text(f"[core]\n  hooksPath = {site.root}/hooks\n")
    for hook in ("post-checkout", "prepare-commit-msg", "post-commit"):
        site.hook(hook, f"touch {site.root}/ran; exit 1", site.root)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    site.environment["GIT_CONFIG_GLOBAL"] = str(settings)

    planned = site.plan()

    assert (planned.said.get("digest", "") != "", (site.root / "ran").exists()) == (True, False), planned.error
