import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib import redaction
from runbook_lib.errors import AdapterError, Declined
from runbook_lib.system import processes
from runbook_lib.system.processes import Completed, LocalProcesses, Processes, ScriptedProcesses
from runbook_lib.system.signals import with_default_signals

from ..support.waiting import lives, until

SAYS_BOTH = ("sh", "-c", "echo out; echo err >&2")
FAILS = ("sh", "-c", "echo because >&2; exit 3")
NEVER_ENDS = ("sleep", "1000")
MISSING = ("no-such-program", "--flag")


def script(command: tuple[str, ...]) -> Completed | tuple[int, str, str]:
    if command == MISSING:
        raise FileNotFoundError(2, "No such file or directory", MISSING[0])
    if command == NEVER_ENDS:
        raise TimeoutError
    return {SAYS_BOTH: (0, "out\n", "err\n"), FAILS: (3, "", "because\n")}[command]


@pytest.fixture(params=[LocalProcesses(), ScriptedProcesses(script)], ids=["local", "scripted"])
def any_processes(request: pytest.FixtureRequest) -> Processes:
    return request.param


def test_a_command_leaves_its_output_and_its_errors_apart(any_processes: Processes) -> None:
    done = any_processes.run(SAYS_BOTH, timeout=10)
    assert (done.command, done.exit_code, done.output, done.errors) == (SAYS_BOTH, 0, "out\n", "err\n")


def test_a_failure_is_returned(any_processes: Processes) -> None:
    assert any_processes.run(FAILS, timeout=10).exit_code == 3


def test_a_required_failure_is_raised_with_command_code_and_cause(any_processes: Processes) -> None:
    with pytest.raises(AdapterError, match=r"(?s)sh -c .*exit code 3.*because"):
        any_processes.run(FAILS, timeout=10).require()


def test_a_required_success_is_itself(any_processes: Processes) -> None:
    done = any_processes.run(SAYS_BOTH, timeout=10)
    assert done.require() is done


def test_a_missing_program_is_named_with_the_remedy(any_processes: Processes) -> None:
    with pytest.raises(AdapterError, match=r"(?s)no-such-program.*Install no-such-program"):
        any_processes.run(MISSING, timeout=10)


def test_a_command_that_does_not_end_is_an_unknown_outcome(any_processes: Processes) -> None:
    with pytest.raises(AdapterError, match=r"(?s)sleep 1000 did not end within 0.1 s.*unknown"):
        any_processes.run(NEVER_ENDS, timeout=0.1)


def test_a_missing_directory_is_named() -> None:
    with pytest.raises(AdapterError, match="directory /no/such/place exists"):
        LocalProcesses().run(["true"], cwd=Path("/no/such/place"), timeout=10)


def test_the_command_runs_in_the_directory(tmp_path: Path) -> None:
    assert LocalProcesses().run(["pwd", "-P"], cwd=tmp_path, timeout=10).output.strip() == str(tmp_path.resolve())


def test_variables_are_added_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "a")
    assert LocalProcesses().run(["sh", "-c", "echo $INHERITED $ADDED"], env={"ADDED": "b"}, timeout=10).output == "a b\n"


def test_input_is_what_the_command_reads() -> None:
    long = "é" * 100_000
    assert LocalProcesses().run(["cat"], input=long, timeout=10).output == long


def test_without_input_the_command_reads_nothing() -> None:
    assert LocalProcesses().run(["cat"], timeout=10).output == ""


def test_a_secret_is_in_no_error() -> None:
    secret = redaction.register("canary-in-a-command")
    with pytest.raises(AdapterError) as raised:
        LocalProcesses().run(["sh", "-c", f"echo {secret} >&2; exit 1"], timeout=10).require()
    assert secret not in str(raised.value)


def test_what_a_command_leaves_running_holds_nobody_up(tmp_path: Path) -> None:
    done = LocalProcesses().run(["sh", "-c", "sleep 1000 & echo $!"], timeout=60)
    left = int(done.output)
    assert lives(left)
    subprocess.run(["kill", str(left)], check=True)


def not_before_it_is_ready(directory: Path) -> Callable[[], bool]:
    """Let a command write its file of pids, however slowly, before its timeout is checked again."""

    def hold() -> bool:
        until((directory / "pids").exists, "the command is ready")
        return False

    return hold


