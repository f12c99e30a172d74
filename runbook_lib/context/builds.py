"""Builds code with the target's commands, and reports the running and the expected version."""

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.config.plan import BuildingStep
from runbook_lib.config.target import VersionByManager, VersionByUrl
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.git import Checkout
from runbook_lib.redaction import Lines
from runbook_lib.system.exchange import remove
from runbook_lib.system.machine import free_memory, megabytes, spare_memory
from runbook_lib.system.processes import Confinement, Usage, shown

KEPT = 200  # last lines of the commands' output
TAIL = 10  # of those, how many go into an error
EVERY = 1.0  # seconds between two reported lines

Report = Callable[[str], object]


@dataclass(frozen=True)
class Built:
    """The result of a build: the removed caches, and its use of the machine."""

    removed: list[str]
    memory: int  # bytes, at most
    processors: float  # on average
    in_place: bool  # whether its folder was mounted in the checkout's place


def build(
    context: Context,
    repository: str,
    path: Path,
    evidence: str = "",
    report: Report | None = None,
    more_caches: Sequence[str] = (),
    place: Path | None = None,
) -> Built:
    """Remove the plan's caches and more, install and build the code at `path`, within the target's limits.

    The last output of the commands is kept in the run's `evidence`, if that is named, however they end. With `place`, the
    commands see `path` in that place, if the system can do that. Changes the work tree at `path`.

    Raises:
        PreconditionError: A cache to be removed is tracked, or leads out of the repository.
        AdapterError: A command failed, did not end in time, or used too much memory; or there is too little.
    """
    target = context.target.repositories[repository]
    said: deque[str] = deque(maxlen=KEPT)
    removed: list[str] = []
    used: list[Usage] = []
    reported_at, clean = 0.0, Lines()

    def logged(line: str) -> None:
        nonlocal reported_at
        line = clean(line)
        said.append(line)
        if report and line.strip() and time.monotonic() - reported_at > EVERY:
            reported_at = time.monotonic()
            report(line)

    try:
        for cache in dict.fromkeys([*caches(context, repository), *more_caches]):
            removed += [cache] if clear(Checkout(path, context.adapters.processes), cache) else []
        confine = Confinement(target.build_limits.processors, _most_memory(context, repository), place)
        for command in [target.install, target.build] if target.install else [target.build]:
            said.append(f"$ {shown(command)}")
            done = context.adapters.processes.run(command, cwd=path, timeout=target.timeout, report=logged, confine=confine)
            used += [done.usage] if done.usage else []
            said.append(f"[exit code {done.exit_code} after {done.seconds:.1f} s]")
            if done.usage and done.usage.over:
                raise _too_large(repository, command, done.usage.memory)
            done.require()
    except AdapterError as error:
        last = "\n".join(line for line in list(said)[-TAIL:] if line.strip())
        raise AdapterError(
            f"{error.what}\nLast output:\n{last}", where=str(path), state=error.state, safe_next=error.safe_next
        ) from error
    finally:
        if evidence:
            context.folder.write_text(evidence, "\n".join([*said, ""]))
    return Built(
        removed,
        memory=max((usage.memory for usage in used), default=0),
        processors=max((usage.processors for usage in used), default=0.0),
        in_place=bool(used) and all(usage.in_place for usage in used),
    )


def _most_memory(context: Context, repository: str) -> int:
    """Return the bytes that a build may use: the target's limit, else all but a tenth of the machine's. Read-only.

    Raises:
        AdapterError: Not enough memory is free.
    """
    most, free = context.target.repositories[repository].build_limits.memory, free_memory()
    if most is not None and most > free:
        raise AdapterError(
            f"The build of {repository} may use {megabytes(most)} of memory, but only {megabytes(free)} are free.",
            state="It was not begun.",
            safe_next="Free some, or lower build_limits.memory of the repository in the target to what the build needs.",
        )
    return spare_memory() if most is None else int(most)


