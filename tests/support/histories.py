"""Random histories of real repositories in which it is known whose every line is.

A history is a list of small numbers that a machine reads as what teams do: commits, merges of every kind, reverts,
cherry-picks, renames. The machine knows each commit's lines by a model of its own, a set of lines that a merge combines as
such, and git gets them all by one `git fast-import`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

FEATURE = "SHOP-41"
OTHERS = ("SHOP-410", "SHOP-4", "XSHOP-41", "PAY-7", "BILL-2", "SHOP-41-B")
SHARED = ("src/app.js", "src/api.js", "lib/util.js")
BASE_LINES = 14
MAIN = "main"


@dataclass(frozen=True)
class Line:
    """One line: its file, its place in it, and whether the feature wrote it."""

    file: str
    key: float
    text: str
    ours: bool = False


@dataclass(frozen=True)
class State:
    """What a commit holds: the lines, and where each file that was renamed is."""

    lines: frozenset[Line]
    paths: frozenset[tuple[str, str]] = frozenset()

    def path(self, file: str) -> str:
        return dict(self.paths).get(file, file)

    def files(self) -> dict[str, str]:
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(self.path(line.file), []).append(line)
        return {p: "".join(f"{one.text}\n" for one in sorted(each, key=lambda x: x.key)) for p, each in found.items()}


@dataclass(frozen=True)
class Made:
    """A commit of the model."""

    number: int
    parents: tuple[int, ...]
    state: State
    subject: str
    body: str
    held: int
    ours: bool = False
    applies: frozenset[Line] = frozenset()  # the lines that it added
    removes: frozenset[Line] = frozenset()
    author: int = 0
    copy_of: int | None = None  # without a word of the feature, where the commit that it copies is there too

    @property
    def message(self) -> str:
        return f"{self.subject}\n\n{self.body}" if self.body else self.subject


def combined(base: State, ours: State, theirs: State) -> State:
    """Both sides' changes, as a set of lines: what a merge without mistakes gives."""

    def both(b: frozenset, o: frozenset, t: frozenset) -> frozenset:
        return frozenset(x for x in o | t | b if ((x in o) if (x in o) != (x in b) else (x in t)))

    paths = both(base.paths, ours.paths, theirs.paths)
    return State(both(base.lines, ours.lines, theirs.lines), paths)


