"""The stacks of Node.js applications, for real: what users see of a fault, and that nothing is left of a stack."""

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runbook_lib.browser import Destination, Look, Visit
from runbook_lib.browser.chromium import ChromiumBrowser
from runbook_lib.errors import PreconditionError
from runbook_lib.rehearsal.repositories import create
from runbook_lib.rehearsal.stack_file import Fault, named
from runbook_lib.rehearsal.workspace import sweep, until
from runbook_lib.system.temporary import root as of_this_process

from ...support.command_line import RUNBOOK, started
from ...support.owned import mounts_below, owner, processes_of, ready_root
from ...support.sample import FEATURE, RELEASE
from ...support.stack_access import THREAD, git

NODE = named("node")
LOOK = Look(ready="body[data-ready]", items="#thread .message", media="#thread img")
SECONDS = 800  # on a machine that does other things, too


@pytest.fixture(params=["node", "compose"])
def name(request: pytest.FixtureRequest) -> str:
    described = named(request.param)
    try:
        described.require()
    except PreconditionError as error:
        pytest.skip(f"{error.what} {error.safe_next}")
    return str(request.param)


@pytest.fixture(scope="module")
def browser() -> Iterator[ChromiumBrowser]:
    made = ChromiumBrowser()
    yield made
    made.close()


def environment_of(root: Path) -> dict[str, str]:
    lines = (shlex.split(line) for line in (root / "environment").read_text().splitlines())
    return dict(assignment.split("=", 1) for _, assignment in lines)


def seen(browser: ChromiumBrowser, url: str) -> Visit:
    (visit,) = browser.visit([Destination(url, pictured=False)], LOOK)
    assert isinstance(visit, Visit), visit
    return visit


@pytest.mark.parametrize("fault", [each for each in NODE.faults.values() if not each.data], ids=lambda fault: fault.name)
def test_the_feature_reverts_newest_first_and_later_work_stays(fault: Fault, tmp_path: Path) -> None:
    later = {"backend": ["src/access-log.js"], "frontend": ["app/layout.js"]}
    for repository in NODE.repositories:
        made = tmp_path / repository
        create(NODE, repository, made, fault)
        log = git(made, "log", "--first-parent", f"--grep={FEATURE}", "--format=%H %P").splitlines()
        assert len(log) == {"backend": 3, "frontend": 2}[repository]
        for commit, *parents in map(str.split, log):
            git(made, "revert", "--no-edit", *(["-m1"] if len(parents) > 1 else []), commit)
        assert git(made, "diff", "--name-only", RELEASE, "HEAD").splitlines() == later[repository]


@pytest.mark.slow
def test_users_see_the_fault_and_a_killed_owner_leaves_nothing(name: str, temporary: Path, browser: ChromiumBrowser) -> None:
    process = owner("--stack", name, "--fault", "frontend-errors")
    root = ready_root(process)
    there = environment_of(root)
    headers = {"Authorization": f"Bearer {there['REHEARSAL_API_TOKEN']}"}
    thread = httpx.get(there["REHEARSAL_BACKEND_URL"] + THREAD, headers=headers, trust_env=False).json()["messages"]
    page = seen(browser, there["REHEARSAL_FRONTEND_URL"] + "/conversations/1")
    picture = there["REHEARSAL_FRONTEND_URL"] + "/_next/image"
    optimised = httpx.get(picture, params={"url": thread[2]["mediaUrl"], "w": 640, "q": 75}, trust_env=False)
    process.kill()
    process.wait()

    media = [message["mediaUrl"] for message in thread if message["mediaUrl"]]
    assert (len(thread), len(media), page.items, page.errors) == (25, 8, 25, [])
    assert page.text.count("Content unavailable") >= len(media)
    assert page.media == []
    assert (optimised.status_code, optimised.headers["Content-Type"]) == (200, "image/svg+xml")
    assert until(lambda: processes_of(root) == [], 30)
    sweep()
    assert mounts_below(root) == []
    assert [path for path in temporary.iterdir() if path != of_this_process()] == []  # where this visit had its profile


@pytest.mark.slow
def test_a_full_rollback_ends_verified_and_leaves_nothing(name: str, temporary: Path, tmp_path: Path) -> None:
    words = ["rehearse", "--stack", name, "--scenario", "all-media-missing", "--rows", "600", "--json"]
    process = started([*RUNBOOK, *words], env={**os.environ, "RUNBOOK_PROJECT": str(tmp_path)})
    output, errors = process.communicate(timeout=SECONDS)

    assert process.returncode == 0, output + errors
    (rehearsed,) = json.loads(output.splitlines()[-1])
    assert (rehearsed["type"], rehearsed["status"]) == ("full", "verified")
    assert processes_of(temporary) == []
    assert mounts_below(temporary) == []
    assert list(temporary.iterdir()) == []