def test_at_the_timeout_the_command_is_asked_to_end_by_an_interrupt(tmp_path: Path) -> None:
    polite = "trap 'touch interrupted; exit 1' INT; touch pids; sleep 1000"
    with pytest.raises(AdapterError):
        LocalProcesses().run(["sh", "-c", polite], cwd=tmp_path, timeout=0.5, hold=not_before_it_is_ready(tmp_path))
    assert (tmp_path / "interrupted").exists()


def test_the_timeout_kills_a_command_that_ignores_signals_and_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    stubborn = "trap '' INT TERM; sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; wait; sleep 1000"
    with pytest.raises(AdapterError):
        LocalProcesses().run(["sh", "-c", stubborn], cwd=tmp_path, timeout=0.5, hold=not_before_it_is_ready(tmp_path))
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(map(lives, pids)), "the command and its child are gone")


def test_an_interrupt_ends_the_command_and_propagates(tmp_path: Path) -> None:
    program = """
from runbook_lib.system.processes import LocalProcesses
try:
    LocalProcesses().run(["sh", "-c", "sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; wait"], timeout=60)
except KeyboardInterrupt:
    print("interrupted")
"""
    command = with_default_signals([sys.executable, "-c", program])
    runner = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    until((tmp_path / "pids").exists, "the command runs")
    runner.send_signal(signal.SIGINT)
    assert runner.communicate(timeout=60)[0] == "interrupted\n"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(map(lives, pids)), "the command and its child are gone")


def test_each_line_of_stdout_and_stderr_is_reported(any_processes: Processes) -> None:
    told: list[str] = []

    any_processes.run(SAYS_BOTH, timeout=10, report=told.append)

    assert sorted(told) == ["err", "out"]


