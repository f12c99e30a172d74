"""The build of the old version: proven in the scratch clone, kept next to the checkout, and put in place by renames."""

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import scrypt
from pathlib import Path, PurePath
from time import monotonic
from typing import Any

from runbook_lib.config.plan.steps import BuildingStep
from runbook_lib.context import Context, builds
from runbook_lib.context.old_code import OldCode, commit_without, prepare, prepared
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.git import Checkout
from runbook_lib.git.scratch_clone import submodules
from runbook_lib.redaction import register_environment
from runbook_lib.system.exchange import Exchange, identity, move_or_copy, remove
from runbook_lib.system.machine import megabytes

MOST = 5  # files that a message names
MANIFEST = "build.json"
ENV, LONGEST_FIRST_LINE = "/usr/bin/env", 200  # of a script, which names its interpreter
Made = Mapping[str, Any]  # what a build was made from
PART = ".part"  # ends the name of a directory that is not complete yet


@dataclass(frozen=True)
class Proof:
    """The result of building the old version in its scratch clone."""

    commit: str
    seconds: float
    problem: str = ""  # why it does not build
    outputs: Sequence[str] = ()  # the paths it creates in the work tree
    not_movable: str = ""  # why this build cannot be moved into place
    memory: int = 0  # most bytes used
    processors: float = 0.0  # used on average

    @property
    def is_movable(self) -> bool:
        """Whether this very build can be put in place."""
        return not (self.problem or self.not_movable)

    @property
    def need(self) -> str:
        """Its time and resources, in words."""
        return f"in {self.seconds:.1f} s, with {megabytes(self.memory)} of memory and {self.processors:.1f} processors"


