"""A short rollback of two steps on a stack of its own, run by the command line in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from runbook_lib.documents import resolved
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run, lifecycle
from runbook_lib.system.signals import with_default_signals

from .places import PLAN, TARGET
from .waiting import until

RUNBOOK = [sys.executable, "-c", "from runbook_lib.cli import main; main()"]
TYPE = "missing-column"
FINAL = ["services-running", "media-url-as-in-backup"]
SECONDS = 60


@dataclass(frozen=True)
class Planned:
    """A run that was planned, and the digest that approves it."""

    run: Run
    digest: str
    environment: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return self.run.folder.path

    def start(self, *words: str, digest: str = "", **variables: str) -> "subprocess.Popen[str]":
        """`runbook run` on it, in the background, in a session of its own and with default signals."""
        return self.started("run", str(self.folder), "--approve", digest or self.digest, *words, **variables)

    def go(self, *words: str, digest: str = "") -> "subprocess.CompletedProcess[str]":
        """`runbook run` on it, to its end."""
        return ended(self.start(*words, digest=digest))

    def started(self, *words: str, **variables: str) -> "subprocess.Popen[str]":
        """`runbook` with any words."""
        return started([*RUNBOOK, *words], env={**self.environment, **variables})

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event.data for event in self.run.journal.events() if event.kind == kind]


@contextmanager
def planned(
    stack: Stack, outputs: Path, type_name: str = TYPE, option: str = "A", checks: Sequence[str] = FINAL
) -> Iterator[Planned]:
    """A run on a stack whose final checks need no browser: of two steps, or of another type."""
    plan = resolved(PLAN)
    plan["types"][type_name]["checks"] = list(checks)
    plan["types"][type_name].pop("escalates_on", None)
    file = outputs / "plan.yaml"
    file.write_text(yaml.safe_dump(plan, sort_keys=False))
    run = lifecycle.open_new(
        file, TARGET, type_name, option=option, operator="tester", reason="a test of it", outputs=outputs
    )
    digest, _ = run.previews()
    run.close_adapters()
    yield Planned(run, digest, {**os.environ, **stack.environment})


def started(command: list[str], **options: Any) -> "subprocess.Popen[str]":
    """A command in a session of its own, with default signals."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(with_default_signals(command), **{**pipes, "start_new_session": True, **options})


def ended(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    output, errors = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def processes(*words: str) -> list[psutil.Process]:
    """The living processes whose command line holds all of these words, one in each argument or more."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = "\0".join(process.info["cmdline"] or [])
        if line and all(word in line for word in words) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def kernel_of(process: "subprocess.Popen[str]") -> psutil.Process:
    """The kernel that a `runbook run` has started."""

    def found() -> list[psutil.Process]:
        return [
            child for child in psutil.Process(process.pid).children() if "runbook_lib.headless.kernel" in child.cmdline()
        ]

    return until(found, "the kernel runs")[0]
