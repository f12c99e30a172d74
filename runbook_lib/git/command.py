"""Run git without prompts, without an editor, and without locks that a read does not need.

Hooks are somebody's own programs, such as a test suite before a push. They run in git's process group, and end with it.
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

VARIABLE = "GIT_TRACE2_EVENT"  # the file to which git and each child git append events, one JSON object a line

Child = tuple[str, int]  # a git's id in its trace, and the number it gave its child


class HookWatch:
    """Watches the time limits while a git runs: the argument `hold` of `Processes.run`."""

    def __init__(self, where: Path, trace: Path, own: float, hook: float) -> None:
        """`own`: seconds allowed for git without its hooks; `hook`: seconds allowed for each hook."""
        self._where, self._trace = where, trace
        self._limits = own, hook
        self._read = 0
        self._running: dict[Child, str] = {}  # the hooks' names, oldest first
        self._took: dict[Child | None, float] = {None: 0.0}  # seconds so far; None is git itself
        self._looked = time.monotonic()

    def __call__(self) -> bool:
        """Return False, so that git is never paused.

        Raises:
            AdapterError: git, or one of its hooks, exceeded its limit.
        """
        now, before = time.monotonic(), next(iter(self._running), None)
        self._follow()
        child = next(iter(self._running), None)
        child = child if child == before else None  # one that has just started has used no time yet
        self._took[child] = self._took.get(child, 0.0) + now - self._looked
        self._looked = now
        own, hook = self._limits
        if self._took[None] > own:
            raise self._too_slow("git itself", own, "See what it waits for: a network, a disk, a filter.")
        if child and self._took[child] > hook:
            raise self._too_slow(
                f"The hook {self._running[child]}",
                hook,
                f"See what the hook waits for; if it needs longer, raise hook_timeout of the repository at {self._where} "
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
            f"{who} did not end within {limit:g} s, and was ended with everything it had started.",
            where=str(self._where),
            state="git was ended too; what it had done by then is unknown.",
            safe_next=f"{remedy} Then run the step again: it first checks what is done.",
        )


TIMEOUT = 120.0  # seconds for git without its hooks
HOOK_TIMEOUT = 60.0  # seconds for each hook, unless the target sets it
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
        """Run a git command. Changes what the command changes.

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
        """Run a git command that may fail; `at` is the date of a commit it makes. Changes what the command changes."""
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
        """Return what a command prints, "" if it fails. Read-only."""
        done = self.attempt(*arguments)
        return done.output.strip() if done.exit_code == 0 else ""


BYTES = "latin-1"
LONGEST = 2000  # paths named in one command; for more, all files are read
COMMIT = "\x01"
PLAIN = "100644"


@dataclass(frozen=True)
class Change:
    """What a commit did to one file, compared with its first parent."""

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
    """Return what each commit in `below`..`tip` changed against its first parent, with renames. Read-only."""
    options = ("--raw", "-M", "-l1000", "-z", "--no-abbrev", f"--format={COMMIT}%H", "--diff-merges=first-parent")
    without = [f"^{below}"] if below else []
    said = git("-c", "log.showSignature=false", "log", *options, "--no-ext-diff", tip, *without, "--", encoding=BYTES).output
    found: dict[str, list[Change]] = {}
    for record in said.split(COMMIT)[1:]:
        commit, _, rest = record.partition("\0")
        found[commit.strip()] = _changes(rest)
    return found


def differences(git: Git, old: str, new: str) -> dict[str, Entry | None]:
    """Map each file that differs between two commits to its entry in `new`, None if deleted. Read-only."""
    said = git("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", old, new, "--", encoding=BYTES).output
    return {c.path: None if c.status == "D" else Entry(c.mode, c.blob) for c in _changes(said)}


def entries(git: Git, commit: str, paths: Sequence[str]) -> dict[str, Entry]:
    """Map each of those paths that a commit has to its entry. Read-only."""
    asked = set(paths)
    named = [path.encode(BYTES).decode("utf-8", "surrogateescape") for path in paths] if len(paths) < LONGEST else []
    said = git("ls-tree", "-r", "-z", "--full-tree", commit, "--", *named, encoding=BYTES).output
    split = (line.split("\t", 1) for line in said.split("\0") if line)
    found = {path: Entry(head.split(" ")[0], head.split(" ")[2]) for head, path in split}
    return {path: entry for path, entry in found.items() if path in asked}


def stale_entries(git: Git, commits: Sequence[str], paths: Sequence[str]) -> dict[str, dict[str, Entry]]:
    """Do as `entries` for many commits at once, treating all as plain files. Read-only."""
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
    """Map blob ids to contents, one character per byte. Read-only."""
    ids = sorted(set(blobs))
    said = git("cat-file", "--batch", input="".join(f"{blob}\n" for blob in ids), encoding=BYTES).output if ids else ""
    found, at = {}, 0
    for blob in ids:
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