def test_lines_are_reported_while_the_command_runs_the_last_one_unended(tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        go_on.touch()

    command = ["sh", "-c", f"echo first; until test -e '{go_on}'; do :; done; printf last"]
    done = LocalProcesses().run(command, timeout=10, report=tell)

    assert (told, done.output) == (["first", "last"], "first\nlast")


def test_a_line_is_reported_once_it_is_complete(tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        go_on.touch()

    command = ["sh", "-c", f"printf half; echo other >&2; until test -e '{go_on}'; do :; done; echo ' and whole'"]
    LocalProcesses().run(command, timeout=10, report=tell)

    assert told == ["other", "half and whole"]


def test_the_output_of_a_command_that_was_ended_is_reported(tmp_path: Path) -> None:
    told: list[str] = []

    with pytest.raises(AdapterError, match="did not end within"):
        LocalProcesses().run(
            ["sh", "-c", "echo begun; touch pids; exec sleep 1000"],
            cwd=tmp_path,
            timeout=0.5,
            report=told.append,
            hold=not_before_it_is_ready(tmp_path),
        )

    assert told == ["begun"]


WITH_A_CHILD = "sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; until test -e 'go on'; do :; done; kill $!"


def pids_in(directory: Path) -> list[int]:
    until((directory / "pids").exists, "the command runs")
    return [int(pid) for pid in (directory / "pids").read_text().split()]


def stopped(pids: list[int]) -> bool:
    return all(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T" for pid in pids)


def test_a_held_command_and_its_children_stop_and_that_time_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, passed, timeout = list[bool](), [0.0], 60
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(passed), sleep=time.sleep)
    monkeypatch.setattr(processes, "time", clock)

    def hold() -> bool:
        seen.append(stopped(pids_in(tmp_path)))
        if seen[-1]:
            passed.append(2 * timeout)
            (tmp_path / "go on").touch()
        return not seen[-1]

    done = LocalProcesses().run(["sh", "-c", WITH_A_CHILD], cwd=tmp_path, timeout=timeout, hold=hold)

    assert done.exit_code == 0
    assert (seen[0], any(seen)) == (False, True)


@pytest.mark.parametrize("held", [False, True])
def test_what_asks_whether_a_command_is_to_be_held_ends_it_by_raising(tmp_path: Path, held: bool) -> None:
    answers = iter([True] * held)

    def hold() -> bool:
        pids_in(tmp_path)
        for answer in answers:
            return answer
        raise Declined("It is to end.")

    with pytest.raises(Declined):
        LocalProcesses().run(["sh", "-c", WITH_A_CHILD], cwd=tmp_path, timeout=60, hold=hold)

    until(lambda: not any(map(lives, pids_in(tmp_path))), "the command and its child are gone")


def running(tmp_path: Path, command: str, **options: Any) -> "tuple[subprocess.Popen[bytes], list[int]]":
    """A process that runs a shell command, which writes pids to a file, by `LocalProcesses`."""
    program = f"""
from pathlib import Path
from runbook_lib.system.processes import LocalProcesses
LocalProcesses().run(["sh", "-c", {command!r}], timeout=60, hold={options.pop("hold", None)})
Path("done").touch()
__import__("time").sleep(60)
"""
    runner = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, start_new_session=True, **options)
    return runner, pids_in(tmp_path)


def test_a_stopped_command_ends_with_the_process_that_stopped_it(tmp_path: Path) -> None:
    runner, pids = running(tmp_path, WITH_A_CHILD, hold='Path("pids").exists')
    until(lambda: stopped(pids), "the command is stopped")
    runner.kill()
    runner.wait()
    until(lambda: not any(map(lives, pids)), "the command and its child are gone")


# Each names the pids of a command and of a child: in a group and a session of its own, or with its output elsewhere.
SPREAD = {
    "child": WITH_A_CHILD,
    "own session": "setsid sh -c 'echo $$ >> pids.new; exec sleep 1000' & echo $$ >> pids.new; "
    "until test $(wc -l < pids.new) = 2; do :; done; mv pids.new pids; wait",
    "output elsewhere": "sleep 1000 > /dev/null 2>&1 & echo $$ $! > pids.new; mv pids.new pids; wait",
    "ignores SIGTERM": "trap '' TERM; sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; wait",
}


@pytest.mark.parametrize("command", SPREAD.values(), ids=SPREAD)
def test_a_command_goes_with_all_its_children_when_its_process_is_killed(tmp_path: Path, command: str) -> None:
    runner, pids = running(tmp_path, command)
    assert len(pids) == 2
    runner.kill()
    runner.wait()
    until(lambda: not any(map(lives, pids)), "the command and its child are gone")


def test_what_an_ended_command_left_running_outlives_its_killed_process(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    left = "sleep 1000 & echo $! > pids.new; mv pids.new pids"
    runner, (pid,) = running(tmp_path, left, env={**os.environ, "TMPDIR": str(temporary)})
    until((tmp_path / "done").exists, "the command has ended")
    assert list(temporary.iterdir())
    runner.kill()
    runner.wait()
    until(lambda: not list(temporary.iterdir()), "the killed process's files are gone")
    assert lives(pid)
    os.kill(pid, signal.SIGKILL)


def test_whoever_only_reads_a_file_of_a_killed_process_lives_on(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    runner, pids = running(tmp_path, WITH_A_CHILD, env={**os.environ, "TMPDIR": str(temporary)})
    (file, *_) = temporary.glob("*/command-*")
    with file.open("rb"), subprocess.Popen(["tail", "-f", str(file)], stdout=subprocess.DEVNULL) as reader:
        runner.kill()
        runner.wait()
        until(lambda: not list(temporary.iterdir()), "the killed process's files are gone")
        assert not any(map(lives, pids))
        assert reader.poll() is None
        reader.kill()


def test_a_command_starts_with_default_signals_whatever_its_parent_has(tmp_path: Path) -> None:
    program = """
from runbook_lib.system.processes import LocalProcesses
print(LocalProcesses().run(["grep", "Sig[BI]", "/proc/self/status"], timeout=10).output)
"""

    def ignore() -> None:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, preexec_fn=ignore, stdout=subprocess.PIPE, text=True, check=True
    )
    blocked, ignored = (int(mask, 16) for mask in done.stdout.split()[1::2])
    standard = (1 << 31) - 1  # the others are the C library's: it blocks some for a moment, and no program can set them
    assert (blocked & standard, ignored & standard) == (0, 0), done.stdout


def test_a_missing_program_is_named_where_a_signal_is_ignored_too(tmp_path: Path) -> None:
    program = """
from runbook_lib.system.processes import LocalProcesses
from runbook_lib.errors import AdapterError
for command in (["no-such-program"], ["./no-such-program"]):
    try:
        LocalProcesses().run(command, timeout=10)
    except AdapterError as error:
        print(error.what)
"""
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$0" "$@"', sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert [line.split(" could")[0] for line in done.stdout.splitlines()] == ["no-such-program", "./no-such-program"]


def test_a_failure_is_seen_where_the_end_of_children_is_ignored() -> None:
    program = """
from runbook_lib.system.processes import LocalProcesses
from runbook_lib.system.signals import settle
settle()
print(LocalProcesses().run(["false"], timeout=10).exit_code)
"""

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    done = subprocess.run([sys.executable, "-c", program], preexec_fn=ignore, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "1\n"
