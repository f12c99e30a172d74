"""Running commands."""

import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from runbook_lib.errors import AdapterError
from runbook_lib.redaction import redact
from runbook_lib.redaction.known import KNOWN
from runbook_lib.system import confined, temporary
from runbook_lib.system.signals import with_default_signals

GRACE = 2.0  # seconds that a command has to end after each signal
LOOK = 0.2  # seconds between two looks at what a command says, and at whether its thread is to end

Hold = Callable[[], bool]  # returns whether a command must pause now; an exception from it ends the command


def exit_code(process: subprocess.Popen[bytes], timeout: float, look: Callable[[], None], hold: Hold | None) -> int:
    """Return the exit code as soon as it exists, without polling if the system can report it.

    It calls `look` repeatedly while it waits. The time for which `hold` paused the command does not count.

    Raises:
        subprocess.TimeoutExpired: The command still runs.
    """
    deadline = time.monotonic() + timeout
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        descriptor = -1
    try:
        while (left := deadline - time.monotonic()) > 0:
            if hold and hold():
                deadline += _stood_still(process, hold)
            if _has_ended(process, descriptor, min(left, LOOK)):
                break
            look()
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return process.wait(0)


def _has_ended(process: subprocess.Popen[bytes], descriptor: int, seconds: float) -> bool:
    if descriptor >= 0:
        return bool(select.select([descriptor], [], [], seconds)[0])
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def _stood_still(process: subprocess.Popen[bytes], hold: Hold) -> float:
    """Pause the command and its children until they must resume; returns the seconds paused."""
    begun = time.monotonic()
    try:
        _signal(process, signal.SIGSTOP)
        while hold():
            time.sleep(LOOK)
    finally:
        _signal(process, signal.SIGCONT)
    return time.monotonic() - begun


def end(process: subprocess.Popen[bytes]) -> None:
    """Have a command that leads its group end, with all of the group: by an interrupt, by request, by force."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            _signal(process, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
                return
    finally:
        _signal(process, signal.SIGKILL)  # whoever of its group is left
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


TAIL = 10  # lines of what a command said that go into an error

Report = Callable[[str], None]  # is given each line that a command says


@dataclass(frozen=True)
class Confinement:
    """Limits of a command on the machine, below everything that serves users, and the place of its folder."""

    processors: int | None = None
    memory: int | None = None  # bytes, of it and all that it starts
    place: Path | None = None  # where the command sees its folder, if the system can do that


@dataclass(frozen=True)
class Usage:
    """What a command that was confined has used."""

    memory: int  # bytes, at most
    processors: float  # on average
    over: bool  # whether it was ended because it held more memory than it may
    in_place: bool  # whether its folder stood in the other's place


@dataclass(frozen=True)
class Completed:
    """What a command that ended has left."""

    command: tuple[str, ...]
    exit_code: int
    output: str
    errors: str
    seconds: float
    usage: Usage | None = None  # None where it was not confined, or was ended from outside

    def require(self) -> "Completed":
        """Itself, when the command succeeded. Read-only.

        Raises:
            AdapterError: The exit code is not 0.
        """
        if self.exit_code != 0:
            raise AdapterError(
                f"{shown(self.command)} ended with exit code {self.exit_code}{_tail(self.errors)}",
                state="The command ended by itself; what it had done before it failed stays done.",
                safe_next="Fix what it names, then try again.",
            )
        return self


class Processes(Protocol):
    """Runs commands and waits for them."""

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        timeout: float,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        report: Report | None = None,
        hold: Hold | None = None,
        encoding: str = "utf-8",
        confine: Confinement | None = None,
    ) -> Completed:
        """Run `command`, with `env` added to the environment, for at most `timeout` seconds. Changes what it changes.

        `report` is given each line of output and errors while the command runs, and `hold` is asked again and again
        meanwhile; the time for which a command is paused does not count. With `encoding="latin-1"` every byte of
        input and output is one character. A command that is to `confine` has the least priority too.

        Raises:
            AdapterError: The program is missing, or did not end in time and was ended.
        """


class LocalProcesses:
    """Commands on this machine, each in a session of its own, so that an interrupt reaches it only through `run`.

    Each starts with default signals. It writes to files of this process, so it ends when this process is killed; see
    `runbook_lib.system.temporary`.
    """

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        timeout: float,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        report: Report | None = None,
        hold: Hold | None = None,
        encoding: str = "utf-8",
        confine: Confinement | None = None,
    ) -> Completed:
        """See `Processes.run`; an interrupt ends the command and its children first."""
        started = time.monotonic()
        # Files, not pipes: a service that the command leaves running would hold a pipe open, and the wait with it.
        usage_file = _file() if confine else nullcontext()
        with _file() as output, _file() as errors, usage_file as used, _stdin(input, encoding) as stdin:
            environment = {**os.environ, **(env or {})}
            whole = with_default_signals(command, cwd=cwd, env=environment)
            try:
                process = subprocess.Popen(
                    _confined(whole, confine, Path(used.name))
                    if confine and used and not not_found([command], cwd)
                    else whole,
                    cwd=cwd,
                    env=environment,
                    stdin=stdin,
                    stdout=output,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise _not_started(command, error) from None
            follower = _Follower([output, errors], report)
            try:
                code = exit_code(process, timeout, follower.look, hold)
            except subprocess.TimeoutExpired:
                end(process)
                raise _too_slow(command, timeout, _text(errors)) from None
            except BaseException:
                end(process)
                raise
            finally:
                follower.look(to_the_end=True)
            said, usage = _text(output, encoding), _text(used) if used else ""
            return Completed(
                *(tuple(command), code, said, _text(errors), time.monotonic() - started),
                Usage(**json.loads(usage)) if usage else None,
            )


Script = Callable[[tuple[str, ...]], Completed | tuple[int, str, str]]


class ScriptedProcesses:
    """Commands that a function answers: with exit code, output and errors, or by raising OSError or TimeoutError."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        timeout: float,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        report: Report | None = None,
        hold: Hold | None = None,
        encoding: str = "utf-8",
        confine: Confinement | None = None,
    ) -> Completed:
        """See `Processes.run`."""
        if hold:
            hold()
        try:
            answer = self._script(tuple(command))
        except TimeoutError:
            raise _too_slow(command, timeout, "") from None
        except OSError as error:
            raise _not_started(command, error) from None
        done = answer if isinstance(answer, Completed) else Completed(tuple(command), *answer, seconds=0.0)
        for line in (done.output + done.errors).splitlines() if report else ():
            report(line)  # type: ignore[misc]
        return done


