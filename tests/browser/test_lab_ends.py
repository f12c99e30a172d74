"""JupyterLab ends with the command that opened it, and nothing of it is left: no process, no token, no key."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import psutil
import pytest

from runbook_lib.rehearsal.workspace import PLAN, TARGET
from runbook_lib.run import lifecycle
from runbook_lib.system.signals import with_default_signals

from ..support.browser_seat import LAB, python_path

NAMES = ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON", "APPLICATION_ROLE")
SECONDS = 40


@dataclass
class Opened:
    """A run that is open in JupyterLab, with one kernel, and where its temporary files are."""

    process: "subprocess.Popen[str]"
    temporary: Path

    @property
    def left(self) -> list[psutil.Process]:
        """The living processes that have anything to do with it."""
        mark = f"TMPDIR={self.temporary}"
        found = []
        for pid in psutil.pids():
            try:
                if mark in Path(f"/proc/{pid}/environ").read_text().split("\0"):
                    found.append(psutil.Process(pid))
            except (OSError, UnicodeDecodeError, psutil.NoSuchProcess):
                continue
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def until(condition: Callable[[], object], what: Callable[[], object]) -> None:
    deadline = monotonic() + SECONDS
    while not condition():
        assert monotonic() < deadline, what()
        sleep(0.05)


def answered(asked: Request) -> bool:
    try:
        return bool(json.loads(urlopen(asked, timeout=SECONDS).read())["id"])
    except URLError as error:  # its address is known a moment before it listens
        assert not isinstance(error, HTTPError), error
        return False


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """The parameter is a command before it, such as a shell that has it ignore a signal."""
    for name in NAMES:
        monkeypatch.setenv(
            f"REHEARSAL_{name}", "application" if name == "APPLICATION_ROLE" else f"http://{name.lower()}.test"
        )
    run = lifecycle.open_new(PLAN, TARGET, "full", operator="tester", reason="a test of it", outputs=tmp_path)
    temporary = Path(tempfile.mkdtemp(prefix="l", dir="/tmp"))  # short, for the sockets in it
    command = [*request.param, str(LAB / "bin" / "runbook"), "lab", str(run.folder.path), "--no-browser", "--json"]
    process = subprocess.Popen(
        with_default_signals(command),
        env={**os.environ, **python_path("7.4"), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    it = Opened(process, temporary)
    try:
        assert process.stdout
        address = urlsplit(json.loads(process.stdout.readline())["link"])
        asked = Request(f"http://{address.netloc}/api/kernels", method="POST", data=b"{}")
        asked.add_header("Authorization", f"token {parse_qs(address.query)['token'][0]}")
        until(lambda: answered(asked), lambda: "JupyterLab starts a kernel")
        until(lambda: list(temporary.rglob("kernel-*.json")), lambda: "the kernel has a connection file")
        yield it
    finally:
        for left in it.left:
            left.kill()
        process.wait(SECONDS)
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.mark.parametrize("opened", [[]], ids=["killed"], indirect=True)
def test_a_killed_lab_leaves_no_server_no_kernel_and_no_key(opened: Opened) -> None:
    assert len(opened.left) >= 3

    opened.process.kill()
    opened.process.wait(SECONDS)

    until(lambda: not opened.left, lambda: [process.cmdline() for process in opened.left])
    until(lambda: not list(opened.temporary.iterdir()), lambda: list(opened.temporary.rglob("*")))


@pytest.mark.parametrize(
    "opened",
    [["sh", "-c", 'trap "" INT; exec "$@"', "sh"], ["nohup"], ["sh", "-c", 'trap "" INT TERM QUIT HUP; exec "$@"', "sh"]],
    ids=["in the background", "nohup", "all ignored"],
    indirect=True,
)
def test_an_interrupt_ends_a_lab_that_was_started_with_it_ignored(opened: Opened) -> None:
    opened.process.send_signal(signal.SIGINT)

    assert opened.process.wait(SECONDS) == 0
    until(lambda: not opened.left, lambda: [process.cmdline() for process in opened.left])