@dataclass
class History:
    """A history in the making."""

    commits: list[Made] = field(default_factory=list)
    branches: dict[str, int] = field(default_factory=dict)
    bases: dict[str, int] = field(default_factory=dict)  # where a branch began
    ambiguous: list[str] = field(default_factory=list)  # why somebody could rightly be asked
    counter: int = 0
    marks: dict[int, str] = field(default_factory=dict)  # number -> id, as `writes` told

    def __post_init__(self) -> None:
        lines = [Line(f, k, f"const {f[4:7]}_{k} = {k};") for f in SHARED for k in range(BASE_LINES)]
        self.touched: set[Line] = set()
        self.renamed: set[str] = set()
        self.moved_by_feature: set[str] = set()
        self._add(MAIN, (), State(frozenset(lines)), "Base", "")
        self.branches["develop"] = self.branches[MAIN]

    # --- the model

    def tip(self, branch: str) -> Made:
        return self.commits[self.branches[branch]]

    def next(self) -> int:
        self.counter += 1
        return self.counter

    def _add(self, branch: str, parents: tuple[int, ...], state: State, subject: str, body: str, **more: object) -> Made:
        number = len(self.commits)
        held = 1 << number
        for parent in parents:
            held |= self.commits[parent].held
        author = int(more.pop("author", 0) or number)  # type: ignore[call-overload]
        made = Made(number, parents, state, subject, body, held, author=author, **more)  # type: ignore[arg-type]
        self.commits.append(made)
        self.branches[branch] = number
        return made

    def write(
        self, branch: str, subject: str, body: str, ours: bool, add: Sequence[Line], remove: Sequence[Line] = ()
    ) -> Made:
        tip = self.tip(branch)
        state = State((tip.state.lines | set(add)) - set(remove), tip.state.paths)
        added, removed = state.lines - tip.state.lines, tip.state.lines - state.lines
        return self._add(branch, (tip.number,), state, subject, body, ours=ours, applies=added, removes=removed)

    def bases_of(self, one: int, other: int) -> list[int]:
        common = self.commits[one].held & self.commits[other].held
        found = []
        for commit in reversed(self.commits):
            if common >> commit.number & 1 and not any(self.commits[f].held >> commit.number & 1 for f in found):
                found.append(commit.number)
        return found

    def base_state(self, one: int, other: int) -> State:
        bases = self.bases_of(one, other)
        state = self.commits[bases[0]].state
        for n in range(1, len(bases)):
            state = combined(self.base_state(bases[0], bases[n]), state, self.commits[bases[n]].state)
        return state

    def merge(self, into: str, branches: Sequence[str], subject: str, body: str = "") -> bool:
        """Merge branches, where there is anything to merge."""
        tip = self.tip(into)
        others = [self.tip(b) for b in branches if not tip.held >> self.branches[b] & 1]
        if len(others) < len(branches):
            return False
        state = tip.state
        held = tip
        for n, other in enumerate(others):
            if n and others[n - 1].held & other.held & ~tip.held:
                return False
            state = combined(self.base_state(held.number, other.number), state, other.state)
        self._add(into, (tip.number, *(o.number for o in others)), state, subject, body)
        return True

    # --- what is right

    def expected(self) -> set[tuple[str, str]]:
        """The lines that must be there once the feature is taken back, each with its file."""
        tip = self.tip(MAIN).state
        by_feature = {line for c in self.commits if c.ours for line in c.removes if not line.ours}
        by_others = {line for c in self.commits if not c.ours for line in c.removes}
        back = {line for line in by_feature - by_others if line not in tip.lines}
        kept = {line for line in tip.lines if not line.ours} | back
        return {(line.file if line.file in self.moved_by_feature else tip.path(line.file), line.text) for line in kept}

    def is_in_effect(self) -> bool:
        """Whether anything of the feature is there."""
        tip = self.tip(MAIN).state
        return self.expected() != {(tip.path(line.file), line.text) for line in tip.lines}

    # --- git

    def writes(self, path: Path) -> None:
        """Make the repository, with a branch for each, and MAIN checked out nowhere (the repository is bare)."""
        before: dict[int, dict[str, str]] = {}
        subprocess.run(
            ["git", "init", "--quiet", "--bare", "--template=", f"--initial-branch={MAIN}", str(path)], check=True
        )
        process = subprocess.Popen(
            ["git", "fast-import", "--quiet", "--done"],
            cwd=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin and process.stdout
        for commit in self.commits:
            message = self._named(commit, process).encode()
            files = before[commit.number] = commit.state.files()
            parent = before[commit.parents[0]] if commit.parents else {}
            stream = [b"commit refs/heads/all\nmark :%d\n" % (commit.number + 1)]
            stream += [b"author A <a@example.org> %d +0000\n" % (1_700_000_000 + commit.author * 60)]
            stream += [b"committer A <a@example.org> %d +0000\n" % (1_700_000_000 + commit.number * 60)]
            stream += [b"data %d\n%s\n" % (len(message), message)]
            stream += [b"%s :%d\n" % (b"merge" if n else b"from", p + 1) for n, p in enumerate(commit.parents)]
            stream += [b"D %s\n" % p.encode() for p in parent if p not in files]
            for name, text in files.items():
                if parent.get(name) != text:
                    data = text.encode()
                    stream += [b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(data), data)]
            process.stdin.write(b"".join(stream))
        names = {name: number for name, number in self.branches.items() if name == MAIN}
        process.stdin.write(b"".join(b"reset refs/heads/%s\nfrom :%d\n\n" % (n.encode(), i + 1) for n, i in names.items()))
        process.stdin.write(b"reset refs/heads/all\nfrom %s\n\ndone\n" % (b"0" * 40))
        process.stdin.close()
        process.stdout.read()
        assert process.wait() == 0

    def _named(self, commit: Made, process: subprocess.Popen[bytes]) -> str:
        """The message, with the ids of the commits that it names."""
        message = commit.message
        if commit.copy_of is not None and self.tip(MAIN).held >> commit.copy_of & 1:
            message = "Reworded"
        while "<<" in message:
            start, end = message.index("<<"), message.index(">>")
            number = int(message[start + 2 : end])
            if number not in self.marks:
                assert process.stdin and process.stdout
                process.stdin.write(b"get-mark :%d\n" % (number + 1))
                process.stdin.flush()
                self.marks[number] = process.stdout.readline().decode().strip()
            message = message[:start] + self.marks[number] + message[end + 2 :]
        return message