def not_found(commands: Iterable[Sequence[str]], cwd: Path | None = None) -> list[str]:
    """Return the programs of these commands that are not here, seen from `cwd`, or may not be run. Read-only."""
    names = dict.fromkeys(command[0] for command in commands)
    return [name for name in names if not shutil.which(str(cwd / name) if cwd and os.sep in name else name)]


def shown(command: Sequence[str]) -> str:
    """`command` as one would type it, without secrets. Read-only."""
    return redact(shlex.join(command))


def typed(command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """`command` as one types it into a shell, each secret of the environment by the name of its variable. Read-only."""
    words = [*(f"{name}={_word(value)}" for name, value in (env or {}).items()), *map(_word, command)]
    return f"cd {_word(str(cwd))} && {' '.join(words)}" if cwd else " ".join(words)


def _word(word: str) -> str:
    """Return a word quoted for a shell; secrets of the environment are replaced by their names."""
    for name, value in os.environ.items():
        if value in KNOWN and value in word:
            before, _, after = word.partition(value)
            return "".join([_word(before) if before else "", f'"${name}"', _word(after) if after else ""])
    return shlex.quote(word)


def _confined(command: Sequence[str], confine: Confinement, report: Path) -> list[str]:
    place = str(confine.place) if confine.place else None
    asked = {"processors": confine.processors, "memory": confine.memory, "place": place, "report": str(report)}
    return [sys.executable, "-I", "-S", confined.__file__, json.dumps(asked), *command]


def _file() -> IO[bytes]:
    """Return a file with a name, by which whoever still writes to it is found."""
    return tempfile.NamedTemporaryFile(dir=temporary.root(), prefix="command-")


@contextmanager
def _stdin(text: str | None, encoding: str) -> Iterator[IO[bytes]]:
    with open(os.devnull, "rb") if text is None else tempfile.TemporaryFile() as file:
        if text is not None:
            file.write(text.encode(encoding))
            file.seek(0)
        yield file


def _text(file: IO[bytes], encoding: str = "utf-8") -> str:
    file.seek(0)
    return file.read().decode(encoding, errors="replace")


class _Follower:
    """Reports the lines that a command adds to files while it runs."""

    def __init__(self, files: Sequence[IO[bytes]], report: Report | None) -> None:
        self.report = report
        self._told = {file.fileno(): 0 for file in files}

    def look(self, *, to_the_end: bool = False) -> None:
        """Report the lines added since the last look; only whole lines until the end."""
        if self.report is None:
            return
        for descriptor, begin in self._told.items():
            # The command shares the file's position, so it is read at one of our own.
            added = os.pread(descriptor, os.fstat(descriptor).st_size - begin, begin)
            whole = added if to_the_end else added[: added.rfind(b"\n") + 1]
            self._told[descriptor] = begin + len(whole)
            for line in whole.decode(errors="replace").splitlines():
                self.report(line)


def _tail(text: str) -> str:
    lines = redact(text).strip().splitlines()[-TAIL:]
    return ":\n" + "\n".join(lines) if lines else "."


def _not_started(command: Sequence[str], error: OSError) -> AdapterError:
    culprit = error.filename or command[0]
    remedy = (
        f"Install {command[0]} or put it on the PATH."
        if str(culprit) == command[0]
        else f"Make sure that the directory {culprit} exists."
    )
    return AdapterError(
        f"{shown(command)} could not be started: {culprit}: {error.strerror or error}.",
        state="The command was not begun.",
        safe_next=f"{remedy} Then try again.",
    )


def _too_slow(command: Sequence[str], timeout: float, errors: str) -> AdapterError:
    return AdapterError(
        f"{shown(command)} did not end within {timeout:g} s and was ended{_tail(errors)}",
        state="What the command had done by then is unknown.",
        safe_next="Find out what holds now before trying again.",
    )


SHORTEST, SHARE = 0.01, 0.1  # seconds between two questions at least, and by how much an answer may come late


def until(condition: Callable[[], bool], seconds: float, interval: float) -> bool:
    """Whether `condition` comes to hold within so many seconds; it is asked often at first, later every `interval` of them.

    Read-only.
    """
    begun = time.monotonic()
    while not condition():
        waited = time.monotonic() - begun
        if waited > seconds:
            return False
        time.sleep(min(interval, max(SHORTEST, SHARE * waited)))
    return True
