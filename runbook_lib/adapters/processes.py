"""Running commands."""

import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from runbook_lib.adapters.held import Hold, end, exit_code
from runbook_lib.errors import AdapterError
from runbook_lib.redaction import redact

TAIL = 10  # lines of what a command said that go into an error

Tell = Callable[[str], None]  # is given each line that a command says


@dataclass(frozen=True)
class Completed:
    """What a command that ended has left."""

    command: tuple[str, ...]
    exit_code: int
    output: str
    errors: str
    seconds: float

    def require(self) -> "Completed":
        """Itself, when the command succeeded. Read-only.

        Raises:
            AdapterError: The exit code is not 0.
        """
        if self.exit_code != 0:
            raise AdapterError(
                f"{shown(self.command)} ended with exit code {self.exit_code}{_tail(self.errors)}",
                state="The command ended by itself; what it had done before it failed stays done.",
                safe_next="Mend what it names, then try again.",
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
        tell: Tell | None = None,
        hold: Hold | None = None,
    ) -> Completed:
        """Run `command`, with `env` added to the environment, for at most `timeout` seconds. Changes what it changes.

        `tell` is given each line of output and errors while the command runs, and `hold` is asked again and again meanwhile;
        the time for which a command stands still does not count.

        Raises:
            AdapterError: The program is missing, or did not end in time and was ended.
        """


class LocalProcesses:
    """Commands on this machine, each in a session of its own, so that an interrupt reaches it only through `run`.

    One that can be held is in a group of its own in our session: should this process die while it stands still, the system
    ends it, which it does not do across sessions.
    """

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        timeout: float,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        tell: Tell | None = None,
        hold: Hold | None = None,
    ) -> Completed:
        """See `Processes.run`; an interrupt ends the command and its children first."""
        started = time.monotonic()
        # Files, not pipes: a service that the command leaves running would hold a pipe open, and the wait with it.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, _stdin(input) as stdin:
            try:
                process = subprocess.Popen(
                    list(command),
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    stdin=stdin,
                    stdout=output,
                    stderr=errors,
                    start_new_session=hold is None,
                    process_group=0 if hold else None,
                )
            except OSError as error:
                raise _not_started(command, error) from None
            follower = _Follower([output, errors], tell)
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
            return Completed(tuple(command), code, _text(output), _text(errors), time.monotonic() - started)


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
        tell: Tell | None = None,
        hold: Hold | None = None,
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
        for line in (done.output + done.errors).splitlines() if tell else ():
            tell(line)  # type: ignore[misc]
        return done


def shown(command: Sequence[str]) -> str:
    """`command` as one would type it, without secrets. Read-only."""
    return redact(shlex.join(command))


@contextmanager
def _stdin(text: str | None) -> Iterator[IO[bytes]]:
    with open(os.devnull, "rb") if text is None else tempfile.TemporaryFile() as file:
        if text is not None:
            file.write(text.encode())
            file.seek(0)
        yield file


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _Follower:
    """Tells the lines that a command adds to files while it runs."""

    def __init__(self, files: Sequence[IO[bytes]], tell: Tell | None) -> None:
        self.tell = tell
        self._told = {file.fileno(): 0 for file in files}

    def look(self, *, to_the_end: bool = False) -> None:
        """Tell what was added since the last look, whole lines only until the end."""
        if self.tell is None:
            return
        for descriptor, begin in self._told.items():
            # The command shares the file's position, so it is read at one of our own.
            added = os.pread(descriptor, os.fstat(descriptor).st_size - begin, begin)
            whole = added if to_the_end else added[: added.rfind(b"\n") + 1]
            self._told[descriptor] = begin + len(whole)
            for line in whole.decode(errors="replace").splitlines():
                self.tell(line)


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
