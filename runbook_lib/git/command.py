"""Runs git: never asking, never with an editor, never taking a lock that a look does not need.

Hooks are somebody's own programs: a test suite before a push, say. They run in git's process group, and end with it.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from tempfile import NamedTemporaryFile

from runbook_lib.errors import AdapterError
from runbook_lib.system import temporary
from runbook_lib.system.processes import Completed, Processes

VARIABLE = (
    "GIT_TRACE2_EVENT"  # the file to which git, and each git that it starts, appends what it does, a JSON object a line
)

Child = tuple[str, int]  # the id of a git in its trace, and the number that it gave its child


class HookWatch:
    """Is asked again and again while a git runs; see `Processes.run`, argument `hold`."""

    def __init__(self, where: Path, trace: Path, own: float, hook: float) -> None:
        """`own`: seconds that git may take without its hooks; `hook`: seconds that each hook may take."""
        self._where, self._trace = where, trace
        self._limits = own, hook
        self._read = 0
        self._running: dict[Child, str] = {}  # the hook's name, oldest first
        self._took: dict[Child | None, float] = {None: 0.0}  # seconds until now; None is git itself
        self._looked = time.monotonic()

    def __call__(self) -> bool:
        """Never have git stand still.

        Raises:
            AdapterError: git, or a hook of its, has taken longer than it may.
        """
        now, before = time.monotonic(), next(iter(self._running), None)
        self._follow()
        child = next(iter(self._running), None)
        child = child if child == before else None  # one that has just begun has taken nothing yet
        self._took[child] = self._took.get(child, 0.0) + now - self._looked
        self._looked = now
        own, hook = self._limits
        if self._took[None] > own:
            raise self._too_slow("git itself", own, "See what it waits for: a network, a disk, a filter.")
        if child and self._took[child] > hook:
            raise self._too_slow(
                f"The hook {self._running[child]}",
                hook,
                f"See what the hook waits for; where it needs longer, raise hook_timeout of the repository at {self._where} "
                "in the target file.",
            )
        return False

    def _follow(self) -> None:
        with open(self._trace, "rb") as file:
            file.seek(self._read)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            match event["event"]:
                case "child_start" if event.get("child_class") == "hook":
                    self._running[event["sid"], event["child_id"]] = event.get("hook_name", event["argv"][0])
                case "child_exit":
                    self._running.pop((event["sid"], event["child_id"]), None)

    def _too_slow(self, who: str, limit: float, remedy: str) -> AdapterError:
        return AdapterError(
            f"{who} did not end within {limit:g} s, and was ended with all that it had started.",
            where=str(self._where),
            state="git was ended with it; what it had done by then is unknown.",
            safe_next=f"{remedy} Then run the step again: it looks at what is done first.",
        )


TIMEOUT = 120.0  # seconds that git may take, without its hooks
HOOK_TIMEOUT = 60.0  # seconds that each hook may take, where the target does not say
SILENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


@dataclass(frozen=True)
class Git:
    """git in one directory."""

    path: Path
    processes: Processes
    hook_timeout: float = HOOK_TIMEOUT

    def __call__(
        self,
        *arguments: str,
        at: datetime | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        encoding: str = "utf-8",
    ) -> Completed:
        """Run a command of git's. Changes what it changes.

        Raises:
            AdapterError: It failed.
        """
        return self.attempt(*arguments, at=at, env=env, input=input, encoding=encoding).require()

    def attempt(
        self,
        *arguments: str,
        at: datetime | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        encoding: str = "utf-8",
    ) -> Completed:
        """The same where failing is an answer; `at` is the date of a commit that it makes. Changes what it changes."""
        environment = {**SILENT, **(env or {})}
        if at:
            environment |= {"GIT_AUTHOR_DATE": at.isoformat(), "GIT_COMMITTER_DATE": at.isoformat()}
        directory = self.path if self.path.exists() else self.path.parent
        with NamedTemporaryFile(prefix="git-trace-", dir=temporary.root()) as trace:
            watch = HookWatch(self.path, Path(trace.name), TIMEOUT, self.hook_timeout)
            environment[VARIABLE] = trace.name
            command = ["git", *arguments]
            return self.processes.run(
                command, cwd=directory, timeout=inf, env=environment, input=input, hold=watch, encoding=encoding
            )

    def says(self, *arguments: str) -> str:
        """What a command prints, "" where it fails. Read-only."""
        done = self.attempt(*arguments)
        return done.output.strip() if done.exit_code == 0 else ""


BYTES = "latin-1"
LONGEST = 2000  # paths that one command names; more are all read
COMMIT = "\x01"
PLAIN = "100644"


@dataclass(frozen=True)
class Change:
    """What a commit did to one file, by its first parent."""

    status: str  # A, M, D, T, or R: renamed from `old_path`
    old_path: str
    path: str
    mode: str
    blob: str


@dataclass(frozen=True)
class Entry:
    """A file in a tree."""

    mode: str
    blob: str


def changes(git: Git, tip: str, below: str = "") -> dict[str, list[Change]]:
    """What each commit that `tip` holds and `below` does not changed by its first parent, with renames. Read-only."""
    options = ("--raw", "-M", "-l1000", "-z", "--no-abbrev", f"--format={COMMIT}%H", "--diff-merges=first-parent")
    without = [f"^{below}"] if below else []
    said = git("-c", "log.showSignature=false", "log", *options, "--no-ext-diff", tip, *without, "--", encoding=BYTES).output
    found: dict[str, list[Change]] = {}
    for record in said.split(COMMIT)[1:]:
        commit, _, rest = record.partition("\0")
        found[commit.strip()] = _changes(rest)
    return found


def differences(git: Git, old: str, new: str) -> dict[str, Entry | None]:
    """Path -> what stands there in `new`, None where nothing does; of the files in which two commits differ. Read-only."""
    said = git("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", old, new, "--", encoding=BYTES).output
    return {c.path: None if c.status == "D" else Entry(c.mode, c.blob) for c in _changes(said)}


def entries(git: Git, commit: str, paths: Sequence[str]) -> dict[str, Entry]:
    """Path -> file, of those paths that a commit has. Read-only."""
    wanted = set(paths)
    named = [path.encode(BYTES).decode("utf-8", "surrogateescape") for path in paths] if len(paths) < LONGEST else []
    said = git("ls-tree", "-r", "-z", "--full-tree", commit, "--", *named, encoding=BYTES).output
    split = (line.split("\t", 1) for line in said.split("\0") if line)
    found = {path: Entry(head.split(" ")[0], head.split(" ")[2]) for head, path in split}
    return {path: entry for path, entry in found.items() if path in wanted}


def stale_entries(git: Git, commits: Sequence[str], paths: Sequence[str]) -> dict[str, dict[str, Entry]]:
    """The same of many commits at once, all taken for plain files. Read-only."""
    asked = [(commit, path) for commit in commits for path in paths if "\n" not in path]
    names = "".join(f"{commit}:{path}\n" for commit, path in asked)
    said = git("cat-file", "--batch-check", input=names, encoding=BYTES).output if asked else ""
    found: dict[str, dict[str, Entry]] = {commit: {} for commit in commits}
    for (commit, path), line in zip(asked, said.split("\n"), strict=False):
        blob, _, kind = line.partition(" ")
        if kind.startswith("blob "):
            found[commit][path] = Entry(PLAIN, blob)
    return found


def contents(git: Git, blobs: Iterable[str]) -> Mapping[str, str]:
    """Blob id -> content, a character a byte. Read-only."""
    wanted = sorted(set(blobs))
    said = git("cat-file", "--batch", input="".join(f"{blob}\n" for blob in wanted), encoding=BYTES).output if wanted else ""
    found, at = {}, 0
    for blob in wanted:
        end = said.index("\n", at)
        head = said[at:end].split(" ")
        size = int(head[2]) if len(head) == 3 else 0
        found[blob] = said[end + 1 : end + 1 + size]
        at = end + 1 + (size + 1 if len(head) == 3 else 0)
    return found


def _changes(said: str) -> list[Change]:
    parts = said.strip("\n").split("\0")
    found, at = [], 0
    while at + 1 < len(parts):
        _, mode, _, blob, status = parts[at].lstrip("\n:").split(" ")
        old_path = parts[at + 1]
        at += 2
        path = old_path
        if status[0] in "RC":
            path = parts[at]
            at += 1
        found.append(Change("A" if status[0] == "C" else status[0], old_path, path, mode, blob))
    return found
