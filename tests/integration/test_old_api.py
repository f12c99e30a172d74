"""Media missing that were visible before, by the old API: the sample's own backend, with and without the feature."""

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runbook_lib import checks
from runbook_lib.checks import CheckContext
from runbook_lib.checks.api import ReferenceKeys
from runbook_lib.config.target import ReferenceApi, SecretReference
from runbook_lib.context import Context, builds, old_code
from runbook_lib.context.adapters import Adapters
from runbook_lib.rehearsal.stack import answers, stack
from runbook_lib.rehearsal.workspace import PLAN, TARGET, settled_in, until
from runbook_lib.results import Result, Status
from runbook_lib.run import lifecycle

from ..support.sample import application_programs


@dataclass
class Kept:
    """A release whose backfill left pictures out, and the backend from before it, kept running next to it."""

    context: Context
    url: str

    def found(self, where: str, url: str = "", token: str = "") -> Result:
        reference = ReferenceApi(url=url or self.url, token=SecretReference(env=token) if token else None)
        self.context.target = self.context.target.model_copy(update={"reference_api": reference})
        self.context.adapters = Adapters(self.context.target, self.context.folder)
        (found,) = checks.run([where], CheckContext(self.context, "before", datetime.now(UTC)))
        return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with stack(600, "some-media-missing") as running, settled_in(running.environment):
        run = lifecycle.open_new(PLAN, TARGET, "full", outputs=tmp_path_factory.mktemp("runs"))
        context = run.context
        context.plan = context.plan.model_copy(update={"checks": {where: _check(where) for where in ("shown", "source")}})
        old = old_code.prepare(context, "backend").path
        builds.build(context, "backend", old)
        port = a_free_port()
        program = application_programs(running)[0]
        command = [*program.command[:-1], str(port)]
        environment = {**os.environ, **program.environment}
        with open(running.root / "old.log", "wb") as log:
            process = subprocess.Popen(command, cwd=old, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            assert until(lambda: answers(f"{url}/health"), 15), Path(log.name).read_text()
            yield Kept(context, url)
        finally:
            process.kill()
            process.wait()
            run.close_adapters()


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
    return port


def _check(where: str) -> ReferenceKeys:
    return ReferenceKeys(kind="reference", reference="api", where=where, title="Media")  # type: ignore[arg-type]


def test_media_the_old_api_serves_and_the_page_does_not_show_are_missing(kept: Kept) -> None:
    found = kept.found("shown")

    assert (found.status, found.evidence["field"]) == (Status.FAIL, "attachments")
    assert found.evidence["missing"] >= len(found.evidence["keys"]) > 0


def test_the_older_field_still_serves_all_that_the_old_api_does(kept: Kept) -> None:
    found = kept.found("source")

    assert (found.status, "each has them in mediaUrl" in found.summary) == (Status.PASS, True)


def test_an_old_api_that_is_silent_or_refuses_the_token_is_no_reference(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_OF_ANOTHER", "not-the-token-of-this-api")
    nobody = f"http://127.0.0.1:{a_free_port()}"

    found = [kept.found("source", token="TOKEN_OF_ANOTHER"), kept.found("source", url=nobody)]

    assert [result.status for result in found] == [Status.UNKNOWN] * 2
    assert "does not serve it" in found[0].summary