@dataclass(frozen=True)
class StagedBuild:
    """A build kept in the checkout's git directory until it is put in place; afterwards, the build it replaced."""

    directory: Path
    checkout: Path

    def manifest(self) -> Mapping[str, Any]:
        """Return the record from when it was made; empty if there is none. Read-only."""
        try:
            found: Mapping[str, Any] = json.loads((self.directory / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    @property
    def proof(self) -> Proof:
        """The proof of its build in the scratch clone; there must be a manifest. Read-only."""
        return Proof(**self.manifest()["proof"])

    @property
    def is_in_place(self) -> bool:
        """Whether all of it is in place. Read-only."""
        made = [e for e in self._exchanges() if e.what is not None]
        return bool(made) and all(exchange.is_made for exchange in made)

    @property
    def is_begun(self) -> bool:
        """Whether any of it is in place, or a path was moved for it. Read-only."""
        return any(exchange.is_begun for exchange in self._exchanges())

    def make(self, proof: Proof, scratch: Path, caches: Collection[str], built_from: Made) -> None:
        """Move the proven build from `scratch` to the git directory. Changes only the git directory and `scratch`.

        Args:
            proof: The proof of that build; if it cannot be moved, only the proof is kept.
            scratch: The scratch clone.
            caches: Paths to remove when it is put in place, unless the build has them.
            built_from: The build's inputs, as the approval binds them.
        """
        part = self.directory.with_name(self.directory.name + PART)
        remove(part)
        what: dict[str, Any] = {}
        for output in proof.outputs if proof.is_movable else ():
            if os.path.lexists(scratch / output):
                move_or_copy(scratch / output, part / "new" / output)
            what[output] = identity(part / "new" / output)
        gone = [cache for cache in caches if not any(PurePath(cache).is_relative_to(output) for output in proof.outputs)]
        moves = {**what, **dict.fromkeys(gone)} if proof.is_movable else {}
        manifest = {"proof": asdict(proof), "what": moves, "built_from": built_from}
        part.mkdir(parents=True, exist_ok=True)
        (part / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        part.rename(self.directory)

    def put_in_place(self) -> list[str]:
        """Put it in place, or complete that; returns the paths that it replaced. Changes the work tree."""
        exchanges = self._exchanges()
        for exchange in exchanges:
            exchange.make()
        return [str(e.place.relative_to(self.checkout)) for e in exchanges if os.path.lexists(e.old)]

    def take_back(self) -> None:
        """Put the previous build back, or complete that; this build is then staged again. Changes the work tree."""
        for exchange in reversed(self._exchanges()):
            exchange.take_back()

    def remove(self) -> None:
        """Remove the kept build. Changes only the git directory."""
        remove(self.directory)

    def _exchanges(self) -> list[Exchange]:
        return [
            Exchange(
                self.checkout / path,
                self.directory / "new" / path,
                self.directory / "old" / path,
                (what[0], what[1]) if what else None,
            )
            for path, what in self.manifest().get("what", {}).items()
        ]


def some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are. Pure."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"{', '.join(names[:MOST])}{more}"


def kept_in(context: Context, repository: str) -> Path:
    """Return the folder of staged builds in the checkout's git directory. Read-only."""
    checkout = context.checkout(repository)
    own = checkout.own_directory()
    if own is None:
        raise PreconditionError(
            f"{checkout.path} is not a git repository.", where=str(checkout.path), state="Nothing was touched."
        )
    return own / "builds"


def built_from(context: Context, repository: str) -> Made:
    """Return a build's inputs apart from the commit: the ignored files that it needs, and the tools. Read-only.

    The files' digest can only be compared within this run, because they may contain secrets.
    """
    target, checkout = context.target.repositories[repository], context.checkout(repository)
    files = b"\0".join(name.encode() + b"\0" + (checkout.path / name).read_bytes() for name in _named(context, repository))
    salt = context.folder.id.encode()
    digest = scrypt(files, salt=salt, n=2**14, r=8, p=1, dklen=8).hex() if files else ""
    return {"files": digest, "tools": _tools([target.install, target.build])}


def prove(context: Context, step: str, repository: str, commit: str) -> Proof:
    """Build the old version once in its scratch clone, and inspect the result. Changes only the scratch clone.

    Raises:
        PreconditionError: A file that the target names for the build is missing.
    """
    key = _key(step, commit)
    if key not in context.adapters.prepared:
        old = prepare(context, repository)
        context.adapters.prepared[key] = _proven(context, step, repository, old), old.path
    proof: Proof = context.adapters.prepared[key][0]
    return proof


def folder(context: Context, repository: str) -> Path:
    """Return the old version's scratch clone, with the files it needs, and built if a step of the run builds it.

    Changes only the scratch clone.

    Raises:
        PreconditionError: A file that the target names for the build is missing.
        AdapterError: The build fails.
    """
    if steps := [name for name, s in context.specs.items() if isinstance(s, BuildingStep) and s.repository == repository]:
        commit = commit_without(context, repository)
        if problem := prove(context, steps[-1], repository, commit).problem:
            raise AdapterError(problem, where=f"repository {repository}")
        path: Path = context.adapters.prepared[_key(steps[-1], commit)][1]
    else:
        path = prepared(context, repository).path
        _bring_files(context, repository, path)
    for name in _named(context, repository):
        shutil.copymode(context.checkout(repository).path / name, path / name)
    return path


def stage(context: Context, step: str, proof: Proof, staged: StagedBuild, caches: Collection[str], made: Made) -> None:
    """Move the build that this process proved out of its scratch clone; if it cannot be moved, keep only the proof.

    Changes only the checkout's git directory.

    Raises:
        PreconditionError: The build cannot be kept there.
    """
    _, scratch = context.adapters.prepared.pop(_key(step, proof.commit))
    try:
        staged.make(proof, scratch, caches, made)
    except OSError as error:
        raise PreconditionError(
            f"The build of {proof.commit[:12]} cannot be kept: {error}.",
            where=str(staged.directory),
            state="The deployed files were not touched.",
            safe_next="Make room there, or let the runbook write there; then run the step again.",
        ) from error


def _key(step: str, commit: str) -> str:
    return f"built {step} {commit}"


def unnamed_files(context: Context, repository: str, proof: Proof) -> list[str]:
    """Return ignored files of the checkout that the scratch clone lacks and the target does not mention. Read-only."""
    if context.target.repositories[repository].build_files is not None:
        return []
    made = [PurePath(output) for output in proof.outputs]
    found = (entry for entry in context.checkout(repository).ignored() if not entry.endswith("/"))
    return [entry for entry in found if not any(PurePath(entry).is_relative_to(output) for output in made)]


def _proven(context: Context, step: str, repository: str, old: OldCode) -> Proof:
    clone, checkout = Checkout(old.path, context.adapters.processes), context.checkout(repository)
    if clone.untracked():  # from another step's build
        clone.clean()
    _bring_files(context, repository, clone.path)
    before, begun = set(clone.untracked()), monotonic()
    try:
        evidence, place = f"evidence/{step}-scratch.txt", checkout.path.resolve()
        built = builds.build(context, repository, clone.path, evidence, place=place)
    except AdapterError as error:
        ignored = [entry for entry in checkout.ignored() if not os.path.lexists(clone.path / entry)]
        lacking = sorted(ignored, key=lambda entry: entry.endswith("/"))
        return Proof(old.commit, monotonic() - begun, problem=error.what + _hint(repository, lacking))
    seconds = monotonic() - begun
    named = context.target.repositories[repository].outputs
    brought = set(_named(context, repository))
    outputs = named or sorted([*_new(clone, before, brought), *clone.altered()])
    proof = Proof(old.commit, seconds, outputs=outputs, memory=built.memory, processors=built.processors)
    if missing := [path for path in named if not os.path.lexists(clone.path / path)]:
        return replace(
            proof,
            problem=f"It leaves no {', '.join(missing)}, which the target names in repositories.{repository}.outputs.",
        )
    return replace(proof, not_movable=_not_movable(clone, checkout, outputs, built_elsewhere=not built.in_place))


def _hint(repository: str, lacking: list[str]) -> str:
    if not lacking:
        return ""
    return (
        f"\nThe checkout has {some(lacking)}, which git ignores, so the scratch clone lacks them. "
        f"List those that the build needs under repositories.{repository}.build_files of the target."
    )


def _named(context: Context, repository: str) -> list[str]:
    """Return the files that the target names for a build. Read-only.

    Raises:
        PreconditionError: A file is missing.
    """
    files, path = context.target.repositories[repository].build_files or [], context.checkout(repository).path
    if missing := [name for name in files if not (path / name).is_file()]:
        raise PreconditionError(
            f"{', '.join(missing)} is not a file in {path}, but the target names it for the build.",
            where=f"target {context.target.name}, repositories.{repository}.build_files",
            state="Nothing was touched.",
            safe_next="Create it, or correct build_files; then plan again.",
        )
    return files


def _bring_files(context: Context, repository: str, clone: Path) -> None:
    """Copy the named files into a clone, readable by nobody else. Changes the clone."""
    path = context.checkout(repository).path
    for name in _named(context, repository):
        register_environment(_assignments((path / name).read_text(encoding="utf-8", errors="replace")))
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(clone / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write((path / name).read_bytes())


def _assignments(text: str) -> dict[str, str]:
    pairs = (line.strip().removeprefix("export ").partition("=") for line in text.splitlines())
    return {name.strip().rpartition(":")[2]: value.strip().strip("'\"") for name, sign, value in pairs if sign}


def _new(clone: Checkout, before: Collection[str], brought: Collection[str]) -> Iterator[str]:
    """Return the paths that a build created in a clone, as whole folders if they have nothing else. Read-only."""
    for entry in clone.untracked():
        if any(PurePath(name).is_relative_to(entry) for name in brought):
            below = (path.relative_to(clone.path) for path in (clone.path / entry).rglob("*") if not path.is_dir())
            yield from (str(path) for path in below if str(path) not in brought)
        elif entry not in before:
            yield entry.rstrip("/")


def _not_movable(clone: Checkout, checkout: Checkout, outputs: Sequence[str], *, built_elsewhere: bool) -> str:
    """Return why a build in a clone cannot be moved into place, "" if it can. Read-only."""
    if not outputs:
        return "the build creates nothing in the work tree"
    if inner := next((path for path in submodules(clone.git) if _has_new(clone.path / path, clone)), ""):
        return f"it builds inside the submodule {inner}"
    own = checkout.own_directory()
    device = checkout.path.stat().st_dev
    if own is None or own.parent.stat().st_dev != device:
        return "the checkout and its git directory are on two file systems"
    for output in outputs:
        place = checkout.path / output
        steps = [place, *place.parents][: len(Path(output).parts)]
        if link := next((step for step in steps if step.is_symlink() and not (clone.path / output).is_symlink()), None):
            return f"{link} is a link to another place"
        if place.exists() and (place.lstat().st_dev != device or place.is_mount()):
            return f"{place} is a separate file system"
    if built_elsewhere and (naming := _naming(clone.path, outputs)):
        return f"its files contain the path of the build folder ({', '.join(naming)})"
    return ""


def _has_new(submodule: Path, clone: Checkout) -> bool:
    return (submodule / ".git").exists() and bool(Checkout(submodule, clone.processes).untracked())


def _naming(clone: Path, outputs: Sequence[str]) -> list[str]:
    """Return some of the output files that contain the path of the clone. Read-only."""
    words = {os.fsencode(clone), os.fsencode(clone.resolve())}
    found: list[str] = []
    for output in outputs:
        top = clone / output
        for path in sorted(top.rglob("*")) if top.is_dir() and not top.is_symlink() else [top]:
            content = os.fsencode(os.readlink(path)) if path.is_symlink() else b""
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
            if any(word in content for word in words):
                found.append(str(path.relative_to(clone)))
                if len(found) == MOST:
                    return found
    return found


def _tools(commands: Sequence[Sequence[str] | None]) -> dict[str, str]:
    """Return each program of some commands, and its interpreter -> its file and time of change. Read-only."""
    names = [command[0] for command in commands if command]
    found: dict[str, str] = {}
    while names:
        if (name := names.pop()) not in found and (file := shutil.which(name)):
            real = Path(file).resolve()
            found[name] = f"{real}, changed {real.stat().st_mtime_ns}"
            with real.open("rb") as content:
                first = content.readline(LONGEST_FIRST_LINE).decode(errors="replace")
            if first.startswith("#!"):
                interpreter = [word for word in first.removeprefix("#!").split() if not word.startswith("-")]
                names += interpreter[:2] if interpreter[:1] == [ENV] else interpreter[:1]
    return found
