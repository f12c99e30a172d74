"""The list of pm2 holds the whole environment of each process; none of it is kept in a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runbook_lib.errors import RunbookError
from runbook_lib.run import Run, engine, lifecycle
from runbook_lib.services import connect
from runbook_lib.services.pm2 import Pm2Target
from runbook_lib.system.processes import ScriptedProcesses

from ..support.pm2 import a_daemon, answered

CANARY = "canary-of-an-environment-4711"


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("p")


def entry(name: str, number: int, status: str) -> dict[str, object]:
    secret = {"SECRET": CANARY, "env": {"SECRET": CANARY}}
    path = {"pm_exec_path": __file__, "pm_cwd": f"http:/root.test/{'frontend' if name == 'frontend' else 'backend'}"}
    own = {"status": status, "restart_time": 0, "version": "1.0.0", **path, **secret}
    return {"pm_id": number, "name": name, "pid": 0, "pm2_env": own}


@contextmanager
def under_pm2(run: Run, home: Path, *, refuses: bool) -> Iterator[None]:
    """Put the run's services under a pm2 in which all run until they are stopped."""
    stopped: set[str] = set()

    def listed() -> bytes:
        names = enumerate(["frontend", "backend", "worker"])
        return answered([entry(name, number, "stopped" if str(number) in stopped else "online") for number, name in names])

    def command(words: tuple[str, ...]) -> tuple[int, str, str]:
        if not refuses:
            stopped.update(words[2:])
        return int(refuses), "", CANARY

    described = Pm2Target(manager="pm2", home=str(home), timeout=1, versions={}, built_from={})
    run.context.adapters = run.context.adapters.but(services=connect(described, ScriptedProcesses(command)))
    kind = run.context.plan.types["full"].model_copy(update={"steps": ["stop-services"]})
    run.context.plan = run.context.plan.model_copy(update={"types": {**run.context.plan.types, "full": kind}})
    with a_daemon(home, listed):
        yield


@pytest.mark.parametrize("refuses", [False, True], ids=["stopped", "pm2 refuses"])
def test_no_secret_of_pm2_reaches_the_journal_the_report_or_an_error(run: Run, home: Path, refuses: bool) -> None:
    with under_pm2(run, home, refuses=refuses):
        digest, previews = run.previews()
        run.approve(digest, "Dana")
        said = repr(previews)
        try:
            said += repr(engine.apply(run, "stop-services"))
        except RunbookError as error:
            said += str(error)
        lifecycle.close(run)
        lifecycle.write_archive(run)

    kept = {path.name: path.read_bytes() for path in run.folder.path.rglob("*") if path.is_file()}
    assert ("refused" in said) is refuses
    assert {"journal.jsonl", "report.html"} <= set(kept)
    assert not [name for name, content in kept.items() if CANARY.encode() in content]
    assert CANARY not in said