def _too_large(repository: str, command: Sequence[str], held: int) -> AdapterError:
    return AdapterError(
        f"{shown(command)} was ended: it used {megabytes(held)} of memory, more than build_limits.memory of {repository} "
        "in the target, or what the machine can spare.",
        state="The services kept their memory; the build is incomplete.",
        safe_next="Raise that limit if the machine has more; else free some memory.",
    )


def built_version(context: Context, repository: str, path: Path, commit: str) -> bool | None:
    """Check whether the build at `path` is of `commit`; None if the target names no artifact that shows it. Read-only."""
    artifact = context.target.repositories[repository].artifact
    if artifact is None:
        return None
    try:
        return commit[:12] in (path / artifact).read_text(encoding="utf-8")
    except OSError:
        return False


def caches(context: Context, repository: str) -> list[str]:
    """Return the caches that the plan removes before a build of a repository. Read-only."""
    specs = context.plan.steps.values()
    return [path for s in specs if isinstance(s, BuildingStep) and s.repository == repository for path in s.clear]


def require_cache(checkout: Checkout, cache: str) -> bool:
    """Check that a path in a work tree may be removed; returns whether it exists. Read-only.

    Raises:
        PreconditionError: It is tracked, or leads out of the work tree.
    """
    path = checkout.path / cache
    steps = [path, *path.parents][: len(Path(cache).parts)]
    if link := next((part for part in reversed(steps) if part.is_symlink()), None):
        raise _refused(checkout, f"{cache} is not removed: {link} is a link to another place")
    if not path.resolve().is_relative_to(checkout.path.resolve()):
        raise _refused(checkout, f"{cache} is not removed: it leads out of the repository")
    if not path.exists():
        return False
    if checkout.files(cache):
        raise _refused(checkout, f"{cache} is not removed: git tracks files in it, so it is not a cache")
    return True


def clear(checkout: Checkout, cache: str) -> bool:
    """Remove a cache inside a work tree; returns whether it existed. Changes the work tree.

    Raises:
        PreconditionError: It is tracked, or leads out of the work tree.
    """
    found = require_cache(checkout, cache)
    remove(checkout.path / cache)
    return found


def _refused(checkout: Checkout, what: str) -> PreconditionError:
    return PreconditionError(
        f"{what}.",
        where=str(checkout.path),
        state="Nothing of it was removed.",
        safe_next="Correct `clear` of the build step in the plan, or remove it by hand.",
    )


SHORTEST_ID = 7  # a shorter commit id is ambiguous


def running(context: Context, service: str) -> str:
    """Return the version that a service reports. Read-only.

    Raises:
        AdapterError: It does not answer, or reports no version.
    """
    source = context.target.services.versions[service]
    if isinstance(source, VersionByManager):
        return context.adapters.services.version(service)
    if isinstance(source, VersionByUrl):
        answer = context.adapters.http.get(source.url, timeout=5)
        version = answer.json.get(source.field) if isinstance(answer.json, dict) else None
        if answer.status != 200:
            raise AdapterError(f"{source.url} answers {answer.status}.", where=service)
    else:
        found = re.findall(source.log, "\n".join(context.adapters.services.logs(service, None)))
        version = found[-1] if found else None
    if not version:
        raise AdapterError(f"{service} does not report its version.", where=str(source))
    return str(version)


def expected(context: Context, service: str) -> str:
    """Return the version a service must run: a pinned image or release, else its repository's commit. Read-only."""
    if service in context.target.services.pinned:
        return context.target.services.pinned[service]
    return context.checkout(context.target.services.built_from[service]).head()


_COMMIT = re.compile(rf"[0-9a-f]{{{SHORTEST_ID},64}}")


def comparable(context: Context, service: str, version: str) -> bool:
    """Check whether a version can be compared with the expected one: both are releases, or both commits."""
    return service in context.target.services.pinned or bool(_COMMIT.fullmatch(version))


def same(running_version: str, expected_version: str) -> bool:
    """Check whether a version is the expected one: the same image or release, or the same commit by full or short id."""
    if running_version == expected_version:
        return True
    is_commit = re.fullmatch(r"[0-9a-f]{40,64}", expected_version)
    return bool(is_commit) and len(running_version) >= SHORTEST_ID and expected_version.startswith(running_version)
