"""Each way in which a notebook can end badly, through a real papermill process: it fails, and the saved copy says why."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

CLEANED_UP = """
from pathlib import Path
import {module}
try:
    Path("under-way").touch()
    {wait}
finally:
    {clean_up}
    Path("cleaned-up").touch()
"""
# Cleaning up takes longer than it takes until a signal that was not heeded is raised again.
BLOCKING = CLEANED_UP.format(module="time", wait="time.sleep(60)", clean_up="time.sleep(2.5)")
AWAITING = CLEANED_UP.format(module="asyncio", wait="await asyncio.sleep(60)", clean_up="await asyncio.sleep(0.1)")
# Whoever reads for the cell is at work when the signal comes.
TALKING = CLEANED_UP.format(
    module="asyncio", wait="while True: print('.', flush=True); await asyncio.sleep(0)", clean_up="await asyncio.sleep(2.5)"
)

# What the kernel has to say once it was told to exit is held back for as long as whoever passes that on is about to go.
LATE = """
import sys
from pathlib import Path
handlers, publishing = get_ipython().kernel.control_handlers, sys.stdout.pub_thread.thread
shut_down = handlers["shutdown_request"]
async def late(*message):
    await shut_down(*message)
    publishing.join(timeout=0.5)
    Path("heard").write_text(str(publishing.is_alive()))
handlers["shutdown_request"] = late
"""

ROWS = {
    "raises": "raise ValueError('no')",
    "kernel killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "exits with 0": "import sys; sys.exit(0)",
    "asks for input": "input()",
}


def hear_signals() -> None:
    """A job in the background has an interrupt ignored, and one under nohup a hangup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(directory: Path, cell: str, *options: str, tags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Papermill at work on three cells, the second of which is `cell`."""
    cells = [nbformat.v4.new_code_cell(source) for source in ("1 + 1", cell, "2 + 2")]
    cells[1].metadata["tags"] = list(tags)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), directory / "in.ipynb")
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--engine",
        "runbook",
        "--kernel",
        "python3",
        "--no-progress-bar",
        *options,
    ]
    return subprocess.Popen(
        [*command, "in.ipynb", "out.ipynb"],
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,
    )


def end(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=60)[1]
    finally:
        process.kill()


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline, f"{file.name} never came"
        time.sleep(0.02)


def saved(directory: Path) -> tuple[object, list[str]]:
    notebook = json.loads((directory / "out.ipynb").read_text())
    return notebook["metadata"]["papermill"]["exception"], [
        cell["metadata"]["papermill"]["status"] for cell in notebook["cells"]
    ]


@pytest.mark.parametrize("cell", ROWS.values(), ids=ROWS.keys())
def test_a_cell_that_does_not_complete_fails_the_run(tmp_path: Path, cell: str) -> None:
    process = start(tmp_path, cell)
    end(process)
    assert (process.returncode, *saved(tmp_path)) == (1, True, ["completed", "failed", "pending"])


def test_a_tag_does_not_allow_a_cell_to_raise(tmp_path: Path) -> None:
    process = start(tmp_path, ROWS["raises"], tags=("raises-exception",))
    end(process)
    assert (process.returncode, *saved(tmp_path)) == (1, True, ["completed", "failed", "pending"])


def test_a_cell_past_its_time_fails_and_cleans_up(tmp_path: Path) -> None:
    process = start(tmp_path, AWAITING, "--execution-timeout", "1")
    end(process)
    assert (process.returncode, *saved(tmp_path)) == (1, True, ["completed", "failed", "pending"])
    assert (tmp_path / "cleaned-up").exists()


@pytest.mark.parametrize(
    ("number", "cell"),
    [
        (signal.SIGINT, AWAITING),
        (signal.SIGINT, TALKING),
        (signal.SIGTERM, AWAITING),
        (signal.SIGTERM, BLOCKING),
        (signal.SIGHUP, BLOCKING),
    ],
    ids=["SIGINT, awaiting", "SIGINT, talking", "SIGTERM, awaiting", "SIGTERM, blocking", "SIGHUP, blocking"],
)
def test_a_signal_fails_the_cell_under_way_and_lets_it_clean_up(tmp_path: Path, number: signal.Signals, cell: str) -> None:
    process = start(tmp_path, cell)
    wait_for(tmp_path / "under-way")
    process.send_signal(number)
    said = end(process)
    assert (process.returncode, *saved(tmp_path)) == (1, True, ["completed", "failed", "pending"])
    assert (tmp_path / "cleaned-up").exists()
    assert f"interrupted by {number.name}" in said


def test_a_whole_run_completes(tmp_path: Path) -> None:
    process = start(tmp_path, "3 + 3")
    end(process)
    assert (process.returncode, *saved(tmp_path)) == (0, None, ["completed"] * 3)


def test_a_kernel_does_not_wait_in_its_exit_for_what_nobody_passes_on(tmp_path: Path) -> None:
    process = start(tmp_path, LATE)
    said = end(process)
    assert (process.returncode, (tmp_path / "heard").read_text()) == (0, "True")
    assert "KeyboardInterrupt" not in said


def test_no_kernel_keeps_running_when_papermill_is_killed(tmp_path: Path) -> None:
    cell = "import os, time; from pathlib import Path; Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    process = start(tmp_path, cell)
    wait_for(tmp_path / "pid")
    kernel = next(child for child in psutil.Process(process.pid).children(recursive=True))

    process.kill()
    process.communicate()

    gone, _ = psutil.wait_procs([kernel], timeout=10)
    assert gone or kernel.status() == psutil.STATUS_ZOMBIE
